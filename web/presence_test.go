package web

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belfry-push/belfry/broadcasts"
	"github.com/belfry-push/belfry/sender/pushtest"
)

// A nearby connection has an address, as pipes have not.
type nearby struct{ net.Conn }

func (nearby) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 2} }

// serveByPipes serves a handler within a bubble.
func (h *house) serveByPipes(handler http.Handler) *httptest.Server {
	listener := make(pipes)
	s := httptest.NewUnstartedServer(handler)
	s.Listener.Close()
	s.Listener, s.Config = listener, NewHTTPServer(handler, slog.New(slog.DiscardHandler))
	s.Start()
	s.Client().Transport.(*http.Transport).DialContext = func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		listener <- nearby{theirs}
		return ours, nil
	}
	h.t.Cleanup(func() { close(listener); s.Close() })
	return s
}

// From registration to acknowledgement, all by HTTP: the device of a page that
// somebody looks at, and that says in time that it has the message, is not rung.
// Whoever cannot prove to be that device spares nobody's push.
func TestSparedPush(t *testing.T) {
	const look = `"visible":true`
	proof := func(id, secret string) string { return fmt.Sprintf(`"device":{"id":%q,"secret":%q}`, id, secret) }
	for _, tt := range []struct {
		name   string
		first  func(id, secret string) string // order, before the launch
		status int
		acks   bool
		push   broadcasts.Push
		spared int
		within time.Duration
	}{
		{"it acknowledges", func(id, secret string) string { return look + "," + proof(id, secret) }, 204, true, "auto", 1, 4 * time.Second},
		{"it says nothing", func(id, secret string) string { return look + "," + proof(id, secret) }, 204, false, "auto", 0, 4 * time.Second},
		{"nobody looks at it", proof, 204, true, "auto", 0, time.Second},
		{"it is nobody's", func(string, string) string { return look }, 204, true, "auto", 0, time.Second},
		{"it has no proof", func(id, _ string) string { return look + "," + proof(id, strings.Repeat("A", 43)) }, 401, true, "auto", 0, time.Second},
		{"it is rung whatever it says", func(id, secret string) string { return look + "," + proof(id, secret) }, 204, true, "always", 0, time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newRooms(t, pushtest.NewMemoryService(t))
				h.public, h.socket = h.serveByPipes(h.web.Public()), h.serveByPipes(h.web.Operators(Owner))
				id, secret := h.register(`["news"]`)
				s := h.listen(h.public, "GET", "/v1/events?channel=news", "")
				var hello struct{ Conn string }
				if err := json.Unmarshal([]byte(strings.TrimPrefix(s.until(`"conn":`), "data: ")), &hello); err != nil {
					t.Fatal(err)
				}
				order := func(body string) int {
					return h.do(h.public, "POST", "/v1/connections/"+hello.Conn, "{"+body+"}", page...).status
				}
				if got := order(tt.first(id, secret)); got != tt.status {
					t.Fatalf("%d", got)
				}

				start := time.Now()
				got := h.do(h.socket, "POST", "/api/v1/broadcasts", fmt.Sprintf(`{"message":{"title":"Hello"},"audience":{"channels":["news"]},"push":%q}`, tt.push))
				var b broadcasts.Broadcast
				if err := json.Unmarshal([]byte(got.body), &b); err != nil || got.status != 202 {
					t.Fatal(got.status, got.body)
				}
				s.until(b.ID)
				if tt.acks && order(`"ack":["`+b.ID+`"]`) != 204 {
					t.Error("the acknowledgement is refused")
				}
				for b.State != broadcasts.Done {
					time.Sleep(100 * time.Millisecond)
					json.Unmarshal([]byte(h.do(h.socket, "GET", "/api/v1/broadcasts/"+b.ID, "").body), &b)
				}
				if took := time.Since(start); took > tt.within {
					t.Errorf("it took %v", took)
				}
				want := broadcasts.Counts{Targets: 1, Suppressed: tt.spared, Accepted: 1 - tt.spared}
				if rung := len(h.service.Received()); b.Counts != want || rung != want.Accepted {
					t.Errorf("%+v and rung %d times, want %+v", b.Counts, rung, want)
				}
				s.Body.Close()
			})
		})
	}
}
