package web

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/live"
)

// publish lets an operator tell pages only, and returns the message's id.
func (h *house) publish(audience string) string {
	h.t.Helper()
	got := h.do(h.socket, "POST", "/api/v1/broadcasts", `{"message":{"title":"Hello"},"audience":`+audience+`,"push":"never"}`)
	var b struct{ ID string }
	if err := json.Unmarshal([]byte(got.body), &b); err != nil || got.status != 202 {
		h.t.Fatal(got.status, got.body)
	}
	return b.ID
}

// A stream is an answer that goes on.
type stream struct {
	t testing.TB
	*http.Response
	lines *bufio.Scanner
}

// listen opens a stream that ends with the test.
func (h *house) listen(s *httptest.Server, method, path, body string, headers ...string) *stream {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	h.t.Cleanup(cancel)
	req := must(http.NewRequestWithContext(ctx, method, s.URL+path, strings.NewReader(body)))
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ": ")
		req.Header.Set(name, value)
	}
	resp, err := s.Client().Do(req)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { resp.Body.Close() })
	return &stream{h.t, resp, bufio.NewScanner(resp.Body)}
}

// until reads lines up to one that holds text, and returns it.
func (s *stream) until(text string) string {
	s.t.Helper()
	for s.lines.Scan() {
		if strings.Contains(s.lines.Text(), text) {
			return s.lines.Text()
		}
	}
	s.t.Fatalf("the stream ended before %q: %v", text, s.lines.Err())
	return ""
}

const newsAudience = `{"channels":["news"]}`

// What an operator says reaches an open page, by whatever way it listens, with
// the headers without which proxies would hold it back (BR-60).
func TestLiveTransports(t *testing.T) {
	h := newHouse(t)
	secure := httptest.NewUnstartedServer(nil)
	secure.Config = NewHTTPServer(h.web.Public(), slog.New(slog.DiscardHandler))
	secure.EnableHTTP2 = true
	secure.StartTLS()
	t.Cleanup(secure.Close)
	lines := append([]string{"Accept: application/x-ndjson"}, page...)
	for name, open := range map[string]func() *stream{
		"EventSource":              func() *stream { return h.listen(h.public, "GET", "/v1/events?channel=news&channel=sport", "") },
		"EventSource over HTTP/2":  func() *stream { return h.listen(secure, "GET", "/v1/events?channel=news", "") },
		"fetch":                    func() *stream { return h.listen(h.public, "POST", "/v1/events", newsAudience, page...) },
		"lines of JSON":            func() *stream { return h.listen(h.public, "POST", "/v1/events", newsAudience, lines...) },
		"lines of JSON over HTTP2": func() *stream { return h.listen(secure, "POST", "/v1/events", newsAudience, lines...) },
	} {
		s := open()
		s.until(`"conn":"`)
		id := h.publish(newsAudience)
		got := s.until(id)
		object := strings.TrimPrefix(got, "data: ")
		var e struct {
			ID, Cursor string
			Channels   []string
			Message    belfry.Message
		}
		if err := json.Unmarshal([]byte(object), &e); err != nil || e.ID != id || e.Message.Title != "Hello" || fmt.Sprint(e.Channels) != "[news]" {
			t.Errorf("%s: %s, %v", name, got, err)
		}
		kind, isSSE := s.Header.Get("Content-Type"), object != got
		if s.StatusCode != 200 || s.Header.Get("Cache-Control") != "no-store, no-transform" || s.Header.Get("X-Accel-Buffering") != "no" ||
			s.Header.Get("Vary") != "Origin" || strings.HasPrefix(kind, "text/event-stream; charset=utf-8") != isSSE || strings.Contains(name, "lines") == isSSE {
			t.Errorf("%s: %v", name, s.Header)
		}
		if strings.Contains(name, "2") != (s.ProtoMajor == 2) {
			t.Errorf("%s: HTTP/%d", name, s.ProtoMajor)
		}
	}
}

// A page that comes back gets what it missed, whichever way it names its place:
// a browser sends the header beside the URL that it first came by.
func TestLiveResume(t *testing.T) {
	h := newHouse(t)
	var cursors []string
	for i := range 4 {
		cursors = append(cursors, must(h.events.Append(t.Context(), belfry.Event{ID: fmt.Sprintf("%026d", i), Time: time.Now(), Audience: belfry.Audience{Channels: []string{"news"}}})))
	}
	for name, s := range map[string]*stream{
		"header": h.listen(h.public, "GET", "/v1/events?channel=news&last_event_id="+cursors[0], "", "Last-Event-ID: "+cursors[2]),
		"query":  h.listen(h.public, "GET", "/v1/events?channel=news&last_event_id="+cursors[2], ""),
		"body":   h.listen(h.public, "POST", "/v1/events", `{"channels":["news"],"cursor":"`+cursors[2]+`"}`, page...),
	} {
		if hello := s.until(`"conn":`); !strings.Contains(hello, `"recovered":true`) {
			t.Errorf("%s: %s", name, hello)
		}
		if first := s.until(`"message":`); !strings.Contains(first, fmt.Sprintf("%026d", 3)) {
			t.Errorf("%s: %s", name, first)
		}
	}
	got := h.do(h.public, "GET", "/v1/poll?channel=news&wait=0&cursor="+cursors[2], "")
	if got.status != 200 || got.header.Get("Belfry-Cursor") != cursors[3] || !strings.Contains(got.body, `"more":false`) || strings.Contains(got.body, "reset") {
		t.Errorf("%d %s", got.status, got.body)
	}
	got = h.do(h.public, "GET", "/v1/poll?channel=news&wait=0&cursor="+cursors[3], "", page...)
	if got.status != 204 || got.header.Get("Belfry-Cursor") != cursors[3] || got.header.Get("Access-Control-Allow-Origin") != site {
		t.Errorf("%d %s", got.status, got.body)
	}
	got = h.do(h.public, "GET", "/v1/poll?channel=news&wait=0&cursor=other.1", "")
	if got.status != 200 || !strings.Contains(got.body, `"messages":[],"reset":{"reason":"epoch","requested":"other.1"`) {
		t.Errorf("%d %s", got.status, got.body)
	}
	if got := h.do(h.public, "HEAD", "/v1/events?channel=news", ""); got.status != 200 || got.body != "" {
		t.Errorf("HEAD: %d %q", got.status, got.body)
	}
}

// A poll that waits is answered when something comes.
func TestLongPoll(t *testing.T) {
	h := newHouse(t)
	place := h.do(h.public, "GET", "/v1/poll?channel=news&wait=0", "").header.Get("Belfry-Cursor")
	answers := make(chan answer, 1)
	go func() { answers <- h.do(h.public, "GET", "/v1/poll?channel=news&wait=50&cursor="+place, "") }()
	id := h.publish(newsAudience)
	if got := <-answers; got.status != 200 || !strings.Contains(got.body, id) {
		t.Errorf("%d %s", got.status, got.body)
	}
}

// A page that has just been opened asks for what was said before, and is answered
// also where nothing was.
func TestPollLast(t *testing.T) {
	h := newHouse(t)
	got := h.do(h.public, "GET", "/v1/poll?channel=news&last=5", "")
	if got.status != 200 || !strings.Contains(got.body, `"messages":[]`) || got.header.Get("Cache-Control") != "no-store" {
		t.Errorf("%d %s", got.status, got.body)
	}
	first := h.publish(newsAudience)
	place := h.do(h.public, "GET", "/v1/poll?channel=news&wait=50&cursor="+got.header.Get("Belfry-Cursor"), "").header.Get("Belfry-Cursor")
	second := h.publish(newsAudience)
	h.do(h.public, "GET", "/v1/poll?channel=news&wait=50&cursor="+place, "") // it is in the log
	got = h.do(h.public, "GET", "/v1/poll?channel=news&last=1", "")
	if got.status != 200 || strings.Contains(got.body, first) || !strings.Contains(got.body, second) {
		t.Errorf("%d %s", got.status, got.body)
	}
	if got := h.do(h.public, "GET", "/v1/poll?channel=news&wait=0&cursor="+got.header.Get("Belfry-Cursor"), ""); got.status != 204 {
		t.Errorf("behind the last message: %d %s", got.status, got.body)
	}
}

// A page that may not listen, or asks for what is not there, is told so.
func TestLiveRefusals(t *testing.T) {
	h := newHouse(t)
	for _, tt := range []struct {
		method, path, body string
		headers            []string
		status             int
		code               string
	}{
		{"GET", "/v1/events?channel=private-ann", "", nil, 401, "unauthorised"},
		{"GET", "/v1/events?channel=News", "", nil, 400, "channel"},
		{"GET", "/v1/poll?channel=private-ann", "", nil, 401, "unauthorised"},
		{"GET", "/v1/poll?channel=news&wait=-1", "", nil, 400, "wait"},
		{"GET", "/v1/poll?channel=news&wait=51", "", nil, 400, "wait"},
		{"GET", "/v1/poll?channel=news&last=0", "", nil, 400, "last"},
		{"GET", "/v1/poll?channel=news&last=51", "", nil, 400, "last"},
		{"GET", "/v1/poll?channel=news&last=many", "", nil, 400, "last"},
		{"GET", "/v1/poll?channel=news&last=5&cursor=a.1", "", nil, 400, "last"},
		{"GET", "/v1/poll?channel=private-ann&last=5", "", nil, 401, "unauthorised"},
		{"GET", "/v1/poll?channel=news", "", []string{"Authorization: Bearer x"}, 401, "user-token"},
		{"GET", "/v1/poll?channel=news", "", []string{"Authorization: Basic x"}, 401, "unauthorised"},
		{"POST", "/v1/events", newsAudience, nil, 403, "origin"},
		{"POST", "/v1/events", `{"channels":["private-ann"]}`, page, 401, "unauthorised"},
		{"POST", "/v1/events", `{"user":"ann"}`, page, 400, "unknown-member"},
		{"POST", "/v1/connections/" + strings.Repeat("0", 32), `{"visible":true}`, page, 404, "not-found"},
		{"POST", "/v1/connections/x", `{"subscribe":["private-x"]}`, page, 401, "unauthorised"},
		{"POST", "/v1/connections/x", `{"ack":["short"]}`, page, 400, "ack"},
		{"POST", "/v1/connections/x", `{"device":{"id":"x","secret":"y"}}`, page, 401, "unauthorised"},
		{"GET", "/v1/ws", "", []string{"Origin: https://evil.example"}, 403, "origin"},
		{"GET", "/v1/ws", "", []string{"Authorization: Bearer x"}, 401, "user-token"},
	} {
		if got := h.do(h.public, tt.method, tt.path, tt.body, tt.headers...); got.status != tt.status || got.code() != tt.code {
			t.Errorf("%s %s %s: %d %s", tt.method, tt.path, tt.body, got.status, got.body)
		}
	}
}

// Whoever holds a stream changes what it hears, and says with its secret which
// registered browser it is.
func TestOrder(t *testing.T) {
	h := newHouse(t)
	id, secret := h.register(`["news"]`)
	s := h.listen(h.public, "GET", "/v1/events?channel=news", "")
	var hello struct{ Conn string }
	if err := json.Unmarshal([]byte(strings.TrimPrefix(s.until(`"conn":`), "data: ")), &hello); err != nil {
		t.Fatal(err)
	}
	order := func(body string) answer { return h.do(h.public, "POST", "/v1/connections/"+hello.Conn, body, page...) }
	if got := order(`{"subscribe":["sport"],"unsubscribe":["news"],"visible":true}`); got.status != 204 {
		t.Fatalf("%d %s", got.status, got.body)
	}
	if got := order(fmt.Sprintf(`{"device":{"id":%q,"secret":%q}}`, id, secret)); got.status != 204 {
		t.Errorf("%d %s", got.status, got.body)
	}
	if got := order(fmt.Sprintf(`{"device":{"id":%q,"secret":%q}}`, id, strings.Repeat("A", 43))); got.status != 401 {
		t.Errorf("%d %s", got.status, got.body)
	}
	h.publish(newsAudience)
	message := h.publish(`{"channels":["sport"]}`)
	if got := s.until(`"message":`); !strings.Contains(got, message) {
		t.Errorf("%s", got)
	}
	if got := order(fmt.Sprintf(`{"ack":[%q,"%026d"]}`, message, 1)); got.status != 204 {
		t.Errorf("%d %s", got.status, got.body)
	}
	if st := h.web.Live.Stats(); st.Visible != 1 || st.Acknowledged != 1 {
		t.Errorf("%+v", st)
	}
}

// EventSource is never told of overload or of the end by a status, which would
// stop it for good; all others are, and when to come back (BR-64, REL-11).
func TestLiveOverload(t *testing.T) {
	h := newHouse(t)
	for _, step := range []struct {
		limits     live.HubConfig
		drain      bool
		status     int
		code, said string
	}{
		{live.HubConfig{PerAddress: 1}, false, 429, "too-many", "quota"},
		{live.HubConfig{Total: 1}, false, 503, "crowded", "quota"},
		{live.HubConfig{}, true, 503, "stopping", "drain"},
	} {
		hub := must(live.NewHub(h.events, step.limits))
		h.web.Live = hub
		first := h.listen(h.public, "GET", "/v1/events?channel=news", "")
		first.until(`"conn":`)
		stop := func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			hub.Close(ctx)
		}
		if step.drain {
			stop()
			first.until(`{"reason":"drain","retry":`)
			if rest, err := io.ReadAll(first.Body); err != nil || len(rest) > 1 {
				t.Errorf("behind the goodbye: %q, %v", rest, err)
			}
		}
		if got := h.do(h.public, "GET", "/v1/events?channel=news", ""); got.status != 200 || !strings.HasPrefix(got.body, "event: bye\nretry: ") ||
			!strings.Contains(got.body, `{"reason":"`+step.said+`"`) || got.header.Get("Content-Type") != "text/event-stream; charset=utf-8" {
			t.Errorf("%d %s", got.status, got.body)
		}
		for _, call := range [][2]string{{"POST", "/v1/events"}, {"GET", "/v1/poll?channel=news"}, {"GET", "/v1/ws"}} {
			got := h.do(h.public, call[0], call[1], newsAudience, page...)
			if got.status != step.status || got.code() != step.code || got.header.Get("Retry-After") == "" {
				t.Errorf("%v: %d %s", call, got.status, got.body)
			}
		}
		if got := h.do(h.public, "GET", "/healthz", ""); got.status != 200 {
			t.Errorf("healthz: %d", got.status)
		}
		if !step.drain {
			stop()
		}
	}
}

// A socket is a client over WebSocket.
func (h *house) socketTo(t *testing.T, greeting string, protocols []string, origin string) (*websocket.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	options := &websocket.DialOptions{Subprotocols: protocols, HTTPHeader: http.Header{"Origin": {origin}}}
	ws, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(h.public.URL, "http")+"/v1/ws", options)
	if err == nil {
		t.Cleanup(func() { ws.CloseNow() })
		err = ws.Write(ctx, websocket.MessageText, []byte(greeting))
	}
	return ws, err
}

func read(t *testing.T, ws *websocket.Conn) (string, error) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, b, err := ws.Read(ctx)
	return string(b), err
}

// The same objects come over WebSocket, from a cursor on, and its end says why.
func TestWebSocket(t *testing.T) {
	h := newHouse(t)
	ours := []string{"belfry.v1"}
	place := h.do(h.public, "GET", "/v1/poll?channel=news&wait=0", "").header.Get("Belfry-Cursor")
	first := h.publish(newsAudience)
	eventually(t, func() bool {
		return h.do(h.public, "GET", "/v1/poll?channel=news&wait=0&cursor="+place, "").status == 200
	})
	ws := must(h.socketTo(t, `{"channels":["news"],"cursor":"`+place+`"}`, ours, site))
	if got, err := read(t, ws); err != nil || !strings.HasPrefix(got, `{"event":"hello","conn":"`) || !strings.Contains(got, `"recovered":true`) {
		t.Fatalf("%s, %v", got, err)
	}
	if got, err := read(t, ws); err != nil || !strings.HasPrefix(got, `{"id":"`+first+`"`) {
		t.Errorf("%s, %v", got, err)
	}
	second := h.publish(`{"all":true}`)
	if got, err := read(t, ws); err != nil || !strings.HasPrefix(got, `{"id":"`+second+`","channels":[],`) {
		t.Errorf("%s, %v", got, err)
	}
	go h.web.Live.Close(context.Background())
	if got, err := read(t, ws); err != nil || !strings.HasPrefix(got, `{"event":"bye","reason":"drain"`) {
		t.Errorf("%s, %v", got, err)
	}
	if _, err := read(t, ws); websocket.CloseStatus(err) != websocket.StatusGoingAway {
		t.Errorf("%v", err)
	}
}

// A WebSocket has its place before it says a word: else whoever says none could
// open as many as there are descriptors (SEC-46).
func TestWebSocketThatSaysNothing(t *testing.T) {
	h := newHouse(t)
	h.web.Live = must(live.NewHub(h.events, live.HubConfig{PerAddress: 1}))
	defer h.web.Live.Close(t.Context())
	options := &websocket.DialOptions{Subprotocols: []string{"belfry.v1"}}
	url := "ws" + strings.TrimPrefix(h.public.URL, "http") + "/v1/ws"
	silent, _, err := websocket.Dial(t.Context(), url, options)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.CloseNow()
	if _, resp, err := websocket.Dial(t.Context(), url, options); err == nil || resp == nil || resp.StatusCode != http.StatusTooManyRequests {
		t.Errorf("another beside it: %v, %v", resp, err)
	}
	if err := silent.Write(t.Context(), websocket.MessageText, []byte(`{"channels":["news"]}`)); err != nil {
		t.Fatal(err)
	}
	if got, err := read(t, silent); err != nil || !strings.HasPrefix(got, `{"event":"hello"`) {
		t.Errorf("it keeps its place with its first word: %s, %v", got, err)
	}
	silent.CloseNow()
	eventually(t, func() bool { return h.web.Live.Stats().Connections == 0 })
	rude := must(h.socketTo(t, `{"channels":"news"}`, options.Subprotocols, site))
	read(t, rude)
	eventually(t, func() bool { return h.web.Live.Stats().Connections == 0 })
}

// What a WebSocket is refused for is in its close.
func TestWebSocketRefused(t *testing.T) {
	h := newHouse(t)
	ours := []string{"belfry.v1"}
	for _, tt := range []struct {
		greeting  string
		protocols []string
		want      websocket.StatusCode
	}{
		{`{"channels":["news"]}`, nil, websocket.StatusProtocolError},
		{`{"channels":["private-ann"]}`, ours, websocket.StatusPolicyViolation},
		{`{"channels":["news"],"token":"x"}`, ours, websocket.StatusPolicyViolation},
		{`{"channels":"news"}`, ours, websocket.StatusPolicyViolation},
		{strings.Repeat("x", 9<<10), ours, websocket.StatusMessageTooBig},
	} {
		ws, err := h.socketTo(t, tt.greeting, tt.protocols, site)
		if err == nil {
			_, err = read(t, ws)
		}
		if got := websocket.CloseStatus(err); got != tt.want {
			t.Errorf("%.40s: %v, want %v", tt.greeting, err, tt.want)
		}
	}
	if _, err := h.socketTo(t, `{}`, ours, "https://evil.example"); err == nil {
		t.Error("a page of another site is let in")
	}
}

// eventually waits for what happens in other goroutines, by a wide limit.
func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not within a minute")
		}
	}
}
