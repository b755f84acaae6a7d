package pushtest_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belfry-push/belfry/sender/pushtest"
)

// Scripts play in order, the last line stays, and each endpoint plays its own.
func TestAnswerScripts(t *testing.T) {
	service, site := pushtest.NewMemoryService(t), newSite(t)
	one, two := service.Subscribe(site.publicKey()), service.Subscribe(site.publicKey())
	status := func(want ...int) {
		t.Helper()
		for i, w := range want {
			if a := do(t, service.Client(), site.request(t, one, "hi")); a.status != w {
				t.Errorf("answer %d is %d, want %d", i, a.status, w)
			}
		}
	}
	service.Answer(one.Endpoint, pushtest.Answer{Status: 429, Header: http.Header{"retry-after": {"30"}}, Body: "slow down"}, pushtest.Answer{}, pushtest.Answer{Status: 503})
	res, err := service.Client().Do(site.request(t, one, "hi"))
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(res.Body)
	res.Body.Close()
	if res.StatusCode != 429 || res.Header.Get("Retry-After") != "30" || string(body) != "slow down" {
		t.Errorf("answer %d %v %q", res.StatusCode, res.Header, body)
	}
	status(201, 503, 503)
	if a := do(t, service.Client(), site.request(t, two, "hi")); a.status != 201 {
		t.Errorf("another endpoint was answered %d", a.status)
	}
	service.AnswerAny(pushtest.Answer{Status: 500}, pushtest.Answer{Status: 202})
	for _, want := range []int{500, 202, 202} {
		if a := do(t, service.Client(), site.request(t, two, "hi")); a.status != want {
			t.Errorf("another endpoint was answered %d, want %d", a.status, want)
		}
	}
	status(503)
	service.Answer(one.Endpoint)
	status(500, 202) // its own turn through the script for all
	service.AnswerAny(pushtest.Answer{Status: 410}, pushtest.Answer{Status: 404})
	status(410, 404) // a new script for all begins at its beginning
	service.AnswerAny()
	status(201)

	// A wrong request is refused whatever the script says, and uses none of it up.
	service.Answer(one.Endpoint, pushtest.Answer{Status: 429}, pushtest.Answer{Status: 201})
	wrong := site.request(t, one, "hi")
	wrong.Header.Del("TTL")
	if a := do(t, service.Client(), wrong); a.status != 400 {
		t.Errorf("a wrong request was answered %d", a.status)
	}
	status(429, 201)
	if sum := service.Summary(); sum.Scripted["503"] != 3 || sum.Scripted["429"] != 2 || sum.Accepted != 7 || sum.Refused["ttl"] != 1 {
		t.Errorf("summary %+v", sum)
	}
}

// A client is a way to reach a service, as senders in the field have them.
type client struct {
	name string
	cfg  pushtest.Config
	// refit changes the service's client, which speaks the best there is.
	refit func(*http.Transport)
}

var clients = []client{
	{name: "HTTP2", cfg: pushtest.Config{TLS: true}},
	{name: "HTTP1 over TLS", cfg: pushtest.Config{TLS: true}, refit: func(tr *http.Transport) {
		tr.ForceAttemptHTTP2, tr.TLSClientConfig.NextProtos = false, nil
		tr.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{} // Clone has filled it in
	}},
	{name: "HTTP1"},
	{name: "pipe", cfg: pushtest.Config{Memory: true}},
}

func (c client) start(t *testing.T) (*pushtest.Service, *http.Client) {
	t.Helper()
	service, err := pushtest.Start(c.cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { service.Close() })
	transport := service.Client().Transport.(*http.Transport).Clone()
	if c.refit != nil {
		c.refit(transport)
	}
	t.Cleanup(transport.CloseIdleConnections)
	return service, &http.Client{Transport: transport}
}

// Every fault must look to a sender as the fault it plays, over every protocol
// that a sender may speak; else its retries are tested against nothing.
func TestAnswerFaults(t *testing.T) {
	for _, c := range clients {
		t.Run(c.name, func(t *testing.T) {
			service, client := c.start(t)
			site := newSite(t)
			sub := service.Subscribe(site.publicKey())
			for _, fault := range []pushtest.Fault{pushtest.Reset, pushtest.ResetUnclear, pushtest.EndlessHeader, pushtest.CutAnswer} {
				service.Answer(sub.Endpoint, pushtest.Answer{Fault: fault}, pushtest.Answer{})
				res, err := client.Do(site.request(t, sub, "hi"))
				if err == nil {
					if _, err = io.Copy(io.Discard, res.Body); fault != pushtest.CutAnswer {
						t.Errorf("%s was answered %d", fault, res.StatusCode)
					}
					res.Body.Close()
				}
				if err == nil {
					t.Errorf("%s went well", fault)
				}
				all := service.Received()
				if last := all[len(all)-1]; last.Fault != string(fault) || last.Accepted() && fault != pushtest.CutAnswer || (last.Length == 0) != (fault == pushtest.Reset) {
					t.Errorf("ledger holds %+v", last)
				}
				if a := do(t, client, site.request(t, sub, "hi")); a.status != 201 {
					t.Errorf("after %s: %+v", fault, a)
				}
			}
			endlessBody(t, service, client, site)
			hang(t, service, client, site)
			closing(t, service, client, site)
		})
	}
}

func endlessBody(t *testing.T, service *pushtest.Service, client *http.Client, site *site) {
	t.Helper()
	sub := service.Subscribe(site.publicKey())
	service.Answer(sub.Endpoint, pushtest.Answer{Status: 500, Fault: pushtest.EndlessBody})
	res, err := client.Do(site.request(t, sub, "hi"))
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.CopyN(io.Discard, res.Body, 4<<20); res.StatusCode != 500 || err != nil {
		t.Errorf("an endless body with %d ended after %d octets: %v", res.StatusCode, n, err)
	}
	res.Body.Close()
}

func hang(t *testing.T, service *pushtest.Service, client *http.Client, site *site) {
	t.Helper()
	sub := service.Subscribe(site.publicKey())
	service.Answer(sub.Endpoint, pushtest.Answer{Fault: pushtest.Hang})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n := len(service.Received())
	go func() {
		service.Wait(ctx, n+1) // the request has arrived, and nobody answers
		cancel()
	}()
	if _, err := client.Do(site.request(t, sub, "hi").WithContext(ctx)); !errors.Is(err, context.Canceled) {
		t.Errorf("a hanging answer ended with %v", err)
	}
	all := service.Received()
	if last := all[len(all)-1]; last.Status != 0 || last.Fault != "hang" || string(last.Plaintext) != "hi" {
		t.Errorf("ledger holds %+v", last)
	}
}

func closing(t *testing.T, service *pushtest.Service, client *http.Client, site *site) {
	t.Helper()
	sub := service.Subscribe(site.publicKey())
	service.Answer(sub.Endpoint, pushtest.Answer{Fault: pushtest.Close})
	for range 3 {
		if a := do(t, client, site.request(t, sub, "hi")); a.status != 201 {
			t.Errorf("a service that closes its connections answered %+v", a)
		}
	}
}

// A reset is a reset, not the quiet end of a connection: clients tell the two apart.
func TestAnswerResets(t *testing.T) {
	service, client := client{}.start(t)
	for _, fault := range []pushtest.Fault{pushtest.Reset, pushtest.ResetUnclear} {
		service.AnswerAny(pushtest.Answer{Fault: fault})
		if _, err := client.Do(newSite(t).request(t, service.Subscribe(""), "hi")); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s ended with %v", fault, err)
		}
	}
}

// Close must not wait for a client that waits for an answer.
func TestAnswerEndsWithTheService(t *testing.T) {
	for _, c := range clients {
		service, client := c.start(t)
		service.AnswerAny(pushtest.Answer{Fault: pushtest.Hang})
		failed := make(chan error)
		r := newSite(t).request(t, service.Subscribe(""), "hi")
		go func() {
			_, err := client.Do(r)
			failed <- err
		}()
		if _, err := service.Wait(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		if err := service.Close(); err != nil {
			t.Error(err)
		}
		if err := <-failed; err == nil {
			t.Errorf("%s: a hanging request was answered", c.name)
		}
	}
}

// The same for an answer that takes its time.
func TestAnswerDelayEndsWithTheService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		service := pushtest.NewMemoryService(t)
		service.AnswerAny(pushtest.Answer{Delay: time.Hour})
		began := time.Now()
		r := newSite(t).request(t, service.Subscribe(""), "hi")
		failed := make(chan error)
		go func() {
			_, err := service.Client().Do(r)
			failed <- err
		}()
		synctest.Wait() // the request has arrived
		service.Close()
		if err := <-failed; err == nil || time.Since(began) != 0 {
			t.Errorf("ended after %s with %v", time.Since(began), err)
		}
	})
}

// A client that gives up is in the ledger too: its sender may try again, and the
// test must see why there are two.
func TestAnswerTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		service, site := pushtest.NewMemoryService(t), newSite(t)
		sub := service.Subscribe("")
		service.Answer(sub.Endpoint, pushtest.Answer{Delay: 30 * time.Second})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if _, err := service.Client().Do(site.request(t, sub, "hi").WithContext(ctx)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("ended with %v", err)
		}
		all, err := service.Wait(t.Context(), 1)
		if err != nil || all[0].Status != 0 || all[0].Reason != "hung-up" || !strings.Contains(all[0].Fault, "hung up") {
			t.Errorf("ledger holds %+v, %v", all, err)
		}
		if sum := service.Summary(); sum.HungUp != 1 || sum.Accepted != 0 {
			t.Errorf("summary %+v", sum)
		}
	})
}
