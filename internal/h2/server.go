package h2

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"golang.org/x/net/http2"
)

// A server is the connections to one host and port, and who waits for a place on
// one of them.
type server struct {
	cfg     *Config
	address string // to dial
	tls     *tls.Config

	mu      sync.Mutex         // guards the rest, and taken and places of each connection
	conns   []*conn            // that take new requests
	waiting []*waiter          // first come, first served
	dialing context.CancelFunc // of the one connection that is being made; nil when none is
	plain   time.Time          // until when it is known not to speak HTTP/2
	enough  time.Time          // until when those that there are have to do
}

// A waiter is told which connection has a place for it, or why none will.
type waiter struct{ told chan offer }

type offer struct {
	conn *conn
	err  error
}

func newServer(cfg *Config, u *url.URL) *server {
	s := &server{cfg: cfg, address: net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "443")), tls: cfg.TLS.Clone()}
	s.tls.ServerName = u.Hostname()
	s.tls.NextProtos = []string{http2.NextProtoTLS, "http/1.1"}
	s.tls.DynamicRecordSizingDisabled = true // a few requests would else be several records
	return s
}

// roundTrip sends a request over one of the connections.
func (s *server) roundTrip(req *http.Request, body []byte, p *patience) (*http.Response, error) {
	c, st, err := s.open(req, body, p)
	if err != nil {
		return nil, err
	}
	defer s.leave(c)
	timer := time.NewTimer(p.left())
	defer timer.Stop()
	select {
	case <-st.done:
	case <-timer.C:
		c.abandon(st, context.DeadlineExceeded)
	case <-req.Context().Done():
		c.abandon(st, req.Context().Err())
	}
	return st.response(req)
}

// open begins a request on a connection that takes it: one may have been told to
// take no more in the moment in which we got a place on it.
func (s *server) open(req *http.Request, body []byte, p *patience) (*conn, *stream, error) {
	for left := replays; ; left-- {
		c, err := s.place(req.Context(), p)
		if err != nil {
			return nil, nil, err
		}
		st, err := c.open(req, body)
		if err == nil {
			return c, st, nil
		}
		if errors.Is(err, errParting) {
			s.drop(c)
		}
		s.leave(c)
		if !errors.Is(err, errParting) || left == 0 {
			return nil, nil, err
		}
	}
}

// place waits for a connection with a place for one request more, which the
// caller leaves again.
func (s *server) place(ctx context.Context, p *patience) (*conn, error) {
	s.mu.Lock()
	if s.plain.After(time.Now()) {
		s.mu.Unlock()
		return nil, errPlain
	}
	c := s.roomy()
	if c == nil {
		w := &waiter{told: make(chan offer, 1)}
		s.waiting = append(s.waiting, w)
		ours := s.grow() && len(s.conns) == 0
		s.mu.Unlock()
		if p.queue(); ours {
			p.begin()
		}
		var err error
		if c, err = s.wait(ctx, w, p); err != nil {
			return nil, err
		}
	} else {
		c.taken++
		s.mu.Unlock()
	}
	p.begin()
	return c, nil
}

func (s *server) wait(ctx context.Context, w *waiter, p *patience) (*conn, error) {
	timer, why := time.NewTimer(p.left()), context.DeadlineExceeded
	defer timer.Stop()
	select {
	case o := <-w.told:
		return o.conn, o.err
	case <-timer.C:
	case <-ctx.Done():
		why = ctx.Err()
	}
	s.mu.Lock()
	at := slices.Index(s.waiting, w)
	if at >= 0 {
		s.waiting = slices.Delete(s.waiting, at, at+1)
		if len(s.waiting) == 0 && s.dialing != nil {
			s.dialing() // for nobody
		}
	}
	s.mu.Unlock()
	if at < 0 {
		if o := <-w.told; o.conn != nil {
			s.leave(o.conn)
		}
	}
	return nil, why
}

// leave gives a place back.
func (s *server) leave(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.taken--
	s.serve()
}

// roomy returns a connection with a place. The first one that has is taken, so
// that those of a busy hour become idle again.
func (s *server) roomy() *conn {
	for _, c := range s.conns {
		if c.taken < c.places {
			return c
		}
	}
	return nil
}

// serve gives places to who waits, and makes a connection where they are not enough.
func (s *server) serve() {
	for len(s.waiting) > 0 {
		c := s.roomy()
		if c == nil {
			s.grow()
			return
		}
		c.taken++
		s.tell(offer{conn: c})
	}
}

// tell tells the first one in the queue.
func (s *server) tell(o offer) {
	s.waiting[0].told <- o
	s.waiting = slices.Delete(s.waiting, 0, 1)
}

// grow begins to make a connection, and reports whether it did. It makes one at a
// time: a broadcast that begins with hundreds of requests at once would else be as
// many handshakes. Who takes no more connections from us is left alone for a while.
func (s *server) grow() bool {
	if s.dialing != nil || len(s.conns) >= s.cfg.Connections || len(s.conns) > 0 && time.Now().Before(s.enough) {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.cfg.Dialling)
	s.dialing = cancel
	go func() {
		c, err := s.connect(ctx)
		cancel()
		s.connected(c, err)
	}()
	return true
}

// connect makes a connection, up to the server's first word.
func (s *server) connect(ctx context.Context) (*conn, error) {
	raw, err := s.cfg.Dial(ctx, "tcp", s.address)
	if err != nil {
		return nil, err
	}
	secure := tls.Client(raw, s.tls)
	if err := secure.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, err
	}
	if secure.ConnectionState().NegotiatedProtocol != http2.NextProtoTLS {
		secure.Close()
		return nil, errPlain
	}
	return newConn(ctx, s, secure)
}

// connected lets those who wait know what became of it. Where there is no other
// connection, what went wrong goes wrong for all of them.
func (s *server) connected(c *conn, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dialing = nil
	if errors.Is(err, errPlain) {
		s.plain = time.Now().Add(plainFor)
	}
	if err == nil {
		err = c.parting() // it may have been told to go with the first word: to ask anew would be a storm
	}
	switch {
	case err == nil:
		s.conns = append(s.conns, c)
		s.serve()
	case errors.Is(err, context.Canceled): // those for whom it was have gone, and others may have come
		s.serve()
	case len(s.conns) == 0:
		s.refuse(err)
	default:
		s.enough = time.Now().Add(enoughFor)
	}
}

// allow sets how many requests c may carry at a time.
func (s *server) allow(c *conn, places int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.places = places
	s.serve()
}

// drop gives c no more requests. Those that it carries may go on.
func (s *server) drop(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at := slices.Index(s.conns, c); at >= 0 {
		s.conns = slices.Delete(s.conns, at, at+1)
		if complained, ok := c.parting().(complaint); ok && len(s.conns) == 0 {
			s.refuse(complained)
		} else if ok {
			s.enough = time.Now().Add(enoughFor)
		}
	}
	s.serve()
}

// refuse tells all who wait that there is no place for them.
func (s *server) refuse(err error) {
	for len(s.waiting) > 0 {
		s.tell(offer{err: err})
	}
}

func (s *server) closeIdle() {
	s.mu.Lock()
	conns := slices.Clone(s.conns)
	if s.dialing != nil && len(s.waiting) == 0 {
		s.dialing()
	}
	s.mu.Unlock()
	for _, c := range conns {
		c.closeIfIdle(0)
	}
}

// unused reports whether forgetting s loses nothing.
func (s *server) unused() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns) == 0 && len(s.waiting) == 0 && s.dialing == nil
}
