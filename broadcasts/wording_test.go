package broadcasts_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/broadcasts"
)

const shop = "https://shop.example"

// inWords is a message in three languages.
func inWords() belfry.Message {
	m := hello(time.Hour)
	m.Lang, m.URL = "en", "/sale"
	m.Variants = belfry.Variants{"de": {Title: "Hallo", Body: "Schlussverkauf", URL: "/de/sale"}, "pt-BR": {Title: "Olá"}}
	return m
}

// Each gets the message in the language of the browser and with the links of the
// site, also where the broadcast goes on after a restart; and pages get it as it
// was written, for they know in what language they are.
func TestVariants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &board{}
		b := newBell(t, withBoard(p), func(c *broadcasts.Config) { c.Origins = []string{site, shop} })
		want := map[string]wants{}
		for locale, tag := range map[string]string{"de-AT": "de", "de": "de", "DE-x-a": "de", "pt-br": "pt-BR", "pt": "", "fr": "", "en-GB": "", "": ""} {
			for _, origin := range []string{site, shop} {
				id := b.people.join(1, "push.example", "news")[0]
				b.people.change(id, func(s *belfry.Subscription) { s.Locale, s.Origin = locale, origin })
				want[id] = wants{tag, origin}
			}
		}
		m, slowly := inWords(), 1
		launched := b.request(broadcasts.Request{Message: m, Audience: belfry.Audience{Channels: []string{"news"}}, Options: broadcasts.Options{Rate: &slowly}})
		time.Sleep(5 * time.Second)
		b.restart()
		if last := b.end(launched.ID); last.Counts.Accepted != len(want) {
			t.Fatalf("%+v %v", last.Counts, last.Failures)
		}
		for id, w := range want {
			text, err := m.In(w.tag).Payload(launched.ID, "news", w.origin)
			if err != nil {
				t.Fatal(err)
			}
			if got := b.post.to(id)[0].message.Payload; string(got) != string(text) {
				t.Errorf("%+v\n got %s\nwant %s", w, got, text)
			}
		}
		if len(p.events) != 1 || !reflect.DeepEqual(p.events[0].Message, m) {
			t.Errorf("pages are told %+v", p.events)
		}
	})
}

type wants struct{ tag, origin string }

// One variant that is too long would fail for those who read that language, in
// the middle of a broadcast: it is refused before, and named (WP-33).
func TestVariantTooLarge(t *testing.T) {
	b := newBell(t, func(c *broadcasts.Config) { c.Origins = []string{site, shop} })
	with := func(octets int) belfry.Message { // so many in variant de, for the site with the longer links
		m := inWords()
		v := m.Variants["de"]
		v.Body = ""
		m.Variants["de"] = v
		v.Body = strings.Repeat("a", octets-len(compiled(t, m.In("de"))[site])-len(`"body":"",`))
		m.Variants["de"] = v
		return m
	}
	_, _, err := b.Launch(t.Context(), broadcasts.Request{Message: with(belfry.MaxPayload + 1), Audience: everybody})
	var told *belfry.Error
	if !errors.As(err, &told) || told.Kind != belfry.ErrTooLarge || told.Where != "message.variants.de" || !strings.Contains(told.Text, "is 3994 octets") {
		t.Errorf("%v", err)
	}
	const warning = "its variant de is 3993 octets, over 2641: Firefox for Android will refuse it"
	m := with(belfry.MaxPayload)
	if est := b.estimate(m, everybody); est.Payload != belfry.MaxPayload || !reflect.DeepEqual(est.Warnings, []string{warning}) {
		t.Errorf("it would be %d octets, with warnings %q", est.Payload, est.Warnings)
	}
	if got := b.launch(m, everybody); !reflect.DeepEqual(got.Warnings, []string{warning}) {
		t.Errorf("warnings %q", got.Warnings)
	}
}

// compiled is what a message is for each site.
func compiled(t *testing.T, m belfry.Message) map[string][]byte {
	all := map[string][]byte{}
	for _, origin := range []string{site, shop} {
		text, err := m.Payload(strings.Repeat("0", 26), "", origin)
		if err != nil {
			t.Fatal(err)
		}
		all[origin] = text
	}
	return all
}

// A server that rings for another site since may find a scheduled message too
// long for it. That must cost the rows of that site and of that language alone,
// and not keep the server from starting.
func TestVariantTooLargeAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const longer = "https://a.much.longer.name.example"
		b := newBell(t)
		m := inWords()
		m.Variants = belfry.Variants{"de": {Title: "Hallo", Body: "a"}}
		m.Variants["de"] = belfry.Variant{Title: "Hallo", Body: strings.Repeat("a", belfry.MaxPayload-len(compiled(t, m.In("de"))[site])+1)}
		ids := map[[2]string]string{}
		for _, of := range [][2]string{{site, "de"}, {longer, "de"}, {longer, "en"}} {
			id := b.people.join(1, "push.example")[0]
			b.people.change(id, func(s *belfry.Subscription) { s.Origin, s.Locale = of[0], of[1] })
			ids[of] = id
		}
		at := time.Now().Add(time.Minute)
		launched := b.request(broadcasts.Request{Message: m, Audience: everybody, Options: broadcasts.Options{At: &at}})
		b.cfg.Origins = []string{site, longer}
		b.restart()
		last := b.end(launched.ID)
		if last.Counts != (broadcasts.Counts{Targets: 3, Accepted: 2, Failed: 1}) || last.Failures["message-too-large"] != 1 || len(b.post.to(ids[[2]string{longer, "de"}])) > 0 {
			written, _ := json.Marshal(last)
			t.Errorf("%s", written)
		}
	})
}
