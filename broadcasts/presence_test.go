package broadcasts_test

import (
	"fmt"
	"maps"
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
	reach map[string]func() belfry.Reach
	asked []string // device and message
}

func (p *pages) Reached(device, message string) belfry.Reach {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, device+" "+message)
	if fn := p.reach[device]; fn != nil {
		return fn()
	}
	return belfry.Reach{}
}

func withPages(p *pages) func(*broadcasts.Config) {
	return func(c *broadcasts.Config) { c.Presence = p }
}

// A person who reads the message on an open page is not rung for it as well;
// everybody else is.
func TestSpared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pages{reach: map[string]func() belfry.Reach{}}
		b := newBell(t, withPages(p))
		ids := b.people.join(3, "push.example")
		p.reach[ids[1]] = func() belfry.Reach { return belfry.Reach{Spared: true} }
		launched := b.hello(time.Hour)
		last := b.end(launched.ID)
		if last.Counts != (broadcasts.Counts{Targets: 3, Accepted: 2, Suppressed: 1}) || len(b.post.to(ids[1])) != 0 {
			t.Errorf("%+v", last.Counts)
		}
		if len(p.asked) != 5 || p.asked[0][27:] != launched.ID { // of whom is rung, a last time when it has its turn
			t.Errorf("asked for %q", p.asked)
		}
	})
}

// A device whose page may still acknowledge the message is asked about again,
// and meanwhile keeps no place that others need.
func TestHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pages{reach: map[string]func() belfry.Reach{}}
		b := newBell(t, withPages(p), func(c *broadcasts.Config) { c.PerHost = 1 })
		ids := b.people.join(30, "push.example")
		start := time.Now()
		hold := belfry.Reach{Hold: start.Add(5 * time.Second)}
		for i, then := range []belfry.Reach{{Spared: true}, {}} {
			p.reach[ids[i]] = func() belfry.Reach {
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
				p := &pages{reach: map[string]func() belfry.Reach{}}
				b := newBell(t, withPages(p))
				id := b.people.join(1, "push.example")[0]
				p.reach[id] = func() belfry.Reach { return belfry.Reach{Hold: tt.hold()} }
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
		p := &pages{reach: map[string]func() belfry.Reach{}}
		b := newBell(t, withPages(p))
		id := b.people.join(1, "push.example")[0]
		p.reach[id] = func() belfry.Reach { return belfry.Reach{Spared: len(b.post.to(id)) > 0} }
		b.post.script(id, belfry.Outcome{Verdict: belfry.Later, RetryAfter: time.Second}, accepted)
		last := b.end(b.hello(time.Hour).ID)
		if last.Counts.Suppressed != 1 || len(b.post.to(id)) != 1 {
			t.Errorf("%+v", last.Counts)
		}
	})
}

// And it is waited for then.
func TestHoldBetweenTries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pages{reach: map[string]func() belfry.Reach{}}
		b := newBell(t, withPages(p))
		id := b.people.join(1, "push.example")[0]
		start := time.Now()
		p.reach[id] = func() (r belfry.Reach) {
			if len(b.post.to(id)) == 1 {
				r.Hold = start.Add(3 * time.Second)
			}
			return r
		}
		b.post.script(id, belfry.Outcome{Verdict: belfry.Later, RetryAfter: 500 * time.Millisecond}, accepted)
		last := b.end(b.hello(time.Hour).ID)
		if sent := b.post.to(id); last.Counts.Accepted != 1 || len(sent) != 2 || sent[1].at.Sub(start) != 3*time.Second {
			t.Errorf("%+v, %d attempts", last.Counts, len(sent))
		}
	})
}

// Windows are what devices have open: they hear what is published, and may
// acknowledge it. Whoever looks at one is waited for, for 3 s; unless it is urgent.
type windows struct {
	board

	of   map[string]window // by device
	lost bool              // all is forgotten, as by a restart
	asks int
}

type window struct {
	visible time.Duration // so long after publishing somebody is still known to look at it
	acks    time.Duration // so long after publishing it acknowledges; 0 means never
}

func (w *windows) Reached(device, message string) (r belfry.Reach) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asks++
	for _, e := range w.events {
		since, one := time.Since(e.Time), w.of[device]
		switch {
		case e.ID != message || w.lost:
		case one.acks > 0 && since >= one.acks:
			r.Spared = true
		case since < 3*time.Second && since < one.visible && e.Message.Urgency != belfry.UrgencyHigh:
			r.Hold = e.Time.Add(3 * time.Second)
		}
	}
	return r
}

func (w *windows) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lost = true
}

func newWindows() *windows { return &windows{of: map[string]window{}} }

func (w *windows) both(c *broadcasts.Config) { c.Live, c.Presence = w, w }

// A device whose page says within 3 s that it has the message is not rung. All
// others are: after 3 s where somebody looks at a page, else at once.
func TestPages(t *testing.T) {
	const long = time.Hour
	busy := belfry.Outcome{Verdict: belfry.Later, RetryAfter: time.Minute}
	for _, tt := range []struct {
		name    string
		window  window
		urgency belfry.Urgency
		push    broadcasts.Push
		ttl     time.Duration
		answers []belfry.Outcome
		want    broadcasts.Counts
		rung    []time.Duration // when, since the launch
	}{
		{name: "it acknowledges", window: window{long, time.Second}, want: broadcasts.Counts{Suppressed: 1}},
		{name: "at the last moment", window: window{long, 3 * time.Second}, want: broadcasts.Counts{Suppressed: 1}},
		{name: "too late", window: window{long, 3*time.Second + 1}, want: broadcasts.Counts{Accepted: 1}, rung: []time.Duration{3 * time.Second}},
		{name: "never", window: window{visible: long}, want: broadcasts.Counts{Accepted: 1}, rung: []time.Duration{3 * time.Second}},
		{name: "it is hidden", window: window{0, time.Second}, want: broadcasts.Counts{Accepted: 1}, rung: []time.Duration{0}},
		{name: "it is hidden while we wait", window: window{visible: time.Second}, want: broadcasts.Counts{Accepted: 1}, rung: []time.Duration{3 * time.Second}},
		{name: "it is urgent", window: window{long, time.Second}, urgency: belfry.UrgencyHigh, want: broadcasts.Counts{Accepted: 1}, rung: []time.Duration{0}},
		{name: "it is urgent, and there by the second try", window: window{long, time.Second}, urgency: belfry.UrgencyHigh, answers: []belfry.Outcome{busy},
			want: broadcasts.Counts{Suppressed: 1}, rung: []time.Duration{0}},
		{name: "it is there by the second try", window: window{long, 4 * time.Second}, answers: []belfry.Outcome{busy},
			want: broadcasts.Counts{Suppressed: 1}, rung: []time.Duration{3 * time.Second}},
		{name: "always", window: window{long, time.Second}, push: broadcasts.PushAlways, want: broadcasts.Counts{Accepted: 1}, rung: []time.Duration{0}},
		{name: "never push", window: window{long, time.Second}, push: broadcasts.PushNever},
		{name: "there is no time to wait", window: window{long, time.Second}, ttl: 2 * time.Second, want: broadcasts.Counts{Accepted: 1}, rung: []time.Duration{0}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWindows()
				b := newBell(t, w.both)
				id := b.people.join(1, "push.example")[0]
				w.of[id] = tt.window
				b.post.script(id, append(tt.answers, accepted)...)
				m, start := hello(max(tt.ttl, time.Second)), time.Now()
				if m.Urgency = tt.urgency; tt.ttl == 0 {
					m.TTL = nil
				}
				last := b.end(b.request(broadcasts.Request{Message: m, Audience: everybody, Options: broadcasts.Options{Push: tt.push}}).ID)
				tt.want.Targets = tt.want.Accepted + tt.want.Suppressed
				if last.State != broadcasts.Done || last.Counts != tt.want {
					t.Errorf("%s, %+v", last.State, last.Counts)
				}
				var rung []time.Duration
				for _, s := range b.post.to(id) {
					rung = append(rung, s.at.Sub(start))
				}
				if fmt.Sprint(rung) != fmt.Sprint(tt.rung) {
					t.Errorf("rung after %v, want %v", rung, tt.rung)
				}
				if never := tt.push == broadcasts.PushAlways || tt.push == broadcasts.PushNever; never == (w.asks > 0) {
					t.Errorf("asked %d times", w.asks)
				}
			})
		})
	}
}

// Rows on hold are pending like all others: a pause keeps them, to cancel takes
// them with it at once, and a restart rings them, for what pages said is lost.
func TestStoppedOnHold(t *testing.T) {
	for _, tt := range []struct {
		name string
		stop func(b *bell, w *windows, id string) error
		want broadcasts.Counts
		rung time.Duration // when, since the launch; 0 means not at all
	}{
		{"cancelled", func(b *bell, _ *windows, id string) error {
			_, err := b.Cancel(b.t.Context(), id)
			return err
		}, broadcasts.Counts{Targets: 500, Cancelled: 500}, 0},
		{"paused, and all have it", func(b *bell, _ *windows, id string) error {
			return b.rest(id, 10*time.Second)
		}, broadcasts.Counts{Targets: 500, Suppressed: 500}, 0},
		{"paused, and they forget", func(b *bell, w *windows, id string) error {
			w.forget()
			return b.rest(id, 10*time.Second)
		}, broadcasts.Counts{Targets: 500, Accepted: 500}, 11 * time.Second},
		{"resumed at once", func(b *bell, _ *windows, id string) error {
			return b.rest(id, 0)
		}, broadcasts.Counts{Targets: 500, Suppressed: 500}, 0},
		{"restarted", func(b *bell, w *windows, _ string) error {
			w.forget()
			b.restart()
			return nil
		}, broadcasts.Counts{Targets: 500, Accepted: 500}, time.Second},
		{"overtaken", func(b *bell, w *windows, _ string) error {
			m := hello(time.Hour)
			m.Topic = "prices"
			w.forget()
			b.launch(m, everybody)
			return nil
		}, broadcasts.Counts{Targets: 500, Suppressed: 500}, time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWindows()
				b := newBell(t, w.both)
				ids := b.people.join(500, "push.example")
				for _, id := range ids {
					w.of[id] = window{time.Hour, 2500 * time.Millisecond}
				}
				start, m := time.Now(), hello(time.Hour)
				m.Topic = "prices"
				launched := b.launch(m, everybody)
				time.Sleep(time.Second)
				if now := b.get(launched.ID); now.Counts.Pending != 500 {
					t.Fatalf("%+v", now.Counts)
				}
				if err := tt.stop(b, w, launched.ID); err != nil {
					t.Fatal(err)
				}
				if last := b.end(launched.ID); last.Counts != tt.want {
					t.Errorf("%s, %+v, want %+v", last.State, last.Counts, tt.want)
				}
				if took := time.Since(start); tt.want.Cancelled > 0 && took > 3*time.Second {
					t.Errorf("to cancel took until %v", took)
				}
				time.Sleep(time.Minute)
				rung := map[time.Duration]int{}
				for _, sent := range b.post.to("") {
					rung[sent.at.Sub(start).Truncate(time.Second)]++
				}
				want := map[time.Duration]int{}
				if tt.rung > 0 {
					want[tt.rung] = 500
				}
				if !maps.Equal(rung, want) {
					t.Errorf("rung after %v, want %v", rung, want)
				}
			})
		})
	}
}

// rest pauses a broadcast for a while.
func (b *bell) rest(id string, d time.Duration) error {
	if _, err := b.Pause(b.t.Context(), id); err != nil {
		return err
	}
	time.Sleep(d)
	_, err := b.Resume(b.t.Context(), id)
	return err
}

// However many are on hold, nobody else waits for them, at the same push service
// or at another; and of those that fit in memory nothing is written but how they
// end.
func TestManyOnHold(t *testing.T) {
	for many, written := range map[int]int{10_000: 0, 17_000: 17_000 - 16_384} {
		t.Run(fmt.Sprint(many), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { checkManyOnHold(t, many, written) })
		})
	}
}

func checkManyOnHold(t *testing.T, many, written int) {
	const free = 300
	w := newWindows()
	b := newBell(t, w.both, func(c *broadcasts.Config) {
		c.PerHost = 10
		c.Pace = func(string) float64 { return 200 }
	})
	b.post.slow["push.example"], b.post.slow["other.example"] = 10*time.Millisecond, 10*time.Millisecond
	for i, id := range b.people.join(many, "push.example") {
		w.of[id] = window{visible: time.Hour, acks: 2 * time.Second}
		if i%20 == 0 {
			w.of[id] = window{visible: time.Hour}
		}
	}
	b.people.join(free, "push.example")
	b.people.join(free, "other.example")
	launched := b.hello(time.Hour)
	time.Sleep(2900 * time.Millisecond)
	if n := len(b.post.to("")); n != 2*free {
		t.Fatalf("%d of %d were rung that nobody waits for", n, 2*free)
	}
	lines, err := b.journal.Open(t.Context(), launched.ID)
	if err != nil {
		t.Fatal(err)
	}
	open, moved := 0, 0
	for host := range lines {
		rows, err := b.journal.Turns(t.Context(), launched.ID, host, many)
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range rows {
			if open++; row.Next != 0 {
				moved++
			}
		}
	}
	if open != many || moved != written {
		t.Errorf("%d rows are open and %d of them were written down, want %d and %d", open, moved, many, written)
	}
	if last := b.end(launched.ID); last.Counts != (broadcasts.Counts{Targets: many + 2*free, Accepted: many/20 + 2*free, Suppressed: many - many/20}) {
		t.Errorf("%+v", last.Counts)
	}
}
