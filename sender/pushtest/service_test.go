package pushtest_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"strings"
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
		t.Fatalf("a server given --push-host %s would refuse the endpoint: %v", service.PushHosts()[0], err)
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

// A service can play any push service by name: the token's audience, the
// certificate and the allow-list see the real host, the connection stays here.
func TestServiceUnderAnothersName(t *testing.T) {
	service, site := pushtest.NewService(t, pushtest.Config{URL: "https://Updates.push.services.mozilla.com:443"}), newSite(t)
	sub := service.Subscribe(site.publicKey())
	if sub.Endpoint.Origin() != "https://updates.push.services.mozilla.com" {
		t.Errorf("origin %s", sub.Endpoint.Origin())
	}
	host, ok := service.Hosts().Opened("updates.push.services.mozilla.com", "443")
	if !ok || !strings.HasPrefix(host.Dial, "127.0.0.1:") {
		t.Errorf("--push-host %s opens %+v", service.PushHosts()[0], host)
	}
	if a := do(t, service.Client(), site.request(t, sub, "hi")); a.status != 201 || a.proto != "HTTP/2.0" {
		t.Errorf("answer %+v", a)
	}
}

// The CA in PEM is what --push-ca reads; nobody else's client trusts the service.
func TestServiceAuthority(t *testing.T) {
	service, site := pushtest.NewService(t), newSite(t)
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(service.CA()) || !pool.Equal(service.RootCAs()) {
		t.Error("the PEM is not the pool")
	}
	for _, trust := range []struct {
		pool *x509.CertPool
		ok   bool
	}{{pool, true}, {x509.NewCertPool(), false}} {
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trust.pool}}
		res, err := (&http.Client{Transport: transport}).Do(site.request(t, service.Subscribe(""), "hi"))
		if (err == nil) != trust.ok {
			t.Errorf("trusted %t: %v", trust.ok, err)
		}
		if err == nil {
			res.Body.Close()
		}
		transport.CloseIdleConnections()
	}
}

// A service that cannot start says why, and does not start half.
func TestStartRefuses(t *testing.T) {
	first, err := pushtest.Start(pushtest.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	for name, cfg := range map[string]pushtest.Config{
		"address taken":   {Listen: strings.TrimPrefix(first.URL(), "http://")},
		"no address":      {Listen: "here"},
		"URL with a path": {URL: "https://push.example.com/x"},
		"no URL":          {URL: "push.example.com"},
		"plain http far":  {URL: "http://push.example.com"},
		"directory taken": {Dir: "service_test.go"},
	} {
		if s, err := pushtest.Start(cfg); err == nil {
			s.Close()
			t.Errorf("%s: started", name)
		}
	}
}

// On all addresses, endpoints still name one that can be reached.
func TestStartOnAllAddresses(t *testing.T) {
	service, err := pushtest.Start(pushtest.Config{Listen: ":0"})
	if err != nil {
		t.Fatal(err)
	}
	defer service.Close()
	if !strings.HasPrefix(service.URL(), "http://127.0.0.1:") {
		t.Errorf("URL %s", service.URL())
	}
	if a := do(t, http.DefaultClient, newSite(t).request(t, service.Subscribe(""), "hi")); a.status != 201 {
		t.Errorf("answer %+v", a)
	}
	if err := errors.Join(service.Close(), service.Close()); err != nil {
		t.Error(err)
	}
}
