package pushtest

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// A browser is one Firefox profile, known by the uaid it was given. It holds
// one connection at a time.
type browser struct {
	uaid     string
	channels map[string]*subscription // by channelID
	socket   *socket                  // nil while it is away
}

// A socket is one connection of a browser. Messages to it queue up in order, so
// that nobody who holds the service's lock waits for a slow browser.
type socket struct {
	ws   *websocket.Conn
	wake chan struct{} // capacity 1: there is something in queue

	mu    sync.Mutex // guards queue
	queue []any
}

// fromBrowser is every message of a browser, in one shape.
type fromBrowser struct {
	Type      string   `json:"messageType"`
	UAID      string   `json:"uaid"`
	WebPush   bool     `json:"use_webpush"`
	ChannelID string   `json:"channelID"`
	Key       string   `json:"key"`
	Version   string   `json:"version"`
	Code      int      `json:"code"`
	Updates   []update `json:"updates"`
}

type update struct {
	ChannelID string `json:"channelID"`
	Version   string `json:"version"`
	Code      int    `json:"code"`
}

// The service's messages to a browser.
type (
	helloAnswer struct {
		Type       string            `json:"messageType"`
		UAID       string            `json:"uaid"`
		Status     int               `json:"status"`
		WebPush    bool              `json:"use_webpush"`
		Broadcasts map[string]string `json:"broadcasts"`
	}
	registerAnswer struct {
		Type      string `json:"messageType"`
		ChannelID string `json:"channelID"`
		Status    int    `json:"status"`
		Endpoint  string `json:"pushEndpoint,omitempty"`
	}
	notification struct {
		Type      string            `json:"messageType"`
		ChannelID string            `json:"channelID"`
		Version   string            `json:"version"`
		Data      string            `json:"data"`
		Headers   map[string]string `json:"headers"`
	}
)

const (
	subprotocol = "push-notification"
	maxFrame    = 64 << 10 // a hello of a browser with many broadcasts is a few KB
)

// serveBrowser speaks autopush's WebSocket protocol with one browser.
func (s *Service) serveBrowser(w http.ResponseWriter, r *http.Request) {
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		s.introduce(w)
		return
	}
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{subprotocol}})
	if err != nil {
		return // Accept has answered
	}
	defer ws.CloseNow()
	if ws.Subprotocol() != subprotocol {
		ws.Close(websocket.StatusPolicyViolation, "the subprotocol must be "+subprotocol)
		return
	}
	ws.SetReadLimit(maxFrame)
	ctx, cancel := context.WithCancel(s.alive)
	defer cancel()
	c := &socket{ws: ws, wake: make(chan struct{}, 1)}
	go c.write(ctx)
	b := s.hello(ctx, c)
	if b == nil {
		return
	}
	defer s.goodbye(b, c)
	for {
		var m fromBrowser
		if !c.read(ctx, &m) {
			return
		}
		s.hear(b, c, m)
	}
}

// introduce tells a person who opens the service in a browser what this is.
func (s *Service) introduce(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprintf(w, "A push service for development. Firefox uses it with these lines in its profile's user.js:\n\n%s\n",
		strings.Join(FirefoxPrefs(s.url), "\n"))
}

// read takes one message. A frame that is no JSON ends the connection, as a
// stranger's would.
func (c *socket) read(ctx context.Context, m *fromBrowser) bool {
	_, frame, err := c.ws.Read(ctx)
	if err != nil {
		return false
	}
	if err := json.Unmarshal(frame, m); err != nil {
		c.ws.Close(websocket.StatusUnsupportedData, "not a message of the autopush protocol")
		return false
	}
	return true
}

// write empties the queue, in order, until the connection ends.
func (c *socket) write(ctx context.Context) {
	for {
		select {
		case <-c.wake:
		case <-ctx.Done():
			return
		}
		c.mu.Lock()
		queue := c.queue
		c.queue = nil
		c.mu.Unlock()
		for _, m := range queue {
			frame, err := json.Marshal(m)
			if err != nil || c.ws.Write(ctx, websocket.MessageText, frame) != nil {
				c.ws.CloseNow()
				return
			}
		}
	}
}

func (c *socket) send(m any) {
	c.mu.Lock()
	c.queue = append(c.queue, m)
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default: // it is awake already
	}
}

// notify sends a message to the browser.
func (c *socket) notify(m *message) {
	c.send(notification{Type: "notification", ChannelID: m.sub.channel, Version: m.id,
		Data: base64.RawURLEncoding.EncodeToString(m.body), Headers: map[string]string{"encoding": "aes128gcm"}})
}

// hello begins every conversation. A browser that we know keeps its uaid and
// gets what waited for it; another gets a new uaid, which makes it forget its
// subscriptions and fire pushsubscriptionchange.
func (s *Service) hello(ctx context.Context, c *socket) *browser {
	var m fromBrowser
	if !c.read(ctx, &m) {
		return nil
	}
	if m.Type != "hello" || !m.WebPush {
		c.ws.Close(websocket.StatusPolicyViolation, "the first message must be a hello with use_webpush")
		return nil
	}
	s.mu.Lock()
	b := s.browsers[m.UAID]
	if b == nil {
		b = &browser{uaid: newUAID(), channels: map[string]*subscription{}}
		s.browsers[b.uaid] = b
	}
	if b.socket != nil {
		go b.socket.ws.CloseNow() // a profile has one connection: the older one is dead or a copy
	} else {
		s.present++
	}
	b.socket = c
	c.send(helloAnswer{Type: "hello", UAID: b.uaid, Status: http.StatusOK, WebPush: true, Broadcasts: map[string]string{}})
	for _, m := range b.waiting(s.now()) {
		c.notify(m)
	}
	s.mu.Unlock()
	s.ledger.touch()
	return b
}

// waiting is what the browser has not acknowledged, in order of arrival. The
// caller holds the lock.
func (b *browser) waiting(now time.Time) []*message {
	var all []*message
	for _, sub := range b.channels {
		all = append(all, sub.unexpired(now)...)
	}
	slices.SortFunc(all, func(x, y *message) int { return cmp.Compare(x.arrival, y.arrival) })
	return all
}

func newUAID() string {
	b := make([]byte, 16)
	rand.Read(b)
	return hex.EncodeToString(b)
}

// goodbye notes that a browser's connection ended.
func (s *Service) goodbye(b *browser, c *socket) {
	s.mu.Lock()
	if b.socket == c {
		b.socket = nil
		s.present--
		if len(b.channels) == 0 {
			delete(s.browsers, b.uaid) // it has nothing to lose, and asks for a new uaid at each start
		}
	}
	s.mu.Unlock()
	s.ledger.touch()
}

// hear acts on one message of a browser that said hello. Kinds that we do not
// know (broadcast_subscribe among them) want no answer.
func (s *Service) hear(b *browser, c *socket, m fromBrowser) {
	switch m.Type {
	case "": // a ping is an empty object
		c.send(struct{}{})
	case "register":
		c.send(s.register(b, m))
	case "unregister":
		c.send(s.unregister(b, m))
	case "ack":
		for _, u := range m.Updates {
			s.acknowledged(b, u.Version, u.Code)
		}
	case "nack":
		s.acknowledged(b, m.Version, m.Code)
	}
}

// register makes a subscription, or gives the one again that the browser asked
// for before: it asks twice when an answer is late.
func (s *Service) register(b *browser, m fromBrowser) registerAnswer {
	answer := registerAnswer{Type: "register", ChannelID: m.ChannelID, Status: http.StatusOK}
	key, err := normalised(m.Key)
	if err != nil || m.ChannelID == "" {
		answer.Status = http.StatusBadRequest
		return answer
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.ledger.touch()
	sub := b.channels[m.ChannelID]
	if sub == nil || sub.key != key {
		if sub != nil {
			s.end(sub)
		}
		sub = &subscription{token: newToken(), key: key, browser: b, channel: m.ChannelID}
		b.channels[m.ChannelID] = sub
		s.add(sub)
		if s.save() != nil { // nothing that a restart would lose is promised
			s.end(sub)
			delete(b.channels, m.ChannelID)
			answer.Status = http.StatusInternalServerError
			return answer
		}
	}
	answer.Endpoint = s.endpoint(sub.token).Reveal()
	return answer
}

// unregister ends a subscription: later posts to it answer 410.
func (s *Service) unregister(b *browser, m fromBrowser) registerAnswer {
	answer := registerAnswer{Type: "unregister", ChannelID: m.ChannelID, Status: http.StatusOK}
	s.mu.Lock()
	sub := b.channels[m.ChannelID]
	if sub != nil {
		s.end(sub)
		delete(b.channels, m.ChannelID)
		if s.save() != nil {
			answer.Status = http.StatusInternalServerError
		}
	}
	s.mu.Unlock()
	if sub != nil {
		s.ledger.unregistered(m.Code)
	}
	return answer
}

// acknowledged forgets a message that the browser has, whatever came of it
// there, and notes its word in the ledger.
func (s *Service) acknowledged(b *browser, version string, code int) {
	s.mu.Lock()
	for _, sub := range b.channels {
		sub.forget(version)
	}
	s.mu.Unlock()
	s.ledger.ack(version, code)
}
