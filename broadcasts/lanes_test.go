package broadcasts_test

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/broadcasts"
)

// However many broadcasts run, a push service is never asked by more attempts
// at a time than it was promised, and by as many as that.
func TestPerHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t, func(c *broadcasts.Config) { c.PerHost = 7 })
		for host, slow := range map[string]time.Duration{"one.example": 100 * time.Millisecond, "two.example": 30 * time.Millisecond} {
			b.post.slow[host] = slow
			for i, id := range b.people.join(200, host) {
				b.post.script(id, large, accepted)
				if i%50 == 0 {
					b.post.script(id, belfry.Outcome{Verdict: belfry.Later, RetryAfter: time.Second}, large, accepted)
				}
			}
		}
		for _, launched := range []broadcasts.Broadcast{b.hello(time.Hour), b.hello(time.Hour), b.hello(time.Hour)} {
			if last := b.end(launched.ID); last.Counts.Accepted != 400 {
				t.Errorf("%+v", last.Counts)
			}
		}
		for _, host := range []string{"one.example", "two.example"} {
			if b.post.most[host] != 7 {
				t.Errorf("%d attempts at a time to %s, want 7", b.post.most[host], host)
			}
		}
	})
}

// All push services together get no more attempts than there may be
// descriptors, even when an audience is spread over hundreds of hosts.
func TestAllHosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t)
		flying, most := 0, 0
		var mu sync.Mutex
		for i := range 20 {
			host := fmt.Sprintf("h%d.example", i)
			b.post.slow[host] = time.Second
			b.people.join(150, host)
		}
		b.cfg.Sender = counted{b.post, func(by int) {
			mu.Lock()
			defer mu.Unlock()
			flying += by
			most = max(most, flying)
		}}
		b.restart()
		last := b.end(b.hello(time.Hour).ID)
		if last.Counts.Accepted != 3000 || most != 1024 {
			t.Errorf("%+v, %d at a time", last.Counts, most)
		}
	})
}

// Counted tells how many attempts are in flight.
type counted struct {
	*post
	add func(by int)
}

func (c counted) Send(ctx context.Context, s belfry.Subscription, m belfry.PushMessage) belfry.Outcome {
	c.add(+1)
	defer c.add(-1)
	return c.post.Send(ctx, s, m)
}

// crowds are four push services with 2,500 subscribers each, who registered in no
// order.
func crowds(b *bell) (hosts []string) {
	for i := range 4 {
		hosts = append(hosts, fmt.Sprintf("h%d.example", i))
		b.post.slow[hosts[i]] = 20 * time.Millisecond
	}
	for range 500 {
		for _, host := range hosts {
			b.people.join(5, host)
		}
	}
	return hosts
}

// took says when the last one of those was asked that are not at host, and how
// many were asked there.
func took(b *bell, start time.Time, host string) (others time.Duration, there []time.Duration) {
	for _, s := range b.post.to("") {
		if s.host == host {
			there = append(there, s.at.Sub(start))
		} else {
			others = max(others, s.at.Sub(start))
		}
	}
	return others, there
}

// A push service that has a bad day, or that never answers, keeps nobody else's
// subscribers waiting, is left alone but for one question a second, and loses
// none of its own (REL-04, REL-17).
func TestOneBadHost(t *testing.T) {
	var baseline time.Duration
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t)
		crowds(b)
		start := time.Now()
		b.end(b.hello(time.Hour).ID)
		baseline, _ = took(b, start, "")
	})
	for name, slow := range map[string]time.Duration{"says 503": 20 * time.Millisecond, "never answers": 10 * time.Second} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBell(t)
				bad := crowds(b)[2]
				b.post.slow[bad] = slow
				start := time.Now()
				b.post.rule = func(s belfry.Subscription) belfry.Outcome {
					if s.Host() == bad && time.Since(start) < 10*time.Minute {
						return later
					}
					return accepted
				}
				launched := b.hello(time.Hour)
				time.Sleep(9 * time.Minute)
				if got := b.get(launched.ID); got.Counts.Accepted != 7500 || got.Counts.Pending != 2500 || got.Hosts[2].State != "waiting" ||
					got.Hosts[2].Reason != "it fails (bad day) and is asked once a second" || got.Hosts[0].State != "open" {
					t.Errorf("%+v %+v", got.Counts, got.Hosts)
				}
				others, asked := took(b, start, bad)
				if others > baseline*11/10 {
					t.Errorf("the others took %v, and %v without it", others, baseline)
				}
				late := 0 // questions once it was known
				for _, at := range asked {
					if at > slow+time.Second {
						late++
					}
				}
				if late > 9*60 || late < 8*60 {
					t.Errorf("%d questions in nine minutes", late)
				}
				last := b.end(launched.ID)
				if last.Counts != (broadcasts.Counts{Targets: 10_000, Accepted: 10_000}) || b.people.size() != 10_000 || b.post.most[bad] > 128 {
					t.Errorf("%+v, %d there, %d at a time", last.Counts, b.people.size(), b.post.most[bad])
				}
				t.Logf("others %v, baseline %v, %d questions while it was bad, all accepted after %v", others, baseline, len(asked), last.Finished.Sub(start))
			})
		})
	}
}

// A bucket is a push service's limit: so many a minute, of which so many at once.
type bucket struct {
	perMinute, tokens float64
	at                time.Time
	wait              time.Duration // what it asks for that is too much; 0 is until there is room
	asked, refused    int
}

func (l *bucket) take() (wait time.Duration, ok bool) {
	now := time.Now()
	l.tokens, l.at = min(l.perMinute, l.tokens+l.perMinute*now.Sub(l.at).Minutes()), now
	if l.asked++; l.tokens >= 1 {
		l.tokens--
		return 0, true
	}
	l.refused++
	return max(l.wait, time.Second), false
}

// Chrome lets a site that it limits send 1,000 messages a minute: nobody is lost
// by that, few requests are refused, and the end is foreseen (PS-04, REL-05). The
// same limit anywhere else is found out by trying.
func TestThrottled(t *testing.T) {
	for _, tt := range []struct {
		host string
		wait time.Duration
	}{
		{"fcm.googleapis.com", 0},
		{"fcm.googleapis.com", time.Minute},
		{"push.example", 0},
		{"push.example", 10 * time.Second},
	} {
		t.Run(fmt.Sprint(tt.host, tt.wait), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBell(t, func(c *broadcasts.Config) { c.Pace = func(string) float64 { return 200 } })
				b.post.slow[tt.host] = 50 * time.Millisecond
				b.people.join(10_000, tt.host)
				var mu sync.Mutex
				limit := &bucket{perMinute: 1000, tokens: 1000, at: time.Now(), wait: tt.wait}
				b.post.rule = func(belfry.Subscription) belfry.Outcome {
					mu.Lock()
					defer mu.Unlock()
					if wait, ok := limit.take(); !ok {
						return belfry.Outcome{Verdict: belfry.Later, Status: 429, Reason: "slow down", RetryAfter: wait}
					}
					return accepted
				}
				start := time.Now()
				launched := b.hello(24 * time.Hour)
				var foreseen []time.Duration
				for last := launched; !last.Ended(); last = b.get(launched.ID) {
					if passed := time.Since(start); passed > time.Minute && last.ETA != nil {
						foreseen = append(foreseen, last.ETA.Sub(start))
					}
					time.Sleep(time.Second)
				}
				last := b.get(launched.ID)
				took := last.Finished.Sub(start)
				if last.Counts.Accepted != 10_000 || took > 11*time.Minute || b.people.size() != 10_000 {
					t.Errorf("%+v after %v", last.Counts, took)
				}
				if share := float64(limit.refused) / float64(limit.asked); share > 0.05 {
					t.Errorf("%d of %d were refused", limit.refused, limit.asked)
				}
				furthest := 0.0
				for _, f := range foreseen {
					furthest = max(furthest, math.Abs(1-float64(f)/float64(took)))
				}
				if furthest > 0.2 {
					t.Errorf("from a minute on it was to take %v, and it took %v", foreseen, took)
				}
				t.Logf("%d of %d refused, took %v, foreseen after a minute %v, and at worst %.0f %% wrong from then on", limit.refused, limit.asked, took, foreseen[0], 100*furthest)
			})
		})
	}
}

// A push service that nobody knows yet is met gently: 200 a second, twice as
// many each second, until it is all that we can; and the next broadcast begins
// like that again.
func TestPaceDoubles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t, func(c *broadcasts.Config) { c.Pace = func(string) float64 { return 200 } })
		b.people.join(20_000, "push.example")
		for range 2 {
			start, before := time.Now(), len(b.post.to(""))
			b.end(b.hello(time.Hour).ID)
			var second [10]int
			for _, s := range b.post.to("")[before:] {
				second[int(s.at.Sub(start).Seconds())]++
			}
			for i, n := range second[:6] {
				if want := 200 << i; n < want*95/100 || n > want*105/100 {
					t.Errorf("%d in second %d, want %d", n, i, want)
				}
			}
		}
	})
}

// What a push service asked for holds for the next broadcast too, and for those
// that run beside it; an hour after the last one it is forgotten.
func TestLanesAreRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t)
		const host = "fcm.googleapis.com"
		ids := b.people.join(400, host)
		b.post.script(ids[0], belfry.Outcome{Verdict: belfry.Later, Status: 429, RetryAfter: time.Second}, accepted)
		b.post.slow[host] = 10 * time.Millisecond
		for i, want := range []time.Duration{10 * time.Second, 20 * time.Second, 0} {
			if i == 2 {
				time.Sleep(61 * time.Minute)
			}
			start := time.Now()
			b.end(b.hello(time.Hour).ID)
			if took := time.Since(start); took < want-time.Second || want == 0 && took > time.Second {
				t.Errorf("broadcast %d to 400 took %v", i, took)
			}
		}
	})
}

// Ten failures in a row are enough to know, and every other answer is enough to
// go on.
func TestBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// One attempt after another, so that no answer comes while the next one begins.
		b := newBell(t, func(c *broadcasts.Config) { c.Pace = func(string) float64 { return 20 } })
		b.post.slow["push.example"] = 10 * time.Millisecond
		b.people.join(500, "push.example")
		start := time.Now()
		b.post.rule = func(belfry.Subscription) belfry.Outcome {
			if time.Since(start) < 30*time.Second {
				return later
			}
			return belfry.Outcome{Verdict: belfry.Refused, Status: 400, Reason: "no"}
		}
		last := b.end(b.hello(time.Hour).ID)
		sent, soon := b.post.to(""), 0
		for i, s := range sent {
			at := s.at.Sub(start)
			if wait := at - sent[max(i-1, 0)].at.Sub(start); at < 30*time.Second && (i < 10 && wait > 51*time.Millisecond || i >= 10 && (wait < time.Second || wait > 1020*time.Millisecond)) {
				t.Errorf("attempt %d begins %v after the one before", i+1, wait)
			}
			if at > 30*time.Second && at < 32*time.Second {
				soon++ // asked at once when it answers; only those wait longer that were asked before
			}
		}
		if last.Counts.Failed != 500 || soon < 460 {
			t.Errorf("%+v, %d of them within two seconds", last.Counts, soon)
		}
	})
}

// A push service that refuses us in one broadcast is seen to do so in the others
// too, also while nothing of theirs moves.
func TestStateIsSeenEverywhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t, func(c *broadcasts.Config) { c.PerHost = 1 })
		b.post.slow["push.example"] = time.Second
		ids := b.people.join(2, "push.example")
		b.post.script(ids[0], belfry.Outcome{Verdict: belfry.OurFault, Status: 403, Reason: "BadJwtToken"}, accepted)
		var launched []broadcasts.Broadcast
		for _, id := range ids {
			launched = append(launched, b.launch(hello(time.Hour), belfry.Audience{Subscriptions: []string{id}}))
			synctest.Wait()
		}
		time.Sleep(1500 * time.Millisecond)
		for i, l := range launched {
			if got := b.get(l.ID); got.Hosts[0].State != "paused" || got.Hosts[0].Reason != "it refuses our token (BadJwtToken)" {
				t.Errorf("broadcast %d: %+v", i, got.Hosts)
			}
		}
		for _, l := range launched {
			if last := b.end(l.ID); last.Counts.Accepted != 1 {
				t.Errorf("%+v", last.Counts)
			}
		}
	})
}

// A few who are throttled slow down nobody but themselves: it may be their
// devices that were rung too often (RFC 8030 §8.4).
func TestFewThrottled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t)
		b.post.slow["push.example"] = 10 * time.Millisecond
		for i, id := range b.people.join(1000, "push.example") {
			if i%50 == 49 {
				b.post.script(id, belfry.Outcome{Verdict: belfry.Later, Status: 429, RetryAfter: time.Minute}, accepted)
			}
		}
		launched := b.hello(time.Hour)
		time.Sleep(time.Second)
		if got := b.get(launched.ID); got.Counts.Accepted != 980 || got.Hosts[0].State != "open" {
			t.Errorf("%+v %+v", got.Counts, got.Hosts)
		}
		if last := b.end(launched.ID); last.Counts.Accepted != 1000 {
			t.Errorf("%+v", last.Counts)
		}
	})
}

// What is to be said now or never is not kept for a push service that cannot
// take it now.
func TestNowOrNeverWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t, func(c *broadcasts.Config) { c.PerHost = 20 })
		for _, id := range b.people.join(500, "push.example") {
			b.post.script(id, later)
		}
		start := time.Now()
		if last := b.end(b.hello(0).ID); last.Counts.Expired != 500 || time.Since(start) > time.Second {
			t.Errorf("%+v after %v", last.Counts, time.Since(start))
		}
	})
}

// Hosts come from strangers: lanes must not become more and more.
func TestManyHosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t)
		for i := range 3000 {
			b.people.join(1, fmt.Sprintf("h%d.example", i))
		}
		if last := b.end(b.hello(time.Hour).ID); last.Counts.Accepted != 3000 {
			t.Errorf("%+v", last.Counts)
		}
	})
}

// Whoever stands behind the rows of a push service that does not answer is not
// kept waiting by them, whether these are a page or ten (REL-04, REL-17).
func TestBehindASilentHost(t *testing.T) {
	took := func(silent int) (took time.Duration) {
		synctest.Test(t, func(t *testing.T) {
			b := newBell(t)
			b.post.slow["silent.example"] = 10 * time.Second
			b.post.slow["awake.example"] = 50 * time.Millisecond
			b.people.join(silent, "silent.example")
			b.people.join(2000, "awake.example")
			start := time.Now()
			b.end(b.hello(time.Hour).ID)
			for _, s := range b.post.to("") {
				if s.host == "awake.example" {
					took = max(took, s.at.Sub(start))
				}
			}
		})
		return took
	}
	alone := took(0)
	for _, silent := range []int{1, 256, 2560} {
		if behind := took(silent); behind > alone*11/10 {
			t.Errorf("behind %d it took %v, and alone %v", silent, behind, alone)
		}
	}
}

// Rows are parked for the sake of others behind them. Where there are none, or
// where it is the operator's rate that keeps them, they wait in the audience.
func TestNothingIsParkedInVain(t *testing.T) {
	rate := 10
	for name, tt := range map[string]struct {
		slow  time.Duration
		rate  *int
		host  string        // of every second row
		reads time.Duration // how long a page takes
	}{
		"one that is slow":     {9 * time.Second, nil, "push.example", 0},
		"the operator's rate":  {0, &rate, "push.example", 0},
		"the same, with two":   {0, &rate, "other.example", 0},
		"two that are as slow": {9 * time.Second, nil, "other.example", 0},
		// It has room again while the pager looks far ahead for a row of another one.
		"one that is slow at times": {205 * time.Millisecond, nil, "push.example", 20 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBell(t)
				b.people.takes = tt.reads
				for range 2500 {
					b.people.join(1, "push.example")
					b.people.join(1, tt.host)
				}
				b.post.slow["push.example"], b.post.slow[tt.host] = tt.slow, tt.slow
				launched := b.request(broadcasts.Request{Message: hello(time.Hour), Audience: everybody, Options: broadcasts.Options{Rate: tt.rate}})
				for range 60 {
					time.Sleep(time.Second)
					open, err := b.journal.Open(t.Context(), launched.ID)
					if err != nil {
						t.Fatal(err)
					}
					sum := 0
					for _, n := range open {
						sum += n
					}
					most := 2 * 256 // what is under way to a push service, and read for it; parked, it would be thousands
					if tt.host != "push.example" {
						most *= 2
					}
					if sum > most {
						t.Fatalf("%d rows are open", sum)
					}
				}
				if last := b.end(launched.ID); last.Counts.Accepted != 5000 {
					t.Errorf("%+v", last.Counts)
				}
			})
		})
	}
}

// A row that waits for its next try keeps no worker from the others, even where
// there are only as many as places in the lane.
func TestOthersGoWhileOneSleeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t, func(c *broadcasts.Config) { c.PerHost = 2 })
		for _, id := range b.people.join(2, "push.example") {
			b.post.script(id, later, accepted)
		}
		others, start := b.people.join(2, "push.example"), time.Now()
		b.end(b.hello(time.Hour).ID)
		for _, id := range others {
			if sent := b.post.to(id); len(sent) != 1 || !sent[0].at.Equal(start) {
				t.Errorf("%s was tried at %v, not at %v", id, sent, start)
			}
		}
	})
}

// However large the audience and however dead its push services, only so many
// rows are in memory, each with a goroutine at most; and all the others are
// tried all the same, and tried again.
func TestRowsInMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		before := runtime.NumGoroutine()
		b := newBell(t)
		for i := range 20 {
			host := fmt.Sprintf("slow%d.example", i)
			b.post.slow[host] = 9 * time.Second
			b.people.join(1000, host)
		}
		b.people.join(10_000, "down.example")
		start := time.Now()
		b.post.rule = func(s belfry.Subscription) belfry.Outcome {
			if s.Host() == "down.example" && time.Since(start) < 30*time.Minute {
				return later
			}
			return accepted
		}
		launched := b.hello(time.Hour)
		for range 29 * 60 {
			time.Sleep(time.Second)
			if n := runtime.NumGoroutine() - before; n > 4096+10 {
				t.Fatalf("%d goroutines", n)
			}
		}
		if got := b.get(launched.ID); got.Counts.Accepted != 20_000 {
			t.Errorf("%+v after %d attempts", got.Counts, len(b.post.to("")))
		}
		if last := b.end(launched.ID); last.Counts.Accepted != 30_000 {
			t.Errorf("%+v", last.Counts)
		}
	})
}
