//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
)

// servePlain is a stream as one would write it with net/http: a goroutine for
// each page, which waits on a channel.
func servePlain(ctx context.Context) error {
	var mu sync.Mutex // guards pages
	pages := map[chan []byte]bool{}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/events", func(w http.ResponseWriter, r *http.Request) {
		mine := make(chan []byte, 16)
		mu.Lock()
		pages[mine] = true
		mu.Unlock()
		defer func() {
			mu.Lock()
			delete(pages, mine)
			mu.Unlock()
		}()
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, "event: hello\ndata: {}\n\n")
		out := http.NewResponseController(w)
		out.Flush()
		for {
			select {
			case frame := <-mine:
				w.Write(frame)
				out.Flush()
			case <-r.Context().Done():
				return
			}
		}
	})
	mux.HandleFunc("POST /publish", func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		frame := fmt.Appendf(nil, "id: 0123456789.1\ndata: %s\n\n", body)
		mu.Lock()
		defer mu.Unlock()
		for page := range pages {
			page <- frame
		}
	})
	return serve(ctx, mux)
}

// serve answers on a port of its own until ctx ends, and says where.
func serve(ctx context.Context, mux http.Handler) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "listening on http://%s\n", l.Addr())
	s := &http.Server{Handler: mux}
	context.AfterFunc(ctx, func() { s.Close() })
	if err := s.Serve(l); err != http.ErrServerClosed {
		return err
	}
	return nil
}
