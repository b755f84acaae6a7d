package pushtest_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/sender/pushtest"
)

// call speaks to the service as another process does.
func call(t *testing.T, s *pushtest.Service, method, path, body string, header ...string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, s.URL()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	if h := r.Header.Get("Host"); h != "" {
		r.Host = h
	}
	res, err := s.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

// Ten thousand subscriptions for a trial import take a moment, and each of them
// works.
func TestControlMints(t *testing.T) {
	service, site := pushtest.NewService(t), newSite(t)
	status, text := call(t, service, "POST", "/pushtest/subscriptions?count=10000&applicationServerKey="+site.publicKey(), "")
	if status != 200 {
		t.Fatalf("answered %d %s", status, text)
	}
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if len(lines) != 10000 {
		t.Fatalf("%d lines", len(lines))
	}
	if !strings.Contains(lines[0], `"expirationTime":null`) {
		t.Errorf("line %s", lines[0])
	}
	for _, line := range []string{lines[0], lines[9999]} {
		var p belfry.PushSubscription
		if err := json.Unmarshal([]byte(line), &p); err != nil {
			t.Fatal(err)
		}
		sub, err := p.Check(service.Hosts())
		if err != nil {
			t.Fatal(err)
		}
		deliver(t, service, site, sub, "hi", "", "60")
	}
	if sum := service.Summary(); sum.Subscriptions != 10000 || sum.Decrypted != 2 || sum.Endpoints != 2 {
		t.Errorf("summary %+v", sum)
	}
}

func TestControlShowsAndClears(t *testing.T) {
	service, site := pushtest.NewMemoryService(t), newSite(t)
	sub := service.Subscribe("")
	deliver(t, service, site, sub, "hi", "", "60")
	noTTL := site.request(t, sub, "hi")
	noTTL.Header.Del("TTL")
	do(t, service.Client(), noTTL)

	_, text := call(t, service, "GET", "/pushtest/ledger", "")
	d := json.NewDecoder(strings.NewReader(text))
	for _, want := range []int{201, 400} {
		var r pushtest.Received
		if err := d.Decode(&r); err != nil || r.Status != want || r.Endpoint != sub.Endpoint {
			t.Errorf("line %+v, %v", r, err)
		}
	}
	_, text = call(t, service, "GET", "/pushtest/summary", "")
	want := `{"received":2,"accepted":1,"refused":{"ttl":1},"scripted":{},"hungUp":0,"decrypted":1,"endpoints":1,"http2":0,` +
		`"subscriptions":1,"browsers":0,"acknowledged":{},"unregistered":{}}`
	if strings.TrimSpace(text) != want {
		t.Errorf("summary %s", text)
	}
	if status, _ := call(t, service, "DELETE", "/pushtest/ledger", ""); status != 204 {
		t.Errorf("clearing was answered %d", status)
	}
	if sum := service.Summary(); sum.Received != 0 || sum.Subscriptions != 1 || len(service.Received()) != 0 {
		t.Errorf("after clearing: %+v", sum)
	}
}

// A script in another language waits for what happens, without polling.
func TestControlWaits(t *testing.T) {
	service, site := pushtest.NewMemoryService(t), newSite(t)
	type answer struct {
		status int
		text   string
	}
	answers := make(chan answer)
	go func() {
		status, text := call(t, service, "GET", "/pushtest/summary?wait=30s&accepted=2&received=2&subscriptions=1&browsers=0&acknowledged=0", "")
		answers <- answer{status, text}
	}()
	sub := service.Subscribe("")
	deliver(t, service, site, sub, "one", "", "60")
	deliver(t, service, site, sub, "two", "", "60")
	if a := <-answers; a.status != 200 || !strings.Contains(a.text, `"accepted":2`) {
		t.Errorf("answered %+v", a)
	}
	if status, text := call(t, service, "GET", "/pushtest/summary?wait=1ms&received=3", ""); status != 504 || !strings.Contains(text, `"received":2`) {
		t.Errorf("in vain: %d %s", status, text)
	}
}

func TestControlScripts(t *testing.T) {
	service, site := pushtest.NewMemoryService(t), newSite(t)
	sub, other := service.Subscribe(""), service.Subscribe("")
	post := func(body string) (int, string) { return call(t, service, "POST", "/pushtest/answers", body) }
	if status, text := post(`{"endpoint":"` + sub.Endpoint.Reveal() + `","answers":[{"status":429,"header":{"retry-after":"7"},"delayMs":1},{}]}`); status != 204 {
		t.Fatalf("answered %d %s", status, text)
	}
	if status, text := post(`{"answers":[{"fault":"reset"}]}`); status != 204 {
		t.Fatalf("answered %d %s", status, text)
	}
	if a := do(t, service.Client(), site.request(t, sub, "hi")); a.status != 429 || a.header.Get("Retry-After") != "7" {
		t.Errorf("answer %+v", a)
	}
	if a := do(t, service.Client(), site.request(t, sub, "hi")); a.status != 201 {
		t.Errorf("answer %+v", a)
	}
	if _, err := service.Client().Do(site.request(t, other, "hi")); err == nil {
		t.Error("the script for all did not play")
	}
}

func TestControlLimits(t *testing.T) {
	service, site := pushtest.NewMemoryService(t), newSite(t)
	sub := service.Subscribe("")
	if status, text := call(t, service, "POST", "/pushtest/limit", `{"perMinute":1,"retryAfter":"unsaid"}`); status != 204 {
		t.Fatalf("answered %d %s", status, text)
	}
	for _, want := range []int{201, 429} {
		if a := do(t, service.Client(), site.request(t, sub, "hi")); a.status != want {
			t.Errorf("answer %+v, want %d", a, want)
		}
	}
}

// Each wrong call says what is wrong with it, and changes nothing.
func TestControlRefuses(t *testing.T) {
	service := pushtest.NewMemoryService(t)
	for _, tt := range []struct{ method, path, body, want string }{
		{"POST", "/pushtest/subscriptions?count=0", "", "count"},
		{"POST", "/pushtest/subscriptions?count=many", "", "count"},
		{"POST", "/pushtest/subscriptions?count=100001", "", "count"},
		{"POST", "/pushtest/subscriptions?applicationServerKey=AAAA", "", "applicationServerKey"},
		{"POST", "/pushtest/subscriptions?rule=kind", "", "rule"},
		{"GET", "/pushtest/summary?wait=long", "", "wait"},
		{"GET", "/pushtest/summary?received=all", "", "received"},
		{"POST", "/pushtest/answers", "{", "form"},
		{"POST", "/pushtest/answers", `{"answer":[]}`, "answer"},
		{"POST", "/pushtest/answers", `{"answers":[{"status":99}]}`, "answers[0]"},
		{"POST", "/pushtest/answers", `{"answers":[{},{"fault":"fire"}]}`, "answers[1]"},
		{"POST", "/pushtest/answers", `{"answers":[{"delayMs":-1}]}`, "answers[0]"},
		{"POST", "/pushtest/limit", `{"perMinute":-1}`, "perMinute"},
		{"POST", "/pushtest/limit", `{"perMinute":1,"retryAfter":"soon"}`, "retryAfter"},
		{"POST", "/pushtest/limit", `{"perHour":1}`, "perHour"},
	} {
		status, text := call(t, service, tt.method, tt.path, tt.body)
		if status != 400 || !strings.Contains(text, tt.want) {
			t.Errorf("%s %s was answered %d %s", tt.path, tt.body, status, text)
		}
	}
	if status, text := call(t, service, "POST", "/pushtest/answers", `{"endpoint":"https://push.test/wpush/v2/none","answers":[]}`); status != 404 {
		t.Errorf("an unknown endpoint was answered %d %s", status, text)
	}
	if sum := service.Summary(); sum.Subscriptions != 0 {
		t.Errorf("summary %+v", sum)
	}
}

// A page that somebody visits on the same machine must not read the ledger.
func TestControlIsNotForPages(t *testing.T) {
	service := pushtest.NewMemoryService(t)
	for _, header := range [][]string{{"Origin", "https://evil.example"}, {"Host", "evil.example"}, {"Origin", "null"}} {
		if status, _ := call(t, service, "GET", "/pushtest/ledger", "", header...); status != 403 {
			t.Errorf("%v was answered %d", header, status)
		}
	}
	for _, host := range []string{"localhost:8090", "127.0.0.1:8090", "[::1]:8090"} {
		if status, _ := call(t, service, "GET", "/pushtest/ledger", "", "Host", host); status != 200 {
			t.Errorf("%s was answered %d", host, status)
		}
	}
}

// Who opens the service in a browser reads how to use it.
func TestServiceIntroducesItself(t *testing.T) {
	service, err := pushtest.Start(pushtest.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer service.Close()
	status, text := call(t, service, "GET", "/", "")
	for _, line := range append(pushtest.FirefoxPrefs(service.URL()), service.ChromiumFlags()...) {
		if status != 200 || !strings.Contains(text, line) {
			t.Errorf("%d %s lacks %s", status, text, line)
		}
	}
	var lines bytes.Buffer
	for _, line := range pushtest.FirefoxPrefs("http://127.0.0.1:8090") {
		lines.WriteString(line + "\n")
	}
	// The exact lines that were seen to work in Firefox 153.
	want := `user_pref("dom.push.serverURL", "ws://127.0.0.1:8090/");
user_pref("dom.push.testing.allowInsecureServerURL", true);
user_pref("permissions.default.desktop-notification", 1);
user_pref("alerts.useSystemBackend", false);
user_pref("dom.push.retryBaseInterval", 200);
`
	if lines.String() != want {
		t.Errorf("preferences\n%s", lines.String())
	}
	if got := strings.Join(pushtest.FirefoxCommand("DIR", "http://localhost:8080/"), " "); strings.Replace(got, "firefox-esr ", "firefox ", 1) != "firefox --profile DIR --no-remote http://localhost:8080/" {
		t.Errorf("command %q", got)
	}
}
