package broadcasts_test

import (
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/broadcasts"
)

var untrusted = belfry.Outcome{Verdict: belfry.Later, Reason: "its certificate has expired or is not valid yet"}

// An operator is told why rows expire, whatever kept them from being accepted.
func TestExpiries(t *testing.T) {
	for _, tt := range []struct {
		name   string
		answer belfry.Outcome
		rows   int
		slow   time.Duration
		ttl    time.Duration
		want   map[string]int
	}{
		{"its certificate is wrong", untrusted, 1, 0, time.Minute, map[string]int{untrusted.Reason: 1}},
		{"for all of many, of whom few were asked", untrusted, 500, 0, 30 * time.Second, map[string]int{untrusted.Reason: 500}},
		{"it refuses our token", belfry.Outcome{Verdict: belfry.OurFault, Status: 403, Reason: "BadJwtToken"}, 1, 0, time.Second, map[string]int{"BadJwtToken": 1}},
		{"it asks for more time than there is", belfry.Outcome{Verdict: belfry.Later, Status: 429, Reason: "429 Too Many Requests", RetryAfter: time.Hour}, 1, 0, time.Minute, map[string]int{"429 Too Many Requests": 1}},
		{"now or never", untrusted, 1, 0, 0, map[string]int{untrusted.Reason: 1}},
		{"it takes messages, and too slowly", accepted, 3, 10 * time.Second, 15 * time.Second, map[string]int{"too-late": 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBell(t, func(c *broadcasts.Config) { c.PerHost = 1 })
				b.people.join(tt.rows, "push.example")
				b.post.rule = func(belfry.Subscription) belfry.Outcome { return tt.answer }
				b.post.slow["push.example"] = tt.slow
				if last := b.end(b.hello(tt.ttl).ID); !maps.Equal(last.Expiries, tt.want) {
					t.Errorf("%+v %v, want %v", last.Counts, last.Expiries, tt.want)
				}
			})
		})
	}
}

// One subscriber alone, whose push service nobody can get through to, is reason
// enough to say so within a minute: to who looks at the broadcast and in the log,
// once. It stays so where each try takes its time (REL-06).
func TestOperatorIsTold(t *testing.T) {
	for _, slow := range []time.Duration{0, 10 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			b := newBell(t)
			id := b.people.join(1, "push.example")[0]
			b.post.script(id, untrusted)
			b.post.slow["push.example"] = slow
			launched := b.hello(time.Hour)
			time.Sleep(time.Minute)
			synctest.Wait()
			got := b.get(launched.ID)
			want := broadcasts.Host{Host: "push.example", State: "waiting", Reason: "it fails (" + untrusted.Reason + ") and is asked once a second"}
			if len(got.Hosts) != 1 || got.Hosts[0] != want {
				t.Errorf("%+v", got.Hosts)
			}
			if n := b.log.count("level=WARN", "a push service fails", untrusted.Reason); n != 1 {
				t.Errorf("it is told %d times", n)
			}
			b.post.script(id, accepted)
			if last := b.end(launched.ID); last.Counts.Accepted != 1 || last.Hosts[0].State != "open" || last.Hosts[0].Reason != "" {
				t.Errorf("%+v %+v", last.Counts, last.Hosts)
			}
		})
	}
}
