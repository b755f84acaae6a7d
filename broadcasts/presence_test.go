package broadcasts_test

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/broadcasts"
)

// Pages answers for the pages that are open, by device.
type pages struct {
	mu    sync.Mutex
	reach map[string]func() broadcasts.Reach
	asked []string // device and message
}

func (p *pages) Reached(device, message string) broadcasts.Reach {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, device+" "+message)
	if fn := p.reach[device]; fn != nil {
		return fn()
	}
	return broadcasts.Reach{}
}

func withPages(p *pages) func(*broadcasts.Config) {
	return func(c *broadcasts.Config) { c.Presence = p }
}

// A person who reads the message on an open page is not rung for it as well;
// everybody else is.
func TestSpared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pages{reach: map[string]func() broadcasts.Reach{}}
		b := newBell(t, withPages(p))
		ids := b.people.join(3, "push.example")
		p.reach[ids[1]] = func() broadcasts.Reach { return broadcasts.Reach{Spared: true} }
		launched := b.hello(time.Hour)
		last := b.end(launched.ID)
		if last.Counts != (broadcasts.Counts{Targets: 3, Accepted: 2, Suppressed: 1}) || len(b.post.to(ids[1])) != 0 {
			t.Errorf("%+v", last.Counts)
		}
		if len(p.asked) != 3 || p.asked[0][27:] != launched.ID {
			t.Errorf("asked for %q", p.asked)
		}
	})
}

// A device whose page may still acknowledge the message is asked about again,
// and meanwhile keeps no place that others need.
func TestHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pages{reach: map[string]func() broadcasts.Reach{}}
		b := newBell(t, withPages(p), func(c *broadcasts.Config) { c.PerHost = 1 })
		ids := b.people.join(30, "push.example")
		start := time.Now()
		hold := broadcasts.Reach{Hold: start.Add(5 * time.Second)}
		for i, then := range []broadcasts.Reach{{Spared: true}, {}} {
			p.reach[ids[i]] = func() broadcasts.Reach {
				if time.Since(start) < 5*time.Second {
					return hold
				}
				return then
			}
		}
		last := b.end(b.hello(time.Hour).ID)
		if last.Counts != (broadcasts.Counts{Targets: 30, Accepted: 29, Suppressed: 1}) {
			t.Errorf("%+v", last.Counts)
		}
		for _, s := range b.post.to("") {
			if took := s.at.Sub(start); (s.id == ids[1]) != (took == 5*time.Second) || s.id != ids[1] && took != 0 {
				t.Errorf("%s after %v", s.id, took)
			}
		}
	})
}

// Whoever knows the pages may be wrong about one: it delays a ring and never
// prevents it.
func TestHoldFailsOpen(t *testing.T) {
	for _, tt := range []struct {
		name     string
		hold     func() time.Time
		lifetime time.Duration
		within   time.Duration
	}{
		{"in the past", func() time.Time { return time.Now().Add(-time.Hour) }, time.Hour, 0},
		{"for ever", func() time.Time { return time.Now().Add(1000 * time.Hour) }, 24 * time.Hour, time.Minute},
		{"a second, again and again", func() time.Time { return time.Now().Add(time.Second) }, time.Hour, time.Minute},
		{"behind the deadline", func() time.Time { return time.Now().Add(50 * time.Second) }, 20 * time.Second, 0},
		{"a second, again and again, to the deadline", func() time.Time { return time.Now().Add(time.Second) }, 20 * time.Second, 20 * time.Second},
		{"now or never", func() time.Time { return time.Now().Add(time.Second) }, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &pages{reach: map[string]func() broadcasts.Reach{}}
				b := newBell(t, withPages(p))
				id := b.people.join(1, "push.example")[0]
				p.reach[id] = func() broadcasts.Reach { return broadcasts.Reach{Hold: tt.hold()} }
				start := time.Now()
				last := b.end(b.hello(tt.lifetime).ID)
				sent := b.post.to(id)
				if last.Counts.Accepted != 1 || len(sent) != 1 || sent[0].at.Sub(start) > tt.within {
					t.Fatalf("%+v, %d attempts %v", last.Counts, len(sent), time.Since(start))
				}
			})
		})
	}
}

// It is asked before each try: a page opened between two of them counts.
func TestSparedBetweenTries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pages{reach: map[string]func() broadcasts.Reach{}}
		b := newBell(t, withPages(p))
		id := b.people.join(1, "push.example")[0]
		p.reach[id] = func() broadcasts.Reach { return broadcasts.Reach{Spared: len(b.post.to(id)) > 0} }
		b.post.script(id, belfry.Outcome{Verdict: belfry.Later, RetryAfter: time.Second}, accepted)
		last := b.end(b.hello(time.Hour).ID)
		if last.Counts.Suppressed != 1 || len(b.post.to(id)) != 1 {
			t.Errorf("%+v", last.Counts)
		}
	})
}
