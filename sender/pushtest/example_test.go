package pushtest_test

import (
	"fmt"
	"testing"

	webpush "github.com/SherClockHolmes/webpush-go"

	"github.com/belfry-push/belfry/sender/pushtest"
)

// A test of any sender, here one on webpush-go: one call starts the push
// service, and its ledger tells what the browser would have read.
func ExampleNewService() {
	t := new(testing.T) // in a test, the one that it is given
	service := pushtest.NewService(t)
	defer service.Close() // in a test, t does it

	private, public, err := webpush.GenerateVAPIDKeys()
	if err != nil {
		t.Fatal(err)
	}
	sub := service.Subscribe(public)
	res, err := webpush.SendNotification([]byte("the bells are ringing"),
		&webpush.Subscription{
			Endpoint: sub.Endpoint.Reveal(),
			Keys:     webpush.Keys{P256dh: sub.P256dh.Reveal(), Auth: sub.Auth.Reveal()},
		},
		&webpush.Options{
			HTTPClient:      service.Client(),
			VAPIDPublicKey:  public,
			VAPIDPrivateKey: private,
			Subscriber:      "ops@example.com",
			TTL:             60,
		})
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()

	for _, r := range service.Received() {
		fmt.Printf("%d %s\n", r.Status, r.Plaintext)
	}
	// Output:
	// 201 the bells are ringing
}

// The service finds the mistakes that it is there to find: webpush-go v1.4.0
// doubles a mailto: that it is given, which Apple refuses and others do not.
func TestServiceFindsADoubledMailto(t *testing.T) {
	service := pushtest.NewMemoryService(t)
	private, public, err := webpush.GenerateVAPIDKeys()
	if err != nil {
		t.Fatal(err)
	}
	sub := service.Subscribe(public)
	res, err := webpush.SendNotification([]byte("hi"),
		&webpush.Subscription{Endpoint: sub.Endpoint.Reveal(), Keys: webpush.Keys{P256dh: sub.P256dh.Reveal(), Auth: sub.Auth.Reveal()}},
		&webpush.Options{HTTPClient: service.Client(), VAPIDPublicKey: public, VAPIDPrivateKey: private, Subscriber: "mailto:ops@example.com", TTL: 60})
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if got := service.Received()[0]; res.StatusCode != 401 || got.Reason != "vapid-sub" {
		t.Errorf("answered %d: %+v", res.StatusCode, got)
	}
}
