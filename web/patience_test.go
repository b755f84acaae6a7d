package web

import (
	"bufio"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belfry-push/belfry/sender/pushtest"
)

// pipes is a listener whose connections are net.Pipes, so that time can be faked.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	c, open := <-p
	if !open {
		return nil, net.ErrClosed
	}
	return c, nil
}
func (p pipes) Close() error   { return nil }
func (p pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

// A client that says one octet now and then must not hold a place for long; an
// operator who feeds an import from another program must be waited for (SEC-45).
func TestPatience(t *testing.T) {
	for _, try := range []struct {
		name    string
		public  bool
		request string // sent at once
		trickle string // sent again and again, one a minute for an hour
		within  time.Duration
		answer  string
	}{
		{"headers that never end", true, "POST /v1/subscriptions HTTP/1.1\r\nHost: x\r\nX: ", "x", 5 * time.Second, ""},
		{"a body that never ends", true, "POST /v1/subscriptions HTTP/1.1\r\nHost: x\r\nOrigin: " + site + "\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n", " ", 10 * time.Second, "too slowly"},
		{"nothing after an answer", true, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", "", 60 * time.Second, "ok"},
		{"a message that never ends", false, "POST /api/v1/broadcasts HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n", " ", 10 * time.Second, "too slowly"},
		{"an import that takes an hour", false, "POST /api/v1/subscriptions/import HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n", "2\r\n{\n\r\n", time.Hour + time.Minute, `"refused":60`},
	} {
		t.Run(try.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newRooms(t, pushtest.NewMemoryService(t))
				handler := h.web.Operators(Owner)
				if try.public {
					handler = h.web.Public()
				}
				server, listener := NewHTTPServer(handler, slog.New(slog.DiscardHandler)), make(pipes)
				go server.Serve(listener)
				defer func() { close(listener); server.Close() }()
				ours, theirs := net.Pipe()
				listener <- theirs
				began := time.Now()
				fed := make(chan struct{})
				go func() {
					defer close(fed)
					io.WriteString(ours, try.request)
					for range 60 {
						time.Sleep(time.Minute)
						if _, err := io.WriteString(ours, try.trickle); err != nil {
							return
						}
					}
					io.WriteString(ours, "0\r\n\r\n")
				}()
				got, _ := io.ReadAll(bufio.NewReader(ours))
				if took := time.Since(began); took > try.within+time.Second || !strings.Contains(string(got), try.answer) {
					t.Errorf("let go after %s with %q, want within %s and %q", took, got, try.within, try.answer)
				}
				ours.Close()
				<-fed
			})
		})
	}
}
