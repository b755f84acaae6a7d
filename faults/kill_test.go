//go:build faults

package faults

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/belfry-push/belfry/broadcasts"
)

const (
	batch   = 256 // rows that a crash may forget: a batch of the committer, and what waits for it
	perHost = 128 // attempts in flight to one push service
)

// Whatever a server was doing when it was killed, starting among it, the next
// one goes on: nobody is missed, few are rung twice, and no count is ever ahead
// of what the push service has (REL-01, REL-27).
func TestKilled(t *testing.T) {
	t.Parallel()
	const (
		most  = 2 * time.Second // a life lasts
		delay = 512             // milliseconds a push service takes to answer
	)
	kills := size(3, 20)
	rows := size(1000, 500) * kills // no life is long enough for the last of them
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	push := startPushService(ctx, t, "--tls")
	s := newServer(ctx, t, push)
	s.run()
	s.join(push, rows, "news")
	push.answer("", answer{DelayMS: delay})
	id := s.launch("news", 3600)

	var lives, deaths []time.Time
	for range kills {
		select {
		case <-time.After(rand.N(most)):
		case <-s.life.Ended():
			t.Fatal("the server ended by itself")
		}
		s.kill()
		deaths = append(deaths, time.Now())
		b := s.audit().broadcasts[id]
		if b == nil || b.State != broadcasts.Running {
			t.Fatalf("after kill %d the broadcast is %+v", len(deaths), b)
		}
		if had := count(push.ledger(), id); b.Counts.Accepted > len(had.accepted) {
			t.Errorf("after kill %d the file says %d were accepted, and %d were", len(deaths), b.Counts.Accepted, len(had.accepted))
		}
		s.start()
		lives = append(lives, s.began)
	}
	s.ready()
	s.show(id)
	push.answer("")
	b := s.finish(id)
	if want := (broadcasts.Counts{Targets: rows, Accepted: rows}); b.Counts != want || b.State != broadcasts.Done {
		t.Errorf("it is %s with %+v", b.State, b.Counts)
	}
	s.stop()
	s.audit().agree(t, b)

	entries := push.ledger()
	had := count(entries, id)
	if len(had.accepted) != rows {
		t.Errorf("%d of %d have the message", len(had.accepted), rows)
	}
	// Which kill is to blame for a message that came again: the last one before it.
	seen, blame := map[string]bool{}, make([]int, kills)
	for _, r := range entries {
		if seen[r.Token] {
			for k := kills - 1; k >= 0; k-- {
				if r.Time.After(deaths[k]) {
					blame[k]++
					break
				}
			}
		}
		seen[r.Token] = true
	}
	worst, slowest := 0, time.Duration(0)
	for k := range kills {
		worst = max(worst, blame[k])
		for _, r := range entries {
			if !r.Time.After(lives[k]) {
				continue
			}
			if k == kills-1 || r.Time.Before(deaths[k+1]) { // else that life was too short to send
				slowest = max(slowest, r.Time.Sub(lives[k]))
			}
			break
		}
	}
	if worst > batch+perHost {
		t.Errorf("one kill rang %d again, more than %d", worst, batch+perHost)
	}
	if slowest > size(time.Minute, 5*time.Second) {
		t.Errorf("it took %s from a start to the first message", slowest)
	}
	t.Logf("REL-01: %d rows, %d kills: %d without an attempt, %d tried again (at most %d for one kill, %d may be), %d accepted twice, sending again %d ms after a start at most",
		rows, kills, rows-len(seen), again(had.tried), worst, batch+perHost, again(had.accepted), slowest.Milliseconds())
}
