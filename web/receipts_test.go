package web

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/belfry-push/belfry/internal/boltfile"
	"github.com/belfry-push/belfry/receipts"
	"github.com/belfry-push/belfry/tokens"
)

const noon = "2026-03-04T12:00:00.000Z"

// rung launches a message and returns its id once it has been sent.
func (h *house) rung(audience string) string {
	h.t.Helper()
	launched := h.do(h.socket, "POST", "/api/v1/broadcasts", `{"message":{"title":"Hello"},"audience":`+audience+`}`)
	var b Broadcast
	if err := json.Unmarshal([]byte(launched.body), &b); err != nil || launched.status != http.StatusAccepted {
		h.t.Fatalf("launch: %d %s", launched.status, launched.body)
	}
	if b.Receipts == nil || b.Receipts.Actions == nil {
		h.t.Errorf("a launch has no receipts: %s", launched.body)
	}
	h.do(h.socket, "GET", "/api/v1/broadcasts/"+b.ID+"/events", "")
	return b.ID
}

// receipt is one as a worker writes it; action may be empty.
func said(message, kind, action string) string {
	return fmt.Sprintf(`{"message":%q,"kind":%q,"action":%q,"at":%q}`, message, kind, action, noon)
}

func (h *house) tell(id, secret string, list ...string) answer {
	h.t.Helper()
	return h.do(h.public, "POST", "/v1/receipts", fmt.Sprintf(`{"device":%q,"secret":%q,"receipts":[%s]}`, id, secret, strings.Join(list, ",")), page...)
}

func (h *house) link(link string, more ...string) answer {
	h.t.Helper()
	return h.do(h.public, "POST", "/v1/receipts", fmt.Sprintf(`{"link":%q%s}`, link, strings.Join(more, "")), page...)
}

// What browsers say stands beside the broadcast, each once, whichever way it came
// and however often: an operator who reads it decides what to send next.
func TestReceipts(t *testing.T) {
	h := newHouse(t)
	ann, annsSecret := h.register(`["news"]`)
	bob, bobsSecret := h.register(`["news","offers"]`)
	news, all := h.rung(`{"channels":["news","offers"]}`), h.rung(`{"all":true}`)
	for range 3 { // a worker that never hears the answer
		got := h.tell(ann, annsSecret, said(news, "shown", ""), said(news, "clicked", "open"), said(news, "closed", ""), said(all, "shown", ""), said("01unknown", "shown", ""))
		if got.status != http.StatusNoContent || got.body != "" {
			t.Errorf("%d %s", got.status, got.body)
		}
	}
	h.tell(bob, bobsSecret, said(news, "clicked", ""))
	link := h.userKey.ClickLink(news)
	for what, got := range map[string]answer{
		"bob's page, whose worker said so":  h.link(link, fmt.Sprintf(`,"device":%q,"secret":%q`, bob, bobsSecret)),
		"a page that is registered nowhere": h.link(link),
		"a message that is not here":        h.link(h.userKey.ClickLink("01unknown")),
	} {
		if got.status != http.StatusNoContent {
			t.Errorf("%s: %d %s", what, got.status, got.body)
		}
	}
	h.settle()
	want := map[string]string{news: `"receipts":{"shown":1,"clicked":3,"closed":0,"actions":{"open":1}}`, all: `"receipts":{"shown":1,"clicked":0,"closed":0,"actions":{}}`}
	list := h.do(h.socket, "GET", "/api/v1/broadcasts", "")
	publisher := bearer(h.token(tokens.Publisher, "news", "offers"))
	for id, counts := range want {
		if got := h.do(h.socket, "GET", "/api/v1/broadcasts/"+id, ""); !strings.Contains(got.body, counts) {
			t.Errorf("%s, want %s", got.body, counts)
		}
		if got := h.do(h.socket, "GET", "/api/v1/broadcasts/"+id+"/events", ""); !strings.Contains(got.body, counts) {
			t.Errorf("events: %s, want %s", got.body, counts)
		}
		if !strings.Contains(list.body, counts) {
			t.Errorf("list: %s, want %s", list.body, counts)
		}
	}
	if got := h.do(h.ops, "GET", "/api/v1/broadcasts/"+news, "", publisher); !strings.Contains(got.body, want[news]) {
		t.Errorf("a publisher reads %s", got.body)
	}
	total, channels, err := h.told.Totals(t.Context(), 10)
	if err != nil || total.Shown != 2 || total.Clicked != 3 || channels["news"].Clicked != 3 || channels["offers"].Shown != 1 || len(channels) != 2 {
		t.Errorf("%+v, %+v, %v", total, channels, err)
	}
}

// A call that is wrong is refused whole, in one sentence, and counts nothing; and
// an answer does not tell which devices there are (SEC-14).
func TestReceiptsRefused(t *testing.T) {
	h := newHouse(t)
	ann, secret := h.register(`["news"]`)
	_, bobsSecret := h.register(`["news"]`)
	news := h.rung(`{"channels":["news"]}`)
	good := said(news, "shown", "")
	link := h.userKey.ClickLink(news)
	many := strings.Repeat(good+",", 50) + good
	body := func(list string) string {
		return fmt.Sprintf(`{"device":%q,"secret":%q,"receipts":%s}`, ann, secret, list)
	}
	for _, try := range []struct {
		why, body  string
		status     int
		code, says string
	}{
		{"none", body(`[]`), 400, "receipts", "1 to 50, not 0"},
		{"none at all", fmt.Sprintf(`{"device":%q,"secret":%q}`, ann, secret), 400, "receipts", "1 to 50"},
		{"too many", body(`[` + many + `]`), 400, "receipts", "not 51"},
		{"too large", body(`[` + good + `]` + strings.Repeat(" ", 16<<10)), 413, "too-large", "16384"},
		{"a kind that there is not", body(`[` + said(news, "opened", "") + `]`), 400, "receipts", "receipts[0].kind"},
		{"no message", body(`[` + good + `,` + said("", "shown", "") + `]`), 400, "receipts", "receipts[1].message"},
		{"no time", body(`[{"message":"` + news + `","kind":"shown"}]`), 400, "receipts", "receipts[0].at"},
		{"no time of ours", body(`[` + strings.Replace(good, noon, "noon", 1) + `]`), 400, "json", "is not a time"},
		{"a button that was shown", body(`[` + said(news, "shown", "open") + `]`), 400, "receipts", "receipts[0].action"},
		{"no button's name", body(`[` + said(news, "clicked", "<b>") + `]`), 400, "actions", "receipts[0].action"},
		{"a member too many", body(`[` + strings.Replace(good, `{`, `{"url":"/x",`, 1) + `]`), 400, "unknown-member", "url"},
		{"nobody", `{"receipts":[` + good + `]}`, 401, "unauthorised", ""},
		{"another one's secret", strings.Replace(body(`[`+good+`]`), secret, bobsSecret, 1), 401, "unauthorised", ""},
		{"a link that we did not sign", `{"link":"` + news + `.AAAAAAAAAAAAAAAAAAAAAA"}`, 400, "link", "was not signed by this server"},
		{"a link of another message", `{"link":"` + strings.Replace(link, news, "01aaaaaaaaaaaaaaaaaaaaaaaa", 1) + `"}`, 400, "link", "signed"},
		{"both", `{"link":"` + link + `","receipts":[` + good + `]}`, 400, "link", "together"},
		{"a link with a wrong secret", fmt.Sprintf(`{"link":%q,"device":%q,"secret":%q}`, link, ann, bobsSecret), 401, "unauthorised", ""},
		{"a link with half a device", fmt.Sprintf(`{"link":%q,"device":%q}`, link, ann), 401, "unauthorised", ""},
	} {
		got := h.do(h.public, "POST", "/v1/receipts", try.body, page...)
		if got.status != try.status || got.code() != try.code || !strings.Contains(got.body, try.says) {
			t.Errorf("%s: %d %s, want %d %s %q", try.why, got.status, got.body, try.status, try.code, try.says)
		}
	}
	wrong, unknown := h.tell(ann, bobsSecret, good), h.tell("01aaaaaaaaaaaaaaaaaaaaaaaa", bobsSecret, good)
	if wrong.status != 401 || wrong.body != unknown.body {
		t.Errorf("it tells: %d %s and %d %s", wrong.status, wrong.body, unknown.status, unknown.body)
	}
	for status, headers := range map[int][]string{403: {"Origin: https://evil.example", "Content-Type: application/json"}, 415: {"Origin: " + site, "Content-Type: text/plain"}} {
		if got := h.do(h.public, "POST", "/v1/receipts", body(`[`+good+`]`), headers...); got.status != status {
			t.Errorf("%q: %d, want %d", headers, got.status, status)
		}
	}
	h.settle()
	if got := h.do(h.socket, "GET", "/api/v1/broadcasts/"+news, ""); !strings.Contains(got.body, `"receipts":{"shown":0,"clicked":0,"closed":0,"actions":{}}`) {
		t.Errorf("something was counted: %s", got.body)
	}
	// The largest call that is allowed fits.
	long := said(news, "clicked", strings.Repeat("a", 64))
	if got := h.tell(ann, secret, strings.Split(strings.Repeat(long+"\n", 50), "\n")[:50]...); got.status != 204 {
		t.Errorf("50 receipts: %d %s", got.status, got.body)
	}
}

// An operator who wants no receipts gets none, whatever an old page sends, and
// pages are told.
func TestReceiptsOff(t *testing.T) {
	h := newHouse(t, func(c *Config) { c.ReceiptKinds = nil })
	if got := h.do(h.public, "GET", "/v1/config", ""); !strings.Contains(got.body, `"receipts":[]`) {
		t.Errorf("pages are told %s", got.body)
	}
	ann, secret := h.register(`[]`)
	id := h.rung(`{"all":true}`)
	for _, got := range []answer{h.tell(ann, secret, said(id, "shown", ""), said(id, "clicked", "open")), h.link(h.userKey.ClickLink(id))} {
		if got.status != http.StatusNoContent {
			t.Errorf("%d %s", got.status, got.body)
		}
	}
	h.settle()
	if got := must(h.told.Of(t.Context(), id))[0]; got.Shown+got.Clicked > 0 {
		t.Errorf("%+v", got)
	}
}

// Where receipts can be neither written nor read, browsers keep theirs for later
// and an operator sees the broadcast all the same.
func TestReceiptsBroken(t *testing.T) {
	broken := must(boltfile.Open(filepath.Join(t.TempDir(), "belfry.db")))
	store := must(receipts.New(broken, receipts.Config{}))
	t.Cleanup(store.Close)
	broken.Close()
	h := newHouse(t, func(c *Config) { c.Receipts = store })
	ann, secret := h.register(`[]`)
	launched := h.do(h.socket, "POST", "/api/v1/broadcasts", `{"message":{"title":"Hello"},"audience":{"all":true}}`)
	if launched.status != http.StatusAccepted || !strings.Contains(launched.body, `"receipts":null`) {
		t.Errorf("launch: %d %s", launched.status, launched.body)
	}
	if !strings.Contains(h.log.String(), "receipts cannot be read") {
		t.Error("the log does not say so")
	}
	var b Broadcast
	must(b, json.Unmarshal([]byte(launched.body), &b))
	got := answer{status: http.StatusNoContent}
	for i := 0; got.status == http.StatusNoContent && i < 1000; i++ { // what is not written yet is taken at first
		got = h.tell(ann, secret, strings.Split(strings.Repeat(said(b.ID, "shown", "")+"\n", 50), "\n")[:50]...)
	}
	if got.status < 500 {
		t.Errorf("what cannot be written: %d %s", got.status, got.body)
	}
}

// All browsers behind the address of an office tell at once after a broadcast, and
// one that tells without end is stopped.
func TestReceiptLimit(t *testing.T) {
	h := newHouse(t)
	if got := h.web.tellers.limit; got.N < 5000 {
		t.Errorf("%d a %s are too few", got.N, got.Per)
	}
	h.web.tellers = newLimiter("receipts", Limit{3, time.Minute}, 100)
	for i := range 5 {
		got := h.tell("01aaaaaaaaaaaaaaaaaaaaaaaa", "x", said("01m", "shown", ""))
		if want := map[bool]int{true: 401, false: 429}[i < 3]; got.status != want || want == 429 && got.header.Get("Retry-After") == "" {
			t.Errorf("call %d: %d, want %d", i, got.status, want)
		}
	}
}
