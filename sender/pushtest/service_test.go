package pushtest_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/belfry-push/belfry/sender/pushtest"
)

// The whole way, once: if this fails, nobody's test of sending means anything.
func TestServiceReadsWhatWasSent(t *testing.T) {
	service, site := pushtest.NewService(t), newSite(t)
	sub := service.Subscribe(site.publicKey())
	if _, err := service.Hosts().Endpoint(sub.Endpoint.Reveal()); err != nil {
		t.Fatalf("a server given --push-host %s would refuse the endpoint: %v", service.PushHost(), err)
	}
	r := site.request(t, sub, "ding dong")
	r.Header.Set("Topic", "Gfug6ZW5eU_CwmIXvztyXC8Nnu2hZxn-")
	a := do(t, service.Client(), r)
	if a.status != 201 || a.header.Get("Location") == "" || a.header.Get("TTL") != "60" || a.proto != "HTTP/2.0" {
		t.Fatalf("answer %+v", a)
	}
	all := service.Received()
	if len(all) != 1 {
		t.Fatalf("%d entries", len(all))
	}
	got := all[0]
	if string(got.Plaintext) != "ding dong" || got.Status != 201 || got.Fault != "" || got.TTL != time.Minute ||
		got.Urgency != "normal" || got.Topic != "Gfug6ZW5eU_CwmIXvztyXC8Nnu2hZxn-" || got.Endpoint != sub.Endpoint || got.Length != 112 {
		t.Errorf("ledger holds %+v", got)
	}
}

// A test in a bubble spends no real time: here a service takes an hour to
// answer, and a token grows old.
func TestServiceInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		service, site := pushtest.NewMemoryService(t), newSite(t)
		sub := service.Subscribe(site.publicKey())
		service.Answer(sub.Endpoint, pushtest.Answer{Delay: time.Hour})
		began := time.Now()
		old := site.request(t, sub, "slow")
		if a := do(t, service.Client(), old.Clone(t.Context())); a.status != 201 {
			t.Fatalf("answer %+v", a)
		}
		if took := time.Since(began); took != time.Hour {
			t.Errorf("the answer took %s", took)
		}
		time.Sleep(12 * time.Hour)
		again := site.request(t, sub, "old token")
		again.Header.Set("Authorization", old.Header.Get("Authorization"))
		if a := do(t, service.Client(), again); a.status != 401 || a.Message != "ExpiredSignature" {
			t.Errorf("a token that is over was answered %+v", a)
		}
	})
}
