package belfry_test

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/belfry-push/belfry"
)

// tags are the members of so many variants.
func tags(n int) string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf(`"en-%04d":{}`, i))
	}
	return strings.Join(all, ",")
}

// Everybody gets the text that they can read best, and whom none is for gets the
// message itself: never nothing (RFC 4647 §3.4).
func TestLookup(t *testing.T) {
	table, err := os.ReadFile("testdata/lookup.json") // the page kit's, too
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Message json.RawMessage
		Finds   map[string]string
	}
	if err := json.Unmarshal(table, &cases); err != nil || len(cases) == 0 {
		t.Fatalf("%d cases, %v", len(cases), err)
	}
	for _, c := range cases {
		m := message(t, string(c.Message))
		for locale, want := range c.Finds {
			if got := m.Lookup(locale); got != want {
				t.Errorf("%s: who reads %q gets %q, not %q", c.Message, locale, got, want)
			}
		}
	}
	m := message(t, `{"title":"T","lang":"en","variants":{"de":{},"zh-Hant":{}}}`)
	if n := testing.AllocsPerRun(100, func() { m.Lookup("de-Latn-DE-1996") }); n > 0 {
		t.Errorf("%v allocations for each row of a broadcast", n)
	}
}

// A variant says what is another; how and for how long it is sent, and what the
// page gets with it, is the message's.
func TestIn(t *testing.T) {
	const base = `{"title":"T","body":"B","url":"/b","icon":"/i.png","image":"/m.png","lang":"en","dir":"ltr","tag":"t","silent":true,
		"actions":[{"action":"a","title":"A"}],"data":{"a":1},"urgency":"high","ttl":60,"topic":"p"`
	m := message(t, base+`,"variants":{"de":{"title":"U"},
		"ar-EG":{"title":"V","body":"C","url":"/c","image":"/n.png","dir":"rtl","actions":[{"action":"b","title":"B","url":"/d"}]},"fr":{"body":"","actions":[]}}}`)
	before := fmt.Sprint(m)
	for tag, want := range map[string]string{
		"":   base + `}`,
		"de": strings.NewReplacer(`"T"`, `"U"`, `"en"`, `"de"`).Replace(base) + `}`,
		"fr": strings.Replace(base, `"en"`, `"fr"`, 1) + `}`, // what is empty is left out
		"ar-EG": `{"title":"V","body":"C","url":"/c","icon":"/i.png","image":"/n.png","lang":"ar-EG","dir":"rtl","tag":"t","silent":true,
			"actions":[{"action":"b","title":"B","url":"/d"}],"data":{"a":1},"urgency":"high","ttl":60,"topic":"p"}`,
	} {
		if got := m.In(tag); !reflect.DeepEqual(got, message(t, want)) {
			t.Errorf("in %q it is %+v, not %s", tag, got, want)
		}
	}
	if fmt.Sprint(m) != before {
		t.Error("the message has become another, which all its variants share")
	}
	if got := (belfry.Variants)(nil).Tags(); len(got) != 0 {
		t.Errorf("tags %q of none", got)
	}
}
