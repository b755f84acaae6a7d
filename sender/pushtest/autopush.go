package pushtest

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/coder/websocket"
)

// A socket is one connection of a Firefox, over which it speaks autopush's
// WebSocket protocol.
type socket struct {
	ws  *websocket.Conn
	out *outbox
}

// fromFirefox is every message of a Firefox, in one shape.
type fromFirefox struct {
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

// The service's messages to a Firefox.
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
		Data      string            `json:"data,omitempty"`
		Headers   map[string]string `json:"headers,omitempty"`
	}
)

const (
	subprotocol = "push-notification"
	maxFrame    = 64 << 10 // a hello of a browser with many broadcasts is a few KB
)

// serveAutopush speaks autopush's WebSocket protocol with one Firefox.
func (s *Service) serveAutopush(w http.ResponseWriter, r *http.Request) {
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
	c := &socket{ws: ws, out: newOutbox()}
	go c.write(ctx)
	b := s.hello(ctx, c)
	if b == nil {
		return
	}
	defer s.goodbye(b, c)
	for {
		var m fromFirefox
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
	if s.secure != nil {
		fmt.Fprintf(w, "\nChromium uses it with these flags, and %s in Default/Preferences of its profile:\n\n%s\n",
			ChromiumPreferences, strings.Join(s.ChromiumFlags(), "\n"))
	}
}

// read takes one message. A frame that is no JSON ends the connection, as a
// stranger's would.
func (c *socket) read(ctx context.Context, m *fromFirefox) bool {
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

// write sends what is in the outbox until the connection ends.
func (c *socket) write(ctx context.Context) {
	err := c.out.drain(ctx, func(frame []byte) error { return c.ws.Write(ctx, websocket.MessageText, frame) })
	if err != nil {
		c.ws.CloseNow()
	}
}

func (c *socket) send(m any) {
	frame, err := json.Marshal(m)
	if err != nil {
		panic("pushtest: " + err.Error()) // they are ours, and have a form
	}
	c.out.put(frame)
}

// cut ends the connection without a word.
func (c *socket) cut() { go c.ws.CloseNow() }

// notify sends a message to the browser.
func (c *socket) notify(m *message) {
	n := notification{Type: "notification", ChannelID: m.sub.channel.name, Version: m.id}
	if len(m.body) > 0 { // to Firefox even empty data is something to decrypt
		n.Data, n.Headers = base64.RawURLEncoding.EncodeToString(m.body), map[string]string{"encoding": "aes128gcm"}
	}
	c.send(n)
}

// hello begins every conversation. A browser that we know keeps its uaid and
// gets what waited for it; another gets a new uaid, which makes it forget its
// subscriptions and fire pushsubscriptionchange.
func (s *Service) hello(ctx context.Context, c *socket) *browser {
	var m fromFirefox
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
		b = s.meet(newUAID())
		b.fleeting = true
	}
	c.send(helloAnswer{Type: "hello", UAID: b.name, Status: http.StatusOK, WebPush: true, Broadcasts: map[string]string{}})
	s.arrive(b, c)
	s.mu.Unlock()
	s.ledger.touch()
	return b
}

func newUAID() string {
	b := make([]byte, 16)
	rand.Read(b)
	return hex.EncodeToString(b)
}

// hear acts on one message of a browser that said hello. Kinds that we do not
// know (broadcast_subscribe among them) want no answer.
func (s *Service) hear(b *browser, c *socket, m fromFirefox) {
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

// register answers a Firefox that subscribes.
func (s *Service) register(b *browser, m fromFirefox) registerAnswer {
	answer := registerAnswer{Type: "register", ChannelID: m.ChannelID, Status: http.StatusOK}
	key, err := normalised(m.Key)
	if err != nil || m.ChannelID == "" {
		answer.Status = http.StatusBadRequest
		return answer
	}
	sub, err := s.subscribe(b, channel{name: m.ChannelID}, key)
	if err != nil {
		answer.Status = http.StatusInternalServerError
		return answer
	}
	answer.Endpoint = s.endpoint(sub).Reveal()
	return answer
}

// unregister answers a Firefox that gives a subscription up.
func (s *Service) unregister(b *browser, m fromFirefox) registerAnswer {
	answer := registerAnswer{Type: "unregister", ChannelID: m.ChannelID, Status: http.StatusOK}
	if s.unsubscribe(b, m.ChannelID, m.Code) != nil {
		answer.Status = http.StatusInternalServerError
	}
	return answer
}
