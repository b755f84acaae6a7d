//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"syscall"
)

// serveBare is no server at all but what every one must do: it takes connections
// over and writes to all of them, with a thread for each core and nothing else.
// Nobody can be faster, nor does it notice a page that does not read.
func serveBare(ctx context.Context) error {
	var mu sync.Mutex // guards pages and kept
	var pages []int
	var kept []net.Conn // so that they are not closed as garbage
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/events", func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nevent: hello\ndata: {}\n\n")
		raw, err := conn.(*net.TCPConn).SyscallConn()
		if err != nil {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		kept = append(kept, conn)
		raw.Control(func(fd uintptr) { pages = append(pages, int(fd)) })
	})
	mux.HandleFunc("POST /publish", func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		frame := fmt.Appendf(nil, "id: 0123456789.1\ndata: %s\n\n", body)
		mu.Lock()
		defer mu.Unlock()
		var all sync.WaitGroup
		for part := range slices.Chunk(pages, len(pages)/runtime.NumCPU()+1) {
			all.Go(func() {
				for _, page := range part {
					syscall.Write(page, frame)
				}
			})
		}
		all.Wait()
	})
	return serve(ctx, mux)
}
