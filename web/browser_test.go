package web

import (
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belfry-push/belfry/internal/vectors"
)

// Only the sites that the operator named may read an answer (SEC-33). A pattern
// that is a little too wide hands every visitor to a stranger.
func TestCORS(t *testing.T) {
	h := newHouse(t, func(c *Config) { c.Origins = []string{site, "http://localhost:8080"} })
	for _, origin := range []string{site, "http://localhost:8080"} {
		got := h.do(h.public, "OPTIONS", "/v1/subscriptions", "", "Origin: "+origin, "Access-Control-Request-Method: POST")
		if got.status != http.StatusNoContent || got.header.Get("Access-Control-Allow-Origin") != origin {
			t.Errorf("preflight from %s: %d, allows %q", origin, got.status, got.header.Get("Access-Control-Allow-Origin"))
		}
		if want := "authorization, content-type, last-event-id, belfry-user"; got.header.Get("Access-Control-Allow-Headers") != want {
			t.Errorf("allowed headers %q, want %q", got.header.Get("Access-Control-Allow-Headers"), want)
		}
		for _, path := range []string{"/v1/config", "/belfry.js", "/live.js", "/sw.js"} {
			if got := h.do(h.public, "GET", path, "", "Origin: "+origin); got.header.Get("Access-Control-Allow-Origin") != origin {
				t.Errorf("%s from %s allows %q", path, origin, got.header.Get("Access-Control-Allow-Origin"))
			}
		}
	}
	for _, origin := range []string{
		"", "null", "*", "https://shop.example.evil", "https://evilshop.example", "https://shop.example:443", "https://shop.example:8443",
		"http://shop.example", "https://shop.example/", "https://shop.example.", "HTTPS://SHOP.EXAMPLE", "https://sub.shop.example",
		"https://shop.example@evil.example", "https://evil.example#https://shop.example", "https://shop.example evil", "file://",
		"http://localhost", "http://localhost:8081", "https://localhost:8080", "http://127.0.0.1:8080", "http://[::1]:8080",
		"chrome-extension://shop.example", "https://shop\u200b.example", "https://shop.example,https://evil.example", "shop.example",
		"//shop.example", "https:shop.example", "https://", "https://shop.example%00", "https://xn--shop-example",
	} {
		got := h.do(h.public, "OPTIONS", "/v1/subscriptions", "", "Origin: "+origin, "Access-Control-Request-Method: POST")
		if got.status != http.StatusForbidden || got.header.Get("Access-Control-Allow-Origin") != "" || got.header.Get("Vary") != "Origin" {
			t.Errorf("preflight from %q: %d, allows %q, varies by %q", origin, got.status, got.header.Get("Access-Control-Allow-Origin"), got.header.Get("Vary"))
		}
	}
}

// A foreign page, or a form without any script, must not write (SEC-34).
func TestForeignWrites(t *testing.T) {
	h := newHouse(t)
	_, subscription := h.browser()
	body := `{"subscription":` + subscription + `,"channels":["news"]}`
	for name, try := range map[string]struct {
		headers []string
		status  int
	}{
		"a foreign origin":    {[]string{"Origin: https://evil.example", "Content-Type: application/json"}, 403},
		"no origin":           {[]string{"Content-Type: application/json"}, 403},
		"a sandboxed frame":   {[]string{"Origin: null", "Content-Type: application/json"}, 403},
		"a form":              {[]string{"Origin: " + site, "Content-Type: application/x-www-form-urlencoded"}, 415},
		"a form's plain text": {[]string{"Origin: " + site, "Content-Type: text/plain"}, 415},
		"no type":             {[]string{"Origin: " + site}, 415},
	} {
		for _, method := range []string{"POST", "PUT"} {
			path := map[string]string{"POST": "/v1/subscriptions", "PUT": "/v1/subscriptions/01aaaaaaaaaaaaaaaaaaaaaaaa"}[method]
			if got := h.do(h.public, method, path, body, try.headers...); got.status != try.status {
				t.Errorf("%s, %s: %d, want %d", name, method, got.status, try.status)
			}
		}
	}
	if got := h.do(h.public, "DELETE", "/v1/subscriptions/01aaaaaaaaaaaaaaaaaaaaaaaa", ""); got.status != 403 {
		t.Errorf("DELETE without an origin: %d", got.status)
	}
	if n := h.count(); n != 0 {
		t.Errorf("%d rows were written", n)
	}
}

// From the first visit to the last: what the kit relies on.
func TestRegistration(t *testing.T) {
	h := newHouse(t)
	row, subscription := h.browser()
	body := `{"subscription":` + subscription + `,"keyId":"` + h.ring.Current().ID + `","channels":["offers","news","news"],"locale":"de-AT","timeZone":"Europe/Vienna"}`
	post := func(headers ...string) answer { return h.do(h.public, "POST", "/v1/subscriptions", body, headers...) }

	first := post(page...)
	var r registered
	if err := json.Unmarshal([]byte(first.body), &r); err != nil || first.status != 201 || len(r.Secret) != 43 || fmt.Sprint(r.Channels) != "[news offers]" {
		t.Fatalf("first: %d %s", first.status, first.body)
	}
	stored := must(h.store.Get(t.Context(), r.ID))
	if stored.Endpoint != row.Endpoint || stored.Origin != site || stored.Locale != "de-AT" || stored.TimeZone != "Europe/Vienna" || stored.KeyID != h.ring.Current().ID {
		t.Errorf("stored %+v", stored)
	}
	// Whoever knows an endpoint must not get the device with it (SEC-13).
	if got := post(page...); got.status != 409 {
		t.Errorf("again without the secret: %d", got.status)
	}
	_, other := h.register(`[]`)
	if got := post(device(other)...); got.status != 409 {
		t.Errorf("again with another's secret: %d", got.status)
	}
	again := post(device(r.Secret)...)
	if again.status != 200 || strings.Contains(again.body, "secret") || !strings.Contains(again.body, r.ID) {
		t.Errorf("again with its secret: %d %s", again.status, again.body)
	}

	// The id survives a new endpoint: a site's backend may have written it down.
	_, fresh := h.browser()
	put := h.do(h.public, "PUT", "/v1/subscriptions/"+r.ID, `{"subscription":`+fresh+`,"channels":["news"]}`, device(r.Secret)...)
	if moved := must(h.store.Get(t.Context(), r.ID)); put.status != 200 || moved.Endpoint == row.Endpoint || fmt.Sprint(moved.Channels) != "[news]" || moved.Locale != "de-AT" {
		t.Errorf("change: %d %s, stored %v", put.status, put.body, moved.Channels)
	}

	// A browser that moves without saying to which key has subscribed with the one we told it.
	must(h.ring.Rotate())
	_, third := h.browser()
	h.do(h.public, "PUT", "/v1/subscriptions/"+r.ID, `{"subscription":`+third+`}`, device(r.Secret)...)
	if moved := must(h.store.Get(t.Context(), r.ID)); moved.KeyID != h.ring.Current().ID {
		t.Errorf("moved after a rotation, made with %s, want %s", moved.KeyID, h.ring.Current().ID)
	}

	// An answer must not tell which ids exist (SEC-14).
	for _, method := range []string{"PUT", "DELETE"} {
		wrong := h.do(h.public, method, "/v1/subscriptions/"+r.ID, `{}`, device(other)...)
		unknown := h.do(h.public, method, "/v1/subscriptions/01aaaaaaaaaaaaaaaaaaaaaaaa", `{}`, device(other)...)
		if wrong.status != 401 || wrong.status != unknown.status || wrong.body != unknown.body {
			t.Errorf("%s tells: %d %s and %d %s", method, wrong.status, wrong.body, unknown.status, unknown.body)
		}
		if none := h.do(h.public, method, "/v1/subscriptions/"+r.ID, `{}`, page...); none.status != 401 {
			t.Errorf("%s without a secret: %d", method, none.status)
		}
	}
	if got := h.do(h.public, "DELETE", "/v1/subscriptions/"+r.ID, "", device(r.Secret)...); got.status != 204 {
		t.Errorf("unregister: %d %s", got.status, got.body)
	}
	if got := h.do(h.public, "DELETE", "/v1/subscriptions/"+r.ID, "", device(r.Secret)...); got.status != 401 {
		t.Errorf("unregister twice: %d", got.status)
	}
	if n := h.count(); n != 1 {
		t.Errorf("%d rows, want the other one alone", n)
	}
}

// Whatever is refused is refused with a reason, and nothing of it is stored.
func TestRegistrationRefused(t *testing.T) {
	h := newHouse(t)
	_, good := h.browser()
	var endpoints struct {
		Rows []struct{ Endpoint, Expect, Why string }
	}
	vectors.Load(t, "endpoints", &endpoints)
	var pairs struct {
		Rows []struct{ P256dh, Auth, Expect, Why string }
	}
	vectors.Load(t, "subscription-keys", &pairs)
	const p256dh, auth = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4", "BTBZMqHH6r4Tts7J_aSIgg"
	subscription := func(endpoint, p256dh, auth string) string {
		return `{"channels":[],"subscription":` + string(must(json.Marshal(map[string]any{"endpoint": endpoint, "keys": map[string]string{"p256dh": p256dh, "auth": auth}}))) + `}`
	}
	type try struct {
		why, body string
		status    int
		code      string
	}
	tries := []try{
		{"empty", ``, 400, "json"},
		{"not JSON", `{"subscription":`, 400, "json"},
		{"a list", `[]`, 400, "json"},
		{"no subscription", `{"channels":["news"]}`, 400, "subscription"},
		{"a null subscription", `{"subscription":null}`, 400, "subscription"},
		{"an unknown member", `{"subscription":` + good + `,"user_id":"ada"}`, 400, "unknown-member"},
		{"a user in the body", `{"subscription":` + good + `,"user":"ada"}`, 400, "user"},
		{"a member twice", `{"subscription":` + good + `,"channels":[],"channels":["x"]}`, 400, "json"},
		{"something behind", `{"subscription":` + good + `} {}`, 400, "json"},
		{"bad UTF-8", `{"subscription":` + good + ",\"locale\":\"\xff\"}", 400, "json"},
		{"deep", `{"subscription":` + strings.Repeat("[", 20) + strings.Repeat("]", 20) + `}`, 400, "json"},
		{"large", `{"subscription":` + good + `,"locale":"` + strings.Repeat("x", 9<<10) + `"}`, 413, "too-large"},
		{"a channel in capitals", `{"subscription":` + good + `,"channels":["News"]}`, 400, "channel"},
		{"a channel with a line feed", `{"subscription":` + good + `,"channels":["a\nb"]}`, 400, "channel"},
		{"an empty channel", `{"subscription":` + good + `,"channels":[""]}`, 400, "channel"},
		{"a private channel", `{"subscription":` + good + `,"channels":["private-ada"]}`, 401, "unauthorised"},
		{"a key of somebody else", `{"subscription":` + good + `,"keyId":"AAAAAAAAAAAA"}`, 409, "unknown-key"},
		{"a locale", `{"subscription":` + good + `,"locale":"<b>"}`, 400, "locale"},
		{"a time zone", `{"subscription":` + good + `,"timeZone":"../etc"}`, 400, "time-zone"},
		{"nothing at all", `null`, 400, "json"},
		{"a number for channels", `{"subscription":` + good + `,"channels":3}`, 400, "json"},
	}
	for _, row := range endpoints.Rows {
		if row.Expect != "ok" {
			tries = append(tries, try{row.Why, subscription(row.Endpoint, p256dh, auth), 400, row.Expect})
		}
	}
	for _, row := range pairs.Rows {
		if row.Expect != "ok" {
			tries = append(tries, try{row.Why, subscription("https://fcm.googleapis.com/fcm/send/a", row.P256dh, row.Auth), 400, row.Expect})
		}
	}
	for _, r := range tries {
		got := h.do(h.public, "POST", "/v1/subscriptions", r.body, page...)
		if got.status != r.status || got.code() != r.code || got.header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %d %s, want %d %s", r.why, got.status, got.body, r.status, r.code)
		}
	}
	if n := h.count(); n != 0 {
		t.Errorf("%d rows were written", n)
	}
	// A browser may add members of its own to its subscription.
	newer := strings.NewReplacer(`"keys":{`, `"newIn2031":[1],"keys":{"newIn2032":{"a":null},`).Replace(good)
	if got := h.do(h.public, "POST", "/v1/subscriptions", `{"subscription":`+newer+`}`, page...); newer == good || got.status != 201 {
		t.Errorf("a member that only browsers know: %d %s", got.status, got.body)
	}
}

// An upload without an end must cost neither memory nor time: the answer comes
// once the limit is passed, while the client still writes (SEC-41).
func TestEndlessBody(t *testing.T) {
	h := newHouse(t)
	endless := &zeros{}
	req := must(http.NewRequestWithContext(t.Context(), "POST", h.public.URL+"/v1/subscriptions", endless))
	req.Header.Set("Origin", site)
	req.Header.Set("Content-Type", "application/json")
	resp, err := h.public.Client().Do(req)
	if err == nil {
		resp.Body.Close()
		if resp.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("status %d", resp.StatusCode)
		}
	}
	// The kernel's buffers and what net/http reads on before it hangs up, and no gigabytes.
	if n := endless.n.Load(); n > 16<<20 {
		t.Errorf("%d octets were taken", n)
	}
}

// zeros is a body without an end, for all that a server should see of it.
type zeros struct{ n atomic.Int64 }

func (z *zeros) Read(p []byte) (int, error) {
	if z.n.Add(int64(len(p))) > 1<<30 {
		return 0, io.EOF
	}
	return len(p), nil
}

// One address that registers without end is stopped, whatever it says about
// whom it forwards for; a trusted proxy's clients are told apart (SEC-40, SEC-42).
func TestRegisterLimit(t *testing.T) {
	limit := func(c *Config) { c.RegisterLimit = Limit{10, time.Minute} }
	try := func(h *house, i int) answer {
		_, s := h.browser()
		forged := fmt.Sprintf("X-Forwarded-For: 203.0.%d.%d", i/250, i%250)
		return h.do(h.public, "POST", "/v1/subscriptions", `{"subscription":`+s+`}`, append(page, forged)...)
	}
	h := newHouse(t, limit)
	let := 0
	for i := range 1000 {
		got := try(h, i)
		if got.status == 201 {
			let++
		} else if got.status != 429 || got.header.Get("Retry-After") == "" {
			t.Fatalf("try %d: %d %s", i, got.status, got.body)
		}
	}
	if let > 11 { // ten at once, and one may come back within the seconds this takes
		t.Errorf("%d of 1000 were let in", let)
	}
	if n := strings.Count(h.log.String(), "no trusted proxy"); n != 1 {
		t.Errorf("the operator was told of the forwarding peer %d times, want once", n)
	}

	h = newHouse(t, limit, func(c *Config) { c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} })
	for i := range 50 {
		if got := try(h, i); got.status != 201 {
			t.Fatalf("client %d behind a trusted proxy: %d", i, got.status)
		}
	}
}

// A household that was stopped gets in again when its share has come back, and
// an IPv6 customer has one share for all its addresses.
func TestLimiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter("registrations", Limit{10, time.Minute}, perDay)
		take := func(ip string) bool { _, err := l.allow(ip); return err == nil }
		for i := range 10 {
			if !take("192.0.2.7") {
				t.Fatalf("registration %d was refused", i)
			}
		}
		wait, err := l.allow("192.0.2.7")
		if err == nil || wait <= 0 || wait > 6*time.Second {
			t.Errorf("the eleventh: %v, wait %v", err, wait)
		}
		if !take("192.0.2.8") {
			t.Error("the neighbour was refused")
		}
		time.Sleep(wait)
		if !take("192.0.2.7") {
			t.Error("refused after waiting as long as it was told to")
		}
		for i := range 10 {
			take(fmt.Sprintf("2001:db8::%x", i+1))
		}
		if take("2001:db8::ffff") {
			t.Error("an address of the same /64 got a share of its own")
		}
		if !take("2001:db8:0:1::1") {
			t.Error("the next /64 was refused")
		}
		let := 0
		for range 24 * 60 {
			if take("198.51.100.1") {
				let++
			}
			time.Sleep(time.Minute)
		}
		if let > 2*perDay {
			t.Errorf("%d registrations in a day", let)
		}
	})
}

// The key that a page subscribes with must be the one that we sign with (WP-55).
func TestConfig(t *testing.T) {
	h := newHouse(t)
	for range 2 {
		got := h.do(h.public, "GET", "/v1/config", "")
		want := fmt.Sprintf(`{"keyId":%q,"receipts":["shown","clicked"],"vapidPublicKey":%q}`, h.ring.Current().ID, h.ring.Current().PublicKey)
		if got.body != want || got.header.Get("Cache-Control") != "no-store" {
			t.Errorf("config %s, %s; want %s", got.body, got.header.Get("Cache-Control"), want)
		}
		must(h.ring.Rotate())
	}
}

// A worker with the wrong type is refused by browsers, and one that is cached
// cannot be mended (BR-32, BR-33).
func TestKit(t *testing.T) {
	h := newHouse(t, func(c *Config) { c.Demo = true })
	for path, kind := range map[string]string{"/sw.js": "text/javascript", "/belfry.js": "text/javascript", "/live.js": "text/javascript", "/belfry.d.ts": "text/plain", "/": "text/html", "/demo.js": "text/javascript", "/demo.css": "text/css"} {
		got := h.do(h.public, "GET", path, "")
		for name, want := range map[string]string{"Content-Type": kind + "; charset=utf-8", "Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff", "Service-Worker-Allowed": "/", "Referrer-Policy": "no-referrer"} {
			if got.status != 200 || got.header.Get(name) != want {
				t.Errorf("%s: %d, %s is %q, want %q", path, got.status, name, got.header.Get(name), want)
			}
		}
		if strings.Contains(got.header.Get("Content-Security-Policy"), "unsafe") {
			t.Errorf("%s: policy %q", path, got.header.Get("Content-Security-Policy"))
		}
		if again := h.do(h.public, "GET", path, "", "If-None-Match: "+got.header.Get("ETag")); again.status != http.StatusNotModified || again.body != "" {
			t.Errorf("%s asked again: %d", path, again.status)
		}
	}
	without := newHouse(t)
	for _, path := range []string{"/", "/demo.js", "/node_modules/typescript/package.json", "/sw.js/", "/../vapid.json", "/package.json"} {
		if got := without.do(without.public, "GET", path, ""); got.status != 404 || got.code() != "not-found" {
			t.Errorf("%s without the demo: %d %s", path, got.status, got.body)
		}
	}
}

// Health says ok and no more (SEC-49).
func TestHealth(t *testing.T) {
	h := newHouse(t)
	for _, path := range []string{"/healthz", "/readyz"} {
		if got := h.do(h.public, "GET", path, ""); got.status != 200 || got.body != "ok\n" {
			t.Errorf("%s: %d %q", path, got.status, got.body)
		}
	}
	for path, want := range map[string]int{"/metrics": 404, "/debug/pprof/": 404, "/v1/nothing": 404, "/v1/subscriptions": 405} {
		if got := h.do(h.public, "GET", path, ""); got.status != want {
			t.Errorf("%s: %d, want %d", path, got.status, want)
		}
	}
}

// What a call does not say stays as it is: a page that registers anew without
// its channels would otherwise leave them all, and a row that moved to the key
// of the day could not be rung again, since its browser subscribed with another.
func TestWhatIsNotSaidStays(t *testing.T) {
	h := newHouse(t)
	_, subscription := h.browser()
	var r registered
	first := h.do(h.public, "POST", "/v1/subscriptions", `{"subscription":`+subscription+`,"channels":["news"]}`, page...)
	if err := json.Unmarshal([]byte(first.body), &r); err != nil {
		t.Fatal(first.body, err)
	}
	madeWith := h.ring.Current().ID
	must(h.ring.Rotate())
	for name, call := range map[string]func() answer{
		"registered anew": func() answer {
			return h.do(h.public, "POST", "/v1/subscriptions", `{"subscription":`+subscription+`,"channels":null}`, device(r.Secret)...)
		},
		"added by an operator": func() answer { return h.do(h.socket, "POST", "/api/v1/subscriptions", subscription) },
		"imported":             func() answer { return h.do(h.socket, "POST", "/api/v1/subscriptions/import", subscription) },
	} {
		got := call()
		if stored := must(h.store.Get(t.Context(), r.ID)); got.status >= 300 || stored.KeyID != madeWith || fmt.Sprint(stored.Channels) != "[news]" {
			t.Errorf("%s: %d %s; key %s, want %s; channels %v", name, got.status, got.body, stored.KeyID, madeWith, stored.Channels)
		}
	}
	// No channels are an empty list, which pages can read, and not null.
	for range 2 {
		if got := h.do(h.public, "PUT", "/v1/subscriptions/"+r.ID, `{"channels":[]}`, device(r.Secret)...); !strings.Contains(got.body, `"channels":[]`) {
			t.Errorf("no channels: %s", got.body)
		}
	}
	if got := h.do(h.public, "PUT", "/v1/subscriptions/"+r.ID, `{"locale":"de"}`, device(r.Secret)...); !strings.Contains(got.body, `"channels":[]`) {
		t.Errorf("no channels: %s", got.body)
	}
}

// Where a registration comes from decides whose share it takes. Nothing but
// X-Forwarded-For is believed, a trusted proxy's word or not; and a neighbour on
// the same link, whose address has a zone, is somebody too (SEC-42).
func TestWhoIsLimited(t *testing.T) {
	h := newHouse(t, func(c *Config) {
		c.RegisterLimit = Limit{1, time.Hour}
		c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	})
	public := h.web.Public()
	try := func(remote string, headers ...string) int {
		_, s := h.browser()
		req := httptest.NewRequest("POST", "/v1/subscriptions", strings.NewReader(`{"subscription":`+s+`}`))
		req.RemoteAddr = remote
		for _, line := range append(headers, page...) {
			name, value, _ := strings.Cut(line, ": ")
			req.Header.Add(name, value)
		}
		got := httptest.NewRecorder()
		public.ServeHTTP(got, req)
		return got.Code
	}
	for _, r := range []struct {
		why, remote, header string
		status              int
	}{
		{"a neighbour on the link", "[fe80::1%eth0]:9", "", 201},
		{"the same one", "[fe80::2%eth0]:9", "", 429},
		{"a client of the proxy", "10.0.0.1:9", "X-Forwarded-For: 192.0.2.1", 201},
		{"the same one, who says more", "10.0.0.1:9", "X-Forwarded-For: 203.0.113.9, 192.0.2.1", 429},
		{"the proxy itself", "10.0.0.1:9", "", 201},
		{"a client that the proxy says nothing of", "10.0.0.1:9", "X-Real-Ip: 203.0.113.9", 429},
	} {
		if got := try(r.remote, r.header); got != r.status {
			t.Errorf("%s: %d, want %d", r.why, got, r.status)
		}
	}
}

// A worker or page must not get another type because the machine has tables of
// its own: Windows asks its registry.
func TestTypesAreOurs(t *testing.T) {
	for name, want := range map[string]string{"index.html": "text/html; charset=utf-8", "demo.css": "text/css; charset=utf-8",
		"sw.js": "text/javascript; charset=utf-8", "icon.png": "image/png"} {
		usual := mime.TypeByExtension(filepath.Ext(name))
		mime.AddExtensionType(filepath.Ext(name), "application/x-of-this-machine")
		if got := contentType(name); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
		mime.AddExtensionType(filepath.Ext(name), usual)
	}
}
