package pushtest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/sender/pushtest"
)

// A firefox speaks the browser's side of autopush's protocol, with the keys of
// one page's subscription.
type firefox struct {
	t    *testing.T
	uaid string
	ws   *websocket.Conn
}

// frame is a message in either direction.
type frame map[string]any

// connect opens the WebSocket and says hello, as a profile that knows uaid.
func connect(t *testing.T, s *pushtest.Service, uaid string) *firefox {
	t.Helper()
	url := "ws" + strings.TrimPrefix(s.URL(), "http") + "/"
	ws, _, err := websocket.Dial(t.Context(), url, &websocket.DialOptions{HTTPClient: s.Client(), Subprotocols: []string{"push-notification"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ws.CloseNow() })
	f := &firefox{t: t, ws: ws}
	hello := frame{"messageType": "hello", "broadcasts": frame{}, "use_webpush": true}
	if uaid != "" {
		hello["uaid"] = uaid
	}
	f.send(hello)
	got := f.read()
	f.uaid, _ = got["uaid"].(string)
	if got["messageType"] != "hello" || got["status"] != 200.0 || got["use_webpush"] != true || f.uaid == "" || got["broadcasts"] == nil {
		t.Fatalf("hello was answered %v", got)
	}
	return f
}

func (f *firefox) send(m any) {
	f.t.Helper()
	text, err := json.Marshal(m)
	if err != nil {
		f.t.Fatal(err)
	}
	if err := f.ws.Write(f.t.Context(), websocket.MessageText, text); err != nil {
		f.t.Fatal(err)
	}
}

func (f *firefox) read() frame {
	f.t.Helper()
	_, text, err := f.ws.Read(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	var m frame
	if err := json.Unmarshal(text, &m); err != nil {
		f.t.Fatal(err)
	}
	return m
}

// silent reports whether the service has nothing more to say: a ping comes back
// before anything else.
func (f *firefox) silent() {
	f.t.Helper()
	f.send(frame{})
	if m := f.read(); len(m) != 0 {
		f.t.Errorf("unexpected message %v", m)
	}
}

// register subscribes and returns what a page would send to its server.
func (f *firefox) register(channel, key string) belfry.Subscription {
	f.t.Helper()
	f.send(frame{"messageType": "register", "channelID": channel, "key": key})
	got := f.read()
	endpoint, _ := got["pushEndpoint"].(string)
	if got["messageType"] != "register" || got["channelID"] != channel || got["status"] != 200.0 || endpoint == "" {
		f.t.Fatalf("register was answered %v", got)
	}
	_, sub, _, _ := readAppendixA(f.t)
	sub.Endpoint = belfry.StoredEndpoint(endpoint)
	return sub
}

// take reads one notification, opens it with the page's keys and returns text and version.
func (f *firefox) take(channel string) (text, version string) {
	f.t.Helper()
	m := f.read()
	_, sub, key, _ := readAppendixA(f.t)
	data, _ := m["data"].(string)
	plain, err := pushtest.Open(decode(f.t, data), key, sub.Auth)
	headers, _ := m["headers"].(map[string]any)
	version, _ = m["version"].(string)
	if m["messageType"] != "notification" || m["channelID"] != channel || err != nil || headers["encoding"] != "aes128gcm" || version == "" {
		f.t.Fatalf("notification %v: %v", m, err)
	}
	return string(plain), version
}

func (f *firefox) ack(channel, version string, code int) {
	f.t.Helper()
	f.send(frame{"messageType": "ack", "updates": []frame{{"channelID": channel, "version": version, "code": code}}})
}

// leave closes the connection and waits until the service has seen it.
func (f *firefox) leave(s *pushtest.Service) {
	f.t.Helper()
	f.ws.Close(websocket.StatusNormalClosure, "")
	if _, err := s.Await(f.t.Context(), func(sum pushtest.Summary) bool { return sum.Browsers == 0 }); err != nil {
		f.t.Fatal(err)
	}
}

// deliver sends text to sub, which must be accepted.
func deliver(t *testing.T, s *pushtest.Service, site *site, sub belfry.Subscription, text, topic, ttl string) {
	t.Helper()
	r := site.request(t, sub, text)
	if topic != "" {
		r.Header.Set("Topic", topic)
	}
	r.Header.Set("TTL", ttl)
	if a := do(t, s.Client(), r); a.status != 201 {
		t.Fatalf("%q was answered %+v", text, a)
	}
}

func awaitAck(t *testing.T, s *pushtest.Service, code, n int) {
	t.Helper()
	if sum, err := s.Await(t.Context(), func(sum pushtest.Summary) bool { return sum.Acknowledged[code] == n }); err != nil {
		t.Fatalf("%d times %d: %+v", n, code, sum)
	}
}

// The way of one message through a browser: registered, delivered, acknowledged,
// unregistered, gone.
func TestBrowserFromHelloToGone(t *testing.T) {
	service, site := pushtest.NewMemoryService(t), newSite(t)
	f := connect(t, service, "")
	sub := f.register("c1", site.publicKey()+"=")
	if again := f.register("c1", site.publicKey()+"="); again.Endpoint != sub.Endpoint {
		t.Error("registering twice made two endpoints: the page would send the first, which the browser forgot")
	}
	deliver(t, service, site, sub, "ding", "", "60")
	text, version := f.take("c1")
	if text != "ding" {
		t.Errorf("got %q", text)
	}
	f.ack("c1", version, 100)
	awaitAck(t, service, 100, 1)
	f.send(frame{"messageType": "nack", "version": version, "code": 302})
	awaitAck(t, service, 302, 1)
	if got := service.Received()[0]; got.Ack != 302 || got.Message != version || got.Plaintext != nil {
		t.Errorf("ledger holds %+v", got)
	}
	if sum := service.Summary(); sum.Acknowledged[100] != 0 || sum.Acknowledged[302] != 1 {
		t.Errorf("one message is acknowledged %v", sum.Acknowledged)
	}
	f.send(frame{"messageType": "broadcast_subscribe", "broadcasts": frame{"a": "b"}})
	f.silent()
	f.send(frame{"messageType": "unregister", "channelID": "c1", "code": 202})
	if m := f.read(); m["messageType"] != "unregister" || m["status"] != 200.0 || m["channelID"] != "c1" {
		t.Errorf("unregister was answered %v", m)
	}
	if a := do(t, service.Client(), site.request(t, sub, "late")); a.status != 410 || a.Errno != 106 {
		t.Errorf("a push to what was unregistered was answered %+v", a)
	}
	if sum := service.Summary(); sum.Unregistered[202] != 1 || sum.Subscriptions != 0 {
		t.Errorf("summary %+v", sum)
	}
}

// A message without a payload wakes the worker, which gets no data; an empty
// payload is a message like others (W3C Push API).
func TestBrowserGetsNoPayload(t *testing.T) {
	service, site := pushtest.NewMemoryService(t), newSite(t)
	f := connect(t, service, "")
	r := site.request(t, f.register("c1", site.publicKey()), "")
	r.Header.Del("Content-Encoding")
	setBody(r, nil)
	if a := do(t, service.Client(), r); a.status != 201 {
		t.Fatalf("answer %+v", a)
	}
	m := f.read()
	_, data := m["data"]
	_, headers := m["headers"]
	if m["messageType"] != "notification" || m["channelID"] != "c1" || m["version"] == "" || data || headers {
		t.Errorf("notification %v", m)
	}

	minted := service.Subscribe("")
	do(t, service.Client(), site.request(t, minted, ""))
	if got := service.Received()[1]; got.Plaintext == nil || len(got.Plaintext) != 0 || service.Summary().Decrypted != 1 {
		t.Errorf("an empty payload is %v, and %+v", got.Plaintext, service.Summary())
	}
}

// A browser binds its subscription to the site's key: nobody else may ring.
func TestBrowserKeyIsBinding(t *testing.T) {
	service, site := pushtest.NewMemoryService(t), newSite(t)
	f := connect(t, service, "")
	sub := f.register("c1", site.publicKey())
	if a := do(t, service.Client(), newSite(t).request(t, sub, "spam")); a.Message != "VAPID public key mismatch" {
		t.Errorf("another site was answered %+v", a)
	}
	// The site changed its key, and the page subscribed anew.
	fresh := newSite(t)
	if other := f.register("c1", fresh.publicKey()); other.Endpoint == sub.Endpoint {
		t.Error("another key gave the same endpoint")
	}
	if a := do(t, service.Client(), site.request(t, sub, "old")); a.status != 410 {
		t.Errorf("the old endpoint was answered %+v", a)
	}
	f.send(frame{"messageType": "register", "channelID": "c2", "key": "AAAA"})
	if m := f.read(); m["status"] != 400.0 {
		t.Errorf("a key that is none was answered %v", m)
	}
}

// Without the browser's keys, all is checked that its form can tell.
func TestBrowserBodyForm(t *testing.T) {
	service, site := pushtest.NewMemoryService(t), newSite(t)
	sub := connect(t, service, "").register("c1", site.publicKey())
	whole := seal(t, sub, []byte("hi"))
	tight := sealing{recordSize: 19}.seal(t, sub, []byte("hi"))
	for name, body := range map[string][]byte{
		"too short": whole[:102], "header only": whole[:86], "rs not above the record": tight, "two records": append(tight, 0),
		"sealed with the signing key": sealedWithVAPID(t, site, sub), "no key": append(append([]byte(nil), whole[:21]...), make([]byte, 100)...),
	} {
		r := site.request(t, sub, "")
		setBody(r, body)
		if a := do(t, service.Client(), r); a.status != 400 || a.Errno != 110 {
			t.Errorf("%s was answered %+v", name, a)
		}
	}
}

// Messages wait for a closed browser, the latest of a topic only, none that is
// over, and come again until they are acknowledged.
func TestBrowserComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		service, site := pushtest.NewMemoryService(t), newSite(t)
		f := connect(t, service, "")
		sub, other := f.register("c1", site.publicKey()), f.register("c2", site.publicKey())
		deliver(t, service, site, sub, "unheard", "", "600")
		f.take("c1") // and no acknowledgement: the browser crashed
		f.leave(service)
		deliver(t, service, site, sub, "old", "goal", "600")
		deliver(t, service, site, other, "elsewhere", "goal", "600")
		deliver(t, service, site, sub, "new", "goal", "600")
		deliver(t, service, site, sub, "short", "", "60")
		deliver(t, service, site, sub, "now or never", "", "0")
		time.Sleep(time.Minute)

		f = connect(t, service, f.uaid)
		versions := map[string]string{}
		for _, want := range []struct{ channel, text string }{{"c1", "unheard"}, {"c2", "elsewhere"}, {"c1", "new"}} {
			text, version := f.take(want.channel)
			if text != want.text {
				t.Errorf("got %q, want %q", text, want.text)
			}
			versions[text] = version
		}
		f.silent()
		f.ack("c1", versions["unheard"], 100)
		f.ack("c1", versions["new"], 101)
		awaitAck(t, service, 101, 1)
		f.leave(service)

		f = connect(t, service, f.uaid)
		if text, _ := f.take("c2"); text != "elsewhere" {
			t.Errorf("got %q", text)
		}
		f.silent()
	})
}

// A message with a topic replaces one that the browser has not acknowledged yet,
// even while it is connected.
func TestBrowserTopicWhileConnected(t *testing.T) {
	service, site := pushtest.NewMemoryService(t), newSite(t)
	f := connect(t, service, "")
	sub := f.register("c1", site.publicKey())
	for i := range 3 {
		deliver(t, service, site, sub, fmt.Sprint(i), "same", "60")
		f.take("c1")
	}
	f.leave(service)
	f = connect(t, service, f.uaid)
	if text, _ := f.take("c1"); text != "2" {
		t.Errorf("got %q", text)
	}
	f.silent()
}

// A profile that the service does not know gets a new name, and so learns that
// its subscriptions are gone; two copies of one profile never share a connection.
func TestBrowserNames(t *testing.T) {
	service, site := pushtest.NewMemoryService(t), newSite(t)
	if f := connect(t, service, "0123"); f.uaid == "0123" {
		t.Error("an unknown profile kept its name, and would believe in subscriptions that nobody has")
	}
	idle := connect(t, service, "")
	known := service.Summary().Browsers
	idle.ws.CloseNow()
	if _, err := service.Await(t.Context(), func(s pushtest.Summary) bool { return s.Browsers < known }); err != nil {
		t.Fatal(err)
	}
	if again := connect(t, service, idle.uaid); again.uaid == idle.uaid {
		t.Error("a profile that never subscribed is remembered for ever")
	}
	first := connect(t, service, "")
	first.register("c1", site.publicKey())
	second := connect(t, service, first.uaid)
	if second.uaid != first.uaid {
		t.Error("a known profile lost its name")
	}
	if _, _, err := first.ws.Read(t.Context()); err == nil {
		t.Error("the older connection of a profile stayed open")
	}
	second.silent()
	if sum := service.Summary(); sum.Browsers != known+1 {
		t.Errorf("%d browsers, want %d", sum.Browsers, known+1)
	}
}

// A service that has lost its browsers knows none of their names any more, also
// after a restart. A browser that kept its name would go on believing in
// subscriptions that are gone.
func TestBrowserForgotten(t *testing.T) {
	dir, site := t.TempDir(), newSite(t)
	service := restart(t, nil, dir)
	f := connect(t, service, "")
	sub, minted := f.register("c1", site.publicKey()), service.Subscribe("")
	if status, text := call(t, service, "DELETE", "/pushtest/browsers", ""); status != 204 {
		t.Errorf("answered %d %s", status, text)
	}
	if _, text, err := f.ws.Read(t.Context()); err == nil {
		t.Errorf("it was not cut off, and heard %s", text)
	}
	if sum, err := service.Await(t.Context(), func(sum pushtest.Summary) bool { return sum.Browsers == 0 }); err != nil || sum.Subscriptions != 1 {
		t.Errorf("%+v, %v", sum, err)
	}
	if a := do(t, service.Client(), site.request(t, sub, "late")); a.status != 410 {
		t.Errorf("its endpoint answered %+v", a)
	}
	deliver(t, service, site, minted, "no browser's", "", "60")
	for _, when := range []string{"at once", "after a restart"} {
		if again := connect(t, service, f.uaid); again.uaid == f.uaid {
			t.Errorf("%s it had its name again", when)
		}
		service = restart(t, service, dir)
	}
}

// Strangers are shown the door, and the service stays up.
func TestBrowserRefusesStrangers(t *testing.T) {
	service := pushtest.NewMemoryService(t)
	dial := func(protocols ...string) *websocket.Conn {
		ws, _, err := websocket.Dial(t.Context(), "wss://push.test/", &websocket.DialOptions{HTTPClient: service.Client(), Subprotocols: protocols})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ws.CloseNow() })
		return ws
	}
	if _, _, err := dial().Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusPolicyViolation {
		t.Errorf("without the subprotocol: %v", err)
	}
	for first, want := range map[string]websocket.StatusCode{
		`{"messageType":"register","channelID":"c1"}`: websocket.StatusPolicyViolation,
		`{"messageType":"hello"}`:                     websocket.StatusPolicyViolation,
		`hello`:                                       websocket.StatusUnsupportedData,
	} {
		ws := dial("push-notification")
		ws.Write(t.Context(), websocket.MessageText, []byte(first))
		if _, _, err := ws.Read(t.Context()); websocket.CloseStatus(err) != want {
			t.Errorf("%s: %v", first, err)
		}
	}
	connect(t, service, "").silent()
}

// Several browsers at once, over a real network, as in a test of a whole site.
func TestBrowsersTogether(t *testing.T) {
	service, err := pushtest.Start(pushtest.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer service.Close()
	site := newSite(t)
	if hosts := service.Hosts(); !strings.HasPrefix(service.PushHosts()[0], "http://127.0.0.1:") || len(hosts.Additions()) != 3 {
		t.Errorf("push hosts %q", service.PushHosts())
	}
	const browsers, messages = 5, 20
	var all sync.WaitGroup
	for range browsers {
		f := connect(t, service, "")
		sub := f.register("c1", site.publicKey())
		all.Go(func() {
			for i := range messages {
				deliver(t, service, site, sub, fmt.Sprint(i), "", "60")
			}
		})
		all.Go(func() {
			for i := range messages {
				text, version := f.take("c1")
				if text != fmt.Sprint(i) {
					t.Errorf("got %q in place of %d", text, i)
				}
				f.ack("c1", version, 100)
			}
		})
	}
	all.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	sum, err := service.Await(ctx, func(sum pushtest.Summary) bool { return sum.Acknowledged[100] == browsers*messages })
	if err != nil || sum.Accepted != browsers*messages || sum.Browsers != browsers || sum.Endpoints != browsers || sum.Decrypted != 0 {
		t.Errorf("summary %+v, %v", sum, err)
	}
}
