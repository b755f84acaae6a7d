package sender

import (
	"context"
	"net/http"

	"github.com/SherClockHolmes/webpush-go"
)

// webpushGo is the engine over webpush-go v1.4.0, for those who prefer it, and
// a second opinion on ours. What that version does that no push service should
// see is kept from happening here and in the courier:
//
//   - it pads every body to 4096 octets, which Firefox for Android refuses, so
//     it is told the size (LIB-01);
//   - it signs each request anew with a lifetime and a subject of its own
//     making. It gets a key that signs for nobody, and the courier puts our
//     Authorization over what comes of it (LIB-02, LIB-03, LIB-05, LIB-06);
//   - it appends to the caller's slice, so it gets a copy (LIB-04);
//   - its own client follows redirects and never gives up: it posts with the
//     courier's (LIB-07);
//   - it checks neither TTL nor topic nor secret: newLetter has (LIB-08).
type webpushGo struct{ privateKey, publicKey string }

func newWebpushGo() (webpushGo, error) {
	private, public, err := webpush.GenerateVAPIDKeys()
	return webpushGo{private, public}, err
}

func (e webpushGo) post(ctx context.Context, via *courier, l *letter) (*http.Response, error) {
	plaintext := append(make([]byte, 0, l.size), l.plaintext...)
	return webpush.SendNotificationWithContext(ctx, plaintext,
		&webpush.Subscription{
			Endpoint: l.endpoint.Reveal(),
			Keys:     webpush.Keys{P256dh: l.p256dh.Reveal(), Auth: l.auth.Reveal()},
		},
		&webpush.Options{
			HTTPClient:      via,
			RecordSize:      uint32(l.size), // the body becomes exactly this long
			TTL:             l.ttl,
			Urgency:         webpush.Urgency(l.urgency),
			Topic:           l.topic,
			Subscriber:      "https://unused.invalid",
			VAPIDPrivateKey: e.privateKey,
			VAPIDPublicKey:  e.publicKey,
		})
}
