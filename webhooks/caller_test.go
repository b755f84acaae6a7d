package webhooks

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/internal/outbound/outboundtest"
)

// stamp is a signer that shows what it was given.
type stamp struct{}

func (stamp) Sign(id string, at time.Time, body []byte) string {
	return fmt.Sprintf("%s.%d.%s", id, at.Unix(), body)
}

// A receiver is an HTTPS server at a private address that plays example.com, as
// its certificate says.
type receiver struct {
	*httptest.Server
	port string

	mu   sync.Mutex // guards what it got
	got  []*http.Request
	body []byte
}

func newReceiver(t *testing.T, answer http.HandlerFunc) *receiver {
	r := &receiver{}
	r.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		r.mu.Lock()
		r.got, r.body = append(r.got, req), body
		r.mu.Unlock()
		answer(w, req)
	}))
	r.EnableHTTP2 = true
	r.Config.ErrorLog = nil
	t.Cleanup(r.Close)
	return r
}

// start serves, with what its listener needs to be set, and returns a caller
// that finds example.com there.
func (r *receiver) start(t *testing.T, opened ...string) *Caller {
	t.Helper()
	r.StartTLS()
	_, r.port, _ = net.SplitHostPort(r.Listener.Addr().String())
	for i := range opened {
		opened[i] = strings.ReplaceAll(opened[i], "PORT", r.port)
	}
	hosts, err := belfry.NewCallbackHosts(opened)
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(Config{Signer: stamp{}, Hosts: hosts, Resolver: outboundtest.Names("127.0.0.1"),
		RootCAs: r.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func (r *receiver) requests() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.got)
}

// A receiver checks who called and what was said with a library of its own: the
// three headers must be there under the names of Standard Webhooks, and what was
// signed must be what came.
func TestCall(t *testing.T) {
	r := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) })
	c := r.start(t, "example.com=127.0.0.1:PORT")
	before := time.Now().Unix()
	status, err := c.Call(t.Context(), belfry.StoredCallback("https://example.com/hook?token=SECRET"), "01jz", []byte(`{"a":1}`))
	if status != 204 || err != nil {
		t.Fatal(status, err)
	}
	got := r.got[0]
	var at int64
	fmt.Sscan(got.Header.Get("webhook-timestamp"), &at)
	if at < before || at > time.Now().Unix() || got.Header.Get("webhook-id") != "01jz" ||
		got.Header.Get("webhook-signature") != fmt.Sprintf(`01jz.%d.{"a":1}`, at) || string(r.body) != `{"a":1}` {
		t.Errorf("%v %s", got.Header, r.body)
	}
	if got.Method != "POST" || got.URL.RequestURI() != "/hook?token=SECRET" || got.Host != "example.com" || got.Header.Get("Content-Type") != "application/json" || got.ProtoMajor != 2 {
		t.Errorf("%s %s %s to %s, %v", got.Proto, got.Method, got.URL, got.Host, got.Header)
	}
}

// Callbacks go out from inside our network, to where whoever launches says.
// They must not reach a neighbour, by name, by a redirect or in the clear.
func TestCallStaysOutside(t *testing.T) {
	for _, tt := range []struct{ name, opened, url, says string }{
		{"a name that leads to us", "", "https://example.com:PORT/SECRET", "its address is not public"},
		{"another port of an opened host", "example.com:1", "https://example.com:PORT/SECRET", "its address is not public"},
		{"an address", "", "https://127.0.0.1:PORT/SECRET", "--callback-host"},
		{"plain http", "example.com:PORT", "http://example.com:PORT/SECRET", "https://"},
		{"nothing to call", "", "", "1 to"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) })
			opened := []string{tt.opened}
			if tt.opened == "" {
				opened = nil
			}
			c := r.start(t, opened...)
			status, err := c.Call(t.Context(), belfry.StoredCallback(strings.ReplaceAll(tt.url, "PORT", r.port)), "id", nil)
			if err == nil || status != 0 || strings.Contains(err.Error(), "SECRET") || r.requests() > 0 {
				t.Errorf("%d, %v, and %d requests arrive", status, err, r.requests())
			}
			var told *belfry.Error
			if errors.As(err, &told) {
				err = fmt.Errorf("%w; %s", err, told.Hint)
			}
			if !strings.Contains(fmt.Sprint(err), tt.says) {
				t.Errorf("says %v, not %s", err, tt.says)
			}
		})
	}
	elsewhere := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) })
	elsewhere.StartTLS()
	r := newReceiver(t, func(w http.ResponseWriter, req *http.Request) {
		http.Redirect(w, req, elsewhere.URL, http.StatusTemporaryRedirect)
	})
	c := r.start(t, "example.com=127.0.0.1:PORT", strings.TrimPrefix(elsewhere.URL, "https://"))
	if status, err := c.Call(t.Context(), belfry.StoredCallback("https://example.com/"), "id", nil); status != 307 || err != nil || elsewhere.requests() > 0 {
		t.Errorf("a redirect: %d, %v, followed %d times", status, err, elsewhere.requests())
	}
	if c.transport.Proxy != nil {
		t.Error("a proxy would dial for us where no address is checked")
	}
}

// Nothing is said to somebody who cannot prove who they are.
func TestCallChecksCertificates(t *testing.T) {
	for name, spoil := range map[string]func(*receiver, *Caller){
		"an unknown authority": func(_ *receiver, c *Caller) { c.transport.TLSClientConfig.RootCAs = nil },
		"another's name":       func(_ *receiver, c *Caller) { c.transport.TLSClientConfig.ServerName = "www.example.net" },
		"TLS 1.1": func(r *receiver, _ *Caller) {
			r.TLS.MinVersion, r.TLS.MaxVersion, r.TLS.NextProtos = tls.VersionTLS11, tls.VersionTLS11, nil // HTTP/2 would refuse it by itself
		},
	} {
		r := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) })
		c := r.start(t, "example.com=127.0.0.1:PORT")
		spoil(r, c)
		if status, err := c.Call(t.Context(), belfry.StoredCallback("https://example.com/SECRET"), "id", nil); err == nil || r.requests() > 0 || strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%s: %d, %v, %d requests", name, status, err, r.requests())
		}
	}
}

// Logs are shipped and pasted. What a receiver sends back may hold the URL that
// we called, and that is the right to call it.
func TestCallTellsNoSecret(t *testing.T) {
	for name, answer := range map[string]string{
		"broken status line": "HTTP/1.1 %s\r\n\r\n",
		"broken header":      "HTTP/1.1 200 OK\r\n %s\r\n\r\n",
		"broken length":      "HTTP/1.1 200 OK\r\nContent-Length: %s\r\n\r\n",
		"no HTTP":            "%s\r\n",
		"nothing":            "",
	} {
		r := newReceiver(t, func(w http.ResponseWriter, req *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			io.WriteString(conn, strings.ReplaceAll(answer, "%s", req.URL.Path))
		})
		r.EnableHTTP2 = false
		c := r.start(t, "example.com=127.0.0.1:PORT")
		_, err := c.Call(t.Context(), belfry.StoredCallback("https://example.com/SECRET"), "id", nil)
		if err == nil || strings.Contains(err.Error(), "SECRET") || !strings.Contains(err.Error(), "example.com/#") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// An answer that never ends costs a little reading, and nothing of the memory.
func TestCallEndsAnEndlessAnswer(t *testing.T) {
	for _, http2 := range []bool{true, false} {
		over, octets := make(chan bool), 0
		r := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) {
			defer close(over)
			for {
				n, err := w.Write(make([]byte, 64<<10))
				if octets += n; err != nil {
					return
				}
			}
		})
		r.EnableHTTP2 = http2
		c := r.start(t, "example.com=127.0.0.1:PORT")
		if status, err := c.Call(t.Context(), belfry.StoredCallback("https://example.com/"), "id", nil); status != 200 || err != nil {
			t.Error(status, err)
		}
		if <-over; octets > 64<<20 { // most of which the system holds
			t.Errorf("%d octets were taken", octets)
		}
	}
}

// A receiver that takes the call and says nothing holds a place for ten seconds.
func TestCallWaitsTenSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hosts, err := belfry.NewCallbackHosts([]string{"http://127.0.0.1:9000"})
		if err != nil {
			t.Fatal(err)
		}
		c, err := New(Config{Signer: stamp{}, Hosts: hosts})
		if err != nil {
			t.Fatal(err)
		}
		c.transport.DialContext = func(context.Context, string, string) (net.Conn, error) {
			ours, theirs := net.Pipe()
			go io.Copy(io.Discard, theirs)
			return ours, nil
		}
		began := time.Now()
		_, err = c.Call(t.Context(), belfry.StoredCallback("http://127.0.0.1:9000/"), "id", nil)
		if took := time.Since(began); took != 10*time.Second || !strings.HasSuffix(err.Error(), "no answer within 10 seconds") {
			t.Errorf("%v after %v", err, took)
		}
	})
}

func TestNewNeedsASigner(t *testing.T) {
	if _, err := New(Config{}); err == nil {
		t.Error("calls would not be signed")
	}
}
