package belfry_test

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/internal/vectors"
)

// sites are those that the tests ring for; the first is where subscriptions come from.
var sites = []string{"https://app.example", "https://shop.example", "https://app.io", "http://localhost:8080", "http://[::1]:8080"}

func message(t testing.TB, text string) (m belfry.Message) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// An operator who is told no must learn which member, and what to write; a
// message that is wrong must never reach the queue.
func TestMessageCheckRefuses(t *testing.T) {
	for _, tt := range []struct{ text, code, where, what string }{
		{`{}`, "title", "title", "empty"},
		{`{"title":" \t\n"}`, "title", "title", "empty"},
		{`{"title":"a\u0000b"}`, "text", "title", "NUL"},
		{`{"title":"T","body":"\u0000"}`, "text", "body", "NUL"},
		{`{"title":"T","tag":"\u0000"}`, "text", "tag", "NUL"},
		{`{"title":"T","topic":"\u0000"}`, "text", "topic", "NUL"},
		{`{"title":"T","lang":"english!"}`, "lang", "lang", `"english!"`},
		{`{"title":"T","lang":"e"}`, "lang", "lang", "language tag"},
		{`{"title":"T","dir":"up"}`, "dir", "dir", `"up"`},
		{`{"title":"T","urgency":"urgent"}`, "urgency", "urgency", `"urgent"`},
		{`{"title":"T","urgency":"high, low"}`, "urgency", "urgency", "very-low, low, normal or high"},
		{`{"title":"T","ttl":-1}`, "ttl", "ttl", "-1"},
		{`{"title":"T","ttl":2419201}`, "ttl", "ttl", "2419201"},
		{`{"title":"T","topic":"` + strings.Repeat("t", 257) + `"}`, "topic", "topic", "257"},
		{`{"title":"T","variants":{"":{"title":"T"}}}`, "variants", "variants", "is not a language tag"},
		{`{"title":"T","variants":{"de_AT":{"title":"T"}}}`, "variants", "variants", `"de_AT" is not a language tag`},
		{`{"title":"T","variants":{"deutsch!":{"title":"T"}}}`, "variants", "variants", "is not a language tag"},
		{`{"title":"T","variants":{"de":{},"DE":{}}}`, "variants", "variants.de", "same language as DE"},
		{`{"title":"T","lang":"en","variants":{"EN":{}}}`, "variants", "variants.EN", "the message itself"},
		{`{"title":"T","variants":{` + tags(33) + `}}`, "variants", "variants", "at most 32, not 33"},
		{`{"title":"T","variants":{"de":{"title":" "}}}`, "title", "variants.de.title", "empty"},
		{`{"title":"T","variants":{"de":{"body":"\u0000"}}}`, "text", "variants.de.body", "NUL"},
		{`{"title":"T","variants":{"ar":{"dir":"left"}}}`, "dir", "variants.ar.dir", `"left"`},
		{`{"title":"T","variants":{"de":{"url":"de"}}}`, "url", "variants.de.url", "neither"},
		{`{"title":"T","variants":{"de":{"image":"https://evil.example/"}}}`, "url", "variants.de.image", "rings for"},
		{`{"title":"T","variants":{"de":{"actions":[{"action":"a","title":""}]}}}`, "actions", "variants.de.actions[0].title", "empty"},
		{`{"variants":{"de":{"title":"T"}}}`, "title", "title", "empty"}, // who reads no German would get nothing
		{`{"title":"T","data":[]}`, "data", "data", "object"},
		{`{"title":"T","data":"x"}`, "data", "data", "object"},
		{`{"title":"T","data":7}`, "data", "data", "object"},
		{`{"title":"T","data":{"a":1e999}}`, "data", "data", "number"},
		{`{"title":"T","data":{"belfry":{}}}`, "data", "data.belfry", "reserved"},
		{`{"title":"T","data":{"\u0062elfry":1}}`, "data", "data.belfry", "reserved"},
		{`{"title":"T","actions":[{},{},{},{},{},{},{},{},{}]}`, "actions", "actions", "at most 8, not 9"},
		{`{"title":"T","actions":[{"title":"A"}]}`, "actions", "actions[0].action", "1 to 64"},
		{`{"title":"T","actions":[{"action":"a b","title":"A"}]}`, "actions", "actions[0].action", "1 to 64"},
		{`{"title":"T","actions":[{"action":"a\n","title":"A"}]}`, "actions", "actions[0].action", "1 to 64"},
		{`{"title":"T","actions":[{"action":"` + strings.Repeat("a", 65) + `","title":"A"}]}`, "actions", "actions[0].action", "1 to 64"},
		{`{"title":"T","actions":[{"action":"a","title":"A"},{"action":"b","title":" "}]}`, "actions", "actions[1].title", "empty"},
		{`{"title":"T","actions":[{"action":"a","title":"\u0000"}]}`, "text", "actions[0].title", "NUL"},
		{`{"title":"T","actions":[{"action":"a","title":"A"},{"action":"a","title":"B"}]}`, "actions", "actions[1].action", "twice"},
		{`{"title":"T","actions":[{"action":"a","title":"A","url":"x"}]}`, "url", "actions[0].url", "neither"},
		{`{"title":"T","actions":[{"action":"a","title":"A"},{"action":"b","title":"B","url":"https://evil.example/"}]}`, "url", "actions[1].url", "rings for"},
	} {
		e := told(t, message(t, tt.text).Check(sites), belfry.ErrInvalid, tt.code)
		if e.Where != "message."+tt.where || !strings.Contains(e.Text, tt.what) {
			t.Errorf("%.80s: %q at %q does not say %q", tt.text, e.Text, e.Where, tt.what)
		}
	}
	// JSON cannot say these, Go programs can.
	for where, m := range map[string]belfry.Message{
		"message.title":            {Title: "a\xffb"},
		"message.body":             {Title: "T", Body: "\xc3"},
		"message.data":             {Title: "T", Data: json.RawMessage(`{"a":`)},
		"message.data ":            {Title: "T", Data: json.RawMessage("{\"a\":\"\xff\"}")}, // WebKit drops the whole message
		"message.actions[0].title": {Title: "T", Actions: []belfry.Action{{Action: "a", Title: "\xff"}}},
	} {
		var e *belfry.Error
		if err := m.Check(sites); !errors.As(err, &e) || e.Where != strings.TrimSpace(where) {
			t.Errorf("%s: got %v", where, err)
		}
	}
}

// A click must lead to a site that this server rings for, and an icon from
// elsewhere tells a stranger who got the message (SEC-31, SEC-32).
func TestMessageCheckLinks(t *testing.T) {
	for _, link := range []string{"", "/", "/sale", "/sale?a=b#c", "/ü?ä=ö", "/a//b", "/a:b", "https://app.example", "https://app.example/",
		"https://APP.example/x", "HTTPS://app.example/x", "https://app.example:443/x", "https://app.example?x", "https://shop.example/x", "http://localhost:8080/x", "http://[::1]:8080/x"} {
		m := belfry.Message{Title: "T", URL: link, Icon: link, Image: link, Actions: []belfry.Action{{Action: "a", Title: "A", URL: link}}}
		if err := m.Check(sites); err != nil {
			t.Errorf("%q: %v", link, err)
		}
	}
	refused := map[string]string{ // and what the operator is told
		"x":                              "neither",
		"sale/today":                     "neither",
		"?x":                             "neither",
		"#x":                             "neither",
		"//evil.example/x":               "neither",
		"///evil.example/x":              "neither",
		`/\evil.example`:                 "neither",
		`\\evil.example`:                 "neither",
		"/a b":                           "neither",
		" /a":                            "neither",
		"/a\tb":                          "neither",
		"/a\nb":                          "neither",
		"/a\u0085b":                      "neither",
		"/a\xff":                         "neither",
		"/%zz":                           "neither",
		"https://":                       "neither",
		"https:///x":                     "neither",
		"https:app.example":              "neither",
		"https:/app.example":             "neither",
		"https://app.example:x/":         "neither",
		"https://user@app.example/":      "neither",
		"https://app.example@evil.test/": "neither",
		"javascript:alert(1)":            "neither",
		"java\nscript:alert(1)":          "neither",
		"data:text/html,x":               "neither",
		"blob:https://app.example/x":     "neither",
		"ftp://app.example/":             "neither",
		"https://evil.example/":          `"https://evil.example" is not a site`,
		"https://app.example.evil.test/": "is not a site",
		"https://app.example:8443/":      "is not a site",
		"https://app.İo/":                "neither", // in lower case it is app.io, yet browsers go elsewhere
		"https://app.%C4%B0o/":           "neither",
		"https://app.example;x/":         "neither",
		"https://xapp.example/":          "is not a site",
		"http://app.example/":            "is not a site", // plain http is for loopback origins alone
		"https://localhost:8080/":        "is not a site",
	}
	for link, what := range refused {
		for where, m := range map[string]belfry.Message{
			"message.url":            {URL: link},
			"message.icon":           {Icon: link},
			"message.image":          {Image: link},
			"message.actions[0].url": {Actions: []belfry.Action{{Action: "a", Title: "A", URL: link}}},
		} {
			m.Title = "T"
			e := told(t, m.Check(sites), belfry.ErrInvalid, "url")
			if e.Where != where || !strings.Contains(e.Text, what) {
				t.Errorf("%s %q: %q at %q does not say %q", where, link, e.Text, e.Where, what)
			}
			if strings.Contains(what, "site") != (e.Hint != "") || strings.ContainsFunc(e.Text, unprintable) {
				t.Errorf("%s %q: text %q, hint %q", where, link, e.Text, e.Hint)
			}
		}
	}
}

func unprintable(r rune) bool { return r < ' ' || '~' < r }

func TestMessageCheckAccepts(t *testing.T) {
	for _, text := range []string{
		`{"title":"T"}`,
		`{"title":"T","ttl":0}`,
		`{"title":"T","ttl":2419200}`,
		`{"title":"T","ttl":null,"image":null,"lang":null,"data":null,"variants":null}`, // null is absence
		`{"title":"T","urgency":"very-low"}`, `{"title":"T","urgency":"low"}`, `{"title":"T","urgency":"normal"}`, `{"title":"T","urgency":"high"}`,
		`{"title":"T","dir":"auto"}`, `{"title":"T","dir":"ltr"}`, `{"title":"T","dir":"rtl"}`,
		`{"title":"T","lang":"de"}`, `{"title":"T","lang":"pt-BR"}`, `{"title":"T","lang":"zh-Hant-TW"}`,
		`{"title":"T","topic":"` + strings.Repeat("t", 256) + `"}`,
		`{"title":"T","lang":"en","variants":{"de":{"title":"U"},"de-AT":{"title":"V"},"en-GB":{}}}`, `{"title":"T","variants":{}}`, `{"title":"T","variants":{` + tags(32) + `}}`,
		`{"title":"T","data":{}}`, `{"title":"T","data":{"Belfry":1,"a":{"belfry":2}}}`,
		`{"title":"\u001b[31m<b>🔔</b>","body":"two\nlines"}`, // data is never a terminal's or a page's text here
		`{"title":"T","actions":[{"action":"a","title":"A"},{"action":"B.2_c-d","title":"B","url":"/b"},{"action":"3","title":"C"},
			{"action":"4","title":"D"},{"action":"5","title":"E"},{"action":"6","title":"F"},{"action":"7","title":"G"},{"action":"8","title":"H"}]}`,
	} {
		if err := message(t, text).Check(sites); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// Zero is "now or never" and must be asked for: a message that nobody gave a
// lifetime waits a day for the phone that is switched off (WP-06).
func TestMessageLifetime(t *testing.T) {
	for text, want := range map[string]time.Duration{
		`{"title":"T"}`: 24 * time.Hour, `{"title":"T","ttl":0}`: 0, `{"title":"T","ttl":90}`: 90 * time.Second, `{"title":"T","ttl":2419200}`: belfry.MaxTTL,
	} {
		if got := message(t, text).Lifetime(); got != want {
			t.Errorf("%s lives %v, not %v", text, got, want)
		}
	}
	if belfry.MaxTTL != 2419200*time.Second {
		t.Error("the longest lifetime is not 28 days (WP-04)")
	}
}

// Apple refuses topics of other lengths, and every push service can read a
// topic that is not hashed (WP-09, WP-10, PS-24).
func TestTopicHeader(t *testing.T) {
	var file struct{ Rows []struct{ Key, Topic string } }
	vectors.Load(t, "topics", &file)
	if len(file.Rows) == 0 {
		t.Fatal("no rows")
	}
	for _, row := range file.Rows {
		if got := (belfry.Message{Topic: row.Key}).TopicHeader(); got != row.Topic {
			t.Errorf("%q became %q, not %q", row.Key, got, row.Topic)
		}
	}
	if got := (belfry.Message{}).TopicHeader(); got != "" {
		t.Errorf("no topic became %q, and would replace every message without one", got)
	}
}

// Whatever Check accepts can be sent: it compiles, or is refused with its size
// before it is queued (WP-33), and every browser reads in what it compiles to
// what the operator wrote. A message that passes Check and cannot be compiled
// would fail in the middle of a broadcast.
func FuzzMessage(f *testing.F) {
	for _, text := range []string{
		`{"title":"T"}`, full,
		`{"title":"<T>\u2028","url":"https://shop.example/x","data":{"a":[1,2.5e3,null,"\ud800"],"b":{"c":"<"}}}`,
		`{"title":"T","icon":"https://APP.example/ü?%41","actions":[{"action":"a","title":"A","url":"http://[::1]:8080/"}]}`,
		`{"title":"T","body":"` + strings.Repeat("ü", 2000) + `"}`,
		`{"title":"T","data":null}`, `{"title":"T","data":{"a":1e999}}`, "{\"title\":\"T\",\"data\":{\"a\":\"\xff\"}}",
		`{"title":"T","lang":"en","variants":{"de-AT":{"title":"<U>","url":"/de","actions":[{"action":"a","title":"A"}]},"ar":{"dir":"rtl"},"de-x-a":{}}}`,
		`{"title":"T","url":"//evil.example"}`, `{"title":"T","data":{"belfry":1}}`, `{"title":"","ttl":-1}`,
	} {
		f.Add([]byte(text), "news")
	}
	f.Fuzz(func(t *testing.T, text []byte, channel string) {
		var m belfry.Message
		if json.Unmarshal(text, &m) != nil || m.Check(sites) != nil {
			return
		}
		if _, err := belfry.CheckChannels([]string{channel}); err != nil {
			channel = "" // no audience has it
		}
		for _, tag := range append([]string{""}, m.Variants.Tags()...) {
			if got := m.Lookup(tag); got != tag {
				t.Errorf("who reads %q gets %q", tag, got)
			}
			m := m.In(tag)
			for _, origin := range sites {
				b, err := m.Payload(id, channel, origin)
				if errors.Is(err, belfry.ErrTooLarge) {
					continue
				}
				if err != nil {
					t.Fatalf("passes Check and does not compile: %v", err)
				}
				if err := belfry.CheckPayload(b, origin); err != nil || len(b) > belfry.MaxPayload || !utf8.Valid(b) {
					t.Errorf("compiles to %d octets that browsers refuse: %v", len(b), err)
				}
				if err := misread(b, m, channel); err != nil {
					t.Errorf("%q compiles to %s: %v", text, b, err)
				}
			}
		}
	})
}

// misread says where a browser that reads the payload is told something else
// than the message says.
func misread(b []byte, m belfry.Message, channel string) error {
	var shown struct {
		Notification struct {
			Title, Body, Tag, Navigate string
			Actions                    []struct{ Action, Title, Navigate string }
			Data                       map[string]any
		}
	}
	var own map[string]any
	if err := errors.Join(exact(b, &shown), exact(cmp.Or(string(m.Data), "null"), &own)); err != nil {
		return err
	}
	n := shown.Notification
	if n.Title != m.Title || n.Body != m.Body || n.Tag != cmp.Or(m.Tag, m.Topic, id) || len(n.Actions) != len(m.Actions) {
		return fmt.Errorf("title %q, body %q, tag %q, %d actions", n.Title, n.Body, n.Tag, len(n.Actions))
	}
	for i, a := range m.Actions {
		leads := a.URL != "" || n.Actions[i].Navigate == n.Navigate // where the message does, if it does not say
		if n.Actions[i].Action != a.Action || n.Actions[i].Title != a.Title || !leads {
			return fmt.Errorf("action %d is %v", i, n.Actions[i])
		}
	}
	mark := map[string]any{"id": id}
	if channel != "" {
		mark["channel"] = channel
	}
	if got := n.Data["belfry"]; !reflect.DeepEqual(got, any(mark)) {
		return fmt.Errorf("our mark is %v", got)
	}
	if delete(n.Data, "belfry"); len(n.Data)+len(own) > 0 && !reflect.DeepEqual(n.Data, own) {
		return fmt.Errorf("data is %v", n.Data)
	}
	return nil
}

// exact reads JSON with its numbers to the last digit, as the page is to get them.
func exact[T string | []byte](text T, v any) error {
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.UseNumber()
	return d.Decode(v)
}
