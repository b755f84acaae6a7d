package web

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/belfry-push/belfry/tokens"
)

// Who may do what, for every route and every kind of caller (SEC-10). A route
// without a role lets nobody in, so a forgotten one is found here and not by
// somebody who should not have.
func TestRoles(t *testing.T) {
	h := newHouse(t)
	callers := []struct {
		name string
		role role
		auth string
	}{
		{"nobody", 0, ""},
		{"a device", 0, "Authorization: Device AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"},
		{"a publisher", publisher, bearer(h.token(tokens.Publisher, "news"))},
		{"an admin", admin, bearer(h.token(tokens.Admin))},
	}
	for _, r := range h.web.operatorRoutes() {
		if r.role < publisher {
			t.Errorf("%s %s is open to everybody", r.method, r.path)
		}
		path := strings.ReplaceAll(r.path, ":id", "01aaaaaaaaaaaaaaaaaaaaaaaa")
		for _, c := range callers {
			got := h.do(h.ops, r.method, path, "", c.auth)
			want := "in"
			switch {
			case c.role == 0:
				want = "unauthorised"
			case c.role < r.role:
				want = "forbidden"
			}
			if code := got.code(); (want == "in") == (code == "unauthorised" || code == "forbidden") || want != "in" && code != want {
				t.Errorf("%s %s by %s: %d %s, want %s", r.method, r.path, c.name, got.status, code, want)
			}
		}
		if r.method != http.MethodPost || r.path != "/api/v1/subscriptions/import" {
			if got := h.do(h.socket, r.method, path, ""); got.status == http.StatusUnauthorized || got.status == http.StatusForbidden {
				t.Errorf("%s %s over the socket: %d", r.method, r.path, got.status)
			}
		}
		// SEC-17: none of it is where browsers come in.
		if got := h.do(h.public, r.method, path, "", append(page, callers[3].auth)...); got.status != http.StatusNotFound {
			t.Errorf("%s %s on the public listener: %d", r.method, r.path, got.status)
		}
	}
	for _, r := range h.web.publicRoutes() {
		if r.role != anyone {
			t.Errorf("%s %s on the public listener has role %d", r.method, r.path, r.role)
		}
	}
}

// A token that is revoked must stop working with the next call, and one in a
// query must never work: it would stand in the logs of every proxy (SEC-15, SEC-16).
func TestBearer(t *testing.T) {
	h := newHouse(t)
	token := h.token(tokens.Admin)
	list := func(headers ...string) answer { return h.do(h.ops, "GET", "/api/v1/subscriptions", "", headers...) }
	if got := list(bearer(token)); got.status != http.StatusOK {
		t.Fatalf("a good token: %d %s", got.status, got.body)
	}
	for name, header := range map[string]string{
		"another scheme":   "Authorization: Basic " + token,
		"another token":    bearer(strings.Repeat("x", len(token))),
		"a cut token":      bearer(token[:len(token)-1]),
		"nothing":          "Authorization: Bearer",
		"a device's place": "Belfry-User: " + token,
	} {
		if got := list(header); got.status != http.StatusUnauthorized || got.header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s: %d", name, got.status)
		}
	}
	if got := h.do(h.ops, "GET", "/api/v1/subscriptions?access_token="+token, "", bearer(token)); got.status != http.StatusBadRequest {
		t.Errorf("token in a query: %d", got.status)
	}
	all := must(h.tokens.List(t.Context()))
	if got := h.do(h.ops, "DELETE", "/api/v1/tokens/"+all[0].ID, "", bearer(token)); got.status != http.StatusNoContent {
		t.Fatalf("revoke: %d %s", got.status, got.body)
	}
	if got := list(bearer(token)); got.status != http.StatusUnauthorized {
		t.Errorf("a revoked token: %d", got.status)
	}
	if strings.Contains(h.log.String(), token) {
		t.Error("the log holds the token")
	}
}

// Who watches a broadcast does so for as long as their token holds, and no longer,
// though they call but once (SEC-47).
func TestRevokedTokenWatchesNoMore(t *testing.T) {
	h := newHouse(t)
	token := bearer(h.token(tokens.Publisher, "news"))
	later := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	b := h.do(h.socket, "POST", "/api/v1/broadcasts", `{"message":{"title":"T"},"audience":{"channels":["news"]},"at":"`+later+`"}`)
	watch := h.listen(h.ops, "GET", b.header.Get("Location")+"/events", "", token)
	watch.until("event: progress")
	all := must(h.tokens.List(t.Context()))
	if got := h.do(h.socket, "DELETE", "/api/v1/tokens/"+all[0].ID, ""); got.status != http.StatusNoContent {
		t.Fatalf("revoke: %d %s", got.status, got.body)
	}
	if _, err := io.ReadAll(watch.Body); err != nil { // it would go on for an hour
		t.Error(err)
	}
}

// A publisher's token that leaks must not reach more people than the channels it names.
func TestPublisherRingsItsChannelsOnly(t *testing.T) {
	h := newHouse(t)
	token := bearer(h.token(tokens.Publisher, "news", "offers"))
	for audience, want := range map[string]int{
		`{"channels":["news"]}`:                            http.StatusAccepted,
		`{"channels":["offers","news"]}`:                   http.StatusAccepted,
		`{"channels":["news","staff"]}`:                    http.StatusForbidden,
		`{"all":true}`:                                     http.StatusForbidden,
		`{"users":["ada"]}`:                                http.StatusForbidden,
		`{"subscriptions":["01aaaaaaaaaaaaaaaaaaaaaaaa"]}`: http.StatusForbidden,
		`{"channels":["news"],"all":true}`:                 http.StatusBadRequest,
	} {
		if got := h.do(h.ops, "POST", "/api/v1/broadcasts", `{"message":{"title":"T"},"audience":`+audience+`}`, token); got.status != want {
			t.Errorf("%s: %d %s, want %d", audience, got.status, got.body, want)
		}
	}
	other := h.do(h.socket, "POST", "/api/v1/broadcasts", `{"message":{"title":"T"},"audience":{"all":true}}`)
	for _, path := range []string{other.header.Get("Location"), other.header.Get("Location") + "/events"} {
		if got := h.do(h.ops, "GET", path, "", token); got.status != http.StatusNotFound {
			t.Errorf("somebody else's broadcast at %s: %d", path, got.status)
		}
	}
	if got := h.do(h.ops, "GET", "/api/v1/broadcasts", "", token); strings.Contains(got.body, `"all":true`) {
		t.Errorf("the list shows a broadcast to everybody: %s", got.body)
	}
}
