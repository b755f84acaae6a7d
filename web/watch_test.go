package web

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/broadcasts"
	"github.com/belfry-push/belfry/sender/pushtest"
)

// A broadcast that waits for a push service says nothing for minutes. Whoever
// watches it must still be there at its end, over either version of HTTP, and the
// proxy in between must not take the silence for an end: the command line takes a
// stream that breaks for a server that is gone.
func TestWatchOutlastsSilence(t *testing.T) {
	for _, version := range []string{"HTTP/1.1", "HTTP/2.0"} {
		t.Run(version, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				service := pushtest.NewMemoryService(t)
				service.AnswerAny(pushtest.Answer{Status: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {"100"}}})
				h := newRooms(t, service)
				waiting := service.Subscribe(h.ring.Current().PublicKey)
				waiting.KeyID = h.ring.Current().ID
				must(h.store.Import(t.Context(), []belfry.Subscription{waiting}, ""))
				b, _, err := h.web.Broadcasts.Launch(t.Context(), broadcasts.Request{Message: belfry.Message{Title: "T"}, Audience: belfry.Audience{All: true}})
				if err != nil {
					t.Fatal(err)
				}

				server, listener := NewHTTPServer(h.web.Operators(Owner), slog.New(slog.DiscardHandler)), make(pipes)
				var speaks http.Protocols
				speaks.SetHTTP1(version == "HTTP/1.1")
				speaks.SetUnencryptedHTTP2(version == "HTTP/2.0")
				server.Protocols = &speaks
				go server.Serve(listener)
				defer func() { close(listener); server.Close() }()
				transport := &http.Transport{Protocols: &speaks, DialContext: func(context.Context, string, string) (net.Conn, error) {
					ours, theirs := net.Pipe()
					listener <- theirs
					return ours, nil
				}}
				defer transport.CloseIdleConnections()

				began := time.Now()
				resp := must(transport.RoundTrip(must(http.NewRequestWithContext(t.Context(), "GET", "http://belfry/api/v1/broadcasts/"+b.ID+"/events", nil))))
				defer resp.Body.Close()
				var got strings.Builder
				silence, last := time.Duration(0), time.Now()
				for part := make([]byte, 4096); err == nil; {
					var n int
					n, err = resp.Body.Read(part)
					got.Write(part[:n])
					silence, last = max(silence, time.Since(last)), time.Now()
				}
				if took := time.Since(began); resp.Proto != version || err != io.EOF || took < time.Minute || !strings.Contains(got.String(), `"state":"done"`) {
					t.Errorf("%s ended after %s with %v and %.300s", resp.Proto, took, err, got.String())
				}
				if silence > 20*time.Second {
					t.Errorf("%s said nothing for %s", resp.Proto, silence)
				}
			})
		})
	}
}
