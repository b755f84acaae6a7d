package pushtest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/sender/pushtest"
)

// Many senders at once, one reader: no entry is lost, each is whole.
func TestLedgerUnderLoad(t *testing.T) {
	service, site := pushtest.NewService(t), newSite(t)
	const senders, each = 8, 25
	var all sync.WaitGroup
	for range senders {
		sub := service.Subscribe(site.publicKey())
		all.Go(func() {
			for i := range each {
				deliver(t, service, site, sub, fmt.Sprint(i), "", "60")
			}
		})
	}
	got, err := service.Wait(t.Context(), senders*each)
	if err != nil {
		t.Fatal(err)
	}
	all.Wait()
	next := map[belfry.Endpoint]int{}
	for _, r := range got {
		if string(r.Plaintext) != fmt.Sprint(next[r.Endpoint]) || r.Proto != "HTTP/2.0" {
			t.Errorf("out of order: %+v", r)
		}
		next[r.Endpoint]++
	}
	if sum := service.Summary(); sum.Accepted != senders*each || sum.Decrypted != senders*each || sum.Endpoints != senders || sum.HTTP2 != senders*each || sum.Subscriptions != senders {
		t.Errorf("summary %+v", sum)
	}
}

// Waiting for what never comes ends with the caller's patience.
func TestLedgerWaitEnds(t *testing.T) {
	service := pushtest.NewMemoryService(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got, err := service.Wait(ctx, 1); !errors.Is(err, context.Canceled) || len(got) != 0 {
		t.Errorf("waited for %v, %v", got, err)
	}
}

// Another process reads the same as this one.
func TestReceivedJSON(t *testing.T) {
	for _, want := range []pushtest.Received{
		{},
		{Plaintext: []byte{}},
		{
			Endpoint: belfry.StoredEndpoint("https://push.test/wpush/v2/abc"), Token: "abc", Message: "m", Time: time.Unix(1700000000, 5).UTC(),
			Proto: "HTTP/2.0", Status: 201, Reason: "ttl", Fault: "no TTL", Header: http.Header{"Ttl": {"60"}}, Length: 105,
			Plaintext: []byte("hi é"), Topic: "t", Urgency: "low", TTL: time.Minute, Ack: 100,
		},
		{Plaintext: []byte{0xff, 0xfe}},
	} {
		text, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var got pushtest.Received
		if err := json.Unmarshal(text, &got); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s became %+v, %v", text, got, err)
		}
		if want.Token != "" && !bytes.Contains(text, []byte(`"plaintext":"hi é"`)) {
			t.Errorf("%s does not show the text", text)
		}
	}
}

// A service that runs for weeks beside a developer does not eat the machine, and
// still counts all.
func TestLedgerIsBounded(t *testing.T) {
	service := pushtest.NewMemoryService(t)
	const many = 250_000
	for i := range many {
		service.Note(pushtest.Received{Status: 201, Length: i})
	}
	all := service.Received()
	if len(all) > 200_000 || all[len(all)-1].Length != many-1 || service.Summary().Accepted != many {
		t.Errorf("%d entries, %+v", len(all), service.Summary())
	}
}
