package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/broadcasts"
	"github.com/belfry-push/belfry/internal/boltfile"
	"github.com/belfry-push/belfry/internal/config"
	"github.com/belfry-push/belfry/keys"
	"github.com/belfry-push/belfry/live"
	"github.com/belfry-push/belfry/receipts"
	"github.com/belfry-push/belfry/sender"
	"github.com/belfry-push/belfry/serviceworker"
	"github.com/belfry-push/belfry/subscriptions"
	"github.com/belfry-push/belfry/tokens"
	"github.com/belfry-push/belfry/web"
	"github.com/belfry-push/belfry/webhooks"
)

// A house is every room of a running server. It is where the rooms meet: what
// one needs of another is handed over here.
type house struct {
	cfg   config.Serve
	paths config.Paths
	log   *slog.Logger
	roots *x509.CertPool   // for push services; nil means the system's
	tls   *tls.Config      // of our own listeners; nil without a certificate
	ready func(url string) // is told where browsers reach us

	file          *boltfile.File
	subscriptions *subscriptions.Store
	keys          *keys.Ring
	webhook       *keys.Webhook
	userKey       *keys.UserKey
	sender        *sender.Sender
	caller        *webhooks.Caller
	journal       *broadcasts.BoltJournal
	engine        *broadcasts.Engine
	events        *live.Log
	live          *live.Hub
	tokens        *tokens.Store
	receipts      *receipts.Store
	web           *web.Server

	public, socket, ops net.Listener // ops is nil without --ops-listen
	servers             []*http.Server
	leaving             atomic.Bool // each answer says that its connection closes
}

// build opens everything, from the ground up. The file comes first: whoever
// holds its lock is the only server here.
func (h *house) build(ctx context.Context) error {
	for _, step := range []func(context.Context) error{h.open, h.listen, h.openKeys, h.checkKeys, h.openWebhook, h.openUserKey, h.join} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (h *house) open(context.Context) (err error) {
	if err := h.paths.MakeDir(); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	if h.file, err = boltfile.Open(h.paths.Database); err != nil {
		return err
	}
	if damage := h.file.Reverted; damage != nil {
		h.log.Warn(damage.Error(), "hint", damage.Hint)
	}
	h.subscriptions, err = subscriptions.New(h.file, subscriptions.Config{Log: h.log})
	return err
}

func (h *house) listen(ctx context.Context) (err error) {
	// Nobody needs TCP's own questions whether a browser is still there: pages that
	// wait are pinged, and all others have their time. To set them up is a third of what
	// it costs to accept a connection, which counts when thousands come at once.
	public := net.ListenConfig{KeepAlive: -1}
	if h.public, err = public.Listen(ctx, "tcp", h.cfg.Listen); err != nil {
		return listenError("--listen", h.cfg.Listen, err)
	}
	if h.cfg.OpsListen != "" {
		if h.ops, err = net.Listen("tcp", h.cfg.OpsListen); err != nil {
			return listenError("--ops-listen", h.cfg.OpsListen, err)
		}
	}
	h.socket, err = listenSocket(h.paths.Socket)
	return err
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

// openKeys opens the key ring. Only a house without subscriptions gets a new
// key: with another key nobody who registered could be rung again (WP-51).
func (h *house) openKeys(ctx context.Context) (err error) {
	h.keys, err = keys.Open(h.paths.Keys)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	n, err := h.subscriptions.Count(ctx, belfry.Audience{All: true})
	if err != nil {
		return err
	}
	if n > 0 {
		return &belfry.Error{Kind: belfry.ErrNotUsable, Code: "keys-missing",
			Text: fmt.Sprintf("%s is missing, and %d subscriptions were made with it", h.paths.Keys, n),
			Hint: "put the file back from a backup, or bring the key back with `belfry keys import FILE`; a new key would silence them all"}
	}
	if h.keys, err = keys.Create(h.paths.Keys); err == nil {
		h.log.Info("made a VAPID key; keep a backup of it, no subscriber can be rung without", "file", h.paths.Keys, "key", h.keys.Current().ID)
	}
	return err
}

// checkKeys says which subscriptions cannot be rung because the key that they
// were made with is not on the ring (WP-49). The server starts all the same,
// since keys are imported into a running one.
func (h *house) checkKeys(ctx context.Context) error {
	missing, err := h.missingKeys(ctx)
	for id, n := range missing {
		h.log.Error("subscriptions cannot be rung: the VAPID key that they were made with is missing", "key", id, "subscriptions", n, "hint", importKeyHint)
	}
	return err
}

// openWebhook opens the secret that callbacks are signed with.
func (h *house) openWebhook(context.Context) (err error) {
	var made bool
	if h.webhook, made, err = keys.OpenWebhook(h.paths.Webhook); made {
		h.log.Info("made a secret that callbacks are signed with; `belfry keys webhook` shows it", "file", h.paths.Webhook)
	}
	return err
}

// openUserKey opens the secret that sites sign user tokens with.
func (h *house) openUserKey(context.Context) (err error) {
	var made bool
	if h.userKey, made, err = keys.OpenUserKey(h.paths.User); made {
		h.log.Info("made a secret that sites sign user tokens with; `belfry keys user` shows it", "file", h.paths.User)
	}
	return err
}

// join hands every room what it needs of the others.
func (h *house) join(ctx context.Context) (err error) {
	origins := h.cfg.AllOrigins(h.public.Addr())
	for _, p := range h.cfg.PushHosts.Additions() {
		h.log.Warn("speaking to a push service that is not on the built-in list", "host", p.Host, "port", p.Port, "scheme", p.Scheme, "dials", p.Dial)
	}
	for _, c := range h.cfg.CallbackHosts.Additions() {
		h.log.Warn("callbacks may go to a host in our own network", "host", c.Host, "port", c.Port, "scheme", c.Scheme, "dials", c.Dial)
	}
	if h.cfg.Subject == "" {
		h.log.Warn("no --subject: tokens carry no contact, and Apple's push service will refuse them")
	}
	signer := keys.NewSigner(h.keys, h.cfg.Subject, time.Now)
	if h.sender, err = sender.New(sender.Config{Signer: signer, Hosts: h.cfg.PushHosts, Engine: h.cfg.Engine, RootCAs: h.roots}); err != nil {
		return err
	}
	if h.caller, err = webhooks.New(webhooks.Config{Signer: h.webhook, Hosts: h.cfg.CallbackHosts}); err != nil {
		return err
	}
	meter := newMeter()
	meter.registry.MustRegister(rowCollector{h.subscriptions})
	if h.journal, err = broadcasts.NewBoltJournal(h.file, h.subscriptions, h.log); err != nil {
		return err
	}
	if err := h.openLive(); err != nil {
		return err
	}
	meter.registry.MustRegister(liveCollector{h.live})
	if h.receipts, err = receipts.New(h.file, receipts.Config{Log: h.log}); err != nil {
		return err
	}
	meter.registry.MustRegister(receiptCollector{h.receipts})
	if h.engine, err = broadcasts.New(ctx, broadcasts.Config{Journal: meteredJournal{h.journal, meter}, Audience: h.subscriptions,
		Sender: meteredSender{h.sender, meter, h.cfg.PushHosts}, Origins: origins,
		Live: h.events, Presence: h.live, Pace: h.firstPace, Caller: h.caller, CallbackHosts: h.cfg.CallbackHosts, ClickLink: h.clickLink(), Log: h.log}); err != nil {
		return err
	}
	meter.registry.MustRegister(laneCollector{h.engine, meter, h.cfg.PushHosts})
	if h.tokens, err = tokens.New(h.file, h.log); err != nil {
		return err
	}
	h.web, err = web.New(web.Config{Subscriptions: h.subscriptions, Broadcasts: h.engine, Live: h.live, Keys: h.keys, Webhook: h.webhook, UserKey: h.userKey, Audience: h.cfg.Audience(h.public.Addr()), Tokens: h.tokens, Receipts: h.receipts, ReceiptKinds: h.cfg.Receipts, Hosts: h.cfg.PushHosts, Origins: origins,
		Backup: func(w io.Writer) error { return archive(h.file, h.paths, w) }, Doctor: h.examine, Metrics: meter.registry,
		Kit: serviceworker.Files(), Demo: h.cfg.ShowsDemo(), Chat: h.chat(), TrustedProxies: h.cfg.TrustedProxies,
		RegisterLimit: web.Limit{N: h.cfg.RegisterN, Per: h.cfg.RegisterPer}, Log: h.log})
	return err
}

// clickLink signs the links of messages; nil unless they are to be.
func (h *house) clickLink() func(id string) string {
	if h.cfg.ClickLinks {
		return h.userKey.ClickLink
	}
	return nil
}

// chat is where visitors of the demo page write to each other; nil unless they may.
func (h *house) chat() *live.Log {
	if h.cfg.DemoChat {
		return h.events
	}
	return nil
}

// openLive opens the log of events and the hub that streams it.
func (h *house) openLive() (err error) {
	if h.events, err = live.Open(h.file, live.LogConfig{Log: h.log}); err != nil {
		return err
	}
	total := min(maxListeners, max(descriptors()-ownDescriptors, descriptors()/2))
	if total < fewListeners {
		h.log.Warn("few files may be open at a time, so few pages can listen", "pages", total, "hint", "raise the limit, such as with `ulimit -n 120000` or LimitNOFILE=")
	}
	h.live, err = live.NewHub(h.events, live.HubConfig{Total: total, PerAddress: h.cfg.LiveLimit, Log: h.log})
	return err
}

const (
	// maxListeners is how many pages may listen at a time: at under 3 KiB each
	// they take less memory than a small machine has (REL-11).
	maxListeners = 100_000
	fewListeners = 10_000 // worth a word at start
	// ownDescriptors are for everything else: 1024 attempts, callbacks, and
	// visitors who register.
	ownDescriptors = 4096
)

// firstPace is how fast we begin with a push service: the browser vendors' are
// met gently (PS-04, PS-06), one that an operator has opened is as fast as it can.
func (h *house) firstPace(host string) float64 {
	name, port, err := net.SplitHostPort(host)
	ports := []string{port}
	if err != nil {
		name, ports = host, []string{"443", "80"}
	}
	for _, port := range ports {
		if _, opened := h.cfg.PushHosts.Opened(name, port); opened {
			return 0
		}
	}
	return 200
}

const (
	// finishWithin is how long attempts in flight get at the end.
	finishWithin = 10 * time.Second
	// requestsWithin is how long requests in flight get after them: no attempt may
	// use up the time of a visitor who is registering.
	requestsWithin = 5 * time.Second
	// lastCall is how long we still take connections and requests once nothing is
	// in flight, and tell each client that its connection closes. A client that
	// calls without a pause is then not met by a connection that just closes, of
	// which it cannot know whether its request was heard (RFC 9112 §9.6).
	lastCall = 200 * time.Millisecond
)

// run serves until ctx ends or a listener fails.
func (h *house) run(ctx context.Context) error {
	failed := make(chan error, 3) // one for each listener
	h.start(h.web.Public(), h.public, h.tls, failed)
	h.start(h.web.Operators(web.Owner), h.socket, nil, failed)
	if h.ops != nil {
		h.start(h.web.Operators(h.web.Bearer), h.ops, h.tls, failed)
		h.log.Info("operators can reach the server with a token", "address", h.ops.Addr().String())
	}
	scheme := "http"
	if h.tls != nil {
		scheme = "https"
	}
	h.ready(scheme + "://" + h.public.Addr().String())
	select {
	case <-ctx.Done():
		h.log.Info("stopping: finishing what is in flight", "within", finishWithin.String())
		return nil
	case <-h.file.Failed():
		return h.file.Failure()
	case err := <-failed:
		return fmt.Errorf("a listener failed: %w", err)
	}
}

func (h *house) start(handler http.Handler, l net.Listener, secure *tls.Config, failed chan<- error) {
	s := web.NewHTTPServer(h.parting(handler), h.log)
	h.servers = append(h.servers, s)
	go func() {
		var err error
		if secure != nil {
			s.TLSConfig = secure.Clone()
			err = s.ServeTLS(l, "", "")
		} else {
			err = s.Serve(l)
		}
		if !errors.Is(err, http.ErrServerClosed) {
			failed <- err
		}
	}()
}

// parting says with each answer that its connection closes, once we are leaving.
func (h *house) parting(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h.leaving.Load() {
			w.Header().Set("Connection", "close")
		}
		handler.ServeHTTP(w, r)
	})
}

// close ends the house from the top down: no more attempts, while launches are
// answered that we are stopping; no more requests, then the listeners that never
// came to serve, and last the file. It ends as well what was built in part.
func (h *house) close() {
	h.leaving.Store(true)
	h.finish()
	if len(h.servers) > 0 {
		// Who has found the socket is let in, and nobody finds it any more.
		os.Remove(h.paths.Socket)
		time.Sleep(lastCall)
	}
	ctx, cancel := context.WithTimeout(context.Background(), requestsWithin)
	defer cancel()
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
	if h.caller != nil {
		h.caller.Close()
	}
	if h.receipts != nil {
		h.receipts.Close()
	}
	if h.events != nil {
		h.events.Close()
	}
	if h.file != nil {
		h.file.Close()
	}
}

// finish ends what is on its way: attempts, and beside them the streams of pages,
// a few at a time so that they do not come back as a crowd.
func (h *house) finish() {
	ctx, cancel := context.WithTimeout(context.Background(), finishWithin)
	defer cancel()
	var both sync.WaitGroup
	defer both.Wait()
	if h.live != nil {
		both.Go(func() { h.live.Close(ctx) })
	}
	if h.engine != nil {
		both.Go(func() { h.engine.Close(ctx) })
	}
}
