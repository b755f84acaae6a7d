// Package web is the front door: every route, for browsers on the public
// listener and for operators on the socket or behind a bearer token.
//
// A handler parses, calls one room once and answers. It holds no rule of its
// own about messages, subscriptions or broadcasts. It is the only package that
// knows gin.
package web

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/broadcasts"
	"github.com/belfry-push/belfry/keys"
	"github.com/belfry-push/belfry/live"
	"github.com/belfry-push/belfry/receipts"
	"github.com/belfry-push/belfry/subscriptions"
	"github.com/belfry-push/belfry/tokens"
)

// Config says what the front door opens onto. All but the last group is required.
type Config struct {
	Subscriptions *subscriptions.Store
	Broadcasts    *broadcasts.Engine
	Live          *live.Hub
	Keys          *keys.Ring
	Webhook       *keys.Webhook
	UserKey       *keys.UserKey
	Tokens        *tokens.Store
	Receipts      *receipts.Store
	Backup        func(io.Writer) error                                           // writes all there is as a tar archive
	Doctor        func(ctx context.Context, rebuild bool) (belfry.Checkup, error) // looks at all there is
	Hosts         belfry.PushHosts                                                // push services that a browser may name
	Audience      []string                                                        // addresses of this server that a user token may be for; where there is none, no token holds
	Origins       []string                                                        // sites that may register and that links may point to

	ReceiptKinds []string // which receipts pages are to send, as /v1/config says it; empty for none

	Metrics *prometheus.Registry // what is counted elsewhere in the house; the front door adds its own

	Kit  fs.FS     // the files of the browser kit
	Demo bool      // serve the demo page at /
	Chat *live.Log // where its visitors write to each other; nil means that they cannot

	TrustedProxies []netip.Prefix // whose X-Forwarded-For is believed; none by default (SEC-40)
	RegisterLimit  Limit          // registrations of one address; zero means none are limited
	Log            *slog.Logger
}

// A Limit is so many in so long a time.
type Limit struct {
	N   int
	Per time.Duration
}

// Server answers HTTP. Public and Operators are its two doors.
type Server struct {
	Config
	limiter    *limiter // of registrations
	chatter    *limiter // of lines in the chat
	tellers    *limiter // of calls with receipts
	messages   *lru.Cache[string, receipts.Message]
	tickets    *tickets
	counts     counts
	warnedOnce sync.Once // an untrusted peer sent X-Forwarded-For
}

// New returns a Server, or says what is missing.
func New(cfg Config) (*Server, error) {
	if cfg.Subscriptions == nil || cfg.Broadcasts == nil || cfg.Live == nil || cfg.Keys == nil || cfg.Webhook == nil || cfg.UserKey == nil || cfg.Tokens == nil || cfg.Receipts == nil || cfg.Backup == nil || cfg.Doctor == nil || len(cfg.Origins) == 0 || cfg.Kit == nil {
		return nil, errors.New("web: Config needs Subscriptions, Broadcasts, Live, Keys, Webhook, UserKey, Tokens, Receipts, Backup, Doctor, Origins and Kit")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Metrics == nil {
		cfg.Metrics = prometheus.NewRegistry()
	}
	messages, err := lru.New[string, receipts.Message](messagesKnown)
	if err != nil {
		return nil, err
	}
	return &Server{Config: cfg, limiter: newLimiter("registrations", cfg.RegisterLimit, perDay), chatter: newLimiter("lines", chatLimit, chatPerDay),
		tellers: newLimiter("receipts", receiptLimit, receiptsPerDay), messages: messages, tickets: newTickets(), counts: newCounts(cfg.Metrics)}, nil
}

// A route maps one call to the least role that may make it (SEC-10). All routes
// stand in publicRoutes and operatorRoutes, and nowhere else.
type route struct {
	method, path string
	role         role
	handle       func(*gin.Context) error
}

// publicRoutes is everything that a browser can reach.
func (s *Server) publicRoutes() []route {
	return slices.Concat(s.kitRoutes(), s.demoRoutes(), []route{
		{http.MethodGet, "/healthz", anyone, s.healthy},
		{http.MethodGet, "/readyz", anyone, s.ready},
		{http.MethodGet, "/v1/config", anyone, s.config},
		{http.MethodPost, "/v1/subscriptions", anyone, s.counted(s.register)},
		{http.MethodPut, "/v1/subscriptions/:id", anyone, s.change},
		{http.MethodDelete, "/v1/subscriptions/:id", anyone, s.unregister},
		{http.MethodPost, "/v1/receipts", anyone, s.receive},
		{http.MethodGet, "/v1/events", anyone, s.events},
		{http.MethodPost, "/v1/events", anyone, s.streamEvents},
		{http.MethodGet, "/v1/poll", anyone, s.poll},
		{http.MethodGet, "/v1/ws", anyone, s.socket},
		{http.MethodPost, "/v1/connections/:conn", anyone, s.order},
		{http.MethodPost, "/v1/tickets", anyone, s.ticket},
	})
}

// operatorRoutes is everything that an operator can reach. None of it is on the
// public listener (SEC-17).
func (s *Server) operatorRoutes() []route {
	return []route{
		{http.MethodPost, "/api/v1/broadcasts", publisher, s.launch},
		{http.MethodGet, "/api/v1/broadcasts", publisher, s.listBroadcasts},
		{http.MethodGet, "/api/v1/broadcasts/:id", publisher, s.showBroadcast},
		{http.MethodGet, "/api/v1/broadcasts/:id/events", publisher, s.watchBroadcast},
		{http.MethodPost, "/api/v1/broadcasts/:id/pause", admin, s.ordered(s.Broadcasts.Pause)},
		{http.MethodPost, "/api/v1/broadcasts/:id/resume", admin, s.ordered(s.Broadcasts.Resume)},
		{http.MethodPost, "/api/v1/broadcasts/:id/cancel", admin, s.ordered(s.Broadcasts.Cancel)},
		{http.MethodPost, "/api/v1/broadcasts/:id/confirm", admin, s.ordered(s.Broadcasts.Confirm)},
		{http.MethodPost, "/api/v1/broadcasts/:id/dismiss", admin, s.ordered(s.Broadcasts.Dismiss)},
		{http.MethodGet, "/api/v1/subscriptions", admin, s.listSubscriptions},
		{http.MethodPost, "/api/v1/subscriptions", admin, s.addSubscription},
		{http.MethodPost, "/api/v1/subscriptions/import", admin, s.importSubscriptions},
		{http.MethodGet, "/api/v1/subscriptions/export", admin, s.exportSubscriptions},
		{http.MethodGet, "/api/v1/subscriptions/:id", admin, s.showSubscription},
		{http.MethodPut, "/api/v1/subscriptions/:id", admin, s.changeSubscription},
		{http.MethodDelete, "/api/v1/subscriptions/:id", admin, s.removeSubscription},
		{http.MethodGet, "/api/v1/tokens", admin, s.listTokens},
		{http.MethodPost, "/api/v1/tokens", admin, s.makeToken},
		{http.MethodDelete, "/api/v1/tokens/:id", admin, s.revokeToken},
		{http.MethodGet, "/api/v1/keys", admin, s.listKeys},
		{http.MethodPost, "/api/v1/keys", owner, s.addKey},
		{http.MethodGet, "/api/v1/keys/:id/private", owner, s.exportKey},
		{http.MethodGet, "/api/v1/keys/webhook", owner, s.showSecret("callbacks", s.Webhook.Reveal)},
		{http.MethodGet, "/api/v1/keys/user", owner, s.showSecret("user tokens", s.UserKey.Reveal)},
		{http.MethodGet, "/api/v1/stats", admin, s.stats},
		{http.MethodGet, "/metrics", admin, s.metrics},
		{http.MethodPost, "/api/v1/backup", owner, s.backup},
		{http.MethodPost, "/api/v1/doctor", owner, s.doctor},
	}
}

// Public answers browsers.
func (s *Server) Public() http.Handler {
	e := s.engine(s.cors, s.browserWrite)
	s.mount(e, s.publicRoutes())
	return e
}

// Operators answers operators. identify says who is calling.
func (s *Server) Operators(identify func(*http.Request) (Identity, error)) http.Handler {
	e := s.engine(s.identified(identify))
	s.mount(e, s.operatorRoutes())
	return e
}

func (s *Server) engine(middle ...gin.HandlerFunc) *gin.Engine {
	gin.SetMode(gin.ReleaseMode)
	e := gin.New()
	e.ContextWithFallback = true // or a client that hangs up would go unheard
	e.HandleMethodNotAllowed = true
	e.RedirectTrailingSlash = false
	trusted := make([]string, len(s.TrustedProxies))
	for i, p := range s.TrustedProxies {
		trusted[i] = p.String()
	}
	// gin believes every X-Forwarded-For unless it is told whose (SEC-40), and
	// where that is missing an X-Real-IP, which proxies pass on as a client sent it.
	e.RemoteIPHeaders = []string{"X-Forwarded-For"}
	if err := e.SetTrustedProxies(trusted); err != nil {
		panic(err) // a netip.Prefix always prints as a CIDR
	}
	e.Use(s.observed, s.headers)
	e.Use(middle...)
	e.NoRoute(func(c *gin.Context) {
		s.refuse(c, &belfry.Error{Kind: belfry.ErrNotFound, Code: "not-found", Text: "there is nothing here"})
	})
	e.NoMethod(func(c *gin.Context) {
		s.refuse(c, &belfry.Error{Kind: errMethod, Code: "method", Text: c.Request.Method + " is not a method of this resource"})
	})
	return e
}

func (s *Server) mount(e *gin.Engine, routes []route) {
	for _, r := range routes {
		handle := func(c *gin.Context) {
			if err := r.handle(c); err != nil {
				s.refuse(c, err)
			}
		}
		e.Handle(r.method, r.path, s.allowed(r.role), handle)
		if r.method == http.MethodGet && r.role == anyone { // others may take long to make what HEAD then drops
			e.Handle(http.MethodHead, r.path, s.allowed(r.role), handle)
		}
	}
}

// observed logs each request by its route, never by its URL, which may hold
// ids, and turns a panic into an answer.
func (s *Server) observed(c *gin.Context) {
	began := time.Now()
	defer func() {
		if fault := recover(); fault != nil {
			if fault == http.ErrAbortHandler {
				panic(fault)
			}
			s.Log.Error("a handler panicked", "route", c.FullPath(), "fault", fault)
			s.refuse(c, errors.New("panic"))
		}
		s.Log.Debug("request", "method", c.Request.Method, "route", c.FullPath(), "status", c.Writer.Status(), "took", time.Since(began))
	}()
	c.Next()
}

// headers are those that every answer carries.
func (s *Server) headers(c *gin.Context) {
	c.Header("X-Content-Type-Options", "nosniff")
	c.Header("Referrer-Policy", "no-referrer")
	if c.GetHeader("X-Forwarded-For") != "" && !s.trusts(c.RemoteIP()) {
		s.warnedOnce.Do(func() {
			s.Log.Warn("a peer that is no trusted proxy sends X-Forwarded-For; limits count all its clients as one", "hint", "start with --trusted-proxy if it is your proxy")
		})
	}
	c.Next()
}

func (s *Server) trusts(ip string) bool {
	addr, err := netip.ParseAddr(ip)
	return err == nil && slices.ContainsFunc(s.TrustedProxies, func(p netip.Prefix) bool { return p.Contains(addr.Unmap()) })
}

// healthy says that the process answers, and no more (SEC-49).
func (s *Server) healthy(c *gin.Context) error {
	c.String(http.StatusOK, "ok\n")
	return nil
}

// ready says that registrations would be taken.
func (s *Server) ready(c *gin.Context) error {
	if _, err := s.Subscriptions.Count(c.Request.Context(), belfry.Audience{All: true}); err != nil {
		return &belfry.Error{Kind: belfry.ErrBusy, Code: "not-ready", Text: "not ready"}
	}
	c.String(http.StatusOK, "ok\n")
	return nil
}

// NewHTTPServer returns a server with the house's limits: a client that sends
// or reads slowly is let go (SEC-45). Streaming handlers lift what they must.
func NewHTTPServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       60 * time.Second,
		MaxHeaderBytes:    16 << 10, // SEC-41
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}
