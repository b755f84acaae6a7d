package h2

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
)

var hasty = Limits{Service: 10 * time.Second, Queue: 2 * time.Minute}

type carrier func(*http.Request) (*http.Response, error)

func (f carrier) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// What a request waits for others is given to it on top, whenever that ends, and
// nothing that comes later gives it more.
func TestPatient(t *testing.T) {
	const never = -1
	tests := []struct {
		name          string
		queued, begun time.Duration // since the request's beginning
		again         time.Duration // queued and begun once more
		ended         time.Duration
	}{
		{name: "no trace", queued: never, begun: never, again: never, ended: 10 * time.Second},
		{name: "at once", queued: 0, begun: 0, again: never, ended: 10 * time.Second},
		{name: "just before it looks", queued: 0, begun: 10*time.Second - 1, again: never, ended: 20*time.Second - 1},
		{name: "just after it looked", queued: 0, begun: 10*time.Second + 1, again: never, ended: 20*time.Second + 1},
		{name: "after a long wait", queued: 0, begun: 115 * time.Second, again: never, ended: 125 * time.Second},
		{name: "never", queued: 0, begun: never, again: never, ended: 2 * time.Minute},
		{name: "never, and late", queued: 3 * time.Second, begun: never, again: never, ended: 123 * time.Second},
		{name: "replayed", queued: 0, begun: 3 * time.Second, again: 9 * time.Second, ended: 13 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				via := carrier(func(req *http.Request) (*http.Response, error) {
					trace := httptrace.ContextClientTrace(req.Context())
					for i, at := range []time.Duration{tt.queued, tt.begun, tt.again, tt.again} {
						if at == never {
							continue
						}
						time.Sleep(at - time.Since(began))
						if i%2 == 0 {
							trace.GetConn("")
						} else {
							trace.GotConn(httptrace.GotConnInfo{})
						}
					}
					<-req.Context().Done()
					return nil, req.Context().Err()
				})
				_, _, err := post(t.Context(), Patient(via, hasty), "/", "x")
				if took := time.Since(began); took != tt.ended || !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("ended after %v by %v, want %v", took, err, tt.ended)
				}
			})
		})
	}
}

// How long requests wait for one another is no fault of the server, and bounded
// by itself; how long one of them waits for the server is.
func TestQueue(t *testing.T) {
	for _, tt := range []struct {
		name     string
		limits   Limits
		answered int
		longest  time.Duration
	}{
		{"patient", Limits{Service: 5 * time.Second, Queue: 17 * time.Second}, 5, 20 * time.Second},
		{"too many", Limits{Service: 5 * time.Second, Queue: 7 * time.Second}, 2, 8 * time.Second},
		{"too slow", Limits{Service: 3 * time.Second, Queue: 17 * time.Second}, 0, 15 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				transport := dialled(t, func(p *peer) {
					p.greet(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1})
					for g := p.next(nil); g != nil; g = p.next(nil) {
						time.Sleep(4 * time.Second)
						p.answer(g, 201)
					}
				})
				transport.cfg.Connections, transport.cfg.Limits = 1, tt.limits
				began := time.Now()
				var mu sync.Mutex
				var all sync.WaitGroup
				answered := 0
				for range 5 {
					all.Go(func() {
						status, _, err := post(t.Context(), transport, "/", "x")
						mu.Lock()
						defer mu.Unlock()
						if status == 201 {
							answered++
						} else if !errors.Is(err, context.DeadlineExceeded) {
							t.Error(status, err)
						}
					})
				}
				all.Wait()
				if took := time.Since(began); answered != tt.answered || took != tt.longest {
					t.Errorf("%d were answered, the last one ended after %v", answered, took)
				}
			})
		})
	}
}

// Who is the first to be carried to a server has its time run from the dial: the
// wait for that is none for others.
func TestTimeRunsFromTheDial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		transport := dialled(t, func(p *peer) {
			time.Sleep(6 * time.Second)
			p.greet()
			p.next(nil)
			time.Sleep(6 * time.Second)
		})
		transport.cfg.Limits = hasty
		began := time.Now()
		_, _, err := post(t.Context(), transport, "/", "x")
		if took := time.Since(began); took != 10*time.Second || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("ended after %v by %v", took, err)
		}
	})
}

// Requests that have waited for one another to find out that a server speaks only
// HTTP/1.1 then have no more time for its answer than any other.
func TestSilentPlainServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cert, roots := certificate(t)
		var all sync.WaitGroup
		transport := New(Config{Limits: hasty, Connections: 3, Answer: 4096, Header: 16 << 10, Dialling: 10 * time.Second,
			TLS: &tls.Config{RootCAs: roots}, Idle: time.Minute, Quiet: time.Minute, Lost: time.Minute,
			Dial: func(context.Context, string, string) (net.Conn, error) {
				time.Sleep(time.Second)
				ours, theirs := net.Pipe()
				all.Go(func() {
					io.Copy(io.Discard, tls.Server(theirs, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"http/1.1"}}))
					theirs.Close()
				})
				return ours, nil
			}})
		began := time.Now()
		for range 3 {
			all.Go(func() {
				_, _, err := post(t.Context(), transport, "/", "x")
				if took := time.Since(began); took > 12*time.Second || !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("ended after %v by %v", took, err)
				}
			})
		}
		all.Wait()
		transport.CloseIdleConnections()
	})
}
