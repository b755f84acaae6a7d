//go:build e2e

package e2e

import (
	"bufio"
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/belfry-push/belfry/internal/process"
)

// A Proxy stands between browsers and a server that is given to it later.
type Proxy struct {
	listener net.Listener
	address  string // host and port
}

// NewProxy takes a free port, and keeps it for the proxy that will be there.
func NewProxy(t *testing.T) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return &Proxy{l, l.Addr().String()}
}

// Origin is that of pages that come through the proxy, under the name that
// browsers trust without TLS.
func (p *Proxy) Origin() string {
	return "http://" + strings.Replace(p.address, "127.0.0.1", "localhost", 1)
}

// start runs a proxy's program with its configuration until the test ends. It
// finds the port open as descriptor 3, so nobody has to wait until it listens.
func (p *Proxy) start(t *testing.T, name, config string, command ...string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), name+".conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	port, err := p.listener.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { port.Close() })
	cmd := exec.Command(command[0], append(command[1:], file)...)
	cmd.ExtraFiles = []*os.File{port}
	cmd.Env = append(os.Environ(), "NGINX=3;") // how nginx is told of descriptors when it replaces itself
	process.Start(t, name, cmd, `^`)
}

// Nginx runs nginx in front of a server, with the settings that it has by
// itself: it speaks HTTP/1.0 to the server, and compresses and holds back what it may.
func (p *Proxy) Nginx(t *testing.T, server *Server, location, more string) {
	t.Helper()
	dir := t.TempDir()
	p.start(t, "nginx", fmt.Sprintf(`
daemon off;
user root; # where it is root's, whose files these are
worker_processes 1;
pid %[1]s/pid;
error_log stderr error;
events {}
http {
	access_log off;
	gzip on;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	server {
		listen %[2]s;
		location %[3]s { proxy_pass http://%[4]s/; %[5]s }
	}
}
`, dir, p.address, location, server.address, more), program(t, "BELFRY_NGINX", "nginx", "/usr/sbin/nginx"), "-c")
}

// HAProxy runs HAProxy in front of a server, with the settings of Debian's package.
func (p *Proxy) HAProxy(t *testing.T, server *Server) {
	t.Helper()
	p.start(t, "haproxy", fmt.Sprintf(`
defaults
	mode http
	timeout connect 5000
	timeout client 50000
	timeout server 50000
frontend browsers
	bind fd@3
	default_backend belfry
backend belfry
	server belfry %s
`, server.address), program(t, "BELFRY_HAPROXY", "haproxy", "/usr/sbin/haproxy"), "-db", "-f")
}

// holdsBack are settings of nginx for which it takes a stream for a file that is
// slow, and passes nothing on until there is enough of it.
const holdsBack = `proxy_buffering on; proxy_buffers 8 64k; proxy_buffer_size 64k; proxy_ignore_headers X-Accel-Buffering;`

// usualProxies start, each, and say where the server is behind them.
func usualProxies(server *Server) map[string]func(t *testing.T) (url string) {
	nginx := func(location, more string) func(t *testing.T) string {
		return func(t *testing.T) string {
			p := NewProxy(t)
			p.Nginx(t, server, location, more)
			return p.Origin() + strings.TrimSuffix(location, "/")
		}
	}
	return map[string]func(t *testing.T) string{
		"nginx":                    nginx("/", ""),
		"nginx-below-another-path": nginx("/bells/", ""),
		"nginx-speaking-HTTP-1.1":  nginx("/", "proxy_http_version 1.1;"),
		"HAProxy": func(t *testing.T) string {
			p := NewProxy(t)
			p.HAProxy(t, server)
			return p.Origin()
		},
	}
}

// listenTo listens as an EventSource does, from a cursor on, at an address that may
// be a proxy's.
func listenTo(ctx context.Context, t *testing.T, url, cursor string) (*bufio.Scanner, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/v1/events?channel=news", nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept-Encoding", "gzip") // as browsers say; so nothing is unpacked here
	if cursor != "" {
		req.Header.Set("Last-Event-ID", cursor)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { resp.Body.Close() })
	if got := resp.Header; resp.StatusCode != http.StatusOK || got.Get("Content-Encoding") != "" || got.Get("Content-Type") != "text/event-stream; charset=utf-8" {
		return nil, fmt.Errorf("%s %v", resp.Status, got)
	}
	return bufio.NewScanner(resp.Body), nil
}

// What comes through the usual proxies comes at once; one that holds back streams
// against our word passes on an answer that ends, and so a poll (REL-26).
func TestProxies(t *testing.T) {
	t.Parallel()
	program := Build(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	push := startPush(t)
	server := program.Serve(ctx, t, t.TempDir(), "127.0.0.1:0", push)
	patient, stop := context.WithTimeout(ctx, patience/2) // sooner than all of it
	defer stop()
	until := func(t *testing.T, lines *bufio.Scanner, text string) {
		t.Helper()
		for lines.Scan() {
			if strings.Contains(lines.Text(), text) {
				return
			}
		}
		t.Fatalf("%q does not come: %v", text, lines.Err())
	}
	for name, start := range usualProxies(server) {
		t.Run(name, func(t *testing.T) {
			url := start(t)
			began := time.Now()
			lines, err := listenTo(patient, t, url, "")
			if err != nil {
				t.Fatal(err)
			}
			until(t, lines, "event: hello")
			first := time.Since(began)
			server.Send(ctx, t, 0, name, "Through it.", "--push", "never")
			until(t, lines, `"title":"`+name+`"`)
			t.Logf("REL-26: the first event comes through %s after %d ms", name, first.Milliseconds())
		})
	}
	t.Run("nginx-holding-back", func(t *testing.T) {
		p := NewProxy(t)
		p.Nginx(t, server, "/", holdsBack)
		// What a page would take for a stream that has not begun.
		held, stop := context.WithTimeout(ctx, 2*time.Second)
		defer stop()
		req, err := http.NewRequestWithContext(held, http.MethodGet, p.Origin()+"/v1/events?channel=news", nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			defer resp.Body.Close()
			if got, err := bufio.NewReader(resp.Body).ReadString('\n'); err == nil {
				t.Errorf("it does not hold back: %q", got)
			}
		}
		began := time.Now()
		req, err = http.NewRequestWithContext(patient, http.MethodGet, p.Origin()+"/v1/poll?channel=news&wait=0", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusNoContent || resp.Header.Get("Belfry-Cursor") == "" {
			t.Errorf("%s %v", resp.Status, resp.Header)
		}
		t.Logf("REL-26: a poll comes through after %d ms", time.Since(began).Milliseconds())
	})
	server.Stop(ctx, t)
}

var minutes = flag.Int("minutes", 0, "how long pages listen through proxies; make faults asks for 10")

// No proxy takes a stream on which nothing is said for dead, as they do after 50 or
// 60 s, since it pings. It ends when the server says so, and goes on at the cursor
// (REL-26). The short form waits for one ping.
func TestProxiesKeepStreams(t *testing.T) {
	program := Build(t)
	lasts := time.Duration(*minutes) * time.Minute
	ctx, cancel := context.WithTimeout(t.Context(), lasts+3*time.Minute)
	defer cancel()
	server := program.Serve(ctx, t, t.TempDir(), "127.0.0.1:0", startPush(t))
	var all sync.WaitGroup
	for name, start := range usualProxies(server) {
		url := start(t)
		all.Go(func() {
			pings, byes, err := stay(ctx, t, url, lasts, func() { server.Tell(ctx, name) }, name)
			if err != nil {
				t.Errorf("%s: after %d pings and %d goodbyes: %v", name, pings, byes, err)
				return
			}
			t.Logf("REL-26: %s for %s: %d pings, sent away by the server %d times, cut off 0 times", name, lasts, pings, byes)
		})
	}
	all.Wait()
	server.Stop(ctx, t)
}

// stay listens for so long, in silence but for pings, has something said at the
// next of them, and returns once it hears that.
func stay(ctx context.Context, t *testing.T, url string, lasts time.Duration, say func(), title string) (pings, byes int, err error) {
	over := time.Now().Add(lasts)
	lines, err := listenTo(ctx, t, url, "")
	event, cursor := "", ""
	for err == nil {
		if !lines.Scan() {
			return pings, byes, fmt.Errorf("cut off: %w", cmp.Or(lines.Err(), io.EOF))
		}
		field, value, _ := strings.Cut(lines.Text(), ": ")
		switch {
		case field == "":
			event = ""
		case field == "event":
			event = value
		case field == "id":
			cursor = value
		case field == "data" && event == "ping":
			if pings++; !time.Now().Before(over) && say != nil {
				say()
				say = nil
			}
		case field == "data" && event == "bye" && strings.Contains(value, `"max_age"`):
			byes++
			lines, err = listenTo(ctx, t, url, cursor)
		case field == "data" && (event == "bye" || event == "reset"):
			return pings, byes, fmt.Errorf("%s: %s", event, value)
		case field == "data" && strings.Contains(value, `"title":"`+title+`"`):
			return pings, byes, nil
		}
	}
	return pings, byes, err
}

// A page behind a proxy that holds back streams hears all the same: the kit finds
// out and polls (REL-26). One browser is enough for what is no browser's part.
func TestPageBehindBuffer(t *testing.T) {
	t.Parallel()
	program := Build(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	push := startPush(t)
	visitor := NewChromium(t, NewDesktop(ctx, t), push)
	proxy := NewProxy(t)
	server := program.Serve(ctx, t, t.TempDir(), "127.0.0.1:0", push, "--demo", "--origin", proxy.Origin())
	proxy.Nginx(t, server, "/", holdsBack)
	browser := visitor.Open(ctx, t)
	browser.Visit(ctx, t, proxy.Origin()+"/")
	began := time.Now()
	browser.Reads(ctx, t, "#transport", "Connected by polls that wait.")
	t.Logf("REL-26: behind a proxy that holds back, the page is connected %.1f s after it has loaded", time.Since(began).Seconds())
	server.Send(ctx, t, 0, "Held", "It comes all the same.", "--push", "never")
	hears(ctx, t, browser, "Held: It comes all the same.")
	browser.Close(ctx, t)
	server.Stop(ctx, t)
}
