package web

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/belfry-push/belfry/sender/pushtest"
	"github.com/belfry-push/belfry/tokens"
)

// What /metrics and /api/v1/stats say is what happened, each under a name from a
// short list, and none of it is a secret (SEC-22, SEC-49).
func TestMetrics(t *testing.T) {
	h := newHouse(t, func(c *Config) { c.RegisterLimit = Limit{N: 5, Per: time.Hour} })
	row, subscription := h.browser()
	body := `{"subscription":` + subscription + `,"channels":["news"]}`
	first := h.do(h.public, "POST", "/v1/subscriptions", body, page...)
	_, secret, _ := strings.Cut(first.body, `"secret":"`)
	secret, _, _ = strings.Cut(secret, `"`)
	h.do(h.public, "POST", "/v1/subscriptions", body, device(secret)...)
	for _, wrong := range []string{body, body, `{`, body, body} {
		h.do(h.public, "POST", "/v1/subscriptions", wrong, page...)
	}
	admin := bearer(h.token(tokens.Admin))
	metrics, stats := h.do(h.ops, "GET", "/metrics", "", admin), h.do(h.ops, "GET", "/api/v1/stats", "", admin)
	for _, want := range []string{
		`belfry_registrations_total{result="created"} 1`, `belfry_registrations_total{result="updated"} 1`,
		`belfry_registrations_total{result="known-endpoint"} 2`, `belfry_registrations_total{result="json"} 1`,
		`belfry_registrations_total{result="too-many"} 2`, "belfry_watchers 0\n",
	} {
		if metrics.status != http.StatusOK || !strings.Contains(metrics.body, want) {
			t.Errorf("%d, no %s in\n%s", metrics.status, want, metrics.body)
		}
	}
	for _, want := range []string{`{"name":"belfry_registrations_total","labels":{"result":"known-endpoint"},"value":2}`, `{"name":"belfry_watchers","labels":{},"value":0}`} {
		if stats.status != http.StatusOK || !strings.Contains(stats.body, want) {
			t.Errorf("%d, no %s in\n%s", stats.status, want, stats.body)
		}
	}
	for _, hidden := range []string{secret, row.Auth.Reveal(), row.Endpoint.Reveal()[len("https://127.0.0.1:"):]} {
		if text := metrics.body + stats.body; strings.Contains(text, hidden[min(6, len(hidden)):]) {
			t.Errorf("%q is a secret", hidden)
		}
	}
}

// Streams that somebody reads are counted while they last.
func TestWatchersAreCounted(t *testing.T) {
	h := newHouse(t)
	h.service.AnswerAny(pushtest.Answer{Status: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {"3600"}}})
	h.register(`["news"]`)
	launched := h.do(h.socket, "POST", "/api/v1/broadcasts", `{"message":{"title":"T"},"audience":{"all":true}}`)
	ctx, stop := context.WithCancel(t.Context())
	resp := must(h.socket.Client().Do(must(http.NewRequestWithContext(ctx, "GET", h.socket.URL+launched.header.Get("Location")+"/events", nil))))
	must(resp.Body.Read(make([]byte, 1)))
	if got := h.do(h.socket, "GET", "/metrics", ""); !strings.Contains(got.body, "belfry_watchers 1\n") {
		t.Errorf("while one reads:\n%s", got.body)
	}
	stop()
	resp.Body.Close()
	patience, enough := context.WithTimeout(t.Context(), 10*time.Second)
	defer enough()
	for !strings.Contains(h.do(h.socket, "GET", "/metrics", "").body, "belfry_watchers 0\n") {
		if patience.Err() != nil {
			t.Fatal("it is counted for ever")
		}
	}
}
