package web

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/broadcasts"
	"github.com/belfry-push/belfry/tokens"
)

// The main job over HTTP: launched means on disk, watched to the end, and the
// browser decrypts what the operator wrote.
func TestLaunch(t *testing.T) {
	h := newHouse(t)
	for range 3 {
		h.register(`["news"]`)
	}
	h.register(`["offers"]`)
	launched := h.do(h.socket, "POST", "/api/v1/broadcasts", `{"message":{"title":"Hello","body":"<b>","url":"/sale","ttl":60},"audience":{"channels":["news"]}}`)
	var b broadcasts.Broadcast
	if err := json.Unmarshal([]byte(launched.body), &b); err != nil || launched.status != 202 || b.Counts.Targets != 3 {
		t.Fatalf("launch: %d %s", launched.status, launched.body)
	}
	events := h.do(h.socket, "GET", "/api/v1/broadcasts/"+b.ID+"/events", "")
	if kind := events.header.Get("Content-Type"); kind != "text/event-stream; charset=utf-8" {
		t.Errorf("events are %s", kind)
	}
	var last broadcasts.Broadcast
	for line := range strings.SplitSeq(events.body, "\n") {
		if data, found := strings.CutPrefix(line, "data: "); found {
			if err := json.Unmarshal([]byte(data), &last); err != nil {
				t.Fatal(err)
			}
		}
	}
	if last.State != broadcasts.Done || last.Counts.Accepted != 3 || last.Counts.Pending != 0 {
		t.Errorf("the last event: %+v", last.Progress)
	}
	for _, r := range h.service.Received() {
		if !strings.Contains(string(r.Plaintext), `"title":"Hello","body":"<b>","navigate":"`+site+`/sale"`) || !strings.Contains(string(r.Plaintext), `"belfry":{"channel":"news","id":"`+b.ID+`"}`) {
			t.Errorf("a browser reads %s", r.Plaintext)
		}
	}
	for path, want := range map[string]int{"/api/v1/broadcasts/" + b.ID: 200, "/api/v1/broadcasts/01aaaaaaaaaaaaaaaaaaaaaaaa": 404, "/api/v1/broadcasts?limit=0": 400, "/api/v1/broadcasts?limit=1001": 400} {
		if got := h.do(h.socket, "GET", path, ""); got.status != want {
			t.Errorf("%s: %d, want %d", path, got.status, want)
		}
	}
	publisher := bearer(h.token(tokens.Publisher, "news"))
	for _, order := range []string{"pause", "resume", "cancel", "confirm", "dismiss"} {
		path := "/api/v1/broadcasts/" + b.ID + "/" + order
		if got := h.do(h.socket, "POST", path, ""); got.status != http.StatusConflict || !strings.Contains(got.body, "is done and cannot be") {
			t.Errorf("%s of what is done: %d %s", order, got.status, got.body)
		}
		if got := h.do(h.ops, "POST", path, "", publisher); got.status != http.StatusForbidden {
			t.Errorf("%s by a publisher: %d", order, got.status)
		}
	}
}

// A message that cannot be sent is refused before anybody is rung, with what is
// wrong and where.
func TestLaunchRefused(t *testing.T) {
	h := newHouse(t)
	launch := func(message, audience string) answer {
		return h.do(h.socket, "POST", "/api/v1/broadcasts", `{"message":`+message+`,"audience":`+audience+`}`)
	}
	const all = `{"all":true}`
	for _, try := range []struct {
		message, audience string
		status            int
		code, says        string
	}{
		{`{}`, all, 400, "title", "message.title"},
		{`{"title":"T","ttl":-1}`, all, 400, "ttl", "2419200"},
		{`{"title":"T","ttl":"1h"}`, all, 400, "json", "message.ttl"},
		{`{"title":"T","urgency":"asap"}`, all, 400, "urgency", "very-low"},
		{`{"title":"T","url":"https://evil.example/x"}`, all, 400, "url", "https://evil.example"},
		{`{"title":"T","url":"javascript:alert(1)"}`, all, 400, "url", "message.url"},
		{`{"title":"T","icon":"https://track.example/i.png"}`, all, 400, "url", "message.icon"},
		{`{"title":"T","titel":"U"}`, all, 400, "unknown-member", "message.titel"},
		{`{"title":"T","variants":{"de_AT":{"title":"U"}}}`, all, 400, "variants", "message.variants"},
		{`{"title":"T","variants":{"de":{"title":"U","tag":"t"}}}`, all, 400, "unknown-member", "message.variants.de.tag"},
		{`{"title":"T","variants":{"de":{"title":"U"},"de":{"title":"V"}}}`, all, 400, "json", "message.variants.de: is given twice"},
		{`{"title":"T","variants":{"de":{"body":"` + strings.Repeat("é", 2500) + `"}}}`, all, 413, "message-too-large", "message.variants.de: is 5"},
		{`{"title":"T","data":[1]}`, all, 400, "data", "message.data"},
		{`{"title":"T"}`, `{}`, 400, "audience", "exactly one"},
		{`{"title":"T"}`, all + `,"callback":"https://127.0.0.1/x"`, 400, "callback", "--callback-host"},
		{`{"title":"T"}`, all + `,"callback":"http://hooks.example.com/x"`, 400, "callback", "https://"},
		{`{"title":"T"}`, `{"channels":["News"]}`, 400, "channel", "News"},
		{`{"title":"T","body":"` + strings.Repeat("é", 2500) + `"}`, all, 413, "message-too-large", "octets"},
		{`{"title":"T","body":"` + strings.Repeat("x", 20<<10) + `"}`, all, 413, "too-large", "16384"},
	} {
		got := launch(try.message, try.audience)
		if got.status != try.status || got.code() != try.code || !strings.Contains(got.body, try.says) {
			t.Errorf("%.60s to %s: %d %s, want %d %s", try.message, try.audience, got.status, got.body, try.status, try.code)
		}
	}
	if got := h.do(h.socket, "GET", "/api/v1/broadcasts", ""); !strings.Contains(got.body, `"items":[]`) {
		t.Errorf("something was written: %s", got.body)
	}
	// The edge itself, measured in octets of what is sent.
	empty := must(belfry.Message{Title: "T", Body: "x"}.Payload(strings.Repeat("0", 26), "", site))
	fits := strings.Repeat("x", belfry.MaxPayload-len(empty)+1)
	if got := launch(`{"title":"T","body":"`+fits+`"}`, all); got.status != 202 || !strings.Contains(got.body, "Firefox for Android") {
		t.Errorf("3993 octets: %d %s", got.status, got.body)
	}
	if got := launch(`{"title":"T","body":"`+fits+`x"}`, all); got.status != 413 || !strings.Contains(got.body, "3994") {
		t.Errorf("3994 octets: %d %s", got.status, got.body)
	}
}

// A launch that is asked for again with its key is answered with the broadcast
// that it made. No caller meets the broadcasts of another: a publisher who
// guesses the key of one gets a broadcast of its own.
func TestLaunchedAgain(t *testing.T) {
	h := newHouse(t)
	h.register(`["news"]`)
	shop, blog := h.token(tokens.Publisher, "news"), h.token(tokens.Publisher, "news")
	launch := func(s *httptest.Server, title string, headers ...string) (got answer, id string) {
		t.Helper()
		got = h.do(s, "POST", "/api/v1/broadcasts", `{"message":{"title":"`+title+`"},"audience":{"channels":["news"]}}`, headers...)
		var b broadcasts.Broadcast
		if json.Unmarshal([]byte(got.body), &b); got.status == 202 && got.header.Get("Location") != "/api/v1/broadcasts/"+b.ID {
			t.Errorf("it is said to be at %q", got.header.Get("Location"))
		}
		return got, b.ID
	}
	const key = "Idempotency-Key: order-1"
	made := map[string]bool{}
	for _, caller := range []struct {
		door *httptest.Server
		who  string
	}{{h.socket, ""}, {h.ops, bearer(shop)}, {h.ops, bearer(blog)}} {
		first, id := launch(caller.door, "Hello", caller.who, key)
		again, same := launch(caller.door, "Hello", caller.who, key)
		if first.status != 202 || first.header.Get("Idempotent-Replayed") != "" || made[id] {
			t.Errorf("%d %v %s", first.status, first.header, first.body)
		}
		if again.status != 202 || again.header.Get("Idempotent-Replayed") != "true" || same != id {
			t.Errorf("again: %d %v %s", again.status, again.header, again.body)
		}
		if got, _ := launch(caller.door, "Goodbye", caller.who, key); got.status != 409 || got.code() != "idempotency-key-reused" || !strings.Contains(got.body, id) {
			t.Errorf("another message: %d %s", got.status, got.body)
		}
		made[id] = true
	}
	for _, headers := range [][]string{{"Idempotency-Key: order 1"}, {"Idempotency-Key: "}, {"Idempotency-Key: a", "Idempotency-Key: b"}, {"Idempotency-Key: " + strings.Repeat("k", 256)}} {
		if got, _ := launch(h.socket, "Hello", headers...); got.status != 400 || got.code() != "idempotency-key" || !strings.Contains(got.body, "255 visible characters") {
			t.Errorf("%.40q: %d %s", headers, got.status, got.body)
		}
	}
	if got := h.do(h.socket, "GET", "/api/v1/broadcasts", ""); strings.Count(got.body, `"id"`) != 3 {
		t.Errorf("there are %s", got.body)
	}
}

// Who wants to know what a launch would be rings nobody by asking, nor by
// writing the question in another way.
func TestDryRun(t *testing.T) {
	h := newHouse(t)
	for range 3 {
		h.register(`["news"]`)
	}
	const body = `{"message":{"title":"Hello"},"audience":{"channels":["news"]}}`
	publisher := bearer(h.token(tokens.Publisher, "news"))
	got := h.do(h.ops, "POST", "/api/v1/broadcasts?dryRun=1", body, publisher)
	var est broadcasts.Estimate
	if err := json.Unmarshal([]byte(got.body), &est); err != nil || got.status != 200 || est.Targets != 3 || len(est.Hosts) != 1 ||
		est.Hosts[0].Targets != 3 || est.Body != 512 || est.Duration != 1 || !strings.Contains(got.body, `"warnings":[]`) {
		t.Errorf("%d %s", got.status, got.body)
	}
	if got := h.do(h.ops, "POST", "/api/v1/broadcasts?dryRun=1", strings.Replace(body, "news", "sport", 1), publisher); got.status != 403 {
		t.Errorf("another channel: %d %s", got.status, got.body)
	}
	for _, query := range []string{"dryRun=0", "dryRun=", "dryRun", "dryrun=1", "dryRun=1&dryRun=0", "dryRun=1&x=1"} {
		if got := h.do(h.socket, "POST", "/api/v1/broadcasts?"+query, body); got.status != 400 || got.code() != "dry-run" {
			t.Errorf("%s: %d %s", query, got.status, got.body)
		}
	}
	if got := h.do(h.socket, "GET", "/api/v1/broadcasts", ""); !strings.Contains(got.body, `"items":[]`) || len(h.service.Received()) != 0 {
		t.Errorf("something was written or sent: %s", got.body)
	}
}

// A broadcast that is scheduled says when it starts, and waits for that.
func TestLaunchScheduled(t *testing.T) {
	h := newHouse(t)
	h.register(`["news"]`)
	launch := func(more string) answer {
		return h.do(h.socket, "POST", "/api/v1/broadcasts", `{"message":{"title":"T"},"audience":{"all":true}`+more+`}`)
	}
	if got := launch(""); got.status != 202 || !strings.Contains(got.body, `"at":null,"maxLateness":null,"rate":null,"canary":null,"push":"auto","starts":null`) {
		t.Errorf("now: %d %s", got.status, got.body)
	}
	due := time.Now().Add(2 * time.Hour).Truncate(time.Hour).Add(time.Second)
	text := due.UTC().Format(time.RFC3339)
	got := launch(`,"at":"` + due.In(time.FixedZone("", -5*3600)).Format(time.RFC3339) + `","maxLateness":3600,"rate":50,"canary":"1%"`)
	var b broadcasts.Broadcast
	if err := json.Unmarshal([]byte(got.body), &b); err != nil || got.status != 202 || !strings.Contains(got.body, `"state":"scheduled"`) ||
		!strings.Contains(got.body, `"at":"`+text+`","maxLateness":3600,"rate":50,"canary":"1%","push":"auto","starts":"`+text+`"`) || !strings.Contains(got.body, `"started":null`) {
		t.Errorf("later: %d %s", got.status, got.body)
	}
	for more, code := range map[string]string{`,"at":"tomorrow"`: "json", `,"at":"2020-01-01T00:00:00Z"`: "at", `,"at":1`: "json", `,"rate":0`: "rate", `,"rate":1.5`: "json", `,"canary":"all"`: "canary", `,"canary":1`: "json", `,"maxLateness":60`: "max-lateness",
		`,"at":"` + text + `","maxLateness":-1`: "max-lateness"} {
		if got := launch(more); got.status != 400 || got.code() != code {
			t.Errorf("%s: %d %s", more, got.status, got.body)
		}
	}
	if got := launch(`,"at":"tomorrow"`); !strings.Contains(got.body, "at: is not a time such as 2026-03-04T05:06:07Z") {
		t.Error(got.body)
	}
	for _, order := range []string{"pause", "resume"} {
		if got := h.do(h.socket, "POST", "/api/v1/broadcasts/"+b.ID+"/"+order, ""); got.status != 409 || got.code() != "broadcast-state" {
			t.Errorf("%s: %d %s", order, got.status, got.body)
		}
	}
	if got := h.do(h.socket, "POST", "/api/v1/broadcasts/"+b.ID+"/cancel", ""); got.status != 200 || !strings.Contains(got.body, `"state":"cancelled"`) {
		t.Errorf("cancel: %d %s", got.status, got.body)
	}
}

// Lists give ids and hosts; only an export that was asked for gives the
// capability itself (SEC-23). An export can be imported as it is.
func TestSubscriptionsListedAndExported(t *testing.T) {
	h := newHouse(t)
	var ids []string
	for range 5 {
		id, _ := h.register(`["news"]`)
		ids = append(ids, id)
	}
	var seen []string
	for path := "/api/v1/subscriptions?channel=news&limit=2"; path != ""; {
		got := h.do(h.socket, "GET", path, "")
		var list struct {
			Items []Row
			Next  *string
		}
		if err := json.Unmarshal([]byte(got.body), &list); err != nil || len(list.Items) > 2 {
			t.Fatalf("%s: %s", path, got.body)
		}
		for _, word := range []string{"endpoint", "wpush", "p256dh", "auth", "secret"} {
			if strings.Contains(got.body, word) {
				t.Fatalf("a list shows %s: %s", word, got.body)
			}
		}
		for _, item := range list.Items {
			seen = append(seen, item.ID)
		}
		if path = ""; list.Next != nil {
			path = "/api/v1/subscriptions?channel=news&limit=2&after=" + *list.Next
		}
	}
	if fmt.Sprint(seen) != fmt.Sprint(ids) {
		t.Errorf("pages gave %v, want %v", seen, ids)
	}
	if got := h.do(h.socket, "GET", "/api/v1/subscriptions?count=1&channel=news", ""); got.body != `{"count":5}` {
		t.Errorf("count: %s", got.body)
	}
	export := h.do(h.socket, "GET", "/api/v1/subscriptions/export", "")
	if n := strings.Count(export.body, "\n"); n != 5 || !strings.Contains(export.body, `"endpoint":"https://`) {
		t.Fatalf("export of %d lines: %s", n, export.body)
	}
	if got := h.do(h.socket, "POST", "/api/v1/subscriptions/import?channel=more", export.body); got.body != `{"imported":0,"updated":5,"refused":0}`+"\n" {
		t.Errorf("import of an export: %s", got.body)
	}
	if got := h.do(h.socket, "GET", "/api/v1/subscriptions/export", ""); strings.ReplaceAll(got.body, `"channels":["more","news"]`, `"channels":["news"]`) != export.body {
		t.Errorf("it came back as %s", got.body)
	}
	one := "/api/v1/subscriptions/" + ids[0]
	if got := h.do(h.socket, "PUT", one, `{"channels":["vip"],"user":"ada"}`); got.status != 200 || !strings.Contains(got.body, `"user":"ada"`) {
		t.Errorf("change: %d %s", got.status, got.body)
	}
	for range 2 {
		first, _, _ := strings.Cut(export.body, "\n")
		if got := h.do(h.socket, "POST", "/api/v1/subscriptions", first); got.status != 201 || !strings.Contains(got.body, ids[0]) {
			t.Errorf("added again: %d %s", got.status, got.body)
		}
	}
	if got := h.do(h.socket, "DELETE", one, ""); got.status != 204 {
		t.Errorf("remove: %d", got.status)
	}
	if got := h.do(h.socket, "GET", one, ""); got.status != 404 {
		t.Errorf("removed: %d", got.status)
	}
}

// One broken line must cost nobody else their subscription, and the operator
// must learn which line it was.
func TestImportGoesOn(t *testing.T) {
	h := newHouse(t)
	_, a := h.browser()
	_, b := h.browser()
	lines := []string{
		a,
		`{"endpoint":"https://evil.example/x","keys":{}}`,
		`{`,
		``,
		strings.Repeat("x", 100<<10),
		strings.Replace(b, "{", `{"channels":["private x"],`, 1),
		strings.Replace(b, "{", `{"keyId":"AAAAAAAAAAAA",`, 1),
		strings.Replace(b, "{", `{"origin":"https://elsewhere.example",`, 1),
		strings.Replace(b, "{", `{"channels":["old"],"user":"ada","unknownThing":1,`, 1),
	}
	got := h.do(h.socket, "POST", "/api/v1/subscriptions/import?channel=news", strings.Join(lines, "\n"))
	want := []string{`"line":2,`, `"line":3,`, `"line":5,`, `"line":6,`, `"line":7,`, `"line":8,`}
	answers := strings.Split(strings.TrimSpace(got.body), "\n")
	if len(answers) != len(want)+1 {
		t.Fatalf("%d %s", got.status, got.body)
	}
	for i, w := range want {
		if !strings.Contains(answers[i]+",", w) && !strings.Contains(answers[i], strings.TrimSuffix(w, ",")) {
			t.Errorf("answer %d is %s, want %s", i, answers[i], w)
		}
	}
	if sum := answers[len(want)]; !strings.Contains(sum, `"imported":2`) || !strings.Contains(sum, `"refused":6`) {
		t.Errorf("sum %s", sum)
	}
	if n := must(h.store.Count(t.Context(), belfry.Audience{Channels: []string{"news"}})); n != 2 {
		t.Errorf("%d rows in the channel that the call named", n)
	}
	// Two by id, two by endpoint, three in channels and one by user: without the last
	// step of an import, endpoints would be left to the next start.
	if looked := must(h.store.Examine(t.Context())).Looked; looked[1] != (belfry.Looked{What: "index entries", Count: 8}) {
		t.Errorf("in the end: %v", looked)
	}
	for path, status := range map[string]int{"?key=nope": 409, "?channel=Nope": 400, "?user=%00": 400} {
		if got := h.do(h.socket, "POST", "/api/v1/subscriptions/import"+path, a); got.status != status {
			t.Errorf("%s: %d %s", path, got.status, got.body)
		}
	}
}

// The next batch is read while one is written. Where that fails, an operator
// must learn how far the store came, not how far we have read.
func TestImportStopsWhereTheStoreDid(t *testing.T) {
	h := newHouse(t)
	_, line := h.browser()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	imp := importer{server: h.web, ctx: ctx, refuse: func(r refusal) { t.Errorf("refused: %+v", r) }}
	err := imp.read(strings.NewReader(strings.Repeat(line+"\n", 3*importBatch)), importDefaults{})
	if !errors.Is(err, context.Canceled) || imp.line != importBatch || imp.sum.Created+imp.sum.Updated != 0 {
		t.Errorf("line %d, %+v, %v", imp.line, imp.sum, err)
	}
}

// bbolt answers damage in the file with a panic. It is the handler's, which
// answers it, and must not end the server.
func TestImportHandsAPanicOn(t *testing.T) {
	h := newHouse(t)
	_, line := h.browser()
	imp := importer{server: &Server{Config: Config{Keys: h.ring, Hosts: h.service.Hosts()}}, ctx: t.Context()} // and no store
	defer func() {
		if recover() == nil {
			t.Error("nobody learned of it")
		}
	}()
	imp.read(strings.NewReader(line), importDefaults{})
}

// Refusals are told while the file still streams: an operator who imports the
// wrong file sees it at once, and neither side holds the whole.
func TestImportAnswersAsItReads(t *testing.T) {
	h := newHouse(t)
	in, out := io.Pipe()
	req := must(http.NewRequestWithContext(t.Context(), "POST", h.socket.URL+"/api/v1/subscriptions/import", in))
	told := make(chan string)
	go func() {
		resp, err := h.socket.Client().Do(req)
		if err != nil {
			told <- err.Error()
			return
		}
		defer resp.Body.Close()
		lines := bufio.NewScanner(resp.Body)
		for lines.Scan() {
			told <- lines.Text()
		}
		close(told)
	}()
	fmt.Fprintln(out, "{")
	// The answer's first octets leave net/http's buffer when it is full or flushed.
	if first := <-told; !strings.Contains(first, `"line":1`) {
		t.Errorf("first word: %s", first)
	}
	out.Close()
	if last := <-told; !strings.Contains(last, `"refused":1`) {
		t.Errorf("last word: %s", last)
	}
}

// Private keys and backups leave by the socket alone, and a backup that fails
// midway must not look whole.
func TestKeysAndBackup(t *testing.T) {
	h := newHouse(t)
	first := h.ring.Current().ID
	if got := h.do(h.socket, "POST", "/api/v1/keys", `{}`); got.status != 201 || h.ring.Current().ID == first {
		t.Errorf("rotate: %d %s", got.status, got.body)
	}
	exported := h.do(h.socket, "GET", "/api/v1/keys/"+first+"/private", "")
	if exported.status != 200 || !strings.Contains(exported.body, "privateKey") {
		t.Errorf("export: %d", exported.status)
	}
	other := newHouse(t)
	if got := other.do(other.socket, "POST", "/api/v1/keys", exported.body); got.status != 201 || !strings.Contains(got.body, `"current":true`) || other.ring.Current().ID != first {
		t.Errorf("import into an empty house: %d %s", got.status, got.body)
	}
	other.register(`[]`)
	second := h.do(h.socket, "GET", "/api/v1/keys/current/private", "")
	if got := other.do(other.socket, "POST", "/api/v1/keys", second.body); got.status != 201 || !strings.Contains(got.body, `"current":false`) {
		t.Errorf("import into a house with people in it: %d %s", got.status, got.body)
	}
	if got := other.do(other.socket, "GET", "/api/v1/keys", ""); !strings.Contains(got.body, `"subscriptions":1`) || strings.Contains(got.body, "privateKey") {
		t.Errorf("keys: %s", got.body)
	}
	// Rows that nobody can ring must not hide behind a key that looks well.
	lost, _ := other.browser()
	lost.KeyID = "deadbeefdeadbeef"
	must(other.store.Import(t.Context(), []belfry.Subscription{lost}, ""))
	if got := other.do(other.socket, "GET", "/api/v1/keys", ""); !strings.Contains(got.body, `"id":"deadbeefdeadbeef"`) || strings.Count(got.body, `"subscriptions":1,"of":2,"missing":true`) != 1 {
		t.Errorf("keys with one that is lost: %s", got.body)
	}
	for _, wrong := range []string{`{"publicKey":"x"}`, `{"privateKey":"x","publicKey":"y"}`, `{"rotate":true}`, `[]`} {
		if got := h.do(h.socket, "POST", "/api/v1/keys", wrong); got.status != 400 {
			t.Errorf("import of %s: %d %s", wrong, got.status, got.body)
		}
	}
	if got := h.do(h.socket, "GET", "/api/v1/keys/webhook", ""); got.body != `{"secret":"`+h.web.Webhook.Reveal()+`"}` || got.header.Get("Cache-Control") != "no-store" {
		t.Errorf("secret of callbacks: %d %s, %v", got.status, got.body, got.header)
	}
	if got := h.do(h.socket, "POST", "/api/v1/backup", ""); got.status != 200 || got.body != "tar" {
		t.Errorf("backup: %d %q", got.status, got.body)
	}
	broken := newHouse(t, func(c *Config) { c.Backup = func(io.Writer) error { return errors.New("disk") } })
	resp, err := broken.socket.Client().Post(broken.socket.URL+"/api/v1/backup", "", nil)
	if err == nil {
		_, err = io.ReadAll(resp.Body)
		resp.Body.Close()
	}
	if err == nil {
		t.Error("a backup that failed looks whole")
	}
	if log := h.log.String() + other.log.String(); strings.Contains(log, "privateKey") || strings.Contains(log, "whsec_") {
		t.Error("the log holds a private key or the secret of callbacks")
	}
}

func TestTokensOverHTTP(t *testing.T) {
	h := newHouse(t)
	made := h.do(h.socket, "POST", "/api/v1/tokens", `{"name":"ci","role":"publisher","channels":["news"],"expires":60}`)
	if made.status != 201 || made.header.Get("Cache-Control") != "no-store" || !strings.Contains(made.body, `"token":"belfry_`) {
		t.Fatalf("made: %d %s", made.status, made.body)
	}
	if got := h.do(h.socket, "GET", "/api/v1/tokens", ""); strings.Contains(got.body, `"token"`) || !strings.Contains(got.body, `"name":"ci"`) {
		t.Errorf("list: %s", got.body)
	}
	for _, wrong := range []string{`{}`, `{"name":"x","role":"owner"}`, `{"name":"x","role":"publisher"}`, `{"name":"x","role":"admin","channels":["a"]}`, `{"name":"x","role":"admin","expires":-1}`, `{"name":"x","role":"admin","expires":99999999999}`} {
		if got := h.do(h.socket, "POST", "/api/v1/tokens", wrong); got.status != 400 {
			t.Errorf("%s: %d", wrong, got.status)
		}
	}
	if got := h.do(h.socket, "DELETE", "/api/v1/tokens/01aaaaaaaaaaaaaaaaaaaaaaaa", ""); got.status != 404 {
		t.Errorf("revoking nothing: %d", got.status)
	}
}

// Marker values in every secret field must not turn up in a log or in an answer
// that did not ask for them (SEC-22).
func TestNoSecretLeaks(t *testing.T) {
	h := newHouse(t)
	row, subscription := h.browser()
	body := `{"subscription":` + subscription + `,"channels":["news"]}`
	first := h.do(h.public, "POST", "/v1/subscriptions", body, page...)
	var r registered
	if err := json.Unmarshal([]byte(first.body), &r); err != nil {
		t.Fatal(err)
	}
	token := h.token(tokens.Admin)
	answers := []answer{
		h.do(h.public, "POST", "/v1/subscriptions", body, page...),
		h.do(h.public, "POST", "/v1/subscriptions", body, device(r.Secret)...),
		h.do(h.public, "POST", "/v1/subscriptions", strings.Replace(body, "https://", "https://user@", 1), page...),
		h.do(h.public, "PUT", "/v1/subscriptions/"+r.ID, body[:len(body)-2], device(r.Secret)...),
		h.do(h.socket, "GET", "/api/v1/subscriptions", ""),
		h.do(h.socket, "GET", "/api/v1/subscriptions/"+r.ID, ""),
		h.do(h.socket, "POST", "/api/v1/subscriptions/import", strings.Replace(subscription, "https://", "ftp://", 1)),
		h.do(h.ops, "GET", "/api/v1/tokens", "", bearer(token)),
	}
	// A row that was imported is not young, so that the first 410 removes it (WP-62).
	ended, line := h.browser()
	h.do(h.socket, "POST", "/api/v1/subscriptions/import?channel=ended", line)
	h.service.End(ended.Endpoint)
	launched := h.do(h.socket, "POST", "/api/v1/broadcasts", `{"message":{"title":"T"},"audience":{"channels":["ended"]}}`)
	answers = append(answers, h.do(h.socket, "GET", launched.header.Get("Location")+"/events", ""))
	text := h.log.String()
	for _, a := range answers {
		text += a.body
	}
	for name, secret := range map[string]string{"endpoint": row.Endpoint.Reveal()[len("https://127.0.0.1:"):], "p256dh": row.P256dh.Reveal(),
		"auth": row.Auth.Reveal(), "device secret": r.Secret, "token": token, "other endpoint": ended.Endpoint.Reveal()[len("https://127.0.0.1:"):]} {
		if strings.Contains(text, secret[min(6, len(secret)):]) {
			t.Errorf("the %s leaked", name)
		}
	}
	if !strings.Contains(text, `"gone":1`) || h.count() != 1 {
		t.Errorf("a subscription that ended is still there: %d rows", h.count())
	}
}

// A call that says nothing must not be taken for one that asks for a new key,
// and a number that does not fit must be called that.
func TestNothingAndTooMuch(t *testing.T) {
	h := newHouse(t)
	before := h.ring.Current().ID
	if got := h.do(h.socket, "POST", "/api/v1/keys", "null"); got.status != http.StatusBadRequest || h.ring.Current().ID != before {
		t.Errorf("null for a key: %d %s", got.status, got.body)
	}
	for _, ttl := range []string{"1.5", "1e30", "99999999999999999999"} {
		got := h.do(h.socket, "POST", "/api/v1/broadcasts", `{"message":{"title":"T","ttl":`+ttl+`},"audience":{"all":true}}`)
		if got.status != http.StatusBadRequest || !strings.Contains(got.body, "message.ttl: is a number that is too large or not whole") {
			t.Errorf("ttl %s: %d %s", ttl, got.status, got.body)
		}
	}
}
