package web

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/broadcasts"
	"github.com/belfry-push/belfry/internal/boltfile"
	"github.com/belfry-push/belfry/keys"
	"github.com/belfry-push/belfry/live"
	"github.com/belfry-push/belfry/receipts"
	"github.com/belfry-push/belfry/sender"
	"github.com/belfry-push/belfry/sender/pushtest"
	"github.com/belfry-push/belfry/serviceworker"
	"github.com/belfry-push/belfry/subscriptions"
	"github.com/belfry-push/belfry/tokens"
	"github.com/belfry-push/belfry/webhooks"
)

const (
	site    = "https://shop.example"
	ringURL = "https://ring.example" // the server's own
)

// A house is every room that the front door opens onto, for real, with a push
// service that decrypts what it is sent.
type house struct {
	t       *testing.T
	web     *Server
	store   *subscriptions.Store
	events  *live.Log
	tokens  *tokens.Store
	told    *receipts.Store
	settle  func() // has all receipts written; none can be taken any more
	ring    *keys.Ring
	userKey *keys.UserKey
	service *pushtest.Service
	log     *buffer
	public  *httptest.Server
	socket  *httptest.Server // operators as the socket lets them in
	ops     *httptest.Server // operators behind a token
}

// A buffer is a log that many may write to.
type buffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.String()
}

func newHouse(t *testing.T, adjust ...func(*Config)) *house {
	t.Helper()
	h := newRooms(t, pushtest.NewService(t), adjust...)
	h.public = h.serve(h.web.Public())
	h.socket = h.serve(h.web.Operators(Owner))
	h.ops = h.serve(h.web.Operators(h.web.Bearer))
	return h
}

// newRooms is a house without listeners, which may stand in a synctest bubble.
func newRooms(t *testing.T, service *pushtest.Service, adjust ...func(*Config)) *house {
	t.Helper()
	h := &house{t: t, service: service, log: &buffer{}}
	dir := t.TempDir()
	file := must(boltfile.Open(filepath.Join(dir, "belfry.db")))
	t.Cleanup(func() { file.Close() })
	h.store = must(subscriptions.New(file, subscriptions.Config{}))
	h.tokens = must(tokens.New(file, slog.New(slog.DiscardHandler)))
	h.told = must(receipts.New(file, receipts.Config{}))
	h.settle = sync.OnceFunc(h.told.Close)
	t.Cleanup(h.settle)
	h.ring = must(keys.Create(filepath.Join(dir, "vapid.json")))
	webhook, _, err := keys.OpenWebhook(filepath.Join(dir, "webhook.key"))
	must(webhook, err)
	userKey, _, err := keys.OpenUserKey(filepath.Join(dir, "user.key"))
	h.userKey = must(userKey, err)
	caller := must(webhooks.New(webhooks.Config{Signer: webhook}))
	t.Cleanup(caller.Close)
	log := slog.New(slog.NewJSONHandler(h.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	out := must(sender.New(sender.Config{Signer: keys.NewSigner(h.ring, "", time.Now), Hosts: h.service.Hosts(), Transport: h.service.Client().Transport}))
	t.Cleanup(out.Close)
	journal := must(broadcasts.NewBoltJournal(file, h.store, slog.New(slog.DiscardHandler)))
	h.events = must(live.Open(file, live.LogConfig{Log: log}))
	t.Cleanup(h.events.Close)
	hub := must(live.NewHub(h.events, live.HubConfig{Log: log}))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		hub.Close(ctx)
	})
	engine := must(broadcasts.New(t.Context(), broadcasts.Config{Live: h.events, Presence: hub, Journal: journal, Audience: h.store, Sender: out, Origins: []string{site}, Caller: caller, Log: log}))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		engine.Close(ctx)
	})
	cfg := Config{Subscriptions: h.store, Broadcasts: engine, Live: hub, Keys: h.ring, Webhook: webhook, UserKey: h.userKey, Audience: []string{ringURL}, Tokens: h.tokens, Receipts: h.told, ReceiptKinds: []string{"shown", "clicked"}, Hosts: h.service.Hosts(), Origins: []string{site},
		Kit: serviceworker.Files(), Log: log, Backup: func(w io.Writer) error { _, err := io.WriteString(w, "tar"); return err },
		Doctor: func(context.Context, bool) (belfry.Checkup, error) { return belfry.Checkup{}, nil }}
	for _, a := range adjust {
		a(&cfg)
	}
	h.web = must(New(cfg))
	return h
}

func (h *house) serve(handler http.Handler) *httptest.Server {
	s := httptest.NewUnstartedServer(handler)
	s.Config = NewHTTPServer(handler, slog.New(slog.DiscardHandler))
	s.Start()
	h.t.Cleanup(s.Close)
	return s
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// An answer is what came back, whole.
type answer struct {
	status int
	header http.Header
	body   string
}

// code is the problem's code, or empty.
func (a answer) code() string {
	var p problem
	json.Unmarshal([]byte(a.body), &p)
	return p.Code
}

// do makes a request with "Name: value" headers.
func (h *house) do(s *httptest.Server, method, path, body string, headers ...string) answer {
	h.t.Helper()
	req := must(http.NewRequestWithContext(h.t.Context(), method, s.URL+path, strings.NewReader(body)))
	for _, line := range headers {
		if name, value, found := strings.Cut(line, ": "); found {
			req.Header.Add(name, value)
		}
	}
	resp, err := s.Client().Do(req)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	return answer{resp.StatusCode, resp.Header, string(must(io.ReadAll(resp.Body)))}
}

// page is the headers of a script on the site.
var page = []string{"Origin: " + site, "Content-Type: application/json"}

func device(secret string) []string {
	return append([]string{"Authorization: Device " + secret}, page...)
}

func bearer(token string) string { return "Authorization: Bearer " + token }

// browser is a PushSubscription that the push service minted, in JSON.
func (h *house) browser() (belfry.Subscription, string) {
	s := h.service.Subscribe(h.ring.Current().PublicKey)
	return s, string(must(json.Marshal(map[string]any{
		"endpoint": s.Endpoint.Reveal(), "expirationTime": nil, "keys": map[string]string{"p256dh": s.P256dh.Reveal(), "auth": s.Auth.Reveal()},
	})))
}

// register registers a new browser and returns its id and secret.
func (h *house) register(channels string) (id, secret string) {
	h.t.Helper()
	_, subscription := h.browser()
	got := h.do(h.public, "POST", "/v1/subscriptions", `{"subscription":`+subscription+`,"channels":`+channels+`}`, page...)
	if got.status != http.StatusCreated {
		h.t.Fatalf("register: %d %s", got.status, got.body)
	}
	var r registered
	if err := json.Unmarshal([]byte(got.body), &r); err != nil {
		h.t.Fatal(err)
	}
	return r.ID, r.Secret
}

func (h *house) count() int {
	return must(h.store.Count(h.t.Context(), belfry.Audience{All: true}))
}

// token makes a token for tests.
func (h *house) token(role tokens.Role, channels ...string) string {
	_, token, err := h.tokens.Make(h.t.Context(), "test", role, channels, 0)
	if err != nil {
		h.t.Fatal(err)
	}
	return token.Reveal()
}
