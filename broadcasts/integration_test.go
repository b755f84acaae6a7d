package broadcasts_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"path/filepath"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/broadcasts"
	"github.com/belfry-push/belfry/internal/boltfile"
	"github.com/belfry-push/belfry/keys"
	"github.com/belfry-push/belfry/sender"
	"github.com/belfry-push/belfry/sender/pushtest"
	"github.com/belfry-push/belfry/subscriptions"
)

func newKeys(t *testing.T) *keys.Ring {
	ring, err := keys.Create(filepath.Join(t.TempDir(), "vapid.json"))
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// newSender speaks to service and to nobody else.
func newSender(t *testing.T, ring *keys.Ring, service *pushtest.Service) *sender.Sender {
	s, err := sender.New(sender.Config{Signer: keys.NewSigner(ring, "mailto:ops@example.com", time.Now), Hosts: service.Hosts(), Transport: service.Client().Transport})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// The real sender and a push service that checks everything: what is asked of
// it, how often and when, as the service itself has seen it.
func TestWithSender(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ring := newKeys(t)
		service := pushtest.NewMemoryService(t)
		b := newBell(t, func(c *broadcasts.Config) { c.Sender = newSender(t, ring, service) })
		row := func(key string, answers ...pushtest.Answer) string {
			id := b.people.join(1, "to.be.replaced")[0]
			minted := service.Subscribe(key)
			b.people.change(id, func(s *belfry.Subscription) {
				s.Endpoint, s.P256dh, s.Auth, s.KeyID = minted.Endpoint, minted.P256dh, minted.Auth, ring.Current().ID
			})
			service.Answer(minted.Endpoint, answers...)
			return id
		}
		ours := ring.Current().PublicKey
		row(ours)
		row(ours, pushtest.Answer{Status: 503, Header: http.Header{"Retry-After": {"20"}}}, pushtest.Answer{})
		row(ours, pushtest.Answer{Fault: pushtest.Hang}, pushtest.Answer{})
		row(ours, pushtest.Answer{Fault: pushtest.Reset}, pushtest.Answer{})
		row(ours, pushtest.Answer{Status: 413}, pushtest.Answer{})
		row(ours, pushtest.Answer{Status: 500})
		ended := row(ours, pushtest.Answer{Status: 410})
		unknown := row(ours, pushtest.Answer{Status: 404})
		row(newKeys(t).Current().PublicKey) // made with a key that we do not sign with
		row(ours, pushtest.Answer{Status: 403, Body: `{"reason":"BadJwtToken"}`})

		start := time.Now()
		m := hello(time.Hour)
		m.Body, m.Topic = string(bytes.Repeat([]byte("x"), 1000)), "prices"
		launched := b.launch(m, everybody)
		last := b.end(launched.ID)
		want := broadcasts.Counts{Targets: 10, Accepted: 5, Gone: 2, Expired: 2, Failed: 1}
		reasons := map[string]int{"errno 109: VAPID public key mismatch": 1}
		if last.Counts != want || !reflect.DeepEqual(last.Failures, reasons) {
			t.Errorf("%+v %v, want %+v %v", last.Counts, last.Failures, want, reasons)
		}
		if b.people.size() != 8 || b.people.there(ended) || b.people.there(unknown) {
			t.Errorf("%d are left", b.people.size())
		}
		payload, _ := m.Payload(launched.ID, "", site)
		accepted := 0
		for _, r := range service.Received() {
			left := time.Hour - r.Time.Sub(start)
			if ttl, err := time.ParseDuration(r.Header.Get("TTL") + "s"); err != nil || ttl < left-time.Second || ttl > max(left, time.Second) { // 0 would mean now or never
				t.Errorf("TTL %v with %v left", ttl, left)
			}
			if !r.Accepted() {
				continue
			}
			if accepted++; !bytes.Equal(r.Plaintext, payload) || r.Topic != m.TopicHeader() {
				t.Errorf("%s got %q", r.Token, r.Plaintext)
			}
		}
		if accepted != 5 {
			t.Errorf("the service accepted %d", accepted)
		}
	})
}

// The whole way over a real file and HTTPS: those whom the push service calls
// gone are removed from the store in the transaction that counts them, everybody
// else stays, and all of it is there after a restart.
func TestWithStoreAndSender(t *testing.T) {
	path := filepath.Join(t.TempDir(), "belfry.db")
	ring, service := newKeys(t), pushtest.NewService(t)
	file, store, e := openHouse(t, path, newSender(t, ring, service))
	answers := map[string][]pushtest.Answer{
		"accepted":  nil,
		"gone":      {{Status: 410}},
		"unknown":   {{Status: 404}},
		"refused":   {{Status: 400}},
		"too large": {{Status: 413}},
		"bad day":   {{Status: 503, Header: http.Header{"Retry-After": {"3600"}}}},
	}
	fate := map[string]string{} // by id
	for what, list := range answers {
		for range map[bool]int{true: 2, false: 10}[what == "bad day"] { // more would slow all down
			sub := service.Subscribe(ring.Current().PublicKey)
			service.Answer(sub.Endpoint, list...)
			sub.Channels, sub.Origin = []string{"news"}, site
			r, err := store.Register(t.Context(), sub, nil)
			if err != nil {
				t.Fatal(err)
			}
			fate[r.Subscription.ID] = what
		}
	}
	launched, _, err := e.Launch(t.Context(), broadcasts.Request{Message: hello(time.Minute), Audience: belfry.Audience{Channels: []string{"news"}}})
	if err != nil {
		t.Fatal(err)
	}
	var last broadcasts.Broadcast
	for step, err := range e.Watch(t.Context(), launched.ID) {
		if err != nil {
			t.Fatal(err)
		}
		mustAddUp(t, step)
		last = step
	}
	want := broadcasts.Counts{Targets: 52, Accepted: 10, Gone: 20, Failed: 20, Expired: 2}
	if last.State != broadcasts.Done || last.Counts != want {
		t.Errorf("%s %+v %v, want %+v", last.State, last.Counts, last.Failures, want)
	}
	e.Close(t.Context())
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}

	file, store, e = openHouse(t, path, newSender(t, ring, service))
	defer file.Close()
	defer e.Close(context.Background())
	if again, err := e.Get(t.Context(), launched.ID); err != nil || !reflect.DeepEqual(again, last) {
		t.Errorf("%v\n got %+v\nwant %+v", err, again, last)
	}
	for id, what := range fate {
		_, err := store.Get(t.Context(), id)
		if there := err == nil; there == (what == "gone" || what == "unknown") {
			t.Errorf("%s there: %t, %v", what, there, err)
		}
	}
	if n, err := store.Count(t.Context(), belfry.Audience{Channels: []string{"news"}}); n != 32 || err != nil {
		t.Errorf("%d in the channel, %v", n, err)
	}
	file.View(func(tx *bbolt.Tx) error {
		for err := range tx.Check() {
			t.Error(err)
		}
		return nil
	})
}

// openHouse opens file, store and engine as the server does. Its store's clock
// is an hour behind, so that nobody is new when a message is sent (WP-62).
func openHouse(t *testing.T, path string, s *sender.Sender) (*boltfile.File, *subscriptions.Store, *broadcasts.Engine) {
	t.Helper()
	file, err := boltfile.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	store, err := subscriptions.New(file, subscriptions.Config{Now: func() time.Time { return time.Now().Add(-time.Hour) }})
	if err != nil {
		t.Fatal(err)
	}
	journal, err := broadcasts.NewBoltJournal(file, store, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	e, err := broadcasts.New(t.Context(), broadcasts.Config{Journal: journal, Audience: store, Sender: s, Origins: []string{site}})
	if err != nil {
		t.Fatal(err)
	}
	return file, store, e
}
