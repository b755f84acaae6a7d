package pushtest

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/belfry-push/belfry"
)

// Config says where and how a service runs. The zero value listens on a free
// port of 127.0.0.1 without TLS, as Firefox wants it.
type Config struct {
	// Listen is the address to listen on. Default 127.0.0.1:0.
	Listen string

	// TLS serves HTTPS and HTTP/2 there, with a certificate of the service's own
	// CA. Firefox can use the service without only.
	TLS bool

	// ListenTLS is the address of a second listener, for what Chromium will have
	// in TLS alone: its connection, and the messages to it. Default 127.0.0.1:0;
	// with TLS it is Listen.
	ListenTLS string

	// Memory serves over net.Pipe instead of a network, so that the service can
	// run in a testing/synctest bubble. Only Client reaches it.
	Memory bool

	// URL is the base of all endpoints and so the audience that tokens must
	// name. Default: the address listened on. A name such as
	// https://updates.push.services.mozilla.com plays that push service.
	URL string

	// Dir keeps browsers, subscriptions, waiting messages and the CA over a
	// restart. The address must stay the same too: it is part of every endpoint.
	// Default: nothing is kept, and browsers subscribe anew.
	Dir string

	// Now is the service's clock. Default time.Now.
	Now func() time.Time
}

// A Service is a running push service. It is an [http.Handler] too.
type Service struct {
	dir       string // of the state; may be empty
	url       string // base of endpoints, without a trailing slash
	now       func() time.Time
	routes    *http.ServeMux
	server    *http.Server
	listener  net.Listener
	secure    net.Listener // for TLS; may be listener itself, and is nil in memory
	authority *authority   // nil in memory
	client    *http.Client
	alive     context.Context // ends with Close; hanging answers and sockets end with it
	stop      context.CancelFunc
	hosts     belfry.PushHosts
	ledger    ledger
	tokens    tokenCache
	bucket    bucket

	mu       sync.Mutex               // guards what follows, and every subscription and browser in it
	subs     map[string]*subscription // by token; ended ones too, to answer 410
	live     int                      // how many of them have not ended
	browsers map[string]*browser      // by name
	present  int                      // how many of them are connected
	arrivals int                      // messages accepted so far
	any      script                   // for subscriptions that have none of their own
}

// Start runs a service until Close.
func Start(cfg Config) (*Service, error) {
	s := &Service{now: cfg.Now, dir: cfg.Dir, subs: map[string]*subscription{}, browsers: map[string]*browser{}}
	if s.now == nil {
		s.now = time.Now
	}
	s.alive, s.stop = context.WithCancel(context.Background())
	s.routes = s.handler()
	if err := s.load(); err != nil {
		return nil, err
	}
	if err := s.listen(cfg); err != nil {
		return nil, err
	}
	if err := s.name(cfg); err != nil {
		s.unlisten()
		return nil, err
	}
	s.serve()
	return s, nil
}

// listen opens the network addresses, or the pipe that stands for them.
func (s *Service) listen(cfg Config) error {
	if cfg.Memory {
		s.listener = newHandedListener()
		return nil
	}
	var err error
	if s.authority == nil { // none was kept
		if s.authority, err = newAuthority(s.now()); err != nil {
			return fmt.Errorf("pushtest: %w", err)
		}
		if err := s.save(); err != nil {
			return err
		}
	}
	if s.listener, err = net.Listen("tcp", cmp.Or(cfg.Listen, anywhere)); err != nil {
		return fmt.Errorf("pushtest: %w", err)
	}
	if cfg.TLS {
		s.secure = s.listener
	} else if s.secure, err = net.Listen("tcp", cmp.Or(cfg.ListenTLS, anywhere)); err != nil {
		s.listener.Close()
		return fmt.Errorf("pushtest: %w: %w", ErrListenTLS, err)
	}
	return nil
}

// ErrListenTLS tells trouble with the second listener from that with the first.
var ErrListenTLS = errors.New("the second listener")

const anywhere = "127.0.0.1:0"

// name settles the base URL, once the port is known.
func (s *Service) name(cfg Config) error {
	base := cfg.URL
	switch {
	case base != "":
	case cfg.Memory:
		base = "https://push.test"
	case cfg.TLS:
		base = "https://" + reach(s.listener)
	default:
		base = "http://" + reach(s.listener)
	}
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.Path != "" || u.Scheme != "http" && u.Scheme != "https" {
		return belfry.Invalid("url", "URL", fmt.Sprintf("%+q is not an http or https URL without a path", base))
	}
	// An origin is written without the port that its scheme implies (WP-41).
	host := strings.TrimSuffix(strings.ToLower(u.Host), map[string]string{"http": ":80", "https": ":443"}[u.Scheme])
	s.url = u.Scheme + "://" + host
	s.hosts, err = belfry.NewPushHosts(s.PushHosts())
	return err
}

// reach is where a listener can be reached: on loopback, where it listens on all
// addresses.
func reach(l net.Listener) string {
	tcp, ok := l.Addr().(*net.TCPAddr)
	if ok && tcp.IP.IsUnspecified() {
		return fmt.Sprintf("127.0.0.1:%d", tcp.Port)
	}
	return l.Addr().String()
}

// serve begins to answer.
func (s *Service) serve() {
	s.server = &http.Server{
		Handler:           s,
		ReadHeaderTimeout: 10 * time.Second,
		// Whoever tests a broken handshake knows that it is broken.
		ErrorLog: log.New(io.Discard, "", 0),
	}
	transport := &http.Transport{DialContext: s.dial, ForceAttemptHTTP2: true}
	s.client = &http.Client{Transport: transport}
	if pipe, ok := s.listener.(*handedListener); ok {
		// Endpoints are https, but nobody can listen in on a pipe: no TLS is spoken.
		transport.DialTLSContext = pipe.dial
		go s.server.Serve(pipe)
		return
	}
	transport.TLSClientConfig = &tls.Config{RootCAs: s.authority.pool()}
	if s.listener != s.secure {
		go s.server.Serve(s.listener)
	}
	web := newHandedListener()
	go s.server.Serve(web)
	go s.admitTLS(web)
}

// admitTLS takes connections and asks them to the right door.
func (s *Service) admitTLS(web *handedListener) {
	config := &tls.Config{GetCertificate: s.authority.certificate, NextProtos: []string{"h2", "http/1.1"}}
	for {
		conn, err := s.secure.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // no descriptor is free, and soon one may be
			s.pause(s.alive, 50*time.Millisecond)
			continue
		}
		go s.usher(tls.Server(conn, config), web)
	}
}

// usher looks what a client wants to speak. Most say so in the handshake
// (RFC 7301); of the rest, Chromium begins with the version of MCS, which is no
// letter and so begins no request of HTTP.
func (s *Service) usher(conn *tls.Conn, web *handedListener) {
	conn.SetDeadline(time.Now().Add(loginTime))
	defer context.AfterFunc(s.alive, func() { conn.NetConn().Close() })()
	if conn.HandshakeContext(s.alive) != nil {
		conn.Close()
		return
	}
	visitor := net.Conn(conn)
	if conn.ConnectionState().NegotiatedProtocol == "" {
		peeked := peekedConn{conn, bufio.NewReader(conn)}
		if first, err := peeked.in.Peek(1); err != nil || first[0] == mcsVersion {
			s.serveMCS(peeked)
			return
		}
		visitor = peeked
	}
	conn.SetDeadline(time.Time{})
	if web.hand(s.alive, visitor) != nil {
		conn.Close()
	}
}

// A peekedConn is a connection of which the first octets have been looked at.
type peekedConn struct {
	*tls.Conn
	in *bufio.Reader
}

func (c peekedConn) Read(b []byte) (int, error) { return c.in.Read(b) }

// dial reaches this service whatever the address, so that a service under
// another's name needs no name server.
func (s *Service) dial(ctx context.Context, _, address string) (net.Conn, error) {
	if pipe, ok := s.listener.(*handedListener); ok {
		return pipe.dial(ctx, "", "")
	}
	to := s.listener
	if host, _, _ := net.SplitHostPort(address); slices.Contains(googleHosts, host) || address == reach(s.secure) {
		to = s.secure
	}
	var d net.Dialer
	return d.DialContext(ctx, "tcp", reach(to))
}

func (s *Service) unlisten() {
	s.listener.Close()
	if s.secure != nil {
		s.secure.Close()
	}
}

// Close ends the service: listeners, connections, browsers and hanging answers.
// Closing again does nothing.
func (s *Service) Close() error {
	if s.alive.Err() != nil {
		return nil // and leaves alone the state, which may be another's by now
	}
	s.stop()
	err := s.server.Close()
	s.unlisten()
	s.client.CloseIdleConnections()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.save(); err != nil {
		return err
	}
	if err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("pushtest: %w", err)
	}
	return nil
}

// ServeHTTP answers one request; the zero Service cannot.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Date", s.now().UTC().Format(http.TimeFormat))
	s.routes.ServeHTTP(w, r)
}

// handler knows every route of the service.
func (s *Service) handler() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+ownPath+"{token}", s.push)
	for _, host := range googleHosts {
		mux.HandleFunc("POST "+host+googlePath+"{token}", s.push)
	}
	mux.HandleFunc("GET /{$}", s.serveAutopush)
	mux.HandleFunc("POST /checkin", s.checkin)
	mux.HandleFunc("POST /register", s.registration)
	mux.HandleFunc("DELETE /m/{message}", s.withdraw)
	mux.HandleFunc("POST /pushtest/subscriptions", s.local(s.mintOverHTTP))
	mux.HandleFunc("DELETE /pushtest/browsers", s.local(s.forgetOverHTTP))
	mux.HandleFunc("GET /pushtest/ledger", s.local(s.showLedger))
	mux.HandleFunc("DELETE /pushtest/ledger", s.local(s.clearLedger))
	mux.HandleFunc("GET /pushtest/summary", s.local(s.showSummary))
	mux.HandleFunc("POST /pushtest/answers", s.local(s.scriptOverHTTP))
	mux.HandleFunc("POST /pushtest/limit", s.local(s.limitOverHTTP))
	return mux
}

// URL is the base of the service's endpoints, such as http://127.0.0.1:8090.
func (s *Service) URL() string { return s.url }

// PushHosts are what --push-host must be given for a server to reach this
// service: as itself, and as Google's, which endpoints of Chromium name.
func (s *Service) PushHosts() []string {
	scheme, host, _ := strings.Cut(s.url, "://")
	switch _, inMemory := s.listener.(*handedListener); {
	case inMemory:
		return []string{host}
	case scheme == "http":
		host = s.url
	case host != reach(s.listener):
		host += "=" + reach(s.listener)
	}
	all := []string{host}
	for _, google := range googleHosts {
		all = append(all, google+"="+reach(s.secure))
	}
	return all
}

// Hosts allows this service beside the built-in push services.
func (s *Service) Hosts() belfry.PushHosts { return s.hosts }

// RootCAs trusts the service's CA alone; nil in memory, where there is none.
func (s *Service) RootCAs() *x509.CertPool {
	if s.authority == nil {
		return nil
	}
	return s.authority.pool()
}

// CA is the service's CA certificate in PEM, for --push-ca; nil in memory.
func (s *Service) CA() []byte {
	if s.authority == nil {
		return nil
	}
	return s.authority.pem()
}

// Client reaches this service and nothing else, whatever a URL says: it trusts
// its CA, and over net.Pipe it is the only way in.
func (s *Service) Client() *http.Client { return s.client }
