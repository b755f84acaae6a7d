//go:build e2e

package e2e

import (
	"net"
	"strings"
	"sync"
	"testing"
)

// A Relay is the network between a browser and a server. It can go dark as a dead
// spot does: what is on its way is lost, and nobody is told.
type Relay struct {
	listener net.Listener
	mu       sync.Mutex // guards what follows
	server   string     // host and port
	dark     bool
	open     []net.Conn
}

// NewRelay makes one that leads nowhere yet.
func NewRelay(t *testing.T) *Relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &Relay{listener: l}
	t.Cleanup(func() {
		l.Close()
		r.Light()
	})
	go r.work()
	return r
}

// Origin is that of pages that come by it, under the name that browsers trust
// without TLS.
func (r *Relay) Origin() string {
	return "http://" + strings.Replace(r.listener.Addr().String(), "127.0.0.1", "localhost", 1)
}

// LeadTo says where the server is.
func (r *Relay) LeadTo(s *Server) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.server = s.address
}

// Dark lets nothing through any more.
func (r *Relay) Dark() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dark = true
}

// Light is another network: what was open is broken, and what is new comes through.
func (r *Relay) Light() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dark = false
	for _, c := range r.open {
		c.Close()
	}
	r.open = nil
}

func (r *Relay) work() {
	for {
		browser, err := r.listener.Accept()
		if err != nil {
			return
		}
		if server := r.connect(browser); server != nil {
			go r.pass(server, browser)
			go r.pass(browser, server)
		}
	}
}

// connect is a connection to the server for one of a browser's, or nothing where
// it is dark.
func (r *Relay) connect(browser net.Conn) net.Conn {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open = append(r.open, browser)
	if r.dark {
		return nil
	}
	server, err := net.Dial("tcp", r.server)
	if err != nil {
		browser.Close()
		return nil
	}
	r.open = append(r.open, server)
	return server
}

func (r *Relay) pass(to, from net.Conn) {
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		if r.isDark() {
			return
		}
		if err != nil {
			to.Close()
			return
		}
		if _, err := to.Write(b[:n]); err != nil {
			from.Close()
			return
		}
	}
}

func (r *Relay) isDark() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.dark
}
