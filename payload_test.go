package belfry_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/internal/vectors"
)

const (
	site = "https://app.example"
	id   = "01j9x2v7q3m8k5n4p6r0s1t2w3"
)

// full is a message with everything in it.
const full = `{"title":"50 % <off> & more","body":"Today “only”","url":"/sale?a=1&b=2","icon":"/icon.png","image":"https://app.example/hero.jpg",
	"lang":"en-GB","dir":"auto","tag":"sale","silent":true,"requireInteraction":true,"renotify":true,
	"actions":[{"action":"open","title":"Open","url":"/x"},{"action":"later","title":"Later"},{"action":"shop","title":"Shop","url":"https://shop.example/y"}],
	"data":{"order":12345678901234567890,"html":"<b>","nested":{"z":1,"a":[true,null]}},"urgency":"high","ttl":3600,"topic":"prices"}`

// The payload is what every browser and every worker ever installed reads, so
// its form is fixed to the octet: members, order, and "<" as one octet of few.
func TestPayloadGolden(t *testing.T) {
	for _, tt := range []struct{ name, text, channel, origin, want string }{
		{"a title alone", `{"title":"T"}`, "", site,
			`{"web_push":8030,"notification":{"title":"T","navigate":"https://app.example/","tag":"` + id + `","data":{"belfry":{"id":"` + id + `"}}}}`},
		{"everything", full, "news", site,
			`{"web_push":8030,"notification":{"title":"50 % <off> & more","body":"Today “only”","navigate":"https://app.example/sale?a=1&b=2",` +
				`"lang":"en-GB","dir":"auto","tag":"sale","icon":"https://app.example/icon.png","image":"https://app.example/hero.jpg",` +
				`"silent":true,"requireInteraction":true,"renotify":true,"actions":[` +
				`{"action":"open","title":"Open","navigate":"https://app.example/x"},` +
				`{"action":"later","title":"Later","navigate":"https://app.example/sale?a=1&b=2"},` +
				`{"action":"shop","title":"Shop","navigate":"https://app.example/"}],` +
				`"data":{"belfry":{"channel":"news","id":"` + id + `"},"html":"<b>","nested":{"z":1,"a":[true,null]},"order":12345678901234567890}}}`},
		{"another of our sites", `{"title":"T","url":"/x","icon":"/i.png","topic":"prices"}`, "", "https://shop.example",
			`{"web_push":8030,"notification":{"title":"T","navigate":"https://shop.example/x","tag":"prices","icon":"https://shop.example/i.png",` +
				`"data":{"belfry":{"id":"` + id + `"}}}}`},
		{"a click across sites", `{"title":"T","url":"https://shop.example/x"}`, "", site,
			`{"web_push":8030,"notification":{"title":"T","navigate":"https://app.example/","tag":"` + id + `","data":{"belfry":{"id":"` + id + `"}}}}`},
		{"a loopback site", `{"title":"T","url":"/x","image":"/i.png"}`, "", "http://localhost:8080",
			`{"web_push":8030,"notification":{"title":"T","navigate":"http://localhost:8080/x","tag":"` + id + `","image":"http://localhost:8080/i.png",` +
				`"data":{"belfry":{"id":"` + id + `"}}}}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := message(t, tt.text)
			if err := m.Check(sites); err != nil {
				t.Fatal(err)
			}
			for range 20 { // maps have no order of their own
				got, err := m.Payload(id, tt.channel, tt.origin)
				if err != nil {
					t.Fatal(err)
				}
				if string(got) != tt.want {
					t.Fatalf("got  %s\nwant %s", got, tt.want)
				}
			}
			if !reflect.DeepEqual(m, message(t, tt.text)) {
				t.Error("compiling changed the message, which other sites share")
			}
		})
	}
}

// A message that is one octet too long is refused by push services after it was
// queued, for everybody; so it is refused before, and the size is measured on
// what is sent, not on what was written (WP-32, WP-33).
func TestPayloadSize(t *testing.T) {
	var sizes struct {
		Rows []struct {
			PlaintextLen int  `json:"plaintext_len"`
			BodyLen      int  `json:"body_len"`
			Pad          int  `json:"pad"`
			Fits         bool `json:"fits_4096"`
		}
	}
	vectors.Load(t, "sizes", &sizes)
	fits, over := 0, 1<<20
	mobile := false
	for _, row := range sizes.Rows {
		if row.Fits {
			fits = max(fits, row.PlaintextLen)
		} else {
			over = min(over, row.PlaintextLen)
		}
		mobile = mobile || row.Pad == 0 && row.BodyLen == 2744 && row.PlaintextLen == belfry.MobilePayload
	}
	if fits != belfry.MaxPayload || over != belfry.MaxPayload+1 || !mobile {
		t.Fatalf("limits are %d and %d, the vectors say %d", belfry.MaxPayload, belfry.MobilePayload, fits)
	}

	empty, err := belfry.Message{Title: "T", Body: "x"}.Payload(id, "", site)
	if err != nil {
		t.Fatal(err)
	}
	room := belfry.MaxPayload - len(empty) + 1 // octets of body that still fit
	for _, tt := range []struct {
		name, body string
		size       int
	}{
		{"the last octet", strings.Repeat("x", room), 3993},
		{"one more", strings.Repeat("x", room+1), 3994},
		{"two octets on the edge, within", strings.Repeat("x", room-2) + "ü", 3993},
		{"two octets on the edge, across", strings.Repeat("x", room-1) + "ü", 3994},
		{"four octets on the edge, within", strings.Repeat("x", room-4) + "🔔", 3993},
		{"four octets on the edge, across", strings.Repeat("x", room-1) + "🔔", 3996},
		{"a quote, which is sent as two", strings.Repeat("x", room-1) + `"`, 3994},
		{"a control character, which is sent as six", strings.Repeat("x", room-1) + "\x1b", 3998},
		{"an angle bracket, which is sent as one", strings.Repeat("x", room-1) + "<", 3993},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := belfry.Message{Title: "T", Body: tt.body}
			if err := m.Check(sites); err != nil {
				t.Fatal(err)
			}
			b, err := m.Payload(id, "", site)
			if tt.size <= belfry.MaxPayload {
				if err != nil || len(b) != tt.size {
					t.Fatalf("%d octets: %v", len(b), err)
				}
				return
			}
			e := told(t, err, belfry.ErrTooLarge, "message-too-large")
			if b != nil || e.Where != "" || !strings.Contains(e.Text, fmt.Sprintf("is %d octets", tt.size)) ||
				!strings.Contains(e.Text, "3993") || e.Hint == "" {
				t.Errorf("%d octets: %v, hint %q", len(b), err, e.Hint)
			}
		})
	}
}

// What compiles must be read by both parsers of declarative messages: the one
// on a phone drops the whole message for one wrong member (BR-50..53).
func TestDeclarativeVectors(t *testing.T) {
	var file struct {
		Origin string
		Rows   []struct {
			Payload     json.RawMessage
			Expect, Why string
		}
	}
	vectors.Load(t, "declarative", &file)
	if len(file.Rows) == 0 {
		t.Fatal("no rows")
	}
	for _, row := range file.Rows {
		t.Run(row.Why, func(t *testing.T) {
			err := belfry.CheckPayload(row.Payload, file.Origin)
			if row.Expect == "ok" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if e := told(t, err, belfry.ErrInvalid, row.Expect); e.Where != "payload."+row.Expect {
				t.Errorf("where is %q", e.Where)
			}
		})
	}
}

// The rows that the rules name and the vectors do not hold.
func TestCheckPayloadRefuses(t *testing.T) {
	for _, row := range []struct{ member, json string }{
		{"web_push", ``},
		{"web_push", `[]`},
		{"web_push", `null`},
		{"web_push", `{"web_push":8030`},
		{"notification", `{"web_push":8030}`},
		{"notification", `{"web_push":8030,"notification":null}`},
		{"title", with(`"title":7`)},
		{"navigate", with(`"navigate":null`)},
		{"navigate", with(`"navigate":"https://app.example:8443/"`)},
		{"navigate", with(`"navigate":"http://app.example/"`)},
		{"navigate", with(`"navigate":"https://app.example@evil.example/"`)},
		{"body", with(`"body":null`)},
		{"lang", with(`"lang":1`)},
		{"tag", with(`"tag":[]`)},
		{"dir", with(`"dir":null`)},
		{"silent", with(`"silent":0`)},
		{"requireInteraction", with(`"requireInteraction":"yes"`)},
		{"renotify", with(`"renotify":null`)},
		{"icon", with(`"icon":7`)},
		{"icon", with(`"icon":"javascript:1"`)},
		{"icon", with(`"icon":"https:///i.png"`)},
		{"icon", with(`"icon":"data:image/png,x"`)},
		{"image", with(`"image":"//app.example/i.png"`)},
		{"actions", with(`"actions":{}`)},
		{"actions", with(`"actions":["open"]`)},
		{"actions", with(`"actions":[{"action":"","title":"A","navigate":"https://app.example/"}]`)},
		{"actions", with(`"actions":[{"action":"a","title":"","navigate":"https://app.example/"}]`)},
		{"actions", with(`"actions":[{"action":"a","title":"A","navigate":"https://evil.example/"}]`)},
		{"app_badge", with(`"app_badge":"3"`)},
		{"app_badge", strings.Replace(with(`"body":""`), `{`, `{"app_badge":-1,`, 1)},
		{"mutable", with(`"mutable":"true"`)},
		{"mutable", strings.Replace(with(`"body":""`), `{`, `{"mutable":1,`, 1)},
	} {
		err := belfry.CheckPayload([]byte(row.json), site)
		if err == nil {
			t.Errorf("accepts %s", row.json)
			continue
		}
		told(t, err, belfry.ErrInvalid, row.member)
	}
	// What nobody checked is caught before it is sent.
	_, err := belfry.Message{}.Payload(id, "", site)
	told(t, err, belfry.ErrInvalid, "title")
	for _, members := range []string{`"x":{}`, `"app_badge":0`, `"actions":[]`, `"icon":"http://localhost:8080/i.png"`} {
		if err := belfry.CheckPayload([]byte(with(members)), site); err != nil {
			t.Errorf("%s: %v", members, err)
		}
	}
}

// with is the least payload, with members that may replace its own.
func with(members string) string {
	return `{"web_push":8030,"notification":{"title":"T","navigate":"https://app.example/",` + members + `}}`
}

// One payload is for one site: whoever sends it to the subscriptions of another
// gets clicks that browsers refuse.
func TestPayloadIsForOneOrigin(t *testing.T) {
	m := message(t, full)
	var made [][]byte
	for _, origin := range sites {
		b, err := m.Payload(id, "", origin)
		if err != nil {
			t.Fatal(err)
		}
		for _, other := range sites {
			if err := belfry.CheckPayload(b, other); (err == nil) != (other == origin) {
				t.Errorf("made for %s, checked for %s: %v", origin, other, err)
			}
		}
		if slices.ContainsFunc(made, func(o []byte) bool { return bytes.Equal(o, b) }) {
			t.Errorf("%s shares a payload with another site", origin)
		}
		made = append(made, b)
	}
}
