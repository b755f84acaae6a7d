//go:build faults

package faults

import (
	"context"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/belfry-push/belfry/broadcasts"
)

// A push service that calls 40 % of its people gone is believed in the case of
// the first few only, until an operator has looked: dismiss keeps the others, and
// confirm removes them (REL-18, REL-27).
func TestMassDeletion(t *testing.T) {
	t.Parallel()
	rows := size(600, 2000)
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	push := startPushService(ctx, t, "--tls")
	s := newServer(ctx, t, push)
	s.run()
	lines := s.join(push, rows, "news")
	alive := rows
	for _, n := range rand.Perm(rows)[:rows*2/5] {
		push.answer(endpointOf(t, lines[n]), answer{Status: 410})
		alive--
	}

	// doubted rings them all and returns the broadcast once it waits for a decision.
	doubted := func() broadcasts.Broadcast {
		there := s.registered()
		id := s.launch("news", 3600)
		for s.show(id).State == broadcasts.Running {
			select {
			case <-time.After(20 * time.Millisecond):
			case <-ctx.Done():
				t.Fatal("nobody is asked")
			}
		}
		b := s.show(id)
		host := b.Hosts[0]
		if b.State != broadcasts.Paused || b.Counts.Accepted != alive || host.Suspect != there-alive-b.Counts.Gone || b.Counts.Pending != host.Suspect {
			t.Errorf("it is %s with %+v %+v", b.State, b.Counts, host)
		}
		if b.Counts.Gone > 200+perHost || s.registered() != there-b.Counts.Gone {
			t.Errorf("%d were removed, and %d are left of %d", b.Counts.Gone, s.registered(), there)
		}
		if shown := s.cli(0, "broadcasts", "show", id); !strings.Contains(shown, "confirm removes them, dismiss keeps them") {
			t.Errorf("nobody is told what to do: %s", shown)
		}
		return b
	}
	first := doubted()
	s.cli(0, "broadcasts", "dismiss", first.ID)
	kept := s.finish(first.ID)
	if kept.Counts.Failed != first.Hosts[0].Suspect || kept.Counts.Gone != first.Counts.Gone || s.registered() != rows-first.Counts.Gone {
		t.Errorf("dismissed, it ends with %+v, and %d are left", kept.Counts, s.registered())
	}

	second := doubted()
	s.cli(0, "broadcasts", "confirm", second.ID)
	purged := s.finish(second.ID)
	if purged.Counts != (broadcasts.Counts{Targets: rows - first.Counts.Gone, Accepted: alive, Gone: rows - first.Counts.Gone - alive}) || s.registered() != alive {
		t.Errorf("confirmed, it ends with %+v, and %d are left", purged.Counts, s.registered())
	}
	s.stop()
	file := s.audit()
	file.agree(t, kept)
	file.agree(t, purged)
	if file.subscriptions != alive {
		t.Errorf("%d subscriptions are in the file, and %d are alive", file.subscriptions, alive)
	}
	t.Logf("REL-18: %d of %d called gone: %d removed before an operator is asked, %d suspect; dismiss kept all %d; the next time %d removed and %d suspect, and confirm removed these: %d of %d alive are left",
		rows-alive, rows, first.Counts.Gone, first.Hosts[0].Suspect, kept.Counts.Failed, second.Counts.Gone, second.Hosts[0].Suspect, file.subscriptions, alive)
}
