package web

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/golang-jwt/jwt/v5"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/keys"
	"github.com/belfry-push/belfry/live"
	"github.com/belfry-push/belfry/sender/pushtest"
)

// as is a user token as the site's backend would sign it, for so long.
func (h *house) as(user string, left time.Duration, opens ...string) string {
	claims := jwt.MapClaims{"aud": ringURL, "sub": user, "exp": jwt.NewNumericDate(time.Now().Add(left)), "channels": opens}
	return must(jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(h.userKey.Reveal())))
}

const (
	privateAudience = `{"channels":["private-ann"]}`
	annsAudience    = `{"users":["ann"]}`
)

// Who proves that they are ann hears what is for her and what her site opens, by
// whatever way she listens; who does not hears neither.
func TestUserListens(t *testing.T) {
	h := newHouse(t)
	h.web.Live = must(live.NewHub(h.events, live.HubConfig{PerUser: 20}))
	defer h.web.Live.Close(t.Context())
	ann := bearer(h.as("ann", 5*time.Minute, "private-ann"))
	ticket := func() string {
		var got struct{ Ticket string }
		json.Unmarshal([]byte(h.do(h.public, "POST", "/v1/tickets", "", append(page, ann)...).body), &got)
		return got.Ticket
	}
	streams := map[string]*stream{
		"EventSource with a ticket": h.listen(h.public, "GET", "/v1/events?channel=private-ann&ticket="+ticket(), ""),
		"events with a header":      h.listen(h.public, "GET", "/v1/events?channel=private-ann", "", ann),
		"fetch":                     h.listen(h.public, "POST", "/v1/events", privateAudience, append(page, ann)...),
	}
	others := map[string]*stream{
		"a stranger": h.listen(h.public, "GET", "/v1/events?channel=news", ""),
		"bob":        h.listen(h.public, "GET", "/v1/events?channel=news", "", bearer(h.as("bob", 5*time.Minute))),
	}
	for _, s := range streams {
		s.until(`"conn":`)
	}
	for _, s := range others {
		s.until(`"conn":`)
	}
	ws := must(h.socketTo(t, `{"channels":["private-ann"],"token":"`+h.as("ann", 5*time.Minute, "private-ann")+`"}`, []string{"belfry.v1"}, site))
	read(t, ws)
	place := h.do(h.public, "GET", "/v1/poll?channel=private-ann&wait=0", "", ann).header.Get("Belfry-Cursor")
	first, second := h.publish(privateAudience), h.publish(annsAudience)
	last := h.publish(newsAudience)
	for name, s := range streams {
		if got := s.until(`"message":`); !strings.Contains(got, first) {
			t.Errorf("%s: %s", name, got)
		}
		if got := s.until(`"message":`); !strings.Contains(got, second) {
			t.Errorf("%s: %s", name, got)
		}
	}
	for _, id := range []string{first, second} {
		if got, err := read(t, ws); err != nil || !strings.Contains(got, id) {
			t.Errorf("WebSocket: %s, %v", got, err)
		}
	}
	for name, s := range others {
		if got := s.until(`"message":`); !strings.Contains(got, last) {
			t.Errorf("%s hears %s", name, got)
		}
	}
	if got := h.do(h.public, "GET", "/v1/poll?channel=private-ann&wait=0&cursor="+place, "", ann); !strings.Contains(got.body, first) || !strings.Contains(got.body, second) {
		t.Errorf("poll: %d %s", got.status, got.body)
	}
	if got := h.do(h.public, "GET", "/v1/poll?channel=news&wait=0&cursor="+place, ""); strings.Contains(got.body, first) || strings.Contains(got.body, second) {
		t.Errorf("a stranger polls %s", got.body)
	}
	if strings.Contains(h.log.String(), "eyJ") {
		t.Error("the log holds a token")
	}
}

// Every call that a user can make, by everybody who is not that user: a proof that
// is none is 401, one that does not open the channel 403, and nothing is believed
// because a body says so (SEC-10, SEC-11).
func TestUserRoutes(t *testing.T) {
	h := newHouse(t)
	id, secret := h.register(`["news"]`)
	_, subscription := h.browser()
	device := "Authorization: Device " + secret
	none := ""
	expired := h.as("ann", -time.Second, "private-ann")
	other := must(jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"aud": "https://other.example", "sub": "ann", "exp": time.Now().Unix() + 300, "channels": []string{"private-ann"}}).SignedString([]byte(h.userKey.Reveal())))
	unsigned := must(jwt.NewWithClaims(jwt.SigningMethodNone, jwt.MapClaims{"aud": ringURL, "sub": "ann", "exp": time.Now().Unix() + 300, "channels": []string{"private-ann"}}).SignedString(jwt.UnsafeAllowNoneSignatureType))
	callers := []struct {
		name, token string
		status      int
		code        string
	}{
		{"a stranger", none, 401, "unauthorised"},
		{"a word", "ann", 401, "user-token"},
		{"an expired token", expired, 401, "user-token"},
		{"another server's token", other, 401, "user-token"},
		{"an unsigned token", unsigned, 401, "user-token"},
		{"another key's token", must(jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"aud": ringURL, "sub": "ann", "exp": time.Now().Unix() + 300}).SignedString([]byte("key"))), 401, "user-token"},
		{"an operator's token", h.token("admin"), 401, "user-token"},
		{"a user without the channel", h.as("ann", 5*time.Minute, "private-annex"), 403, "private-channel"},
	}
	for _, r := range []struct{ method, path, body, header string }{
		{"GET", "/v1/events?channel=private-ann", "", "Authorization: Bearer "},
		{"HEAD", "/v1/events?channel=private-ann", "", "Authorization: Bearer "},
		{"POST", "/v1/events", privateAudience, "Authorization: Bearer "},
		{"GET", "/v1/poll?channel=private-ann&wait=0", "", "Authorization: Bearer "},
		{"POST", "/v1/connections/x", `{"subscribe":["private-ann"]}`, "Authorization: Bearer "},
		{"POST", "/v1/tickets", "", "Authorization: Bearer "},
		{"POST", "/v1/subscriptions", `{"subscription":` + subscription + `,"channels":["private-ann"]}`, userHeader + ": "},
		{"PUT", "/v1/subscriptions/" + id, `{"channels":["news","private-ann"]}`, userHeader + ": "},
	} {
		for _, c := range callers {
			headers := page
			if c.token != none {
				headers = append(headers[:len(headers):len(headers)], r.header+c.token)
			}
			if r.method == "PUT" {
				headers = append(headers[:len(headers):len(headers)], device)
			}
			got := h.do(h.public, r.method, r.path, r.body, headers...)
			if c.status == 403 && r.path == "/v1/tickets" { // it is for the stream to say
				continue
			}
			if got.status != c.status || r.method != "HEAD" && got.code() != c.code {
				t.Errorf("%s %s by %s: %d %s, want %d %s", r.method, r.path, c.name, got.status, got.body, c.status, c.code)
			}
		}
	}
	for _, c := range callers[1:] {
		ws, err := h.socketTo(t, `{"channels":["private-ann"],"token":"`+c.token+`"}`, []string{"belfry.v1"}, site)
		if err == nil {
			_, err = read(t, ws)
		}
		if got := websocket.CloseStatus(err); got != websocket.StatusPolicyViolation || !strings.Contains(err.Error(), c.code) {
			t.Errorf("WebSocket by %s: %v", c.name, err)
		}
		// A token that is no good is no stranger's either: a page must learn of it.
		if got := h.do(h.public, "GET", "/v1/poll?channel=news&wait=0", "", bearer(c.token)); c.status == 401 && got.status != 401 {
			t.Errorf("public channels by %s: %d", c.name, got.status)
		}
	}
	if row := must(h.store.Get(t.Context(), id)); row.User != "" || len(row.Channels) != 1 {
		t.Errorf("%q has %q", row.User, row.Channels)
	}
	if h.count() != 1 {
		t.Error("a registration that was refused is kept")
	}
}

// A browser that registers with a token is the user's, and is rung as such; who
// comes after has nothing of it.
func TestUserRegisters(t *testing.T) {
	h := newHouse(t)
	_, subscription := h.browser()
	ann, bob := userHeader+": "+h.as("ann", 5*time.Minute, "private-ann"), userHeader+": "+h.as("bob", 5*time.Minute, "private-bob")
	got := h.do(h.public, "POST", "/v1/subscriptions", `{"subscription":`+subscription+`,"channels":["news","private-ann"]}`, append(page, ann)...)
	var r registered
	if json.Unmarshal([]byte(got.body), &r); got.status != 201 || fmt.Sprint(r.Channels) != "[news private-ann]" {
		t.Fatal(got.status, got.body)
	}
	put := func(body string, headers ...string) answer {
		return h.do(h.public, "PUT", "/v1/subscriptions/"+r.ID, body, append(device(r.Secret), headers...)...)
	}
	for _, step := range []struct {
		name, body, header string
		status             int
		user, channels     string
	}{
		{"nothing new", `{"locale":"de"}`, "", 200, "ann", "[news private-ann]"},
		{"her channel without her", `{"channels":["private-ann"]}`, "", 401, "ann", "[news private-ann]"},
		{"somebody by name", `{"user":"bob"}`, "", 400, "ann", "[news private-ann]"},
		{"bob with her channel", `{"channels":["private-ann"]}`, bob, 403, "ann", "[news private-ann]"},
		{"bob", `{}`, bob, 200, "bob", "[news]"},
		{"bob's channel", `{"channels":["private-bob"]}`, bob, 200, "bob", "[private-bob]"},
		{"nobody any more", `{"user":null}`, "", 200, "", "[]"},
		{"ann again", `{"channels":["private-ann"]}`, ann, 200, "ann", "[private-ann]"},
	} {
		got := put(step.body, step.header)
		if got.status != step.status {
			t.Errorf("%s: %d %s", step.name, got.status, got.body)
		}
		row := must(h.store.Get(t.Context(), r.ID))
		if row.User != step.user || fmt.Sprint(row.Channels) != step.channels {
			t.Errorf("%s: %q has %v", step.name, row.User, row.Channels)
		}
	}
	if got := h.do(h.public, "POST", "/v1/subscriptions", `{"subscription":`+subscription+`,"user":null}`, append(device(r.Secret), bob)...); got.status != 400 {
		t.Errorf("%d %s", got.status, got.body)
	}
	if got := h.do(h.public, "POST", "/v1/subscriptions", `{"subscription":`+subscription+`}`, append(device(r.Secret), bob)...); got.status != 200 || strings.Contains(got.body, "private") {
		t.Errorf("%d %s", got.status, got.body)
	}
	if n := must(h.store.Count(t.Context(), belfry.Audience{Users: []string{"bob"}})); n != 1 {
		t.Errorf("%d devices are bob's", n)
	}
}

// A page that brings a fresh token keeps its stream; other channels come with the
// token that opens them.
func TestUserOrders(t *testing.T) {
	h := newHouse(t)
	s := h.listen(h.public, "GET", "/v1/events?channel=private-ann", "", bearer(h.as("ann", 5*time.Minute, "private-ann")))
	var hello struct{ Conn string }
	if err := json.Unmarshal([]byte(strings.TrimPrefix(s.until(`"conn":`), "data: ")), &hello); err != nil {
		t.Fatal(err)
	}
	order := func(body, token string) answer {
		return h.do(h.public, "POST", "/v1/connections/"+hello.Conn, body, append(page, bearer(token))...)
	}
	for _, step := range []struct {
		name, body, token string
		status            int
		code              string
	}{
		{"a fresh one", `{}`, h.as("ann", 5*time.Minute, "private-ann"), 204, ""},
		{"somebody else's", `{}`, h.as("bob", 5*time.Minute, "private-ann"), 409, "other-user"},
		{"one that opens less", `{}`, h.as("ann", 5*time.Minute), 409, "private-channel"},
		{"one that opens more", `{"subscribe":["private-more"]}`, h.as("ann", 5*time.Minute, "private-ann", "private-more"), 204, ""},
		{"one that does not open it", `{"subscribe":["private-most"]}`, h.as("ann", 5*time.Minute, "private-ann", "private-more"), 403, "private-channel"},
		{"an expired one", `{}`, h.as("ann", -time.Minute, "private-ann"), 401, "user-token"},
	} {
		if got := order(step.body, step.token); got.status != step.status || got.code() != step.code {
			t.Errorf("%s: %d %s", step.name, got.status, got.body)
		}
	}
	if id, got := h.publish(`{"channels":["private-more"]}`), s.until(`"message":`); !strings.Contains(got, id) {
		t.Error(got)
	}
}

// A ticket lets one page in, once. An EventSource that comes back by itself with
// the one that it has used is told by an event, since a status would stop it for
// good and its page would never learn why (BR-64).
func TestTicket(t *testing.T) {
	h := newHouse(t)
	got := h.do(h.public, "POST", "/v1/tickets", "{}", append(page, bearer(h.as("ann", 5*time.Minute, "private-ann")))...)
	var given struct {
		Ticket  string
		Expires time.Time
	}
	if err := json.Unmarshal([]byte(got.body), &given); err != nil || got.status != 200 || len(given.Ticket) != 43 || got.header.Get("Cache-Control") != "no-store" {
		t.Fatal(got.status, got.body, err)
	}
	if left := time.Until(given.Expires); left > 30*time.Second || left < 0 {
		t.Errorf("expires in %v", left)
	}
	h.listen(h.public, "GET", "/v1/events?channel=private-ann&ticket="+given.Ticket, "").until(`"conn":`)
	for name, ticket := range map[string]string{"used": given.Ticket, "unknown": strings.Repeat("A", 43), "empty": "", "a user token": h.as("ann", 5*time.Minute)} {
		got := h.do(h.public, "GET", "/v1/events?channel=private-ann&ticket="+ticket, "")
		if got.status != 200 || got.header.Get("Content-Type") != "text/event-stream; charset=utf-8" || !strings.HasPrefix(got.body, "event: bye\nretry: ") || !strings.Contains(got.body, `{"reason":"auth"`) {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
	}
	// What is not opened at all is a fault of the page, which may stop for good.
	got = h.do(h.public, "POST", "/v1/tickets", "{}", append(page, bearer(h.as("ann", 5*time.Minute)))...)
	json.Unmarshal([]byte(got.body), &given)
	if got := h.do(h.public, "GET", "/v1/events?channel=private-ann&ticket="+given.Ticket, ""); got.status != http.StatusForbidden {
		t.Errorf("%d %s", got.status, got.body)
	}
	if got := h.do(h.public, "GET", "/v1/poll?channel=private-ann&wait=0&ticket="+given.Ticket, ""); got.status != http.StatusUnauthorized {
		t.Errorf("a poll by ticket: %d %s", got.status, got.body)
	}
}

// However many come with one ticket at one moment, one gets in.
func TestTicketIsUsedOnce(t *testing.T) {
	store := newTickets()
	for range 50 {
		text, _, err := store.issue(keys.User{ID: "ann", Expires: time.Now().Add(time.Minute)})
		if err != nil {
			t.Fatal(err)
		}
		var in atomic.Int32
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				if u := store.use(text); u != nil && u.ID == "ann" {
					in.Add(1)
				}
			})
		}
		all.Wait()
		if in.Load() != 1 {
			t.Fatalf("%d got in", in.Load())
		}
	}
	if len(store.known)+len(store.users)+store.queue.Len() != 0 {
		t.Errorf("%d tickets, %d users, a queue of %d are left", len(store.known), len(store.users), store.queue.Len())
	}
}

// A ticket is good for 30 s and no longer than the token that it was given for,
// and nobody can fill the memory with those that they do not use.
func TestTicketExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newTickets()
		ann := keys.User{ID: "ann", Channels: []string{"private-ann"}, Expires: time.Now().Add(10 * time.Minute)}
		give := func(u keys.User) string {
			text, _, err := store.issue(u)
			if err != nil {
				t.Fatal(err)
			}
			return text
		}
		early, late, brief := give(ann), give(ann), give(keys.User{ID: "bob", Expires: time.Now().Add(10 * time.Second)})
		time.Sleep(30*time.Second - time.Millisecond)
		if u := store.use(early); u == nil || !u.Opens("private-ann") || !u.Expires.Equal(ann.Expires) {
			t.Errorf("%+v", u)
		}
		if u := store.use(brief); u != nil {
			t.Errorf("%+v outlives the token", u)
		}
		time.Sleep(time.Millisecond)
		if u := store.use(late); u != nil {
			t.Errorf("%+v after 30 s", u)
		}

		for range maxOfUser {
			give(ann)
		}
		if _, _, err := store.issue(ann); err != live.ErrTooMany {
			t.Errorf("one too many: %v", err)
		}
		for i := range maxTickets - maxOfUser {
			give(keys.User{ID: fmt.Sprint(i / maxOfUser), Expires: ann.Expires})
		}
		if _, _, err := store.issue(keys.User{ID: "zoe", Expires: ann.Expires}); err != live.ErrCrowded {
			t.Errorf("when all are given out: %v", err)
		}
		time.Sleep(30 * time.Second)
		give(ann)
		if len(store.known) != 1 || len(store.users) != 1 || store.queue.Len() != 1 {
			t.Errorf("%d tickets, %d users, a queue of %d are left", len(store.known), len(store.users), store.queue.Len())
		}
	})
}

// A user who has more tickets than pages is told to wait, as one who has more pages.
func TestTicketsOfOneUser(t *testing.T) {
	h := newHouse(t)
	ann := bearer(h.as("ann", 5*time.Minute))
	for range maxOfUser {
		if got := h.do(h.public, "POST", "/v1/tickets", "", append(page, ann)...); got.status != 200 {
			t.Fatal(got.status, got.body)
		}
	}
	if got := h.do(h.public, "POST", "/v1/tickets", "", append(page, ann)...); got.status != 429 || got.header.Get("Retry-After") == "" {
		t.Errorf("%d %s", got.status, got.body)
	}
	h.web.Live = must(live.NewHub(h.events, live.HubConfig{PerUser: 1}))
	defer h.web.Live.Close(t.Context())
	h.listen(h.public, "GET", "/v1/events", "", ann).until(`"conn":`)
	if got := h.do(h.public, "POST", "/v1/events", `{}`, append(page, ann)...); got.status != 429 || got.code() != "too-many" {
		t.Errorf("a second page: %d %s", got.status, got.body)
	}
	if got := h.do(h.public, "GET", "/v1/events", "", ann); got.status != 200 || !strings.Contains(got.body, `"quota"`) {
		t.Errorf("a second EventSource: %d %s", got.status, got.body)
	}
}

// A local connection comes from this machine, which pipes do not say.
type local struct{ net.Conn }

func (local) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 2} }

// A poll that waits is answered when the token ends that it came with.
func TestPollEndsWithItsToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newRooms(t, pushtest.NewMemoryService(t))
		server, listener := NewHTTPServer(h.web.Public(), slog.New(slog.DiscardHandler)), make(pipes)
		go server.Serve(listener)
		defer func() { close(listener); server.Close() }()
		transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
			ours, theirs := net.Pipe()
			listener <- local{theirs}
			return ours, nil
		}}
		defer transport.CloseIdleConnections()
		req := must(http.NewRequestWithContext(t.Context(), "GET", "http://belfry/v1/poll?channel=private-ann&wait=50", nil))
		req.Header.Set("Authorization", "Bearer "+h.as("ann", 20*time.Second, "private-ann"))
		began := time.Now()
		resp := must(transport.RoundTrip(req))
		defer resp.Body.Close()
		if took := time.Since(began); resp.StatusCode != http.StatusNoContent || took != 20*time.Second {
			t.Errorf("%d after %v", resp.StatusCode, took)
		}
	})
}
