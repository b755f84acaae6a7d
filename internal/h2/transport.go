// Package h2 carries many small requests to few servers over HTTP/2 (RFC 9113):
// a body of some kilobytes each way, all of it in memory, as push services want
// it (RFC 8030 §1). For such requests net/http spends more on itself than on
// them: a goroutine, two writes and an index of every path for each.
//
// Frames and header blocks are read and written by golang.org/x/net/http2; this
// package decides which are sent when. What frames leave at one time leaves in
// one piece. A server that speaks no HTTP/2 is spoken to by net/http.
package h2

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"
)

// Config says how servers are reached, and how far they are trusted.
type Config struct {
	Dial        func(ctx context.Context, network, address string) (net.Conn, error)
	TLS         *tls.Config   // all but the name and the protocols
	Connections int           // at most to one server
	Answer      int           // octets at most of an answer's body; what is longer is cut off
	Header      int           // and of its header
	Limits      Limits        // for one request
	Dialling    time.Duration // for address, connection, TLS and the server's first word
	Idle        time.Duration // after which a connection that nobody uses is closed
	Quiet       time.Duration // after which a connection on which nothing is heard is asked whether it is alive
	Lost        time.Duration // after which one that does not answer that is given up, and a write that does not end
}

const (
	// replays is how often a request is sent again that a server says it has not
	// begun on (RFC 9113 §8.7). One that refuses everything must not keep us busy.
	replays = 5

	// plainFor is how long a server is not asked again whether it speaks HTTP/2.
	plainFor = 10 * time.Minute

	// enoughFor is how long no further connection is tried after one that failed
	// beside others.
	enoughFor = time.Second

	// mostKnown is how many servers are remembered without a connection to them.
	mostKnown = 256
)

// A Transport is an http.RoundTripper.
type Transport struct {
	cfg     Config
	plain   *http.Transport
	mu      sync.Mutex // guards servers
	servers map[string]*server
}

// New returns a Transport. Close its idle connections when it is no longer used.
func New(cfg Config) *Transport {
	old := cfg.TLS.Clone()
	old.NextProtos = []string{"http/1.1"}
	return &Transport{cfg: cfg, servers: map[string]*server{}, plain: &http.Transport{
		DialContext:            cfg.Dial,
		TLSClientConfig:        old,
		Protocols:              http1(),
		DisableCompression:     true, // we ask for no coding, and no answer can unfold
		TLSHandshakeTimeout:    cfg.Dialling,
		MaxConnsPerHost:        cfg.Connections,
		MaxIdleConnsPerHost:    cfg.Connections,
		MaxIdleConns:           16 * cfg.Connections,
		IdleConnTimeout:        cfg.Idle,
		MaxResponseHeaderBytes: int64(cfg.Header),
	}}
}

func http1() *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	return p
}

// CloseIdleConnections closes what no request uses.
func (t *Transport) CloseIdleConnections() {
	t.plain.CloseIdleConnections()
	t.mu.Lock()
	servers := slices.Collect(maps.Values(t.servers))
	t.mu.Unlock()
	for _, s := range servers {
		s.closeIdle()
	}
}

var (
	// errUnbegun says that a server has done nothing with a request, so that it may be sent again.
	errUnbegun = errors.New("h2: the server did not begin on the request")
	errPlain   = errors.New("h2: the server does not speak HTTP/2")
)

// RoundTrip sends req once, or once more where the server says that it has not
// begun on it, and over HTTP/2 returns with all of the answer. One that runs out of
// time ends with [context.DeadlineExceeded], or with what it has of an answer.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := content(req)
	if err != nil {
		return nil, err
	}
	p := newPatience(t.cfg.Limits)
	if req.URL.Scheme != "https" {
		return t.roundTripPlain(req, body, p)
	}
	s := t.server(req.URL)
	for left := replays; ; left-- {
		resp, err := s.roundTrip(req, body, p)
		switch {
		case errors.Is(err, errPlain):
			return t.roundTripPlain(req, body, p)
		case !errors.Is(err, errUnbegun) || left == 0:
			return resp, err
		}
	}
}

// content is all of a request's body, which is closed.
func content(req *http.Request) ([]byte, error) {
	if req.Body == nil {
		return nil, nil
	}
	defer req.Body.Close()
	if req.ContentLength <= 0 {
		return io.ReadAll(req.Body)
	}
	body := make([]byte, req.ContentLength)
	_, err := io.ReadFull(req.Body, body)
	return body, err
}

func (t *Transport) roundTripPlain(req *http.Request, body []byte, p *patience) (*http.Response, error) {
	again := *req
	again.Body = io.NopCloser(bytes.NewReader(body))
	again.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	again.ContentLength = int64(len(body))
	return p.carry(t.plain, &again)
}

// server returns the one that u is at.
func (t *Transport) server(u *url.URL) *server {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.servers[u.Host]
	if s == nil {
		if len(t.servers) >= mostKnown {
			t.forget()
		}
		s = newServer(&t.cfg, u)
		t.servers[u.Host] = s
	}
	return s
}

// forget drops all servers that nothing is open to.
func (t *Transport) forget() {
	for host, s := range t.servers {
		if s.unused() {
			delete(t.servers, host)
		}
	}
}
