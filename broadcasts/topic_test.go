package broadcasts_test

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/broadcasts"
)

// news asks for a message of one topic.
func news(a belfry.Audience) broadcasts.Request {
	m := hello(time.Hour)
	m.Topic = "news"
	return broadcasts.Request{Message: m, Audience: a}
}

// got says which broadcasts' messages were accepted at a row, in order.
func (p *post) got(id string, of ...broadcasts.Broadcast) (n []int) {
	for _, s := range p.to(id) {
		i := slices.IndexFunc(of, func(b broadcasts.Broadcast) bool { return strings.Contains(string(s.message.Payload), b.ID) })
		if s.outcome.Verdict == belfry.Accepted && i >= 0 {
			n = append(n, i)
		}
	}
	return n
}

// Of two broadcasts with one topic the newer one waits for an answer to the
// older one, and whom it has come by the older one does not ring any more
// (REL-29). One with another topic, or without, has no part in it.
func TestTopicLatestWins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t, func(c *broadcasts.Config) { c.PerHost = 50 }) // so that the newer one comes by all at once
		b.post.slow["push.example"] = 5 * time.Second
		ids := b.people.join(100, "push.example")
		old := b.request(news(everybody))
		time.Sleep(time.Second)
		b.post.slowly("push.example", time.Second)
		weather, fresh := news(everybody), b.request(news(everybody))
		weather.Message.Topic = "weather"
		others := []broadcasts.Broadcast{b.request(weather), b.hello(time.Hour)}
		last := b.end(old.ID).Counts
		if last != (broadcasts.Counts{Targets: 100, Accepted: 50, Suppressed: 50}) {
			t.Errorf("the older one: %+v", last)
		}
		for _, l := range append(others, fresh) {
			if last := b.end(l.ID); last.Counts != (broadcasts.Counts{Targets: 100, Accepted: 100}) {
				t.Errorf("%+v", last.Counts)
			}
		}
		both := 0
		for _, id := range ids {
			switch got := b.post.got(id, old, fresh); {
			case slices.Equal(got, []int{0, 1}):
				both++
			case !slices.Equal(got, []int{1}):
				t.Errorf("%s took %v", id, got)
			}
		}
		if both != 50 { // those who were being rung when the newer one began
			t.Errorf("%d took both", both)
		}
	})
}

// What a newer one has come by counts when it is over, paused or cancelled, and
// after restarts; whom it did not come by, or does not mean, the older one rings.
func TestTopicOvertaken(t *testing.T) {
	for _, tt := range []struct {
		name       string
		request    func(*broadcasts.Request)
		order      func(*bell, string)
		suppressed int
	}{
		{"over", func(*broadcasts.Request) {}, func(*bell, string) {}, 100},
		{"another audience", func(r *broadcasts.Request) { r.Audience = belfry.Audience{Channels: []string{"a", "x"}} }, func(*bell, string) {}, 40},
		{"some devices", func(r *broadcasts.Request) {
			r.Audience = belfry.Audience{Subscriptions: []string{fmt.Sprintf("%026d", 3), fmt.Sprintf("%026d", 77)}}
		}, func(*bell, string) {}, 2},
		{"a canary", func(r *broadcasts.Request) { c := broadcasts.Canary("30"); r.Canary = &c }, func(*bell, string) {}, 30},
		{"a cancelled canary", func(r *broadcasts.Request) { c := broadcasts.Canary("30"); r.Canary = &c },
			func(b *bell, id string) { b.Cancel(b.t.Context(), id) }, 30},
		{"scheduled", func(r *broadcasts.Request) { at := time.Now().Add(5 * time.Minute); r.At = &at }, func(*bell, string) {}, 100},
		{"scheduled for later", func(r *broadcasts.Request) { at := time.Now().Add(2*time.Hour + odd); r.At = &at }, func(*bell, string) {}, 0},
	} {
		for _, restarts := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, restarts %t", tt.name, restarts), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := newBell(t)
					b.people.join(40, "push.example", "a")
					b.people.join(60, "push.example", "b")
					b.post.slow["push.example"] = time.Minute
					scheduled := news(everybody)
					tt.request(&scheduled)
					var fresh broadcasts.Broadcast
					if scheduled.At != nil {
						fresh = b.request(scheduled) // before the one that it will overtake
					}
					old := b.request(news(everybody))
					time.Sleep(time.Second)
					b.kill(old.ID)
					b.post.slowly("push.example", 0)
					if scheduled.At == nil {
						fresh = b.request(scheduled)
					}
					time.Sleep(10 * time.Minute)
					tt.order(b, fresh.ID)
					if restarts {
						b.restart()
					}
					if _, err := b.Resume(t.Context(), old.ID); err != nil {
						t.Fatal(err)
					}
					if restarts {
						b.restart()
					}
					last := b.end(old.ID)
					if last.Counts.Suppressed != tt.suppressed || last.Counts.Accepted != 100-tt.suppressed {
						t.Errorf("%+v", last.Counts)
					}
				})
			})
		}
	}
}

// kill pauses a broadcast without waiting for its attempts in flight, as a
// restart does.
func (b *bell) kill(id string) {
	b.t.Helper()
	go b.Pause(b.t.Context(), id)
	synctest.Wait()
	b.restart()
	if got := b.get(id); got.State != broadcasts.Paused {
		b.t.Fatalf("%s", got.State)
	}
}

// A clock that is set back between two launches does not make the second one
// the older.
func TestTopicWhenTheClockIsSetBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var back atomic.Int64
		b := newBell(t, func(c *broadcasts.Config) {
			c.PerHost, c.Now = 50, func() time.Time { return time.Now().Add(-time.Duration(back.Load())) }
		})
		b.post.slow["push.example"] = time.Second
		b.people.join(100, "push.example")
		old := b.request(news(everybody))
		time.Sleep(500 * time.Millisecond)
		back.Store(int64(time.Hour))
		fresh := b.request(news(everybody))
		synctest.Wait() // until it has come by all
		b.restart()
		if last := b.end(old.ID); last.Counts.Suppressed != 100 {
			t.Errorf("the older one: %+v", last.Counts)
		}
		if last := b.end(fresh.ID); last.Counts.Accepted != 100 || !last.Started.After(*old.Started) {
			t.Errorf("the newer one: %+v, started %v after %v", last.Counts, last.Started, old.Started)
		}
	})
}

// Whatever push services answer and however long they take, whatever operators
// do, over restarts and power cuts: what a row took last is the newest of what
// it took, and whom a broadcast is for that nobody has overtaken is tried.
func TestTopicInterleavings(t *testing.T) {
	suppressed := 0
	for seed := range uint64(30) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				suppressed += newPress(t, rand.New(rand.NewPCG(seed, 29)), seed%3 == 0).run()
			})
		})
	}
	if suppressed == 0 {
		t.Error("no row was ever overtaken")
	}
}

// A press launches broadcasts of one topic and lets chance act on them.
type press struct {
	*bell
	cuts     bool // the power is cut, and nobody cancels: what a crash forgets must be sent again
	ids      []string
	launched []broadcasts.Broadcast
	mu       sync.Mutex // guards chance
	chance   *rand.Rand
}

func newPress(t *testing.T, r *rand.Rand, cuts bool) *press {
	p := &press{chance: r, cuts: cuts}
	p.bell = newBell(t, func(c *broadcasts.Config) { c.PerHost = 1 + r.IntN(20) })
	for i := range 1 + r.IntN(3) {
		for _, channels := range [][]string{{"a"}, {"b"}, {"a", "b"}} {
			p.ids = append(p.ids, p.people.join(r.IntN(60), fmt.Sprintf("h%d.example", i), channels...)...)
		}
	}
	p.post.before = func(belfry.Subscription) { time.Sleep(p.upTo(3 * time.Second)) }
	p.post.rule = func(belfry.Subscription) belfry.Outcome { return p.answer() }
	return p
}

// IntN is asked by attempts, too.
func (p *press) IntN(n int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.chance.IntN(n)
}

func (p *press) upTo(most time.Duration) time.Duration {
	return time.Duration(p.IntN(int(most/time.Millisecond))) * time.Millisecond
}

func (p *press) answer() belfry.Outcome {
	switch p.IntN(10) {
	case 0:
		return belfry.Outcome{Verdict: belfry.Later, Status: 503}
	case 1:
		return belfry.Outcome{Verdict: belfry.Later, Status: 429, RetryAfter: time.Duration(p.IntN(20)) * time.Second}
	case 2:
		return belfry.Outcome{Verdict: belfry.Refused, Status: 400}
	}
	return belfry.Outcome{Verdict: belfry.Accepted, Status: 201}
}

// request makes a launch of chance.
func (p *press) request() broadcasts.Request {
	r := news([]belfry.Audience{everybody, everybody, {Channels: []string{"a"}}, {Channels: []string{"a", "b"}}}[p.IntN(4)])
	r.Message = hello(24 * time.Hour)
	r.Message.Topic = "news"
	switch p.IntN(5) {
	case 0:
		at := time.Now().Add(time.Duration(1+p.IntN(30)) * time.Second)
		r.At = &at
	case 1:
		canary := broadcasts.Canary("20%")
		r.Canary = &canary
	case 2:
		rate := 1 + p.IntN(40)
		r.Rate = &rate
	}
	return r
}

func (p *press) run() (suppressed int) {
	for range 2 + p.IntN(3) {
		p.launched = append(p.launched, p.bell.request(p.request()))
		for range p.IntN(6) {
			time.Sleep(p.upTo(5 * time.Second))
			p.act(p.launched[p.IntN(len(p.launched))].ID)
		}
	}
	for i, b := range p.launched {
		p.launched[i] = p.finish(b.ID)
		suppressed += p.launched[i].Counts.Suppressed
	}
	slices.SortFunc(p.launched, func(a, b broadcasts.Broadcast) int {
		if a.Started == nil || b.Started == nil {
			return 0
		}
		return cmp.Or(a.Started.Compare(*b.Started), strings.Compare(a.ID, b.ID))
	})
	p.check()
	return suppressed
}

// act is what an operator does, or the machine.
func (p *press) act(id string) {
	switch n := p.IntN(6); {
	case n == 0:
		go p.Pause(p.t.Context(), id)
	case n == 1:
		p.Pause(p.t.Context(), id)
	case n == 2:
		p.Resume(p.t.Context(), id)
	case n == 3 && !p.cuts:
		p.Cancel(p.t.Context(), id)
	case n == 4 && p.cuts:
		p.journal.fail(errBroken)
		time.Sleep(p.upTo(time.Second))
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		p.Close(ctx)
		p.journal.fail(nil)
		p.start()
	case n == 5:
		p.restart()
	}
}

// finish lets a broadcast go on until it has ended.
func (p *press) finish(id string) broadcasts.Broadcast {
	for {
		got := p.get(id)
		if got.Ended() {
			return got
		}
		p.Resume(p.t.Context(), id)
		time.Sleep(time.Second)
	}
}

// check looks at what each row took, and from whom.
func (p *press) check() {
	for _, id := range p.ids {
		sent := p.post.to(id)
		for i := 1; i < len(sent); i++ {
			if sent[i].at.Before(sent[i-1].until) {
				p.t.Errorf("%s: two attempts at a time", id)
			}
		}
		if got := p.post.got(id, p.launched...); len(got) > 0 && got[len(got)-1] != slices.Max(got) {
			p.t.Errorf("%s took %v", id, got)
		}
		p.mustBeTried(id)
	}
	for i, b := range p.launched {
		n := 0
		for _, id := range p.ids {
			if slices.Contains(p.post.got(id, p.launched...), i) {
				n++
			}
		}
		if n != b.Counts.Accepted && !p.cuts { // of what a power cut forgot, more was accepted than is known
			p.t.Errorf("%d accepted, and %d are counted", n, b.Counts.Accepted)
		}
	}
}

// mustBeTried wants the newest broadcast that is done and means a row to have
// tried it, unless a cancelled one came by later.
func (p *press) mustBeTried(id string) {
	for _, b := range slices.Backward(p.launched) {
		row, _, _, _ := p.people.Page(p.t.Context(), belfry.Audience{Subscriptions: []string{id}}, 0, 1<<60, 1)
		if b.State == broadcasts.Cancelled || !belongs(b.Audience, row[0]) {
			continue
		}
		if !slices.ContainsFunc(p.post.to(id), func(s sending) bool { return strings.Contains(string(s.message.Payload), b.ID) }) &&
			!slices.ContainsFunc(p.launched, func(c broadcasts.Broadcast) bool { return c.State == broadcasts.Cancelled }) {
			p.t.Errorf("%s was not tried by %s", id, b.ID)
		}
		return
	}
}
