package pushtest

import (
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

	// TLS serves HTTPS and HTTP/2 with a certificate of the service's own CA,
	// made in memory at the start.
	TLS bool

	// Memory serves over net.Pipe instead of a network, so that the service can
	// run in a testing/synctest bubble. Only Client reaches it.
	Memory bool

	// URL is the base of all endpoints and so the audience that tokens must
	// name. Default: the address listened on. A name such as
	// https://updates.push.services.mozilla.com plays that push service.
	URL string

	// Dir keeps browsers, subscriptions and waiting messages over a restart. The
	// address must stay the same too: it is part of every endpoint. Default:
	// nothing is kept, and browsers subscribe anew.
	Dir string

	// Now is the service's clock. Default time.Now.
	Now func() time.Time
}

// A Service is a running push service. It is an [http.Handler] too.
type Service struct {
	dir       string // of the state; may be empty
	url       string // base of endpoints, without a trailing slash
	origin    string // what tokens must name as their audience
	now       func() time.Time
	routes    *http.ServeMux
	server    *http.Server
	listener  net.Listener
	authority *authority // nil without TLS
	client    *http.Client
	alive     context.Context // ends with Close; hanging answers and sockets end with it
	stop      context.CancelFunc
	hosts     belfry.PushHosts
	ledger    ledger
	tokens    tokenCache

	mu       sync.Mutex               // guards what follows, and every subscription and browser in it
	subs     map[string]*subscription // by token; ended ones too, to answer 410
	live     int                      // how many of them have not ended
	browsers map[string]*browser      // by uaid
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
		s.listener.Close()
		return nil, err
	}
	s.serve()
	return s, nil
}

// listen opens the network address, or the pipe that stands for it.
func (s *Service) listen(cfg Config) error {
	if cfg.Memory {
		s.listener = newPipeListener()
		return nil
	}
	address := cfg.Listen
	if address == "" {
		address = "127.0.0.1:0"
	}
	var err error
	if s.listener, err = net.Listen("tcp", address); err != nil {
		return fmt.Errorf("pushtest: %w", err)
	}
	if cfg.TLS {
		if s.authority, err = newAuthority(s.now()); err != nil {
			s.listener.Close()
			return fmt.Errorf("pushtest: %w", err)
		}
	}
	return nil
}

// name settles the base URL, once the port is known.
func (s *Service) name(cfg Config) error {
	base := cfg.URL
	switch {
	case base != "":
	case cfg.Memory:
		base = "https://push.test"
	case cfg.TLS:
		base = "https://" + s.address()
	default:
		base = "http://" + s.address()
	}
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.Path != "" || u.Scheme != "http" && u.Scheme != "https" {
		return belfry.Invalid("url", "URL", fmt.Sprintf("%+q is not an http or https URL without a path", base))
	}
	// An origin is written without the port that its scheme implies (WP-41).
	host := strings.TrimSuffix(strings.ToLower(u.Host), map[string]string{"http": ":80", "https": ":443"}[u.Scheme])
	s.url = u.Scheme + "://" + host
	s.origin = s.endpoint("").Origin()
	s.hosts, err = belfry.NewPushHosts([]string{s.PushHost()})
	return err
}

// address is where the service can be reached: who listens on all addresses is
// reached on loopback.
func (s *Service) address() string {
	tcp, ok := s.listener.Addr().(*net.TCPAddr)
	if ok && tcp.IP.IsUnspecified() {
		return fmt.Sprintf("127.0.0.1:%d", tcp.Port)
	}
	return s.listener.Addr().String()
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
	if pipe, ok := s.listener.(*pipeListener); ok {
		// Endpoints are https, but nobody can listen in on a pipe: no TLS is spoken.
		transport.DialTLSContext = pipe.dial
	}
	s.client = &http.Client{Transport: transport}
	if s.authority == nil {
		go s.server.Serve(s.listener)
		return
	}
	transport.TLSClientConfig = &tls.Config{RootCAs: s.authority.pool()}
	s.server.TLSConfig = &tls.Config{GetCertificate: s.authority.certificate}
	go s.server.ServeTLS(s.listener, "", "")
}

// dial reaches this service whatever the address, so that a service under
// another's name needs no name server.
func (s *Service) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	if pipe, ok := s.listener.(*pipeListener); ok {
		return pipe.dial(ctx, "", "")
	}
	var d net.Dialer
	return d.DialContext(ctx, "tcp", s.address())
}

// Close ends the service: listeners, connections, browsers and hanging answers.
// Closing again does nothing.
func (s *Service) Close() error {
	if s.alive.Err() != nil {
		return nil // and leaves alone the state, which may be another's by now
	}
	s.stop()
	err := s.server.Close()
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
	mux.HandleFunc("POST /wpush/v2/{token}", s.push)
	mux.HandleFunc("GET /{$}", s.serveBrowser)
	mux.HandleFunc("DELETE /m/{message}", s.withdraw)
	mux.HandleFunc("POST /pushtest/subscriptions", s.local(s.mintOverHTTP))
	mux.HandleFunc("GET /pushtest/ledger", s.local(s.showLedger))
	mux.HandleFunc("DELETE /pushtest/ledger", s.local(s.clearLedger))
	mux.HandleFunc("GET /pushtest/summary", s.local(s.showSummary))
	mux.HandleFunc("POST /pushtest/answers", s.local(s.scriptOverHTTP))
	return mux
}

// URL is the base of the service's endpoints, such as http://127.0.0.1:8090.
func (s *Service) URL() string { return s.url }

// PushHost is what --push-host must be given for a server to reach this service.
func (s *Service) PushHost() string {
	scheme, host, _ := strings.Cut(s.url, "://")
	_, inMemory := s.listener.(*pipeListener)
	switch {
	case scheme == "http":
		return s.url
	case inMemory || host == s.address():
		return host
	}
	return host + "=" + s.address()
}

// Hosts allows this service beside the built-in push services.
func (s *Service) Hosts() belfry.PushHosts { return s.hosts }

// RootCAs trusts the service's CA alone; nil without TLS.
func (s *Service) RootCAs() *x509.CertPool {
	if s.authority == nil {
		return nil
	}
	return s.authority.pool()
}

// CA is the service's CA certificate in PEM, for --push-ca; nil without TLS.
func (s *Service) CA() []byte {
	if s.authority == nil {
		return nil
	}
	return s.authority.pem()
}

// Client reaches this service and nothing else, whatever a URL says: it trusts
// its CA, and over net.Pipe it is the only way in.
func (s *Service) Client() *http.Client { return s.client }
