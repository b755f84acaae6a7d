package sender_test

import (
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/SherClockHolmes/webpush-go"
	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/sender"
)

// drain takes every request and answers at once, so that what is measured is
// the work of this machine for one message: check, sign, seal, request, judge.
var drain = &http.Client{Transport: roundTrip(func(req *http.Request) (*http.Response, error) {
	io.Copy(io.Discard, req.Body)
	return &http.Response{StatusCode: http.StatusCreated, Header: http.Header{}, Body: http.NoBody, Request: req}, nil
})}

// BenchmarkSend sets our two engines beside webpush-go as its documentation
// uses it, with a message of the usual size.
func BenchmarkSend(b *testing.B) {
	payload := make([]byte, 350)
	sub, _ := browser(b, fcm)
	for _, engine := range []string{"native", "webpush-go"} {
		b.Run("engine="+engine, func(b *testing.B) {
			s, err := sender.New(sender.Config{Signer: newSigner(b), Engine: engine, Client: drain})
			if err != nil {
				b.Fatal(err)
			}
			msg := belfry.PushMessage{Payload: payload, TTL: 24 * time.Hour}
			b.ReportAllocs()
			for b.Loop() {
				if o := s.Send(b.Context(), sub, msg); o.Verdict != belfry.Accepted {
					b.Fatalf("%+v", o)
				}
			}
		})
	}
	b.Run("engine=webpush-go-alone", func(b *testing.B) {
		private, public, err := webpush.GenerateVAPIDKeys()
		if err != nil {
			b.Fatal(err)
		}
		to := &webpush.Subscription{Endpoint: fcm, Keys: webpush.Keys{P256dh: sub.P256dh.Reveal(), Auth: sub.Auth.Reveal()}}
		options := &webpush.Options{HTTPClient: drain, Subscriber: "ops@example.com", TTL: 86400,
			VAPIDPrivateKey: private, VAPIDPublicKey: public}
		b.ReportAllocs()
		for b.Loop() {
			resp, err := webpush.SendNotificationWithContext(b.Context(), payload, to, options)
			if err != nil {
				b.Fatal(err)
			}
			resp.Body.Close()
		}
	})
}
