package broadcasts_test

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/broadcasts"
)

// at asks for hello at a time, worth saying for so long after it.
func at(when time.Time, lifetime time.Duration) broadcasts.Request {
	return broadcasts.Request{Message: hello(lifetime), Audience: everybody, Options: broadcasts.Options{At: &when}}
}

// odd is a time of day that nobody else rings at. The clock of a bubble begins
// at midnight.
const odd = 7*time.Minute + 3*time.Second

// A broadcast that is scheduled rings nobody before its time, and then those
// whom it was for when its operator was told so: who came since gets nothing.
// Its message ages from then on. Who watches sees it begin.
func TestScheduled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t)
		b.post.slow["push.example"] = time.Second
		ids := b.people.join(3, "push.example")
		due := time.Now().Add(30*24*time.Hour + odd)
		got := b.request(at(due.In(time.FixedZone("", 3600)), time.Minute))
		if got.State != broadcasts.Scheduled || got.Started != nil || !got.Starts.Equal(due) || got.At.Location() != time.UTC || !got.Deadline.Equal(due.Add(time.Minute)) ||
			got.Counts != (broadcasts.Counts{Targets: 3, Pending: 3}) {
			t.Errorf("%+v", got)
		}
		if stored := b.get(got.ID); !reflect.DeepEqual(stored, got) {
			t.Errorf("\n got %+v\nwant %+v", stored, got)
		}
		var seen []broadcasts.State
		watched := make(chan bool)
		go func() {
			for step := range b.Watch(t.Context(), got.ID) {
				seen = append(seen, step.State)
			}
			close(watched)
		}()
		time.Sleep(time.Hour)
		late := b.people.join(1, "push.example")[0]
		b.people.leave(ids[0])
		time.Sleep(time.Until(due) - time.Millisecond)
		if n := len(b.post.to("")); n != 0 {
			t.Fatalf("%d attempts before its time", n)
		}
		last := b.end(got.ID)
		<-watched
		if last.State != broadcasts.Done || last.Counts != (broadcasts.Counts{Targets: 3, Accepted: 2, Left: 1}) || !last.Started.Equal(due) || len(b.post.to(late)) != 0 {
			t.Errorf("%s started %v, %+v", last.State, last.Started, last.Counts)
		}
		for _, s := range b.post.to("") {
			if after := s.at.Sub(due); after < 0 || after > 10*time.Millisecond || s.message.TTL != time.Minute-after {
				t.Errorf("sent at %v for %v", s.at, s.message.TTL)
			}
		}
		if !slices.Equal(slices.Compact(seen), []broadcasts.State{broadcasts.Scheduled, broadcasts.Running, broadcasts.Done}) {
			t.Errorf("seen as %v", seen)
		}
	})
}

// Everybody rings on the full hour, so we step aside, by a minute at most (PS-06),
// and by less where the message would be old by then.
func TestFullHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t)
		hour := time.Now().Truncate(time.Hour).Add(24 * time.Hour)
		aside := func(due time.Time, lifetime time.Duration) time.Duration {
			got := b.request(at(due, lifetime))
			if got.Starts.Before(due) || !got.At.Equal(due) || !got.Deadline.Equal(due.Add(lifetime)) {
				t.Fatalf("starts %v, at %v until %v", got.Starts, got.At, got.Deadline)
			}
			return got.Starts.Sub(due)
		}
		for lifetime, most := range map[time.Duration]time.Duration{time.Hour: time.Minute, 0: time.Minute, 10 * time.Second: 5 * time.Second} {
			var longest time.Duration
			different := map[time.Duration]bool{}
			for range 100 {
				by := aside(hour, lifetime)
				longest, different[by] = max(longest, by), true
			}
			if longest > most || longest < most/2 || len(different) < 50 {
				t.Errorf("worth %v: up to %v, %d different", lifetime, longest, len(different))
			}
		}
		for _, off := range []time.Duration{time.Second, time.Minute, 30 * time.Minute} {
			if by := aside(hour.Add(off), time.Hour); by != 0 {
				t.Errorf("%v after the hour it starts %v later", off, by)
			}
		}
	})
}

// A server that was down for two hours when a broadcast was due rings late,
// unless that is later than its operator allowed or than the message is worth
// saying; then it says that it was too late (REL-30).
func TestScheduledWhileDown(t *testing.T) {
	allow := func(d time.Duration) *int { s := int(d.Seconds()); return &s }
	for _, tt := range []struct {
		name     string
		lifetime time.Duration
		allowed  *int
		down     time.Duration // behind its time
		runs     bool
	}{
		{"late", 24 * time.Hour, nil, 2 * time.Hour, true},
		{"behind its deadline", time.Hour, nil, 2 * time.Hour, false},
		{"as late as allowed", 24 * time.Hour, allow(2 * time.Hour), 2 * time.Hour, true},
		{"later than allowed", 24 * time.Hour, allow(2 * time.Hour), 2*time.Hour + time.Second, false},
		{"allowed, and behind its deadline", time.Hour, allow(3 * time.Hour), 2 * time.Hour, false},
		{"a restart at its time", 24 * time.Hour, allow(0), time.Minute, true},
		{"never", 24 * time.Hour, allow(0), time.Minute + time.Second, false},
		{"now or never, a restart", 0, nil, 30 * time.Second, true},
		{"now or never, late", 0, nil, 2 * time.Hour, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBell(t)
				b.people.join(3, "push.example")
				due := time.Now().Add(odd)
				r := at(due, tt.lifetime)
				r.MaxLateness = tt.allowed
				got := b.request(r)
				time.Sleep(time.Minute)
				b.restart() // is waited for, too
				time.Sleep(time.Minute)
				b.Close(t.Context())
				time.Sleep(time.Until(due.Add(tt.down)))
				b.start()
				last := b.end(got.ID)
				if tt.runs {
					if last.State != broadcasts.Done || last.Counts.Accepted != 3 || !last.Started.Equal(due.Add(tt.down)) {
						t.Errorf("%s %+v, started %v", last.State, last.Counts, last.Started)
					}
					for _, s := range b.post.to("") {
						if want := max(tt.lifetime-tt.down, 0); s.message.TTL > want || s.message.TTL < want-10*time.Millisecond {
							t.Errorf("sent for %v, want %v", s.message.TTL, want)
						}
					}
					return
				}
				if last.State != broadcasts.Cancelled || *last.Reason != broadcasts.ReasonTooLate || last.Counts.Cancelled != 3 || len(b.post.to("")) != 0 || last.Started != nil {
					t.Errorf("%s %v %+v", last.State, last.Reason, last.Counts)
				}
				synctest.Wait()
				if b.log.count("level=WARN", "cancelled", got.ID) != 1 {
					t.Error("the operator is not told")
				}
			})
		})
	}
}

// A wall clock that is put while a broadcast waits is believed within a minute,
// and one that goes back over its time rings nobody twice, over a restart
// neither (REL-08).
func TestScheduledWhenTheClockJumps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var jump atomic.Int64
		b := newBell(t, func(c *broadcasts.Config) {
			c.Now = func() time.Time { return time.Now().Add(time.Duration(jump.Load())) }
		})
		b.people.join(3, "push.example")
		due := time.Now().Add(5*time.Hour + odd)
		got := b.request(at(due, time.Hour))
		jump.Store(int64(-time.Hour)) // it is an hour longer until then
		time.Sleep(time.Until(due) + time.Minute)
		if n := len(b.post.to("")); n != 0 {
			t.Fatalf("%d attempts at the time by a clock that was wrong", n)
		}
		jump.Store(0)
		time.Sleep(time.Minute)
		if n := len(b.post.to("")); n != 3 {
			t.Fatalf("%d attempts a minute after the clock was put right", n)
		}
		for _, s := range b.post.to("") {
			if s.message.TTL > 59*time.Minute || s.message.TTL < 57*time.Minute {
				t.Errorf("sent for %v", s.message.TTL)
			}
		}
		b.end(got.ID)
		b.post.slow["push.example"] = 10 * time.Second
		running := b.request(at(due.Add(time.Hour), time.Hour))
		time.Sleep(time.Until(due.Add(time.Hour + time.Second)))
		jump.Store(int64(-3 * time.Hour))
		b.restart()
		time.Sleep(10 * time.Hour)
		if last := b.get(running.ID); last.State != broadcasts.Done || last.Counts.Accepted != 3 {
			t.Errorf("%s %+v", last.State, last.Counts)
		}
		if n := len(b.post.to("")); n != 3+3+3 { // three were cut off by the restart
			t.Errorf("%d attempts", n)
		}
	})
}

// What is scheduled can be cancelled, and not paused or resumed: it does not run.
func TestOrdersToScheduled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t)
		b.people.join(3, "push.example")
		got := b.request(at(time.Now().Add(odd), time.Hour))
		for range 2 {
			if _, err := b.Pause(t.Context(), got.ID); !errors.Is(err, belfry.ErrConflict) || !strings.Contains(err.Error(), "is scheduled and cannot be paused") {
				t.Error(err)
			}
			if _, err := b.Resume(t.Context(), got.ID); !errors.Is(err, belfry.ErrConflict) {
				t.Error(err)
			}
			b.restart()
		}
		began := time.Now()
		cancelled, err := b.Cancel(t.Context(), got.ID)
		if err != nil || cancelled.State != broadcasts.Cancelled || *cancelled.Reason != broadcasts.ReasonOperator || cancelled.Counts.Cancelled != 3 || time.Since(began) > time.Second {
			t.Errorf("%s %+v, %v", cancelled.State, cancelled.Counts, err)
		}
		time.Sleep(time.Hour)
		b.restart()
		time.Sleep(time.Hour)
		if n := len(b.post.to("")); n != 0 {
			t.Errorf("%d attempts", n)
		}
	})
}

// A disk that is full when a broadcast is due makes it wait: nobody is rung by
// a start that is written down nowhere.
func TestScheduledOnFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t)
		b.people.join(3, "push.example")
		due := time.Now().Add(odd)
		got := b.request(at(due, time.Hour))
		b.journal.fail(errBroken)
		time.Sleep(odd + time.Minute)
		if n := len(b.post.to("")); n != 0 {
			t.Errorf("%d attempts", n)
		}
		b.journal.fail(nil)
		if last := b.end(got.ID); last.Counts.Accepted != 3 {
			t.Errorf("%+v", last.Counts)
		}
	})
}

// A time that cannot be meant is refused with the one that the server has.
func TestScheduleRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t)
		now := time.Now()
		seconds := func(n int) *int { return &n }
		for _, tt := range []struct {
			options    broadcasts.Options
			code, text string
		}{
			{broadcasts.Options{At: &now}, "at", "has passed: the server's clock says 2000-01-01T00:00:00Z"},
			{broadcasts.Options{At: new(now.Add(367 * 24 * time.Hour))}, "at", "within a year"},
			{broadcasts.Options{MaxLateness: seconds(1)}, "max-lateness", "at"},
			{broadcasts.Options{At: new(now.Add(time.Hour)), MaxLateness: seconds(-1)}, "max-lateness", "2419200"},
			{broadcasts.Options{At: new(now.Add(time.Hour)), MaxLateness: seconds(2419201)}, "max-lateness", "2419200"},
		} {
			_, _, err := b.Launch(t.Context(), broadcasts.Request{Message: hello(time.Hour), Audience: everybody, Options: tt.options})
			var told *belfry.Error
			if !errors.As(err, &told) || told.Code != tt.code || !strings.Contains(told.Error(), tt.text) {
				t.Errorf("%+v: %v", tt.options, err)
			}
		}
		// Asked for again once its time has passed, it is still the one that was launched.
		r := at(now.Add(odd), time.Hour)
		r.Key = key(t, "shop", "1")
		first := b.request(r)
		time.Sleep(time.Hour)
		if again, replayed, err := b.Launch(t.Context(), r); err != nil || !replayed || again.ID != first.ID {
			t.Errorf("%s, replayed %v, %v", again.ID, replayed, err)
		}
	})
}
