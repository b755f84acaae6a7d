package rig

import (
	"fmt"
	"net/http"
	"time"

	"github.com/SherClockHolmes/webpush-go"

	"github.com/belfry-push/belfry"
)

// A Job does the i-th message of a turn.
type Job = func(i int) error

// TTL is what all messages have.
const TTL = 24 * time.Hour

// Direct sends as the README of webpush-go says.
func Direct(raw []belfry.PushSubscription, payload []byte) (Job, error) {
	private, public, err := webpush.GenerateVAPIDKeys()
	if err != nil {
		return nil, err
	}
	subs := make([]*webpush.Subscription, len(raw))
	for i, s := range raw {
		subs[i] = &webpush.Subscription{Endpoint: s.Endpoint, Keys: webpush.Keys{P256dh: s.Keys.P256dh, Auth: s.Keys.Auth}}
	}
	return func(i int) error {
		resp, err := webpush.SendNotification(payload, subs[i], &webpush.Options{
			Subscriber:      "ops@example.com",
			VAPIDPublicKey:  public,
			VAPIDPrivateKey: private,
			TTL:             int(TTL / time.Second),
		})
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		return Created(resp)
	}, nil
}

// Created says what is wrong with an answer that is not the sink's.
func Created(resp *http.Response) error {
	if resp.StatusCode != http.StatusCreated || resp.ProtoMajor != 2 {
		return fmt.Errorf("%s over %s", resp.Status, resp.Proto)
	}
	return nil
}
