package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/broadcasts"
	"github.com/belfry-push/belfry/internal/boltfile"
	"github.com/belfry-push/belfry/internal/config"
	"github.com/belfry-push/belfry/keys"
	"github.com/belfry-push/belfry/sender"
	"github.com/belfry-push/belfry/serviceworker"
	"github.com/belfry-push/belfry/subscriptions"
	"github.com/belfry-push/belfry/tokens"
	"github.com/belfry-push/belfry/web"
)

func (a *app) serveCommand() *cobra.Command {
	c := &cobra.Command{Use: "serve", Short: "Run the server", Args: args(cobra.NoArgs)}
	read := config.ServeFlags(c.Flags())
	c.RunE = func(c *cobra.Command, _ []string) error {
		cfg, err := read()
		if err != nil {
			return err
		}
		cfg.Data = a.data.dir
		return a.serve(c.Context(), cfg)
	}
	return c
}

// serve runs until ctx ends. It is where the rooms meet: everything that one
// needs of another is handed over here.
func (a *app) serve(ctx context.Context, cfg config.Serve) error {
	log := a.logger(cfg.LogLevel)
	if err := a.checkSubject(cfg, log); err != nil {
		return err
	}
	paths, err := config.PathsIn(cfg.Data)
	if err != nil {
		return err
	}
	if err := paths.MakeDir(); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	file, err := boltfile.Open(paths.Database)
	if err != nil {
		return err
	}
	defer file.Close()
	house, err := a.build(ctx, cfg, paths, file, log)
	if err != nil {
		return err
	}
	defer house.close()
	return house.run(ctx)
}

// logger writes text to a terminal and JSON to everything else.
func (a *app) logger(level string) *slog.Logger {
	var at slog.Level
	at.UnmarshalText([]byte(level)) // config has checked it
	options := &slog.HandlerOptions{Level: at}
	if f, ok := a.err.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return slog.New(slog.NewTextHandler(a.err, options))
	}
	return slog.New(slog.NewJSONHandler(a.err, options))
}

// checkSubject demands a subject as soon as anybody but this machine is rung for (WP-45).
func (a *app) checkSubject(cfg config.Serve, log *slog.Logger) error {
	if cfg.Subject == "" && cfg.Local() {
		log.Warn("no --subject: tokens carry no contact, and Apple's push service will refuse them")
		return nil
	}
	return belfry.At("--subject", keys.CheckSubject(cfg.Subject))
}

// A house is every room of a running server.
type house struct {
	cfg     config.Serve
	paths   config.Paths
	log     *slog.Logger
	app     *app
	sender  *sender.Sender
	engine  *broadcasts.Engine
	web     *web.Server
	public  net.Listener
	socket  net.Listener
	ops     net.Listener // nil without --ops-listen
	servers []*http.Server
}

func (a *app) build(ctx context.Context, cfg config.Serve, paths config.Paths, file *boltfile.File, log *slog.Logger) (*house, error) {
	store, err := subscriptions.New(file.DB, subscriptions.Config{})
	if err != nil {
		return nil, err
	}
	ring, err := openKeys(ctx, paths, store, log)
	if err != nil {
		return nil, err
	}
	roots, err := pushRoots(cfg.PushCA)
	if err != nil {
		return nil, err
	}
	for _, h := range cfg.PushHosts.Additions() {
		log.Warn("speaking to a push service that is not on the built-in list", "host", h.Host, "port", h.Port, "scheme", h.Scheme, "dials", h.Dial)
	}
	h := &house{cfg: cfg, paths: paths, log: log, app: a}
	if h.public, err = net.Listen("tcp", cfg.Listen); err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	origins := cfg.AllOrigins(h.public.Addr())
	if len(origins) == 0 {
		h.close()
		return nil, &belfry.Error{Kind: belfry.ErrInvalid, Code: "usage", Where: "--origin", Text: "nobody could register: there is no --public-url and no --origin",
			Hint: "add --public-url https://ring.example.com, or --origin for each site"}
	}
	if h.sender, err = sender.New(sender.Config{Signer: keys.NewSigner(ring, cfg.Subject, time.Now), Hosts: cfg.PushHosts, Engine: cfg.Engine, RootCAs: roots}); err != nil {
		h.close()
		return nil, err
	}
	journal, err := broadcasts.NewBoltJournal(file.DB, store.Forget)
	if err == nil {
		h.engine, err = broadcasts.New(ctx, broadcasts.Config{Journal: journal, Audience: store, Sender: h.sender, Origins: origins, Log: log})
	}
	var bearers *tokens.Store
	if err == nil {
		bearers, err = tokens.New(file.DB)
	}
	if err == nil {
		h.web, err = web.New(web.Config{Subscriptions: store, Broadcasts: h.engine, Keys: ring, Tokens: bearers, Hosts: cfg.PushHosts, Origins: origins,
			Backup: func(w io.Writer) error { return archive(file, paths, w) },
			Kit:    serviceworker.Files, Demo: cfg.ShowsDemo(), TrustedProxies: cfg.TrustedProxies,
			RegisterLimit: web.Limit{N: cfg.RegisterN, Per: cfg.RegisterPer}, Log: log})
	}
	if err == nil {
		h.socket, err = listenSocket(paths.Socket)
	}
	if err == nil && cfg.OpsListen != "" {
		h.ops, err = net.Listen("tcp", cfg.OpsListen)
	}
	if err != nil {
		h.close()
		return nil, err
	}
	return h, nil
}

// openKeys opens the key ring. Only a house without subscriptions gets a new
// key: with another key nobody who registered could be rung again (WP-51).
func openKeys(ctx context.Context, paths config.Paths, store *subscriptions.Store, log *slog.Logger) (*keys.Ring, error) {
	ring, err := keys.Open(paths.Keys)
	if !errors.Is(err, fs.ErrNotExist) {
		return ring, err
	}
	n, err := store.Count(ctx, belfry.Audience{All: true})
	if err != nil {
		return nil, err
	}
	if n > 0 {
		return nil, &belfry.Error{Kind: belfry.ErrNotUsable, Code: "keys-missing",
			Text: fmt.Sprintf("%s is missing, and %d subscriptions were made with it", paths.Keys, n),
			Hint: "put the file back from a backup, or bring the key back with `belfry keys import FILE`; a new key would silence them all"}
	}
	ring, err = keys.Create(paths.Keys)
	if err == nil {
		log.Info("made a VAPID key; keep a backup of it, no subscriber can be rung without", "file", paths.Keys, "key", ring.Current().ID)
	}
	return ring, err
}

// pushRoots returns the system's authorities and the one in file, or nil for
// the system's alone.
func pushRoots(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("--push-ca: %w", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, belfry.Invalid("usage", "--push-ca", "holds no certificate in PEM")
	}
	return pool, nil
}

// listenSocket opens the operators' socket. One that is left over from a crash
// is removed: whoever holds the database's lock is the only server here.
func listenSocket(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	return l, os.Chmod(path, 0o600)
}

// finishWithin is how long attempts and requests in flight get at the end.
const finishWithin = 10 * time.Second

// run serves until ctx ends or a listener fails, then finishes what is in flight.
func (h *house) run(ctx context.Context) error {
	failed := make(chan error, 3)
	h.start(h.web.Public(), h.public, h.cfg.TLSCert != "", failed)
	h.start(h.web.Operators(web.Owner), h.socket, false, failed)
	if h.ops != nil {
		h.start(h.web.Operators(h.web.Bearer), h.ops, h.cfg.TLSCert != "", failed)
		h.log.Info("operators can reach the server with a token", "address", h.ops.Addr().String())
	}
	scheme := "http"
	if h.cfg.TLSCert != "" {
		scheme = "https"
	}
	fmt.Fprintf(h.app.err, "belfry: listening on %s://%s\n", scheme, h.public.Addr())
	var err error
	select {
	case <-ctx.Done():
		h.log.Info("stopping: finishing what is in flight", "within", finishWithin.String())
	case err = <-failed:
	}
	return err
}

func (h *house) start(handler http.Handler, l net.Listener, tls bool, failed chan<- error) {
	s := web.NewHTTPServer(handler, h.log)
	h.servers = append(h.servers, s)
	go func() {
		var err error
		if tls {
			err = s.ServeTLS(l, h.cfg.TLSCert, h.cfg.TLSKey)
		} else {
			err = s.Serve(l)
		}
		if !errors.Is(err, http.ErrServerClosed) {
			failed <- err
		}
	}()
}

// close ends the house from the top down: no more attempts, no more requests,
// then the listeners that never came to serve.
func (h *house) close() {
	ctx, cancel := context.WithTimeout(context.Background(), finishWithin)
	defer cancel()
	if h.engine != nil {
		h.engine.Close(ctx)
	}
	for _, s := range h.servers {
		if s.Shutdown(ctx) != nil {
			s.Close()
		}
	}
	for _, l := range []net.Listener{h.public, h.socket, h.ops} {
		if l != nil {
			l.Close()
		}
	}
	if h.sender != nil {
		h.sender.Close()
	}
}
