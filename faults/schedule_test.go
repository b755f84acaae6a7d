//go:build faults

package faults

import (
	"context"
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/belfry-push/belfry/broadcasts"
)

// What is due while the server is down begins late when it is back, or says that
// it is too late, as its operator has asked or as long as it is worth saying; and
// either way once (REL-30, REL-27).
func TestDueWhileDown(t *testing.T) {
	t.Parallel()
	const rows = 20
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	push := startPushService(ctx, t, "--tls")
	s := newServer(ctx, t, push)
	s.run()
	s.join(push, rows, "news")
	var due time.Time
	var late, stale, strict string
	schedule := func(ttl, lateness int) string {
		launch := launchOf("news", ttl)
		launch["at"], launch["maxLateness"] = due.UTC().Format(time.RFC3339Nano), lateness
		status, answer := s.ask(http.MethodPost, "/api/v1/broadcasts", launch)
		var b broadcasts.Broadcast
		if err := json.Unmarshal(answer, &b); err != nil || status != http.StatusAccepted && time.Now().Before(due) {
			t.Fatalf("it is answered %d: %s", status, answer)
		}
		return b.ID
	}
	for lead := 4 * time.Second; ; lead *= 2 { // until it is down in time, which a busy machine may not be at once
		// Half a second behind a full one, so never on the full hour, when it would step aside.
		due = time.Now().Add(lead).Truncate(time.Second).Add(500 * time.Millisecond)
		late, stale = schedule(3600, 3600), schedule(1, 3600)
		if *full {
			strict = schedule(3600, 1)
		}
		s.stop()
		if time.Now().Before(due) {
			break
		}
		s.run()
		for _, id := range []string{late, stale, strict} {
			if id != "" {
				s.finish(id)
			}
		}
		push.ask(http.MethodDelete, "/pushtest/ledger", nil)
	}
	// A minute late is on time, so that a restart cancels nothing.
	back := due.Add(time.Duration(size(2, 62)) * time.Second)
	<-time.After(time.Until(back))
	s.run()
	want := map[string]broadcasts.State{late: broadcasts.Done, stale: broadcasts.Cancelled}
	if *full {
		want[strict] = broadcasts.Cancelled
	}
	began := time.Duration(0)
	last := map[string]broadcasts.Broadcast{}
	for id, state := range want {
		b := s.finish(id)
		last[id] = b
		counts, reason := broadcasts.Counts{Targets: rows, Accepted: rows}, ""
		if state == broadcasts.Cancelled {
			counts, reason = broadcasts.Counts{Targets: rows, Cancelled: rows}, broadcasts.ReasonTooLate
		}
		got := ""
		if b.Reason != nil {
			got = *b.Reason
		}
		had := count(push.ledger(), id)
		if b.State != state || got != reason || b.Counts != counts || len(had.tried) != counts.Accepted || again(had.tried) > 0 {
			t.Errorf("it is %s (%s) with %+v, and %d were tried", b.State, got, b.Counts, len(had.tried))
		}
		if id == late {
			began = b.Started.Sub(back)
		}
	}
	// Once is enough, also after another restart.
	s.stop()
	s.run()
	if n := push.summary().Received; n != rows {
		t.Errorf("%d were sent, not %d", n, rows)
	}
	s.stop()
	file := s.audit()
	for _, b := range last {
		file.agree(t, b)
	}
	t.Logf("REL-30: down until %.0f s after %d broadcasts were due: the one that may be an hour late began %d ms after the start; that which is worth saying for a second, and with -full that which may be a second late, are cancelled as %s",
		back.Sub(due).Seconds(), len(want), began.Milliseconds(), *last[stale].Reason)
}
