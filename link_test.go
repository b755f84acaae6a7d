package belfry_test

import (
	"encoding/json"
	"net/url"
	"testing"

	"github.com/belfry-push/belfry"
)

// Every link that a click opens says which message it is of, and leads where it
// led before: a query that is cut off or a fragment that swallows the parameter
// would open another page.
func TestLinked(t *testing.T) {
	const link = "01aaaaaaaaaaaaaaaaaaaaaaaa.Zm9vYmFyZm9vYmFyZm9v-_"
	for raw, want := range map[string]string{
		"":                            site + "/?belfry=" + link,
		"/":                           site + "/?belfry=" + link,
		"/sale?a=1&b=%20":             site + "/sale?a=1&b=%20&belfry=" + link,
		"/#/route?x=1":                site + "/?belfry=" + link + "#/route?x=1",
		"/sale?a=1#top":               site + "/sale?a=1&belfry=" + link + "#top",
		"/sale?":                      site + "/sale?&belfry=" + link,
		"/a#b#c":                      site + "/a?belfry=" + link + "#b#c",
		site:                          site + "?belfry=" + link,
		site + "/x":                   site + "/x?belfry=" + link,
		"https://other.example/y?z=1": site + "/", // the row's own site: its browser would refuse the other
	} {
		m := belfry.Message{Title: "T", URL: raw, Actions: []belfry.Action{{Action: "same", Title: "S"}, {Action: "own", Title: "O", URL: raw}}}
		b, err := m.Linked(link).Payload("01aaaaaaaaaaaaaaaaaaaaaaaa", "", site)
		if err != nil {
			t.Errorf("%q: %v", raw, err)
			continue
		}
		var p struct {
			Notification struct {
				Navigate string
				Actions  []struct{ Navigate string }
			}
		}
		if err := json.Unmarshal(b, &p); err != nil {
			t.Fatal(err)
		}
		for _, got := range []string{p.Notification.Navigate, p.Notification.Actions[0].Navigate, p.Notification.Actions[1].Navigate} {
			if got != want {
				t.Errorf("%q leads to %s, want %s", raw, got, want)
			}
		}
		if u, err := url.Parse(want); want != site+"/" && (err != nil || u.Query().Get("belfry") != link) {
			t.Errorf("%s: a page finds no link in it (%v)", want, err)
		}
		if m.URL != raw || m.Actions[1].URL != raw {
			t.Errorf("the operator's message was changed: %+v", m)
		}
	}
}
