package web

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/belfry-push/belfry"
)

// chatting opens the chat in a house with the demo page.
func chatting(t *testing.T) *house {
	h := newHouse(t, func(c *Config) { c.Demo = true })
	h.web.Chat = h.events
	h.public = h.serve(h.web.Public())
	return h
}

// Browsers publish nothing unless an operator opens the chat. Where it is shut,
// there is nothing to write to, and nothing on the page that says so.
func TestChatIsShut(t *testing.T) {
	const at, line = "/demo/chat", `{"text":"Hello"}`
	without, demo, open := newHouse(t), newHouse(t, func(c *Config) { c.Demo = true }), chatting(t)
	for _, h := range []*house{without, demo} {
		if got := h.do(h.public, "POST", at, line, page...); got.status != http.StatusNotFound {
			t.Errorf("a line where there is no chat: %d %s", got.status, got.body)
		}
	}
	for h, want := range map[*house]bool{demo: false, open: true} {
		got := h.do(h.public, "GET", "/", "")
		if strings.Contains(got.body, `id="chat"`) != want || strings.Contains(got.body, "{{") || !strings.HasSuffix(got.body, "</html>\n") {
			t.Errorf("the page shows a chat: %v, want %v, in\n%s", !want, want, got.body)
		}
		if got := h.do(h.public, "GET", "/index.html", ""); got.status != http.StatusNotFound {
			t.Errorf("the page has a second address: %d", got.status)
		}
	}
}

// Whoever has the page open reads what a stranger wrote, so little gets through:
// one short line of text, from the site's own page.
func TestChat(t *testing.T) {
	h := chatting(t)
	h.web.chatter = newLimiter("lines", Limit{100, time.Hour}, 100)
	s := h.listen(h.public, "GET", "/v1/events?channel=demo-chat", "")
	s.until(`"conn":"`)
	for name, try := range map[string]struct {
		body    string
		headers []string
		status  int
		code    string
	}{
		"a foreign origin":         {`{"text":"x"}`, []string{"Origin: https://evil.example", "Content-Type: application/json"}, 403, "origin"},
		"no origin":                {`{"text":"x"}`, []string{"Content-Type: application/json"}, 403, "origin"},
		"a form":                   {`{"text":"x"}`, []string{"Origin: " + site, "Content-Type: text/plain"}, 415, "media-type"},
		"no text":                  {`{}`, page, 400, "text"},
		"blanks":                   {`{"text":"  "}`, page, 400, "text"},
		"a number":                 {`{"text":1}`, page, 400, "json"},
		"a title of its own":       {`{"text":"x","title":"y"}`, page, 400, "unknown-member"},
		"too long":                 {`{"text":"` + strings.Repeat("é", 201) + `"}`, page, 400, "text"},
		"an endless one":           {`{"text":"` + strings.Repeat("x", 9<<10) + `"}`, page, 413, "too-large"},
		"a second line":            {`{"text":"a\nb"}`, page, 400, "text"},
		"a bell":                   {`{"text":"a\u0007"}`, page, 400, "text"},
		"a C1 control":             {`{"text":"a\u009b"}`, page, 400, "text"},
		"text that turns around":   {`{"text":"a\u202eb"}`, page, 400, "text"},
		"octets that are no UTF-8": {"{\"text\":\"\xff\"}", page, 400, "json"},
	} {
		if got := h.do(h.public, "POST", "/demo/chat", try.body, try.headers...); got.status != try.status || got.code() != try.code {
			t.Errorf("%s: %d %s, want %d %s", name, got.status, got.body, try.status, try.code)
		}
	}
	for _, text := range []string{"<b>Hello</b> & سلام", strings.Repeat("é", 200), "👩\u200d🚀"} { // what was refused would come before
		body := string(must(json.Marshal(map[string]string{"text": text})))
		if got := h.do(h.public, "POST", "/demo/chat", body, page...); got.status != http.StatusNoContent {
			t.Errorf("%s: %d %s", text, got.status, got.body)
		}
		var e struct {
			Channels []string
			Message  belfry.Message
		}
		line := s.until(`"message":`)
		if err := json.Unmarshal([]byte(strings.TrimPrefix(line, "data: ")), &e); err != nil || e.Message.Body != text || len(e.Channels) != 1 {
			t.Errorf("the page hears %s, %v", line, err)
		}
	}
	if got := h.do(h.socket, "GET", "/api/v1/broadcasts", ""); !strings.Contains(got.body, `"items":[]`) {
		t.Errorf("the chat made a broadcast: %s", got.body)
	}
}

// Who writes without a pause is stopped, and can still register: the shares are
// apart (SEC-42).
func TestChatLimit(t *testing.T) {
	h := chatting(t)
	h.web.limiter = newLimiter("registrations", Limit{1, time.Hour}, perDay)
	h.web.chatter = newLimiter("lines", Limit{1, time.Hour}, chatPerDay)
	if got := h.do(h.public, "POST", "/demo/chat", `{"text":"Hello"}`, page...); got.status != http.StatusNoContent {
		t.Fatalf("the first line: %d %s", got.status, got.body)
	}
	got := h.do(h.public, "POST", "/demo/chat", `{"text":"Hello"}`, page...)
	if got.status != http.StatusTooManyRequests || got.code() != "too-many" || got.header.Get("Retry-After") == "" || !strings.Contains(got.body, "too many lines") {
		t.Errorf("the second line: %d %s", got.status, got.body)
	}
	h.register(`["news"]`)
	if l := newHouse(t).web.chatter; l.limit.N == 0 {
		t.Error("nobody is limited unless the operator says so")
	}
}
