package h2

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
)

// Whatever a server writes, a request ends with an answer or an error, and the
// connection with nothing left behind.
func FuzzServer(f *testing.F) {
	script := func(write func(*http2.Framer)) []byte {
		var b bytes.Buffer
		framer := http2.NewFramer(&b, nil)
		framer.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 3})
		write(framer)
		return b.Bytes()
	}
	created := []byte{0x48, 0x03, '2', '0', '1'} // :status 201
	f.Add(script(func(w *http2.Framer) {
		w.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: created, EndHeaders: true, EndStream: true})
	}))
	f.Add(script(func(w *http2.Framer) {
		w.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: created, EndHeaders: true})
		w.WriteData(1, false, []byte("text"))
		w.WriteRSTStream(1, http2.ErrCodeNo)
	}))
	f.Add(script(func(w *http2.Framer) {
		w.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}, http2.Setting{ID: http2.SettingHeaderTableSize, Val: 0})
		w.WriteWindowUpdate(1, 3)
		w.WriteWindowUpdate(0, 1<<31-1)
	}))
	f.Add(script(func(w *http2.Framer) { w.WriteGoAway(0, http2.ErrCodeNo, nil) }))
	f.Add(script(func(w *http2.Framer) {
		w.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: created[:2]})
		w.WriteContinuation(1, true, created[2:])
	}))
	f.Fuzz(func(t *testing.T, says []byte) {
		synctest.Test(t, func(t *testing.T) {
			cfg := Config{TLS: &tls.Config{}, Connections: 1, Answer: 64, Header: 1 << 10,
				Dialling: time.Second, Idle: time.Minute, Quiet: time.Second, Lost: time.Second}
			s := newServer(&cfg, &url.URL{Host: "push.example"})
			ours, theirs := net.Pipe()
			var peer sync.WaitGroup
			defer peer.Wait()
			peer.Go(func() { io.Copy(io.Discard, theirs) })
			peer.Go(func() {
				theirs.Write(says)
				time.Sleep(time.Second)
				theirs.Close()
			})
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			c, err := newConn(ctx, s, ours)
			if err != nil {
				return
			}
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://push.example/", nil)
			if err != nil {
				t.Fatal(err)
			}
			st, err := c.open(req, []byte(strings.Repeat("body", 100)))
			if err == nil {
				select {
				case <-st.done:
				case <-ctx.Done():
					t.Error("the request outlives its connection")
				}
				if resp, err := st.response(req); err == nil && (resp.StatusCode < 200 || resp.ContentLength > int64(cfg.Answer)) {
					t.Errorf("%d with %d octets", resp.StatusCode, resp.ContentLength)
				}
			}
			c.fail(errGoing)
		})
	})
}
