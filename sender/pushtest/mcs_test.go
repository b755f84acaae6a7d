package pushtest_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/sender/pushtest"
)

// A chromium speaks the browser's side of check-in, registration and MCS.
type chromium struct {
	t       *testing.T
	service *pushtest.Service
	id      uint64 // 0 before the first check-in
	secret  uint64
	conn    net.Conn
	in      *bufio.Reader
	seen    uint64 // frames on this connection
}

// stanza is a message of MCS, by numbers of fields; those that repeat are joined
// by commas.
type stanza map[protowire.Number]string

func readStanza(t *testing.T, b []byte) stanza {
	t.Helper()
	s := stanza{}
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		size := protowire.ConsumeFieldValue(number, kind, b[max(n, 0):])
		if n < 0 || size < 0 {
			t.Fatalf("not a message: %x", b)
		}
		value := b[n : n+size]
		b = b[n+size:]
		text := ""
		switch kind {
		case protowire.BytesType:
			octets, _ := protowire.ConsumeBytes(value)
			text = string(octets)
		case protowire.VarintType:
			v, _ := protowire.ConsumeVarint(value)
			text = fmt.Sprint(v)
		case protowire.Fixed64Type:
			text = fmt.Sprint(binary.LittleEndian.Uint64(value))
		}
		if s[number] != "" {
			text = s[number] + "," + text
		}
		s[number] = text
	}
	return s
}

// checkIn is a profile that the service has given a name, or has asked to keep it.
func (c *chromium) checkIn() {
	c.t.Helper()
	var request []byte
	if c.id != 0 {
		request = protowire.AppendVarint(protowire.AppendTag(request, 2, protowire.VarintType), c.id)
		request = protowire.AppendFixed64(protowire.AppendTag(request, 13, protowire.Fixed64Type), c.secret)
	}
	res, err := c.service.Client().Post(c.service.URL()+"/checkin", "application/x-protobuf", bytes.NewReader(request))
	if err != nil {
		c.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	answer := readStanza(c.t, body)
	fmt.Sscan(answer[7], &c.id)
	fmt.Sscan(answer[8], &c.secret)
	if answer[1] != "1" || answer[3] == "" || c.id == 0 || c.id >= 1<<63 || c.secret == 0 {
		c.t.Fatalf("check-in was answered %v", answer)
	}
}

func newChromium(t *testing.T, s *pushtest.Service) *chromium {
	t.Helper()
	c := &chromium{t: t, service: s}
	c.checkIn()
	return c
}

// post is one call of the registration.
func (c *chromium) post(form url.Values) string {
	c.t.Helper()
	r, err := http.NewRequestWithContext(c.t.Context(), "POST", c.service.URL()+"/register", strings.NewReader(form.Encode()))
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Authorization", fmt.Sprintf("AidLogin %d:%d", c.id, c.secret))
	res, err := c.service.Client().Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != 200 {
		c.t.Fatalf("registration was answered %s %v", res.Status, err)
	}
	return string(body)
}

// plain is a request that nobody vouches for.
func plain(t *testing.T, url, body string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "POST", url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

const page = "wp:https://shop.example/#1F0C61E4-A8E7-4F4C-A3AE-77CF2B5A8-V2"

func registration(subtype, key string) url.Values {
	return url.Values{"app": {"org.chromium.linux"}, "X-subtype": {subtype}, "sender": {key}, "appid": {"the-app"}, "scope": {"GCM"}}
}

// subscribe returns what the page would send to its server, at an unbranded
// Chromium.
func (c *chromium) subscribe(subtype, key string) belfry.Subscription {
	c.t.Helper()
	token, ok := strings.CutPrefix(c.post(registration(subtype, key)), "token=")
	if !ok || token == "" {
		c.t.Fatalf("registration was answered %q", token)
	}
	_, sub, _, _ := readAppendixA(c.t)
	sub.Endpoint = belfry.StoredEndpoint("https://jmt17.google.com/fcm/send/" + token)
	return sub
}

// login connects, and names the messages that came before.
func (c *chromium) login(received ...string) {
	c.t.Helper()
	c.conn = c.service.DialMCS()
	c.t.Cleanup(func() { c.conn.Close() })
	c.in, c.seen = bufio.NewReader(c.conn), 0
	var m []byte
	text := func(number protowire.Number, s string) {
		m = protowire.AppendString(protowire.AppendTag(m, number, protowire.BytesType), s)
	}
	text(1, "chrome-156")
	text(3, fmt.Sprint(c.id))
	text(5, fmt.Sprint(c.secret))
	for _, id := range received {
		text(10, id)
	}
	c.conn.Write([]byte{41})
	c.send(2, m)
	if version, err := c.in.ReadByte(); err != nil || version != 41 {
		c.t.Fatalf("version %d, %v", version, err)
	}
	if tag, answer := c.read(); tag != 3 || answer[1] != "chrome-156" || answer[8] == "" {
		c.t.Fatalf("login was answered %d %v", tag, answer)
	}
}

func (c *chromium) send(tag byte, m []byte) {
	c.t.Helper()
	if _, err := c.conn.Write(append(binary.AppendUvarint([]byte{tag}, uint64(len(m))), m...)); err != nil {
		c.t.Fatal(err)
	}
}

func (c *chromium) read() (byte, stanza) {
	c.t.Helper()
	tag, err := c.in.ReadByte()
	if err != nil {
		c.t.Fatal(err)
	}
	size, err := binary.ReadUvarint(c.in)
	if err != nil {
		c.t.Fatal(err)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(c.in, body); err != nil {
		c.t.Fatal(err)
	}
	c.seen++
	return tag, readStanza(c.t, body)
}

// take reads one message, opens it with the page's keys and returns text and id.
func (c *chromium) take(subtype string) (text, id string) {
	c.t.Helper()
	tag, m := c.read()
	_, sub, key, _ := readAppendixA(c.t)
	plain, err := pushtest.Open([]byte(m[21]), key, sub.Auth)
	if tag != 8 || m[5] != "org.chromium.linux" || m[9] == "" || m[24] != "1" || err != nil ||
		m[7] != "\n\asubtype\x12"+string(rune(len(subtype)))+subtype+",\n\x10content-encoding\x12\taes128gcm" {
		c.t.Fatalf("message %d %q: %v", tag, m, err)
	}
	return string(plain), m[9]
}

// ack says that all frames so far have come: an IqStanza with the extension
// StreamAck.
func (c *chromium) ack() {
	c.t.Helper()
	m := protowire.AppendBytes(protowire.AppendTag(nil, 7, protowire.BytesType), []byte{8, 13, 18, 0})
	c.send(7, protowire.AppendVarint(protowire.AppendTag(m, 10, protowire.VarintType), c.seen))
}

// silent reports whether the service has nothing more to say: a heartbeat comes
// back before anything else. It acknowledges nothing.
func (c *chromium) silent() {
	c.t.Helper()
	c.send(0, nil)
	if tag, m := c.read(); tag != 1 {
		c.t.Errorf("unexpected frame %d %v", tag, m)
	}
}

func (c *chromium) leave() {
	c.t.Helper()
	c.conn.Close()
	if _, err := c.service.Await(c.t.Context(), func(sum pushtest.Summary) bool { return sum.Browsers == 0 }); err != nil {
		c.t.Fatal(err)
	}
}

// The way of one message through Chromium: checked in, registered, delivered,
// acknowledged, unregistered, gone.
func TestChromiumFromCheckInToGone(t *testing.T) {
	service, site := pushtest.NewMemoryService(t), newSite(t)
	c := newChromium(t, service)
	id := c.id
	if c.checkIn(); c.id != id {
		t.Error("a profile lost its name, and with it its subscriptions")
	}
	if own := c.post(url.Values{"app": {"com.google.android.gms"}, "sender": {"745476177629"}}); !strings.HasPrefix(own, "token=") {
		t.Errorf("the browser's own registration was answered %q", own)
	}
	if sum := service.Summary(); sum.Subscriptions != 0 {
		t.Errorf("the browser's own registration counts as a page's: %+v", sum)
	}
	sub := c.subscribe(page, site.publicKey())
	if again := c.subscribe(page, site.publicKey()); again.Endpoint != sub.Endpoint {
		t.Error("registering twice made two endpoints")
	}
	c.login()
	deliver(t, service, site, sub, "ding", "", "60")
	text, message := c.take(page)
	if got := service.Received()[0]; text != "ding" || got.Message != message || got.Ack != 0 || got.Endpoint != sub.Endpoint {
		t.Errorf("got %q, ledger holds %+v", text, got)
	}
	c.ack()
	awaitAck(t, service, 100, 1)
	if bye := c.post(url.Values{"app": {"org.chromium.linux"}, "X-subtype": {page}, "sender": {"*"}, "scope": {"*"}, "delete": {"true"}, "appid": {"the-app"}}); bye != "token=the-app" {
		t.Errorf("unregistering was answered %q", bye)
	}
	if a := do(t, service.Client(), site.request(t, sub, "late")); a.status != 410 {
		t.Errorf("a push to what was unregistered was answered %+v", a)
	}
	c.silent()
}

// Chrome and Chromium name different hosts, and only the one that a token was
// signed for will do; nobody's endpoint works at another's door.
func TestChromiumHosts(t *testing.T) {
	service, site := pushtest.NewMemoryService(t), newSite(t)
	c := newChromium(t, service)
	sub := c.subscribe(page, site.publicKey())
	token := sub.Endpoint.Reveal()[strings.LastIndexByte(sub.Endpoint.Reveal(), '/')+1:]
	branded := sub
	branded.Endpoint = belfry.StoredEndpoint("https://fcm.googleapis.com/fcm/send/" + token)
	deliver(t, service, site, branded, "ding", "", "60")
	foreign := site.request(t, sub, "ding")
	foreign.Header.Set("Authorization", site.authorization("https://fcm.googleapis.com"))
	if a := do(t, service.Client(), foreign); a.status != 401 || a.Message != "Invalid VAPID audience" {
		t.Errorf("a token for another host was answered %+v", a)
	}
	minted := service.Subscribe("")
	for _, endpoint := range []string{
		service.URL() + "/wpush/v2/" + token,
		"https://jmt17.google.com/fcm/send/" + minted.Endpoint.Reveal()[strings.LastIndexByte(minted.Endpoint.Reveal(), '/')+1:],
		service.URL() + "/fcm/send/" + token,
	} {
		sub.Endpoint = belfry.StoredEndpoint(endpoint)
		if a := do(t, service.Client(), site.request(t, sub, "ding")); a.status != 404 {
			t.Errorf("%s was answered %+v", endpoint, a)
		}
	}
	for name, form := range map[string]url.Values{
		"no key": registration(page, ""), "a key that is none": registration(page, "AAAA"), "no program": {"X-subtype": {page}, "sender": {site.publicKey()}},
	} {
		if got := c.post(form); got != "Error=INVALID_PARAMETERS" {
			t.Errorf("%s was answered %q", name, got)
		}
	}
	if a := do(t, service.Client(), plain(t, service.URL()+"/register", "")); a.status != 200 || service.Summary().Subscriptions != 2 {
		t.Errorf("without a name: %+v, %+v", a, service.Summary())
	}
}

// Messages wait for a closed browser, the latest of a topic only, none that is
// over, and come again until they are acknowledged; Chromium drops its first
// connection right after the login.
func TestChromiumComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		service, site := pushtest.NewMemoryService(t), newSite(t)
		c := newChromium(t, service)
		sub, other := c.subscribe(page, site.publicKey()), c.subscribe(page+"2", site.publicKey())
		c.login()
		deliver(t, service, site, sub, "unheard", "", "600")
		c.take(page) // and no acknowledgement
		c.leave()
		deliver(t, service, site, sub, "old", "goal", "600")
		deliver(t, service, site, other, "elsewhere", "goal", "600")
		deliver(t, service, site, sub, "new", "goal", "600")
		deliver(t, service, site, sub, "short", "", "60")
		deliver(t, service, site, sub, "now or never", "", "0")
		time.Sleep(time.Minute)

		c.login()
		ids := map[string]string{}
		for _, want := range []struct{ subtype, text string }{{page, "unheard"}, {page + "2", "elsewhere"}, {page, "new"}} {
			text, id := c.take(want.subtype)
			if text != want.text {
				t.Errorf("got %q, want %q", text, want.text)
			}
			ids[text] = id
		}
		c.silent()
		c.leave()

		c.login(ids["unheard"], ids["new"]) // says at the login what it had
		awaitAck(t, service, 100, 2)
		if text, _ := c.take(page + "2"); text != "elsewhere" {
			t.Errorf("got %q", text)
		}
		c.ack()
		awaitAck(t, service, 100, 3)
		c.ack() // the same again changes nothing
		c.silent()
		c.leave()
		c.login()
		c.silent()
	})
}

// A profile keeps its name over a restart of the service, and one that nobody
// knows is let in with the name that it says, or it would wait for days.
func TestChromiumSurvivesARestart(t *testing.T) {
	dir, site := t.TempDir(), newSite(t)
	service := restart(t, nil, dir)
	c := newChromium(t, service)
	sub := c.subscribe(page, site.publicKey())
	deliver(t, service, site, sub, "waiting", "", "600")
	c.service = restart(t, service, dir)
	c.login()
	if text, _ := c.take(page); text != "waiting" {
		t.Errorf("got %q", text)
	}
	c.service = restart(t, c.service, t.TempDir())
	c.login()
	if sum := c.service.Summary(); sum.Browsers != 1 || sum.Subscriptions != 0 {
		t.Errorf("a service that knows nobody has %+v", sum)
	}
	deliver(t, c.service, site, c.subscribe(page, site.publicKey()), "anew", "", "60")
	if text, _ := c.take(page); text != "anew" {
		t.Errorf("got %q", text)
	}
}

// Strangers are shown the door in time, and the service stays up.
func TestChromiumRefusesStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		service := pushtest.NewMemoryService(t)
		for name, first := range map[string]string{
			"another version":  "\x26\x02\x00",
			"no login":         "\x29\x07\x00",
			"a login too long": "\x29\x02\x81\x80\x04",
			"no message":       "\x29\x02\x01\xff",
			"silence":          "",
		} {
			conn := service.DialMCS()
			conn.Write([]byte(first))
			began := time.Now()
			if _, err := conn.Read(make([]byte, 1)); err == nil || time.Since(began) > 10*time.Second {
				t.Errorf("%s: %v after %v", name, err, time.Since(began))
			}
		}
		if a := do(t, service.Client(), plain(t, service.URL()+"/checkin", "\xff")); a.status != 400 {
			t.Errorf("a check-in that is none was answered %+v", a)
		}
		c := newChromium(t, service)
		c.login()
		c.silent()
	})
}

// Every kind of frame can say what has come, and what was said once is not
// counted again: a message that is taken for acknowledged is lost.
func TestChromiumAcknowledges(t *testing.T) {
	service, site := pushtest.NewMemoryService(t), newSite(t)
	c := newChromium(t, service)
	sub := c.subscribe(page, site.publicKey())
	c.login()
	for n, ack := range []struct {
		tag   byte
		field protowire.Number
	}{{7, 10}, {0, 2}, {1, 2}, {8, 11}, {7, 10}} {
		deliver(t, service, site, sub, fmt.Sprint(n), "", "60")
		if text, _ := c.take(page); text != fmt.Sprint(n) {
			t.Errorf("got %q", text)
		}
		c.send(ack.tag, protowire.AppendVarint(protowire.AppendTag(nil, ack.field, protowire.VarintType), c.seen))
		awaitAck(t, service, 100, n+1)
		if ack.tag == 0 {
			c.read() // a heartbeat is answered
		}
	}
	deliver(t, service, site, sub, "unheard", "", "60")
	c.take(page)
	c.silent()
	c.leave()
	c.login()
	if text, _ := c.take(page); text != "unheard" {
		t.Errorf("got %q", text)
	}
	c.silent()
}
