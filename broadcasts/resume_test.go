package broadcasts_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/broadcasts"
)

// tries says how often each subscription was tried.
func (p *post) tries() map[string]int {
	n := map[string]int{}
	for _, s := range p.to("") {
		n[s.id]++
	}
	return n
}

// A server that is restarted again and again rings everybody once: who had been
// rung is not rung again, who had not is, whoever waits for a second try waits
// as long as the push service said, and who joined meanwhile hears nothing.
func TestGoesOnAfterRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t, func(c *broadcasts.Config) { c.PerHost = 20 })
		b.post.slow["push.example"], b.post.slow["slow.example"] = time.Second, 7*time.Second
		busy := b.people.join(15, "busy.example")
		for _, id := range busy {
			b.post.script(id, belfry.Outcome{Verdict: belfry.Later, RetryAfter: 100 * time.Second}, belfry.Outcome{Verdict: belfry.Accepted, Status: 201})
		}
		ids := append(b.people.join(1000, "push.example"), b.people.join(40, "slow.example")...)
		launched := b.hello(time.Hour)
		for range 5 {
			time.Sleep(4500 * time.Millisecond)
			ctx, cancel := within(10 * time.Second)
			b.Close(ctx)
			cancel()
			mustAddUp(t, b.get(launched.ID))
			b.people.join(1, "push.example")
			b.people.leave(ids[999])
			b.start()
		}
		last := b.end(launched.ID)
		if last.State != broadcasts.Done || last.Counts != (broadcasts.Counts{Targets: 1055, Accepted: 1054, Left: 1}) {
			t.Errorf("%s %+v", last.State, last.Counts)
		}
		tries := b.post.tries()
		for _, id := range append(ids[:999:999], ids[1000:]...) {
			if tries[id] != 1 {
				t.Fatalf("%s was tried %d times", id, tries[id])
			}
		}
		for _, id := range busy {
			sent := b.post.to(id)
			if len(sent) != 2 || sent[1].at.Sub(sent[0].at) < 100*time.Second || sent[1].at.Sub(sent[0].at) > 121*time.Second {
				t.Fatalf("%d tries, the second after %v", len(sent), sent[len(sent)-1].at.Sub(sent[0].at))
			}
		}
		if len(tries) != 1054 {
			t.Errorf("%d were tried", len(tries))
		}
	})
}

// After a power cut nobody is missing, and few are rung twice: those whose
// answers had not been written down, a batch of the committer and those waiting
// for it, and those in flight (REL-01).
func TestGoesOnAfterAPowerCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const perHost = 50
		b := newBell(t, func(c *broadcasts.Config) { c.PerHost = perHost })
		b.post.slow["push.example"] = 3 * time.Millisecond
		ids := b.people.join(10_000, "push.example")
		launched := b.hello(time.Hour)
		cuts := 0
		for ; ; cuts++ {
			time.Sleep(117 * time.Millisecond)
			if b.get(launched.ID).Ended() {
				break
			}
			b.journal.fail(errBroken)
			time.Sleep(time.Second) // until all wait for the disk
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			b.Close(ctx)
			b.journal.fail(nil)
			b.start()
		}
		if got := b.get(launched.ID); got.State != broadcasts.Done || got.Counts.Accepted != 10_000 {
			t.Errorf("%s %+v", got.State, got.Counts)
		}
		tries, twice := b.post.tries(), 0
		for _, id := range ids {
			if tries[id] == 0 {
				t.Fatalf("%s was never tried", id)
			}
			twice += tries[id] - 1
		}
		if cuts < 3 || twice == 0 || twice > cuts*(256+perHost) {
			t.Errorf("%d power cuts, and %d times somebody was rung again", cuts, twice)
		}
	})
}

// The same where most rows are parked, since their push service is slow or asks
// us to wait, and others are not.
func TestParkedRowsSurvivePowerCuts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const perHost = 10
		b := newBell(t, func(c *broadcasts.Config) { c.PerHost = perHost })
		b.post.slow["slow.example"], b.post.slow["push.example"] = time.Second, 3*time.Millisecond
		ids := b.people.join(100, "slow.example")
		for range 100 {
			ids = append(ids, b.people.join(40, "push.example")...)
			ids = append(ids, b.people.join(2, "slow.example")...)
			busy := b.people.join(2, "busy.example")
			for _, id := range busy {
				b.post.script(id, belfry.Outcome{Verdict: belfry.Later, RetryAfter: 20 * time.Second}, accepted)
			}
			ids = append(ids, busy...)
		}
		launched := b.hello(time.Hour)
		cuts := 0
		for ; ; cuts++ {
			time.Sleep(4117 * time.Millisecond)
			if b.get(launched.ID).Ended() {
				break
			}
			b.journal.fail(errBroken)
			time.Sleep(time.Second)
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			b.Close(ctx)
			b.journal.fail(nil)
			b.start()
		}
		if got := b.get(launched.ID); got.State != broadcasts.Done || got.Counts.Accepted != len(ids) {
			t.Errorf("%s %+v", got.State, got.Counts)
		}
		rung, twice := map[string]int{}, 0
		for _, s := range b.post.to("") {
			if s.outcome.Verdict == belfry.Accepted {
				rung[s.id]++
			}
		}
		for _, id := range ids {
			if rung[id] == 0 {
				t.Fatalf("%s was never rung", id)
			}
			twice += rung[id] - 1
		}
		if cuts < 3 || twice > cuts*(256+2*perHost) {
			t.Errorf("%d power cuts, and %d times somebody was rung again", cuts, twice)
		}
	})
}

// A forward journal is without the rows that are being asked, as one is whose
// commit came before their workers had done with them: they still take room.
type forward struct {
	broadcasts.Journal
	post *post
}

func (j forward) Turns(ctx context.Context, id string, host broadcasts.HostID, limit int) ([]broadcasts.OpenRow, error) {
	rows, err := j.Journal.Turns(ctx, id, host, 1000)
	rows = slices.DeleteFunc(rows, func(r broadcasts.OpenRow) bool {
		return slices.ContainsFunc(j.post.to(fmt.Sprintf("%026d", r.At)), func(s sending) bool { return s.until.IsZero() })
	})
	return rows[:min(len(rows), limit)], err
}

// A broadcast whose parked rows find no room for a moment goes on with them
// later; it would be paused, for no reason that an operator could see.
func TestParkedRowsWithoutRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t, func(c *broadcasts.Config) { c.Journal = forward{c.Journal, c.Sender.(*post)} })
		b.post.slow["push.example"] = time.Second
		b.people.join(40, "push.example")
		launched := b.hello(time.Hour)
		synctest.Wait() // all are handed out, and none has an answer
		b.cfg.PerHost = 2
		b.restart()
		last := b.end(launched.ID)
		if last.State != broadcasts.Done || last.Counts != (broadcasts.Counts{Targets: 40, Accepted: 40}) {
			t.Errorf("%s %+v", last.State, last.Counts)
		}
	})
}

// Behind a push service that is dead are others: whoever comes first in the
// audience, they are rung.
func TestDeadHostFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t)
		b.post.slow["dead.example"] = 10 * time.Second
		for _, id := range b.people.join(5000, "dead.example") {
			b.post.script(id, later)
		}
		b.people.join(100, "push.example")
		launched := b.hello(time.Hour)
		time.Sleep(3 * time.Second)
		if got := b.get(launched.ID); got.Counts.Accepted != 100 {
			t.Errorf("%+v", got.Counts)
		}
		if last := b.end(launched.ID); last.Counts != (broadcasts.Counts{Targets: 5100, Accepted: 100, Expired: 5000}) {
			t.Errorf("%+v", last.Counts)
		}
	})
}

// Now or never is never once the server was down.
func TestNowOrNeverAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t, func(c *broadcasts.Config) { c.PerHost = 1 })
		b.post.slow["push.example"] = time.Second
		b.people.join(3, "push.example")
		launched := b.hello(0)
		time.Sleep(500 * time.Millisecond)
		ctx, cancel := within(10 * time.Second)
		defer cancel()
		b.Close(ctx)
		b.start()
		if last := b.end(launched.ID); last.Counts != (broadcasts.Counts{Targets: 3, Accepted: 1, Expired: 2}) {
			t.Errorf("%+v", last.Counts)
		}
	})
}

// An operator who pauses sees nothing more go out, over a restart too, and who
// resumes loses nobody; who watches sees it all.
func TestPauseAndResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t, func(c *broadcasts.Config) { c.PerHost = 10 })
		b.post.slow["push.example"] = time.Second
		b.people.join(100, "push.example")
		launched := b.hello(24 * time.Hour)
		var states []broadcasts.State
		watched := make(chan bool)
		go func() {
			for step := range b.Watch(t.Context(), launched.ID) {
				if len(states) == 0 || states[len(states)-1] != step.State {
					states = append(states, step.State)
				}
			}
			close(watched)
		}()
		time.Sleep(2500 * time.Millisecond)
		if _, err := b.Resume(t.Context(), launched.ID); !errors.Is(err, belfry.ErrConflict) {
			t.Errorf("what runs was resumed: %v", err)
		}
		paused, err := b.Pause(t.Context(), launched.ID)
		if err != nil || paused.State != broadcasts.Paused || *paused.Reason != broadcasts.ReasonOperator || paused.ETA != nil ||
			paused.Counts != (broadcasts.Counts{Targets: 100, Accepted: 30, Pending: 70}) {
			t.Fatalf("%s %v %+v, %v", paused.State, paused.Reason, paused.Counts, err)
		}
		if _, err := b.Pause(t.Context(), launched.ID); err != nil {
			t.Errorf("to pause what is paused: %v", err)
		}
		time.Sleep(time.Hour)
		if n := len(b.post.to("")); n != 30 {
			t.Errorf("%d attempts", n)
		}
		resumed, err := b.Resume(t.Context(), launched.ID)
		if err != nil || resumed.State != broadcasts.Running || resumed.Reason != nil {
			t.Fatalf("%s %v, %v", resumed.State, resumed.Reason, err)
		}
		time.Sleep(1500 * time.Millisecond)
		if _, err := b.Pause(t.Context(), launched.ID); err != nil {
			t.Fatal(err)
		}
		b.restart()
		<-watched // the engine that it asked is no more
		time.Sleep(time.Hour)
		if got := b.get(launched.ID); got.State != broadcasts.Paused || got.Counts.Accepted != 50 {
			t.Errorf("%s %+v", got.State, got.Counts)
		}
		if _, err := b.Resume(t.Context(), launched.ID); err != nil {
			t.Fatal(err)
		}
		if last := b.end(launched.ID); last.Counts.Accepted != 100 || len(b.post.to("")) != 100 {
			t.Errorf("%+v after %d attempts", last.Counts, len(b.post.to("")))
		}
		for _, order := range []func(context.Context, string) (broadcasts.Broadcast, error){b.Pause, b.Resume, b.Cancel} {
			if _, err := order(t.Context(), launched.ID); !errors.Is(err, belfry.ErrConflict) {
				t.Errorf("what is done was changed: %v", err)
			}
			if _, err := order(t.Context(), "nobody"); !errors.Is(err, belfry.ErrNotFound) {
				t.Errorf("what is not there was changed: %v", err)
			}
		}
		want := []broadcasts.State{broadcasts.Running, broadcasts.Paused, broadcasts.Running, broadcasts.Paused}
		if !slices.Equal(states, want) {
			t.Errorf("watched %v", states)
		}
	})
}

// An operator who cancels is obeyed within two seconds, even while a push
// service keeps attempts waiting, and no more is sent than was in flight.
func TestCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t, func(c *broadcasts.Config) { c.PerHost = 10 })
		b.post.slow["push.example"], b.post.slow["slow.example"] = 400*time.Millisecond, 10*time.Second
		b.people.join(10, "push.example")
		b.people.join(30, "slow.example")
		b.people.join(90, "push.example")
		launched := b.hello(24 * time.Hour)
		time.Sleep(500 * time.Millisecond)
		began := time.Now()
		got, err := b.Cancel(t.Context(), launched.ID)
		if took := time.Since(began); took > 2*time.Second || err != nil {
			t.Errorf("%v after %v", err, took)
		}
		if got.State != broadcasts.Cancelled || *got.Reason != broadcasts.ReasonOperator || got.Finished == nil ||
			got.Counts != (broadcasts.Counts{Targets: 130, Accepted: 20, Cancelled: 110}) {
			t.Errorf("%s %v %+v", got.State, got.Reason, got.Counts)
		}
		time.Sleep(time.Hour)
		if n := len(b.post.to("")); n != 30 {
			t.Errorf("%d attempts, and 30 had begun", n)
		}
		b.restart()
		if again, err := b.Cancel(t.Context(), launched.ID); err != nil || !again.Finished.Equal(*got.Finished) {
			t.Errorf("to cancel what is cancelled: %v", err)
		}
	})
}

// What is paused can be cancelled, and is not waited for.
func TestCancelPaused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t, func(c *broadcasts.Config) { c.PerHost = 10 })
		b.post.slow["push.example"] = time.Second
		b.people.join(100, "push.example")
		launched := b.hello(24 * time.Hour)
		time.Sleep(500 * time.Millisecond)
		if _, err := b.Pause(t.Context(), launched.ID); err != nil {
			t.Fatal(err)
		}
		got, err := b.Cancel(t.Context(), launched.ID)
		if err != nil || got.Counts != (broadcasts.Counts{Targets: 100, Accepted: 10, Cancelled: 90}) || got.State != broadcasts.Cancelled {
			t.Errorf("%s %+v %v", got.State, got.Counts, err)
		}
		if last := b.end(launched.ID); last.State != broadcasts.Cancelled {
			t.Errorf("a watcher sees %s", last.State)
		}
		if open, err := b.journal.Open(t.Context(), launched.ID); err != nil || len(open) != 0 {
			t.Errorf("%d rows stay open, %v", len(open), err)
		}
	})
}

// Two operators who give orders at one moment get one of them: whoever is told
// that it is cancelled has cancelled it.
func TestOrdersAtOneMoment(t *testing.T) {
	for range 200 {
		synctest.Test(t, func(t *testing.T) {
			b := newBell(t, func(c *broadcasts.Config) { c.PerHost = 10 })
			b.post.slow["push.example"] = time.Second
			b.people.join(100, "push.example")
			launched := b.hello(24 * time.Hour)
			time.Sleep(500 * time.Millisecond)
			if _, err := b.Pause(t.Context(), launched.ID); err != nil {
				t.Fatal(err)
			}
			var orders sync.WaitGroup
			var cancelled error
			orders.Go(func() { b.Resume(t.Context(), launched.ID) })
			orders.Go(func() { _, cancelled = b.Cancel(t.Context(), launched.ID) })
			orders.Wait()
			time.Sleep(time.Minute)
			if got := b.get(launched.ID); cancelled != nil || got.State != broadcasts.Cancelled || len(b.post.to("")) > 20 {
				t.Errorf("%v, and then %s %+v", cancelled, got.State, got.Counts)
			}
		})
	}
}

// Who resumes as soon as the pause can be seen can still pause and cancel.
func TestResumedAtFirstSight(t *testing.T) {
	for range 200 {
		synctest.Test(t, func(t *testing.T) {
			b := newBell(t, func(c *broadcasts.Config) { c.PerHost = 10 })
			b.post.slow["push.example"] = time.Second
			b.people.join(100, "push.example")
			launched := b.hello(24 * time.Hour)
			go b.Pause(t.Context(), launched.ID)
			for step := range b.Watch(t.Context(), launched.ID) {
				if step.State == broadcasts.Paused {
					break
				}
			}
			if _, err := b.Resume(t.Context(), launched.ID); err != nil {
				t.Fatal(err)
			}
			if got, err := b.Cancel(t.Context(), launched.ID); err != nil || got.State != broadcasts.Cancelled {
				t.Errorf("%s, %v", got.State, err)
			}
		})
	}
}

// Who watches a paused broadcast hears when it is cancelled, hears nothing of
// others, and is let go when the server stops.
func TestWatchPaused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t, func(c *broadcasts.Config) { c.PerHost = 1 })
		b.post.slow["push.example"] = time.Second
		ids := b.people.join(10, "push.example")
		watch := func(id string) (states *[]broadcasts.State, over chan bool) {
			states, over = &[]broadcasts.State{}, make(chan bool)
			go func() {
				for step := range b.Watch(t.Context(), id) {
					*states = append(*states, step.State)
				}
				close(over)
			}()
			return states, over
		}
		var paused []string
		for range 2 {
			launched := b.hello(24 * time.Hour)
			if _, err := b.Pause(t.Context(), launched.ID); err != nil {
				t.Fatal(err)
			}
			paused = append(paused, launched.ID)
		}
		first, firstOver := watch(paused[0])
		second, secondOver := watch(paused[1])
		synctest.Wait()
		b.end(b.launch(hello(time.Hour), belfry.Audience{Subscriptions: ids[:1]}).ID)
		if _, err := b.Cancel(t.Context(), paused[0]); err != nil {
			t.Fatal(err)
		}
		<-firstOver
		synctest.Wait()
		b.Close(t.Context())
		<-secondOver
		if !slices.Equal(*first, []broadcasts.State{broadcasts.Paused, broadcasts.Cancelled}) || (*second)[0] != broadcasts.Paused || len(*second) > 2 {
			t.Errorf("watched %v and %v", *first, *second)
		}
	})
}

// To cancel outdoes a pause that waits for slow answers.
func TestCancelWhilePausing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t)
		b.post.slow["push.example"] = 10 * time.Second
		b.people.join(10, "push.example")
		launched := b.hello(24 * time.Hour)
		synctest.Wait()
		go b.Pause(t.Context(), launched.ID)
		synctest.Wait()
		began := time.Now()
		got, err := b.Cancel(t.Context(), launched.ID)
		if err != nil || got.State != broadcasts.Cancelled || time.Since(began) > 2*time.Second {
			t.Errorf("%s after %v, %v", got.State, time.Since(began), err)
		}
	})
}

// A row that was being tried when the server stopped goes on where it was, and is
// left out when it has left its channel meanwhile.
func TestBegunRowsAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t)
		stubborn := b.people.join(1, "push.example", "news")[0]
		leaver := b.people.join(1, "push.example", "news")[0]
		busy := belfry.Outcome{Verdict: belfry.Later, RetryAfter: time.Minute, Reason: "busy"}
		b.post.script(stubborn, busy)
		b.post.script(leaver, busy)
		launched := b.launch(hello(10*time.Minute), belfry.Audience{Channels: []string{"news"}})
		time.Sleep(3*time.Minute + 30*time.Second)
		before := len(b.post.to(stubborn))
		b.restart()
		b.people.change(leaver, func(s *belfry.Subscription) { s.Channels = nil })
		last := b.end(launched.ID)
		sent := b.post.to(stubborn)
		if last.Counts != (broadcasts.Counts{Targets: 2, Expired: 1, Left: 1}) || before < 2 || len(sent) <= before || sent[before].at.Sub(sent[before-1].at) < time.Minute {
			t.Errorf("%+v after %d tries, %d of them before", last.Counts, len(sent), before)
		}
	})
}

// Pace and expected end speak of how it goes now, not of a pause.
func TestPaceAfterAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t, func(c *broadcasts.Config) { c.PerHost = 10 })
		b.post.slow["push.example"] = time.Second
		b.people.join(300, "push.example")
		launched := b.hello(24 * time.Hour)
		time.Sleep(5500 * time.Millisecond)
		b.Pause(t.Context(), launched.ID)
		time.Sleep(time.Hour)
		b.Resume(t.Context(), launched.ID)
		time.Sleep(10500 * time.Millisecond)
		got := b.get(launched.ID)
		if got.Pace < 9 || got.Pace > 11 || got.ETA == nil || time.Until(*got.ETA) > 20*time.Second {
			t.Errorf("%v a second, done at %v", got.Pace, got.ETA)
		}
	})
}

// A server that rings for one more site after its restart still rings for those
// whose payload the new one's name does not make too long.
func TestLongerOriginAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t, func(c *broadcasts.Config) { c.PerHost = 1 })
		b.post.slow["push.example"] = time.Second
		b.people.join(3, "push.example")
		long := "https://" + strings.Repeat("long-name.", 20) + "example"
		elsewhere := b.people.join(1, "slow.example")[0]
		b.post.slow["slow.example"] = time.Hour
		m := hello(time.Hour)
		m.Body = strings.Repeat("a", 3780)
		launched := b.launch(m, everybody)
		time.Sleep(500 * time.Millisecond)
		b.people.change(elsewhere, func(s *belfry.Subscription) { s.Origin = long })
		b.cfg.Origins = append(b.cfg.Origins, long)
		b.restart()
		if last := b.end(launched.ID); last.Counts.Accepted != 3 || last.Failures["message-too-large"] != 1 {
			t.Errorf("%+v %v", last.Counts, last.Failures)
		}
	})
}

// A clock that was set back while the server was down makes nobody wait for it,
// and no message worth saying for longer (REL-08).
func TestClockSetBackOverARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t)
		id := b.people.join(1, "push.example")[0]
		b.post.script(id, belfry.Outcome{Verdict: belfry.Later, RetryAfter: 10 * time.Second}, belfry.Outcome{Verdict: belfry.Accepted, Status: 201})
		launched := b.hello(time.Hour)
		time.Sleep(time.Second)
		b.cfg.Now = func() time.Time { return time.Now().Add(-25 * time.Hour) }
		b.restart()
		began := time.Now()
		if last := b.end(launched.ID); last.Counts.Accepted != 1 || time.Since(began) > 15*time.Second {
			t.Errorf("%+v after %v", last.Counts, time.Since(began))
		}
		if sent := b.post.to(id); sent[len(sent)-1].message.TTL > time.Hour {
			t.Errorf("worth saying for %v", sent[len(sent)-1].message.TTL)
		}
	})
}
