package broadcasts_test

import (
	"context"
	"fmt"
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
			for _, id := range b.people.join(200, host) {
				b.post.script(id, belfry.Outcome{Verdict: belfry.Later, RetryAfter: time.Second}, large, accepted)
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

// A push service that answers slowly, or that is down, keeps nobody else's
// subscribers waiting (REL-04, REL-17).
func TestOneSlowHost(t *testing.T) {
	for name, answer := range map[string]belfry.Outcome{"slow": accepted, "down": later} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBell(t)
				b.post.slow["slow.example"], b.post.slow["fast.example"] = 10*time.Second, 10*time.Millisecond
				for range 2500 {
					b.post.script(b.people.join(1, "slow.example")[0], answer)
					b.people.join(3, "fast.example")
				}
				start := time.Now()
				launched := b.hello(time.Hour)
				for step := range b.Watch(t.Context(), launched.ID) {
					for _, h := range step.Hosts {
						if h.Host == "fast.example" && h.Accepted == 7500 {
							if took := time.Since(start); took > 2*time.Second {
								t.Errorf("7,500 answers of 10 ms, 128 at a time, took %v", took)
							}
							return
						}
					}
				}
				t.Error("the others were never finished")
			})
		})
	}
}

// However large the audience and however dead a push service, only so many
// rows are in memory.
func TestRowsInMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t)
		for _, id := range b.people.join(10_000, "down.example") {
			b.post.script(id, belfry.Outcome{Verdict: belfry.Later, RetryAfter: 30 * time.Minute})
		}
		launched := b.hello(time.Hour)
		time.Sleep(29 * time.Minute)
		settled := launched.Counts.Targets - b.get(launched.ID).Counts.Pending
		if open := b.people.read() - settled; open > 4096+256 || open < 4096 {
			t.Errorf("%d rows are open", open)
		}
		last := b.end(launched.ID)
		if last.Counts.Expired+last.Counts.Failed != 10_000 {
			t.Errorf("%+v", last.Counts)
		}
	})
}
