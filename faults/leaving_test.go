//go:build faults

package faults

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"testing"
	"time"

	"github.com/belfry-push/belfry/broadcasts"
)

// Who leaves while a broadcast runs is left alone from a second later on, and
// counted as left; who joins gets nothing old (REL-28, REL-27).
func TestLeavingAndJoining(t *testing.T) {
	t.Parallel()
	rows := size(1000, 5000)
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	push := startPushService(ctx, t, "--tls")
	s := newServer(ctx, t, push)
	s.run()
	tokens := make([]string, rows)
	for i, line := range s.join(push, rows, "news") {
		tokens[i] = tokenOf(endpointOf(t, line))
	}
	ids := s.ids() // in the same order; the API shows no endpoints
	joiners := push.mint(rows/10, s.key())
	push.answer("", answer{DelayMS: size(1024, 512)}) // 125 or 250 a second
	id := s.launch("news", 3600)

	gone, joined := map[string]time.Time{}, map[string]bool{}
	order := rand.Perm(rows)
	for i := 0; !s.show(id).Ended() && i < rows/2; i++ {
		s.call(http.StatusNoContent, http.MethodDelete, "/api/v1/subscriptions/"+ids[order[i]], nil, nil)
		gone[tokens[order[i]]] = time.Now()
		if i < len(joiners) {
			s.add(joiners[i])
			joined[tokenOf(endpointOf(t, joiners[i]))] = true
		}
	}
	if len(gone) < rows/size(200, 20) {
		t.Fatalf("only %d left while it ran", len(gone))
	}
	push.answer("")
	b := s.finish(id)
	late, old, had := 0, 0, count(push.ledger(), id)
	for _, r := range push.ledger() {
		if at, left := gone[r.Token]; left && r.Time.After(at.Add(time.Second)) {
			late++
		}
		if joined[r.Token] {
			old++
		}
	}
	spared := 0
	for _, token := range tokens {
		if had.tried[token] == 0 {
			spared++
			if gone[token].IsZero() {
				t.Errorf("somebody who stayed was missed")
			}
		}
	}
	if want := (broadcasts.Counts{Targets: rows, Accepted: rows - spared, Left: spared}); b.Counts != want {
		t.Errorf("it ends with %+v, not %+v", b.Counts, want)
	}
	// Whoever was in flight then may be late on a machine that has no time.
	if late > size(perHost, 0) || old > 0 || spared == 0 || again(had.tried) > 0 {
		t.Errorf("%d were rung over a second after leaving, %d of those who joined, %d of those who left were spared, %d were rung twice", late, old, spared, again(had.tried))
	}
	s.stop()
	file := s.audit()
	file.agree(t, b)
	if want := rows - len(gone) + len(joined); file.subscriptions != want {
		t.Errorf("the file has %d subscriptions, not %d", file.subscriptions, want)
	}
	t.Logf("REL-28: %d rows, of which %d left and %d joined while they were rung: %d rung later than 1 s after leaving, %d of those who joined, %d counted as left",
		rows, len(gone), len(joined), late, old, b.Counts.Left)
}

// add registers one line for news.
func (s *server) add(line []byte) {
	s.t.Helper()
	s.call(http.StatusCreated, http.MethodPost, "/api/v1/subscriptions", rowOf(s.t, line, "news"), nil)
}

// rowOf is what the API takes of a line that mint made.
func rowOf(t *testing.T, line []byte, channels ...string) (row map[string]any) {
	t.Helper()
	if err := json.Unmarshal(line, &row); err != nil {
		t.Fatal(err)
	}
	row["channels"] = channels
	return row
}
