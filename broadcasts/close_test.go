package broadcasts_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/broadcasts"
)

// within is how long Close may wait for attempts in flight.
func within(d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), d)
}

// A server that stops finishes what is in flight and begins nothing more; the
// next start says what became of the rest (REL-10).
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t, func(c *broadcasts.Config) { c.PerHost = 20 })
		b.post.slow["push.example"], b.post.slow["gone.example"] = 3*time.Second, 5*time.Second
		for _, id := range b.people.join(10, "later.example") {
			b.post.script(id, belfry.Outcome{Verdict: belfry.Later, RetryAfter: time.Minute}) // waiting when the end comes
		}
		for _, id := range b.people.join(2, "gone.example") {
			b.post.script(id, gone)
		}
		b.people.join(4988, "push.example")
		launched := b.hello(time.Hour)
		time.Sleep(4 * time.Second) // the second twenty are in flight

		stopped := time.Now()
		ctx, cancel := within(10 * time.Second)
		defer cancel()
		b.Close(ctx)
		if took := time.Since(stopped); took != 2*time.Second {
			t.Errorf("closing took %v, the attempts in flight 2 s more", took)
		}
		if n := len(b.post.to("")); n != 52 {
			t.Errorf("%d attempts, of which 52 had begun", n)
		}
		got := b.get(launched.ID)
		if got.State != broadcasts.Running || got.Counts != (broadcasts.Counts{Targets: 5000, Pending: 4958, Accepted: 40, Gone: 2}) {
			t.Errorf("%s %+v", got.State, got.Counts)
		}

		time.Sleep(time.Hour)
		b.start()
		if b.log.count("level=INFO", "restart", launched.ID, "pending=4958") != 1 {
			t.Error("nobody is told that it goes on")
		}
		last := b.end(launched.ID)
		if last.State != broadcasts.Done || last.Counts != (broadcasts.Counts{Targets: 5000, Expired: 4958, Accepted: 40, Gone: 2}) {
			t.Errorf("%s %+v, and its hour was over", last.State, last.Counts)
		}
		if b.people.size() != 4998 || len(b.post.to("")) != 52 {
			t.Errorf("%d subscribers, %d attempts", b.people.size(), len(b.post.to("")))
		}
		b.restart()
		if again := b.get(launched.ID); !again.Finished.Equal(*last.Finished) {
			t.Error("it ends twice")
		}
	})
}

// Attempts that outlast the time given are cut off; nothing is known of them,
// so they stay pending.
func TestCloseCutsOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t)
		b.post.slow["push.example"], b.post.slow["fast.example"] = time.Hour, time.Second
		b.people.join(10, "push.example")
		b.people.join(10, "fast.example")
		launched := b.hello(24 * time.Hour)
		synctest.Wait()
		ctx, cancel := within(10 * time.Second)
		defer cancel()
		start := time.Now()
		b.Close(ctx)
		if took := time.Since(start); took != 10*time.Second {
			t.Errorf("closing took %v", took)
		}
		if got := b.get(launched.ID); got.Counts != (broadcasts.Counts{Targets: 20, Pending: 10, Accepted: 10}) || got.State != broadcasts.Running {
			t.Errorf("%s %+v", got.State, got.Counts)
		}
	})
}

// A broadcast that ends while the server stops has ended, and its watchers see it.
func TestEndsWhileClosing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t)
		b.post.slow["push.example"] = 5 * time.Second
		b.people.join(10, "push.example")
		launched := b.hello(time.Hour)
		var watchers sync.WaitGroup
		for range 3 {
			watchers.Go(func() {
				var last broadcasts.Broadcast
				for last = range b.Watch(t.Context(), launched.ID) {
				}
				if last.State != broadcasts.Done || last.Counts.Accepted != 10 {
					t.Errorf("a watcher saw %s %+v last", last.State, last.Counts)
				}
			})
		}
		synctest.Wait()
		ctx, cancel := within(10 * time.Second)
		defer cancel()
		b.Close(ctx)
		watchers.Wait()
	})
}

// Watchers of a broadcast that is cut off are let go, or they would keep the
// server from stopping.
func TestWatchersAreLetGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t)
		id := b.people.join(1, "push.example")[0]
		b.post.script(id, belfry.Outcome{Verdict: belfry.Later, RetryAfter: time.Hour})
		launched := b.hello(24 * time.Hour)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for step, err := range b.Watch(context.Background(), launched.ID) {
				if err != nil || step.Ended() {
					t.Errorf("%s, %v", step.State, err)
				}
			}
		}()
		synctest.Wait()
		b.Close(t.Context())
		<-done
	})
}

// Who launches while the server stops is told so and can try again; what was
// answered with an id before is on disk.
func TestLaunchWhileClosing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t)
		b.post.slow["push.example"] = 5 * time.Second
		b.people.join(1, "push.example")
		b.hello(time.Hour)
		synctest.Wait()
		go b.Close(context.Background())
		synctest.Wait()
		_, _, err := b.Launch(t.Context(), broadcasts.Request{Message: hello(time.Hour), Audience: everybody})
		var told *belfry.Error
		if !errors.As(err, &told) || told.Kind != belfry.ErrBusy || told.Code != "stopping" || told.Hint == "" {
			t.Errorf("%v", err)
		}
		b.Close(context.Background()) // and a second Close waits for the first
		if got, _ := b.List(t.Context(), "", 10); len(got) != 1 || got[0].Counts.Accepted != 1 || got[0].State != broadcasts.Done {
			t.Errorf("%+v", got)
		}
	})
}

// Launches race with the end of the server: each is refused or on disk, and
// every one on disk is accounted for after the next start.
func TestLaunchesRaceWithClose(t *testing.T) {
	for round := range 12 {
		synctest.Test(t, func(t *testing.T) {
			b := newBell(t)
			b.people.join(100, "push.example")
			var launches sync.WaitGroup
			var mu sync.Mutex
			var ids []string
			for range 8 {
				launches.Go(func() {
					for range 10 {
						launched, _, err := b.Launch(t.Context(), broadcasts.Request{Message: hello(time.Hour), Audience: everybody})
						if err != nil {
							return
						}
						mu.Lock()
						ids = append(ids, launched.ID)
						mu.Unlock()
					}
				})
			}
			launches.Go(func() {
				for range round * 10 {
					runtime.Gosched()
				}
				b.Close(context.Background())
			})
			launches.Wait()
			b.restart()
			for _, id := range ids {
				if got := b.end(id); got.Counts != (broadcasts.Counts{Targets: 100, Accepted: 100}) {
					t.Errorf("%s %+v", got.State, got.Counts)
				}
			}
		})
	}
}

// A disk that is full makes sending wait, since what is not written down would
// be sent twice; when there is room again it goes on by itself (REL-09).
func TestCommitFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t)
		b.post.slow["push.example"] = 10 * time.Millisecond
		for i, id := range b.people.join(5000, "push.example") {
			if i%10 == 0 {
				b.post.script(id, gone)
			}
		}
		launched := b.hello(time.Hour)
		b.journal.fail(errBroken)
		time.Sleep(time.Minute)
		stuck := len(b.post.to(""))
		if stuck < 256 || stuck > 256+256+128 {
			t.Errorf("%d attempts that nobody could write down", stuck)
		}
		if got := b.get(launched.ID); got.Counts.Pending != 5000 || b.people.size() != 5000 {
			t.Errorf("%+v, %d there", got.Counts, b.people.size())
		}
		time.Sleep(time.Minute)
		if n := len(b.post.to("")); n != stuck {
			t.Errorf("%d more attempts in the second minute", n-stuck)
		}
		if b.log.count("level=ERROR", "cannot write down", "broken") != 1 {
			t.Error("it is not said, or more than once")
		}
		b.journal.fail(nil)
		last := b.end(launched.ID)
		if last.Counts != (broadcasts.Counts{Targets: 5000, Accepted: 4500, Gone: 500}) || b.people.size() != 4500 || len(b.post.to("")) != 5000 {
			t.Errorf("%+v, %d there, %d attempts", last.Counts, b.people.size(), len(b.post.to("")))
		}
		if b.log.count("level=INFO", "works again") != 1 {
			t.Error("that it works again is not said")
		}
	})
}

// Commits that fail now and then repeat no attempt and lose none.
func TestCommitFailsNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t)
		b.post.slow["push.example"] = 50 * time.Millisecond
		for i, id := range b.people.join(3000, "push.example") {
			if i%8 == 0 {
				b.post.script(id, gone)
			}
		}
		launched := b.hello(time.Hour)
		stop := make(chan struct{})
		defer close(stop)
		go func() {
			for n := 0; ; n++ {
				select {
				case <-time.After(70 * time.Millisecond):
				case <-stop:
					return
				}
				if b.journal.fail(nil); n%3 != 0 {
					b.journal.fail(errBroken)
				}
			}
		}()
		last := b.end(launched.ID)
		if last.Counts != (broadcasts.Counts{Targets: 3000, Accepted: 2625, Gone: 375}) || b.people.size() != 2625 || len(b.post.to("")) != 3000 {
			t.Errorf("%+v, %d there, %d attempts", last.Counts, b.people.size(), len(b.post.to("")))
		}
	})
}

// A disk that stays full does not keep the server from stopping; what could
// not be written down counts as pending, and nobody is forgotten.
func TestCloseWhileCommitsFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t)
		for i, id := range b.people.join(2000, "push.example") {
			if i%10 == 0 {
				b.post.script(id, gone)
			}
		}
		launched := b.hello(time.Hour)
		b.journal.fail(errBroken)
		time.Sleep(time.Second)
		start := time.Now()
		ctx, cancel := within(10 * time.Second)
		defer cancel()
		b.Close(ctx)
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("closing took %v", took)
		}
		b.journal.fail(nil)
		b.start()
		if got := b.get(launched.ID); got.State != broadcasts.Running || got.Counts.Pending+got.Counts.Accepted+got.Counts.Gone != 2000 || b.people.size() != 2000-got.Counts.Gone {
			t.Errorf("%s %+v, %d there", got.State, got.Counts, b.people.size())
		}
		if last := b.end(launched.ID); last.Counts.Gone != 200 || b.people.size() != 1800 {
			t.Errorf("%+v, %d there", last.Counts, b.people.size())
		}
	})
}

// Room that comes back while the server stops is used: nothing is lost then.
func TestCommitsWorkAgainWhileClosing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t)
		b.people.join(100, "push.example")
		b.journal.fail(errBroken)
		b.journal.fail(nil)
		launched := b.hello(time.Hour)
		b.journal.fail(errBroken)
		synctest.Wait()
		time.AfterFunc(5*time.Second, func() { b.journal.fail(nil) })
		ctx, cancel := within(10 * time.Second)
		defer cancel()
		b.Close(ctx)
		if got := b.get(launched.ID); got.Counts.Accepted != 100 {
			t.Errorf("%+v", got.Counts)
		}
	})
}

// An audience that is being read while the server stops is not an audience that
// cannot be read.
func TestCloseWhilePaging(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t)
		b.cfg.Audience = slowPages{b.people}
		b.restart()
		b.people.join(10, "push.example")
		launched := b.hello(time.Hour)
		synctest.Wait()
		ctx, cancel := within(time.Second)
		defer cancel()
		b.Close(ctx)
		if got := b.get(launched.ID); got.State != broadcasts.Running || got.Counts.Pending != 10 {
			t.Errorf("%s %v %+v", got.State, got.Reason, got.Counts)
		}
	})
}

// slowPages take for ever to be read, unless nobody waits any more.
type slowPages struct{ *people }

func (p slowPages) Page(ctx context.Context, a belfry.Audience, after, until belfry.Position, limit int) ([]belfry.Subscription, belfry.Position, bool, error) {
	<-ctx.Done()
	return nil, after, false, ctx.Err()
}

// Attempts that hear nothing are waited for: Close must not return while
// somebody may still write to the journal.
func TestCloseWaitsForDeafAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t)
		b.post.deaf, b.post.slow["push.example"] = true, time.Minute
		b.people.join(3, "push.example")
		launched := b.hello(time.Hour)
		synctest.Wait()
		ctx, cancel := within(time.Second)
		defer cancel()
		b.Close(ctx)
		if got := b.get(launched.ID); got.Counts.Accepted != 3 {
			t.Errorf("%+v", got.Counts)
		}
	})
}

// What was found out is written soon, and many at a time: a crash repeats
// little, and no disk is asked for an fsync for each row.
func TestCommitsAreGathered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t)
		b.people.join(10_000, "push.example")
		b.end(b.hello(time.Hour).ID)
		if b.journal.commits > 100 || b.journal.largest > 192 {
			t.Errorf("%d commits for 10,000 rows, up to %d rows each", b.journal.commits, b.journal.largest)
		}

		b.post.slow["slow.example"] = time.Hour
		b.people.join(1, "slow.example")
		launched := b.hello(24 * time.Hour)
		time.Sleep(201 * time.Millisecond)
		if got := b.get(launched.ID); got.Counts.Accepted != 10_000 {
			t.Errorf("200 ms later %+v is written down", got.Counts)
		}
	})
}

// Broadcasts that end at one time end in few commits.
func TestManyEndsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t)
		ids := b.people.join(100, "push.example")
		b.post.slow["push.example"] = time.Second
		var all []broadcasts.Broadcast
		for _, id := range ids {
			all = append(all, b.launch(hello(time.Hour), belfry.Audience{Subscriptions: []string{id}}))
		}
		b.journal.fail(errBroken) // a slow disk, while everything ends
		time.Sleep(3 * time.Second)
		b.journal.fail(nil)
		for _, launched := range all {
			if last := b.end(launched.ID); last.Counts.Accepted != 1 {
				t.Errorf("%+v", last.Counts)
			}
		}
		if b.journal.commits > 5 {
			t.Errorf("%d commits for 100 ends", b.journal.commits)
		}
	})
}

// Ringing one device does not wait for a batch to fill.
func TestEndIsWrittenAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t)
		ids := b.people.join(2, "push.example")
		start := time.Now()
		last := b.end(b.launch(hello(time.Hour), belfry.Audience{Subscriptions: ids[1:]}).ID)
		if took := time.Since(start); took > time.Millisecond || last.Counts.Accepted != 1 || b.journal.commits != 1 {
			t.Errorf("%+v after %v and %d commits", last.Counts, took, b.journal.commits)
		}
	})
}
