package sender_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/sender"
	"github.com/belfry-push/belfry/sender/pushtest"
)

// A push service that stays silent or falls over in the middle costs an attempt
// ten seconds at most, and never the message: it is tried again later (WP-69,
// REL-07, REL-17, SEC-08).
func TestFaults(t *testing.T) {
	tests := []struct {
		fault   pushtest.Fault
		verdict belfry.Verdict
		reason  string
	}{
		{pushtest.Reset, belfry.Later, "the connection broke"},
		{pushtest.ResetUnclear, belfry.Later, "the connection broke"},
		{pushtest.EndlessHeader, belfry.Later, "the connection broke"},
		{pushtest.CutAnswer, belfry.Accepted, ""}, // the status came: what was cut off changes nothing
		{pushtest.EndlessBody, belfry.Accepted, ""},
		{pushtest.Close, belfry.Accepted, ""},
	}
	eachEngine(t, func(t *testing.T, engine string) {
		service, sign := pushtest.NewService(t), newSigner(t)
		s, sub := start(t, engine, service, sign), service.Subscribe(sign.public())
		for _, tt := range tests {
			service.Answer(sub.Endpoint, pushtest.Answer{Fault: tt.fault})
			began := time.Now()
			o := s.Send(t.Context(), sub, belfry.PushMessage{Payload: []byte("hi")})
			if o.Verdict != tt.verdict || o.Reason != tt.reason || (o.Err == nil) != (tt.verdict == belfry.Accepted) {
				t.Errorf("%s: %+v, want %v %q", tt.fault, o, tt.verdict, tt.reason)
			}
			if d := time.Since(began); d > 5*time.Second {
				t.Errorf("%s: took %v", tt.fault, d)
			}
		}
		// The next message finds a good connection again.
		service.Answer(sub.Endpoint)
		if o := s.Send(t.Context(), sub, belfry.PushMessage{Payload: []byte("hi")}); o.Verdict != belfry.Accepted {
			t.Errorf("after all faults: %+v", o)
		}
	})
}

// Our own time limit is the push service's failure and the caller's end is not:
// a cancelled broadcast must not look like a host that is down.
func TestTimeLimit(t *testing.T) {
	tests := []struct {
		name     string
		deadline time.Duration // of the caller; 0 means none
		waited   time.Duration
		verdict  belfry.Verdict
		reason   string
	}{
		{"silence", 0, 10 * time.Second, belfry.Later, "no answer within 10 seconds"},
		{"patient caller", time.Hour, 10 * time.Second, belfry.Later, "no answer within 10 seconds"},
		{"hasty caller", 3 * time.Second, 3 * time.Second, belfry.Cancelled, "stopped waiting for an answer"},
	}
	eachEngine(t, func(t *testing.T, engine string) {
		for _, tt := range tests {
			synctest.Test(t, func(t *testing.T) {
				service, sign := pushtest.NewMemoryService(t), newSigner(t)
				s, err := sender.New(sender.Config{Signer: sign, Engine: engine, Hosts: service.Hosts(), Transport: service.Client().Transport})
				if err != nil {
					t.Fatal(err)
				}
				sub := service.Subscribe(sign.public())
				service.Answer(sub.Endpoint, pushtest.Answer{Fault: pushtest.Hang})
				ctx := t.Context()
				if tt.deadline > 0 {
					var stop context.CancelFunc
					ctx, stop = context.WithTimeout(ctx, tt.deadline)
					defer stop()
				}
				began := time.Now()
				o := s.Send(ctx, sub, belfry.PushMessage{Payload: []byte("hi")})
				if waited := time.Since(began); waited != tt.waited || o.Verdict != tt.verdict || o.Reason != tt.reason || o.Err == nil {
					t.Errorf("%s: %+v after %v, want %v %q after %v", tt.name, o, waited, tt.verdict, tt.reason, tt.waited)
				}
				service.Close()
			})
		}
	})
}

// A push service that speaks HTTP/1.1 and takes its time has its few connections
// busy, and attempts wait for one another. Had that wait counted, requests would
// be broken off on their way, and their messages sent twice.
func TestQueueAtASlowService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		service, sign := pushtest.NewMemoryService(t), newSigner(t)
		transport := service.Client().Transport.(*http.Transport).Clone()
		transport.MaxConnsPerHost = 2
		s, err := sender.New(sender.Config{Signer: sign, Hosts: service.Hosts(), Transport: transport})
		if err != nil {
			t.Fatal(err)
		}
		service.AnswerAny(pushtest.Answer{Delay: 4 * time.Second})
		began := time.Now()
		var all sync.WaitGroup
		for range 10 {
			sub := service.Subscribe(sign.public())
			all.Go(func() {
				if o := s.Send(t.Context(), sub, belfry.PushMessage{Payload: []byte("hi"), TTL: time.Hour}); o.Verdict != belfry.Accepted {
					t.Errorf("after %v: %+v", time.Since(began), o)
				}
			})
		}
		all.Wait()
		if sum := service.Summary(); sum.Accepted != 10 || sum.Received != 10 || sum.HungUp != 0 {
			t.Errorf("%+v", sum)
		}
		transport.CloseIdleConnections()
		service.Close()
	})
}

// Ten seconds are for all that a push service does: one that takes six to be
// connected to and six to answer has taken too long.
func TestTimeIsCountedFromTheDial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		service, sign := pushtest.NewMemoryService(t), newSigner(t)
		transport := service.Client().Transport.(*http.Transport).Clone()
		dial := transport.DialTLSContext
		transport.DialTLSContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			httptrace.ContextClientTrace(ctx).ConnectStart(network, address) // as net.Dialer does
			time.Sleep(6 * time.Second)
			return dial(ctx, network, address)
		}
		s, err := sender.New(sender.Config{Signer: sign, Hosts: service.Hosts(), Transport: transport})
		if err != nil {
			t.Fatal(err)
		}
		sub := service.Subscribe(sign.public())
		service.Answer(sub.Endpoint, pushtest.Answer{Delay: 6 * time.Second})
		began := time.Now()
		o := s.Send(t.Context(), sub, belfry.PushMessage{Payload: []byte("hi"), TTL: time.Hour})
		if took := time.Since(began); took != 10*time.Second || o.Verdict != belfry.Later {
			t.Errorf("%+v after %v", o, took)
		}
		transport.CloseIdleConnections()
		service.Close()
	})
}

// A caller that has gone sends nothing; one that goes in the middle is told so.
func TestCancelled(t *testing.T) {
	eachEngine(t, func(t *testing.T, engine string) {
		service, sign := pushtest.NewService(t), newSigner(t)
		s, sub := start(t, engine, service, sign), service.Subscribe(sign.public())
		ctx, stop := context.WithCancel(t.Context())
		stop()
		recorded, r := record(t, engine, sign)
		nobody, _ := browser(t, fcm)
		o := recorded.Send(ctx, nobody, belfry.PushMessage{})
		if o.Verdict != belfry.Cancelled || !errors.Is(o.Err, context.Canceled) || len(r.requests) != 0 {
			t.Errorf("before: %+v, %d requests left", o, len(r.requests))
		}
		service.Answer(sub.Endpoint, pushtest.Answer{Fault: pushtest.Hang})
		ctx, stop = context.WithCancel(t.Context())
		go func() {
			service.Await(t.Context(), func(pushtest.Summary) bool { return len(service.Received()) > 0 })
			stop()
		}()
		if o := s.Send(ctx, sub, belfry.PushMessage{}); o.Verdict != belfry.Cancelled || o.Status != 0 {
			t.Errorf("in the middle: %+v", o)
		}
	})
}

// A body that trickles without end is cut off with the time limit, and what it
// said until then still counts.
func TestTricklingAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		via := roundTrip(func(req *http.Request) (*http.Response, error) {
			io.Copy(io.Discard, req.Body)
			body, w := io.Pipe()
			go func() {
				for req.Context().Err() == nil {
					io.WriteString(w, "x")
					time.Sleep(time.Second)
				}
				w.CloseWithError(req.Context().Err())
			}()
			return &http.Response{StatusCode: 503, Header: http.Header{}, Body: body}, nil
		})
		s, err := sender.New(sender.Config{Signer: newSigner(t), Transport: via})
		if err != nil {
			t.Fatal(err)
		}
		sub, _ := browser(t, fcm)
		began := time.Now()
		o := s.Send(t.Context(), sub, belfry.PushMessage{})
		if took := time.Since(began); o.Verdict != belfry.Later || took < 10*time.Second || took > 11*time.Second {
			t.Errorf("%+v after %v", o, took)
		}
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// A body that is not closed holds its connection, and after some thousand
// answers there is none left. Nor may a timer and a context stay behind.
func TestAnswerIsClosed(t *testing.T) {
	for _, status := range []int{201, 400, 503} {
		body := &closing{Reader: strings.NewReader(strings.Repeat("x", 1<<20))}
		via := roundTrip(func(req *http.Request) (*http.Response, error) {
			body.request = req.Context()
			return &http.Response{StatusCode: status, Header: http.Header{}, Body: body}, nil
		})
		s, err := sender.New(sender.Config{Signer: newSigner(t), Transport: via})
		if err != nil {
			t.Fatal(err)
		}
		sub, _ := browser(t, fcm)
		s.Send(t.Context(), sub, belfry.PushMessage{})
		if read := 1<<20 - body.Reader.Len(); !body.closed || read > 64<<10 {
			t.Errorf("%d: closed %v after %d octets", status, body.closed, read)
		}
		if body.request.Err() == nil {
			t.Errorf("%d: the request goes on", status)
		}
	}
}

type closing struct {
	*strings.Reader
	request context.Context
	closed  bool // while the request went on
}

func (c *closing) Close() error {
	c.closed = c.request.Err() == nil
	return nil
}

// A signer that cannot sign is no fault of a subscription's: the host waits
// until an operator has seen to it, and nobody is lost (WP-65).
func TestSignerFails(t *testing.T) {
	eachEngine(t, func(t *testing.T, engine string) {
		s, r := record(t, engine, broken{})
		sub, _ := browser(t, fcm)
		if o := s.Send(t.Context(), sub, belfry.PushMessage{}); o.Verdict != belfry.OurFault || o.Reason != "the key is damaged" || len(r.requests) != 0 {
			t.Errorf("%+v, %d requests", o, len(r.requests))
		}
	})
}

type broken struct{}

func (broken) Authorization(string, string) (string, error) {
	return "", &belfry.Error{Kind: belfry.ErrCorrupt, Code: "key", Text: "the key is damaged"}
}

// What cannot work is said at the start, not at the first message.
func TestNew(t *testing.T) {
	for _, cfg := range []sender.Config{{}, {Engine: "native"}, {Signer: broken{}, Engine: "web-push"}} {
		if s, err := sender.New(cfg); !errors.Is(err, belfry.ErrInvalid) || s != nil {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
}
