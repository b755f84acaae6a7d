package broadcasts_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/broadcasts"
)

// A browser may come back with an endpoint at another push service at any moment
// of a broadcast: while its row waits for a place, is tried, was just called
// gone, waits between two tries, is parked or suspect. Whatever its old and new
// push services do, and through pauses, restarts and a disk that is full, the
// broadcast ends in time, the numbers add up, nobody is told twice or removed
// for an endpoint that they left, no row is tried at one that it left long ago,
// and no lane keeps a place for an attempt that is over (REL-27, REL-28).
func TestMoves(t *testing.T) {
	for seed := range uint64(25) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { checkMoves(t, rand.New(rand.NewPCG(seed, 2))) })
		})
	}
}

func checkMoves(t *testing.T, r *rand.Rand) {
	message, editions := hello(time.Duration(r.IntN(4))*5*time.Minute), 1+r.IntN(2)
	message.Topic = []string{"", "score"}[r.IntN(2)]
	b := newBell(t, func(c *broadcasts.Config) {
		c.PerHost = 1 + r.IntN(30)
		c.Pace = func(string) float64 { return 20 * float64(c.PerHost%2) }
	})
	m := newMovers(b, r)
	// Once no broadcast is on its way, lanes are forgotten: this one keeps them in sight.
	b.post.slow["anchor.example"] = 24 * time.Hour
	anchor := b.launch(hello(48*time.Hour), belfry.Audience{Subscriptions: b.people.join(1, "anchor.example")})
	var launched []string
	for range editions {
		launched = append(launched, b.launch(message, belfry.Audience{Channels: []string{"movers"}}).ID)
	}

	for start := time.Now(); !m.over(launched); m.stir(launched) {
		if time.Since(start) > message.Lifetime()+30*time.Minute {
			t.Fatalf("they do not end: %+v, %+v", b.get(launched[0]), b.Standings())
		}
	}
	b.journal.fail(nil)
	time.Sleep(5 * time.Second) // the anchor's turn comes, if there was a restart
	for _, id := range launched {
		m.check(t, b.get(id))
	}
	for _, s := range b.Standings() {
		if want := strings.Count(s.Host, "anchor"); s.InFlight != want || s.Waiting != 0 {
			t.Errorf("%s has %d attempts in flight and %d rows waiting once all is over", s.Host, s.InFlight, s.Waiting)
		}
	}
	for host, most := range b.post.most {
		if most > b.cfg.PerHost {
			t.Errorf("%d attempts at a time to %s", most, host)
		}
	}
	if _, err := b.Cancel(t.Context(), anchor.ID); err != nil {
		t.Error(err)
	}
}

// Movers are rows that move between push services, of which each is difficult in
// a way of its own.
type movers struct {
	b     *bell
	ids   []string
	hosts []string
	ways  map[string]func() belfry.Outcome
	start time.Time

	mu    sync.Mutex // guards what follows
	rand  *rand.Rand
	made  int                           // endpoints
	owned map[string]belfry.Endpoint    // by row, the one that it has
	left  map[belfry.Endpoint]time.Time // when a row had another one
}

func newMovers(b *bell, r *rand.Rand) *movers {
	m := &movers{b: b, start: time.Now(), rand: r, ways: map[string]func() belfry.Outcome{}, owned: map[string]belfry.Endpoint{}, left: map[belfry.Endpoint]time.Time{}}
	for i := range 2 + r.IntN(4) {
		host := fmt.Sprintf("h%d.example", i)
		m.hosts = append(m.hosts, host)
		m.ways[host] = m.way()
		b.post.slow[host] = time.Duration(r.IntN(3000)) * time.Millisecond
		m.ids = append(m.ids, b.people.join(r.IntN(300), host, "movers")...)
	}
	for _, id := range m.ids {
		b.people.change(id, func(s *belfry.Subscription) { m.owned[id], s.Imported = s.Endpoint, r.IntN(2) == 0 })
	}
	b.post.before = func(s belfry.Subscription) { m.move(s.ID, 0.1) }
	b.post.rule = func(s belfry.Subscription) belfry.Outcome {
		defer m.move(s.ID, 0.2)
		if way := m.ways[s.Host()]; way != nil {
			return way()
		}
		return accepted
	}
	return m
}

// way is how a push service is: it may be well, slow us down, be out of order or
// refuse us for a while, or call many gone.
func (m *movers) way() func() belfry.Outcome {
	until := m.start.Add(m.span(10 * time.Minute))
	odds, wait := m.rand.Float64(), m.span(90*time.Second)
	now := func(bad belfry.Outcome) func() belfry.Outcome {
		return func() belfry.Outcome {
			if time.Now().Before(until) {
				return bad
			}
			return accepted
		}
	}
	sometimes := func(bad belfry.Outcome) func() belfry.Outcome {
		return func() belfry.Outcome {
			if m.chance(odds) {
				return bad
			}
			return accepted
		}
	}
	return []func() belfry.Outcome{
		sometimes(belfry.Outcome{}), // no verdict: a failure of its own kind
		sometimes(belfry.Outcome{Verdict: belfry.Later, Status: 429, Reason: "slow down", RetryAfter: wait}),
		now(belfry.Outcome{Verdict: belfry.Later, Reason: "silent"}),
		now(belfry.Outcome{Verdict: belfry.OurFault, Status: 403, Reason: "BadJwtToken"}),
		sometimes(gone), sometimes(gone), sometimes(later), sometimes(large),
	}[m.rand.IntN(8)]
}

func (m *movers) chance(odds float64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.rand.Float64() < odds
}

func (m *movers) span(most time.Duration) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return 1 + time.Duration(m.rand.Int64N(int64(most)))
}

func (m *movers) oneOf(n int) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.rand.IntN(n)
}

// move gives a row an endpoint elsewhere, at such odds.
func (m *movers) move(id string, odds float64) {
	if !m.chance(odds) {
		return
	}
	host := m.hosts[m.oneOf(len(m.hosts))]
	m.b.people.change(id, func(s *belfry.Subscription) {
		if s.Host() == "anchor.example" {
			return
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		m.made++
		m.left[s.Endpoint], s.Endpoint = time.Now(), endpoint(host, fmt.Sprint("moved", m.made))
		m.owned[id] = s.Endpoint
	})
}

// over reports whether all of them have ended.
func (m *movers) over(launched []string) bool {
	return !slices.ContainsFunc(launched, func(id string) bool { return !m.b.get(id).Ended() })
}

// stir lets a moment pass and then rows move, or something else happen.
func (m *movers) stir(launched []string) {
	time.Sleep(m.span(3 * time.Second))
	b, ctx := m.b, m.b.t.Context()
	id := launched[m.oneOf(len(launched))]
	if b.get(id).State == broadcasts.Paused { // nothing of this can be done at any time
		[]func(){func() { b.Resume(ctx, id) }, func() { b.Confirm(ctx, id) }, func() { b.Dismiss(ctx, id) }}[m.oneOf(3)]()
	}
	switch m.oneOf(40) {
	case 0:
		b.Pause(ctx, id)
	case 1:
		patience, enough := within(10 * time.Second)
		defer enough()
		b.Close(patience)
		b.start()
	case 2:
		b.journal.fail(errBroken)
		time.AfterFunc(m.span(3*time.Second), func() { b.journal.fail(nil) })
	default:
		for _, id := range m.ids {
			m.move(id, 0.02)
		}
	}
}

// check holds a broadcast that is over against the attempts that were made.
func (m *movers) check(t *testing.T, got broadcasts.Broadcast) {
	t.Helper()
	told, ended := map[string]int{}, map[string]bool{}
	for _, s := range m.b.post.to("") {
		if left, moved := m.left[s.token]; moved && s.at.Sub(left) >= time.Second {
			t.Errorf("%s was tried at an endpoint that it left %v ago", s.id, s.at.Sub(left))
		}
		if s.outcome.Verdict == belfry.Gone && s.token == m.owned[s.id] {
			ended[s.id] = true
		}
		if s.outcome.Verdict == belfry.Accepted && strings.Contains(string(s.message.Payload), got.ID) {
			told[s.id]++
		}
	}
	for id, times := range told {
		if times > 1 {
			t.Errorf("%s was told %d times", id, times)
		}
	}
	for _, id := range m.ids {
		if !m.b.people.there(id) && !ended[id] {
			t.Errorf("%s was removed for an endpoint that it had left", id)
		}
	}
	c := got.Counts
	if got.State != broadcasts.Done || c.Targets != len(m.ids) || c.Accepted != len(told) || c.Suppressed > 0 && got.Message.Topic == "" || got.Crashes > 0 {
		t.Errorf("%s after %d crashes: %+v, with %d told", got.State, got.Crashes, c, len(told))
	}
	for _, h := range got.Hosts {
		if h.Suspect != 0 {
			t.Errorf("%d are suspect at %s", h.Suspect, h.Host)
		}
	}
}

// Rows that move to a push service that never answers keep nobody of their
// former one waiting (REL-04), however many they are.
func TestMovedToABadHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t, func(c *broadcasts.Config) { c.PerHost = 10 })
		b.post.slow["good.example"], b.post.slow["bad.example"] = 100*time.Millisecond, 10*time.Second
		moving := b.people.join(50, "good.example")
		staying := b.people.join(100, "good.example")
		b.post.rule = func(s belfry.Subscription) belfry.Outcome {
			if s.Host() == "bad.example" {
				return belfry.Outcome{Verdict: belfry.Later, Reason: "silent"}
			}
			if slices.Contains(moving, s.ID) {
				b.people.change(s.ID, func(s *belfry.Subscription) { s.Endpoint = endpoint("bad.example", s.ID) })
				return gone
			}
			return accepted
		}
		start := time.Now()
		launched := b.hello(10 * time.Minute)
		last := b.end(launched.ID)
		for _, id := range staying {
			if sent := b.post.to(id); len(sent) != 1 || sent[0].at.Sub(start) > 3*time.Second {
				t.Fatalf("%s waited for %v", id, sent[0].at.Sub(start))
			}
		}
		if last.Counts != (broadcasts.Counts{Targets: 150, Accepted: 100, Expired: 50}) {
			t.Errorf("%+v", last.Counts)
		}
	})
}

// An operator is told the push service that calls too many gone, not the one
// that those have left (WP-63).
func TestSuspectAfterAMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t)
		b.people.join(300, "former.example")
		b.post.rule = func(s belfry.Subscription) belfry.Outcome {
			b.people.change(s.ID, func(s *belfry.Subscription) { s.Endpoint = endpoint("wrong.example", s.ID) })
			return gone
		}
		launched := b.hello(time.Hour)
		time.Sleep(time.Minute)
		got := b.get(launched.ID)
		want := fmt.Sprintf("wrong.example says that %d more subscribers are gone: confirm removes them, dismiss keeps them", got.Counts.Pending)
		if got.State != broadcasts.Paused || got.Counts.Pending < 100 || *got.Reason != want {
			t.Fatalf("%s %+v %+v", got.State, got.Counts, got.Hosts)
		}
		b.Dismiss(t.Context(), launched.ID)
		if last := b.end(launched.ID); last.Counts.Failed != got.Counts.Pending || b.people.size() != got.Counts.Pending {
			t.Errorf("%+v with %d still there", last.Counts, b.people.size())
		}
	})
}
