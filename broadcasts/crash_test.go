package broadcasts_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/broadcasts"
)

// poison is what panics say here: no log may.
const poison = "https://push.example/p/secret"

// A row at which our own code panics fails and costs nobody else anything. The
// third one ends the broadcast, whatever was restarted in between, and frees
// what was held: another broadcast goes on (REL-13).
func TestCrashesOfRows(t *testing.T) {
	for _, tt := range []struct {
		bad      int // rows that are poison
		restarts bool
		want     broadcasts.State
	}{{2, false, broadcasts.Done}, {2, true, broadcasts.Done}, {3, false, broadcasts.Cancelled}, {3, true, broadcasts.Cancelled}, {40, true, broadcasts.Cancelled}} {
		t.Run(fmt.Sprintf("%d, restarts %t", tt.bad, tt.restarts), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBell(t, func(c *broadcasts.Config) { c.PerHost = 1 })
				ids := b.people.join(100, "push.example")
				bad := map[string]bool{}
				for _, id := range ids[:tt.bad] {
					bad[id] = true
				}
				var mended atomic.Bool
				b.post.rule = func(s belfry.Subscription) belfry.Outcome {
					if bad[s.ID] && !mended.Load() {
						panic(errors.New(poison))
					}
					return belfry.Outcome{Verdict: belfry.Accepted, Status: 201}
				}
				b.post.before = func(belfry.Subscription) { time.Sleep(time.Second) }
				poisoned := b.request(news(everybody))
				began := time.Now()
				for !b.get(poisoned.ID).Ended() {
					time.Sleep(1500 * time.Millisecond)
					if tt.restarts {
						b.restart()
					} else if time.Since(began) > 10*time.Minute {
						t.Fatalf("it hangs: %+v", b.get(poisoned.ID).Counts)
					}
				}
				got := b.get(poisoned.ID)
				least, most := min(tt.bad, 3), min(tt.bad, 4) // the next row may have begun before it was cancelled
				if got.State != tt.want || got.Counts.Failed < least || got.Counts.Failed > most || got.Failures[broadcasts.ReasonCrashed] != got.Counts.Failed ||
					got.State == broadcasts.Done && got.Counts.Accepted != 98 || got.State == broadcasts.Cancelled && *got.Reason != broadcasts.ReasonCrashed {
					t.Errorf("%s %+v %v", got.State, got.Counts, got.Failures)
				}
				mended.Store(true)
				if last := b.end(b.request(news(everybody)).ID); last.Counts.Accepted != 100 {
					t.Errorf("the next one: %+v", last.Counts)
				}
				if b.log.count("level=ERROR", poisoned.ID, "*errors.errorString", "crash_test.go") == 0 || b.log.count("secret") != 0 {
					t.Error("the log says\n", b.log.buf.String())
				}
			})
		})
	}
}

// pitfalls are an audience that panics when it is paged through.
type pitfalls struct {
	*people
	left atomic.Int64 // how often it will
}

func (p *pitfalls) Page(ctx context.Context, a belfry.Audience, after, until belfry.Position, limit int) ([]belfry.Subscription, belfry.Position, bool, error) {
	if after >= 256 && !a.All && len(a.Subscriptions) == 0 && p.left.Add(-1) >= 0 {
		panic(poison)
	}
	return p.people.Page(ctx, a, after, until, limit)
}

// A broadcast that crashes between its rows is tried again, where it was, and is
// cancelled at the third time. Nobody is rung twice by that.
func TestCrashesOfThePager(t *testing.T) {
	for _, tt := range []struct {
		crashes int64
		want    broadcasts.State
	}{{2, broadcasts.Done}, {3, broadcasts.Cancelled}, {1000, broadcasts.Cancelled}} {
		for _, restarts := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d, restarts %t", tt.crashes, restarts), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					p := &pitfalls{}
					b := newBell(t, func(c *broadcasts.Config) { c.Audience = p })
					p.people = b.people
					ids := b.people.join(1000, "push.example", "a")
					p.left.Store(tt.crashes)
					launched := b.request(news(belfry.Audience{Channels: []string{"a"}}))
					if restarts {
						b.restart()
						synctest.Wait()
						b.restart()
					}
					got := b.end(launched.ID)
					if got.State != tt.want || got.State == broadcasts.Done && got.Counts.Accepted != 1000 ||
						got.State == broadcasts.Cancelled && (*got.Reason != broadcasts.ReasonCrashed || got.Counts.Cancelled == 0) {
						t.Errorf("%s %+v", got.State, got.Counts)
					}
					for _, id := range ids {
						if n := len(b.post.got(id, launched)); n > 1 {
							t.Errorf("%s was rung %d times", id, n)
						}
					}
					if b.log.count("secret") != 0 || tt.crashes > 0 && b.log.count("level=ERROR", launched.ID, "string") == 0 {
						t.Error("the log says\n", b.log.buf.String())
					}
				})
			})
		}
	}
}

// traps are a journal that panics when a broadcast is to go on.
type traps struct {
	broadcasts.Journal
	id   string
	left int
}

func (j *traps) Open(ctx context.Context, id string) (map[broadcasts.HostID]int, error) {
	if id == j.id && j.left > 0 {
		j.left--
		panic(poison)
	}
	return j.Journal.Open(ctx, id)
}

// A broadcast that crashes when it is to go on does not keep the server from
// starting, nor the others from going on.
func TestCrashesAtStart(t *testing.T) {
	for crashes, want := range []broadcasts.State{broadcasts.Done, broadcasts.Done, broadcasts.Done, broadcasts.Cancelled, broadcasts.Cancelled} {
		synctest.Test(t, func(t *testing.T) {
			j := &traps{left: crashes}
			b := newBell(t, func(c *broadcasts.Config) { j.Journal, c.Journal = c.Journal, j })
			b.people.join(3, "push.example")
			b.post.slow["push.example"] = time.Second
			poisoned, other := b.hello(time.Hour), b.hello(time.Hour)
			j.id = poisoned.ID
			b.restart()
			if got := b.end(other.ID); got.Counts.Accepted != 3 {
				t.Errorf("%d crashes: the other one %+v", crashes, got.Counts)
			}
			if got := b.end(poisoned.ID); got.State != want {
				t.Errorf("%d crashes: %s %+v", crashes, got.State, got.Counts)
			}
			if b.log.count("secret") != 0 {
				t.Error(b.log.buf.String())
			}
		})
	}
}

// However often the server is restarted, a broadcast that did nothing wrong goes on.
func TestRestartsAreNoCrashes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t, func(c *broadcasts.Config) { c.PerHost = 5 })
		b.people.join(100, "push.example")
		b.post.slow["push.example"] = time.Second
		launched := b.hello(time.Hour)
		for range 10 {
			time.Sleep(1500 * time.Millisecond)
			b.restart()
		}
		if got := b.end(launched.ID); got.State != broadcasts.Done || got.Counts.Accepted != 100 {
			t.Errorf("%s %+v", got.State, got.Counts)
		}
	})
}
