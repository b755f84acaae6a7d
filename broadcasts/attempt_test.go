package broadcasts_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/broadcasts"
)

var (
	accepted = belfry.Outcome{Verdict: belfry.Accepted, Status: 201}
	later    = belfry.Outcome{Verdict: belfry.Later, Status: 503, Reason: "bad day"}
	gone     = belfry.Outcome{Verdict: belfry.Gone, Status: 410, Reason: "unregistered"}
	large    = belfry.Outcome{Verdict: belfry.TooLarge, Status: 413, Reason: "too much"}
)

const many = -1

// Every verdict leads to one count, and one verdict alone costs a subscriber.
// Whoever deletes on more than that empties a store on a push service's bad day.
func TestVerdicts(t *testing.T) {
	for _, tt := range []struct {
		name    string
		answers []belfry.Outcome
		want    broadcasts.Counts // but for Targets
		reason  string
		tries   int
		removed bool
	}{
		{"accepted", []belfry.Outcome{accepted}, broadcasts.Counts{Accepted: 1}, "", 1, false},
		{"gone", []belfry.Outcome{gone}, broadcasts.Counts{Gone: 1}, "", 1, true},
		{"later, then accepted", []belfry.Outcome{later, later, accepted}, broadcasts.Counts{Accepted: 1}, "", 3, false},
		{"later, then gone", []belfry.Outcome{later, gone}, broadcasts.Counts{Gone: 1}, "", 2, true},
		{"later for ever", []belfry.Outcome{later}, broadcasts.Counts{Expired: 1}, "", many, false},
		{"wrong key", []belfry.Outcome{{Verdict: belfry.WrongKey, Status: 403, Reason: "VapidPkHashMismatch"}}, broadcasts.Counts{Failed: 1}, "VapidPkHashMismatch", 1, false},
		{"our fault", []belfry.Outcome{{Verdict: belfry.OurFault, Status: 403, Reason: "BadJwtToken"}}, broadcasts.Counts{Expired: 1}, "", many, false},
		{"our fault, then accepted", []belfry.Outcome{{Verdict: belfry.OurFault, Status: 403, Reason: "BadJwtToken"}, accepted}, broadcasts.Counts{Accepted: 1}, "", 2, false},
		{"too large, then accepted", []belfry.Outcome{large, accepted}, broadcasts.Counts{Accepted: 1}, "", 2, false},
		{"too large twice", []belfry.Outcome{large}, broadcasts.Counts{Failed: 1}, "too much", 2, false},
		{"refused", []belfry.Outcome{{Verdict: belfry.Refused, Status: 400, Reason: "bad request"}}, broadcasts.Counts{Failed: 1}, "bad request", 1, false},
		{"refused without a word", []belfry.Outcome{{Verdict: belfry.Refused, Status: 400}}, broadcasts.Counts{Failed: 1}, "refused", 1, false},
		{"blocked", []belfry.Outcome{{Verdict: belfry.Blocked, Reason: "not a push service"}}, broadcasts.Counts{Failed: 1}, "not a push service", 1, false},
		{"given up though nobody asked", []belfry.Outcome{{Verdict: belfry.Cancelled}, accepted}, broadcasts.Counts{Accepted: 1}, "", 2, false},
		{"no verdict", []belfry.Outcome{{}}, broadcasts.Counts{Failed: 1}, "verdict(0)", 1, false},
		{"a verdict of the future", []belfry.Outcome{{Verdict: 99}}, broadcasts.Counts{Failed: 1}, "verdict(99)", 1, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBell(t)
				id := b.people.join(1, "push.example")[0]
				b.post.script(id, tt.answers...)
				last := b.end(b.hello(time.Hour).ID)
				tt.want.Targets = 1
				failures := map[string]int{}
				if tt.reason != "" {
					failures[tt.reason] = 1
				}
				if last.State != broadcasts.Done || last.Counts != tt.want || !maps.Equal(last.Failures, failures) {
					t.Errorf("%s %+v %v, want %+v %v", last.State, last.Counts, last.Failures, tt.want, failures)
				}
				if n := len(b.post.to(id)); n != tt.tries && (tt.tries != many || n < 10) {
					t.Errorf("%d tries, want %d", n, tt.tries)
				}
				if b.people.there(id) == tt.removed {
					t.Errorf("there: %t", !tt.removed)
				}
				if h := last.Hosts; len(h) != 1 || h[0].Host != "push.example" || (h[0].State == "open") != (tt.tries != many) || h[0].Accepted != tt.want.Accepted {
					t.Errorf("hosts %+v", h)
				}
			})
		})
	}
}

// A phone behind a bridge takes the same message without padding (WP-67); the
// second try does not wait.
func TestTooLargeGoesUnpadded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t)
		id := b.people.join(1, "push.example")[0]
		b.post.script(id, large, accepted)
		b.end(b.hello(0).ID) // even where there is no second time
		sent := b.post.to(id)
		if len(sent) != 2 || sent[0].message.Unpadded || !sent[1].message.Unpadded || !sent[0].at.Equal(sent[1].at) {
			t.Errorf("%+v", sent)
		}
	})
}

// A wrong clock of ours is said once for each push service, not for each of a
// million subscribers, and costs none of them a message: they wait, the push
// service is left alone but for one question a minute, and once the clock is
// right everybody is rung (WP-65, REL-08).
func TestOurFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t)
		b.people.join(500, "one.example")
		b.people.join(500, "two.example")
		b.people.join(500, "fine.example")
		b.post.slow["one.example"], b.post.slow["two.example"] = 100*time.Millisecond, 100*time.Millisecond
		repaired := time.Now().Add(30 * time.Minute)
		b.post.rule = func(s belfry.Subscription) belfry.Outcome {
			if s.Host() == "fine.example" || time.Now().After(repaired) {
				return accepted
			}
			return belfry.Outcome{Verdict: belfry.OurFault, Status: 401, Reason: "expired token", Skew: 7 * time.Hour}
		}
		launched := b.hello(time.Hour)
		time.Sleep(29 * time.Minute)
		got := b.get(launched.ID)
		if got.Counts != (broadcasts.Counts{Targets: 1500, Pending: 1000, Accepted: 500}) || b.people.size() != 1500 {
			t.Errorf("%+v, %d there", got.Counts, b.people.size())
		}
		for _, h := range got.Hosts {
			want := broadcasts.Host{Host: h.Host, State: "paused", Reason: "it refuses our token (expired token) and our clock is 7h0m0s behind its own"}
			if h.Host == "fine.example" {
				want = broadcasts.Host{Host: h.Host, State: "open", Accepted: 500}
			}
			if h != want {
				t.Errorf("%+v, want %+v", h, want)
			}
		}
		asked := map[string]int{}
		for _, s := range b.post.to("") {
			asked[s.host]++
		}
		if n := asked["one.example"]; n > 128+30 || n < 128+20 {
			t.Errorf("%d questions", n)
		}
		if last := b.end(launched.ID); last.Counts != (broadcasts.Counts{Targets: 1500, Accepted: 1500}) || last.Hosts[0].State != "open" {
			t.Errorf("%+v %+v", last.Counts, last.Hosts)
		}
		for _, line := range []string{"host=one.example", "host=two.example"} {
			if got := b.log.count("level=WARN", "refuses", "expired token", line); got != 1 {
				t.Errorf("%d warnings about %s", got, line)
			}
		}
	})
}

// A push service that says when to come back is not asked sooner, and those who
// were told the same second do not come back in the same one (WP-66).
func TestRetryAfterIsObeyed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const asked = 100 * time.Second
		b := newBell(t)
		var ids []string // each at a push service of its own: one that says so to many is slowed down
		for i := range 200 {
			ids = append(ids, b.people.join(1, fmt.Sprintf("h%d.example", i))...)
			b.post.script(ids[i], belfry.Outcome{Verdict: belfry.Later, Status: 429, RetryAfter: asked}, accepted)
		}
		b.end(b.hello(time.Hour).ID)
		spread := map[time.Duration]bool{}
		for _, id := range ids {
			sent := b.post.to(id)
			wait := sent[1].at.Sub(sent[0].at)
			if len(sent) != 2 || wait < asked || wait > asked*6/5 {
				t.Fatalf("%d tries, came back after %v", len(sent), wait)
			}
			spread[wait.Truncate(time.Second)] = true
		}
		if len(spread) < 15 {
			t.Errorf("200 came back within %d different seconds of 20", len(spread))
		}
	})
}

// Without a word from the push service the tries are spread over minutes, with
// full jitter: a host that comes back from a fault must not meet us all at once
// (WP-69).
func TestBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t)
		var ids []string // each at a push service of its own: one that fails for many is asked once a second
		for i := range 150 {
			ids = append(ids, b.people.join(1, fmt.Sprintf("h%d.example", i))...)
			b.post.script(ids[i], later)
		}
		b.end(b.hello(30 * time.Minute).ID)
		var longest, sum [7]time.Duration
		for _, id := range ids {
			sent := b.post.to(id)
			if len(sent) < 10 {
				t.Fatalf("%d tries in half an hour", len(sent))
			}
			for i := range sent[1:] {
				if wait := sent[i+1].at.Sub(sent[i].at); wait > 5*time.Minute+time.Second {
					t.Fatalf("wait %d is %v", i+1, wait)
				}
			}
			for i := range longest {
				wait := sent[i+1].at.Sub(sent[i].at)
				if wait <= 0 {
					t.Fatalf("wait %d is %v", i+1, wait)
				}
				longest[i], sum[i] = max(longest[i], wait), sum[i]+wait
			}
		}
		for i, ceiling := range []time.Duration{1, 2, 4, 8, 16, 32, 64} {
			ceiling *= time.Second
			mean := sum[i] / time.Duration(len(ids))
			if longest[i] > ceiling+time.Millisecond || longest[i] < ceiling*9/10 || mean < ceiling*35/100 || mean > ceiling*65/100 {
				t.Errorf("wait %d: up to %v, %v on average; the ceiling is %v", i+1, longest[i], mean, ceiling)
			}
		}
	})
}

// A message that is no longer worth saying is not said (WP-07). Whoever cannot
// be reached until then has expired, and is kept.
func TestDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t)
		ids := b.people.join(40, "push.example")
		for _, id := range ids {
			b.post.script(id, later)
		}
		start := time.Now()
		last := b.end(b.hello(20 * time.Second).ID)
		if last.Counts.Expired == 0 || last.Counts.Expired+last.Counts.Failed != 40 || b.people.size() != 40 {
			t.Errorf("%+v, %d left", last.Counts, b.people.size())
		}
		for _, s := range b.post.to("") {
			if s.at.Sub(start) >= 20*time.Second {
				t.Errorf("sent %v after the launch", s.at.Sub(start))
			}
		}
		if over := time.Since(start); over > 21*time.Second {
			t.Errorf("it ended only after %v", over)
		}
	})
}

// Who waits for a place until the message is no longer worth saying has expired
// without having been asked.
func TestDeadlineInTheLane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t, func(c *broadcasts.Config) { c.PerHost = 1 })
		b.post.slow["push.example"] = 3 * time.Second
		b.people.join(10, "push.example")
		last := b.end(b.hello(10 * time.Second).ID)
		if last.Counts != (broadcasts.Counts{Targets: 10, Accepted: 4, Expired: 6}) || len(b.post.to("")) != 4 {
			t.Errorf("%+v after %d tries", last.Counts, len(b.post.to("")))
		}
	})
}

// A wait that would end behind the deadline is not waited.
func TestRetryAfterBehindDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t)
		id := b.people.join(1, "push.example")[0]
		b.post.script(id, belfry.Outcome{Verdict: belfry.Later, RetryAfter: time.Hour}, accepted)
		start := time.Now()
		last := b.end(b.hello(time.Minute).ID)
		if last.Counts.Expired != 1 || len(b.post.to(id)) != 1 || time.Since(start) > time.Second {
			t.Errorf("%+v after %v", last.Counts, time.Since(start))
		}
	})
}

// Each try says how long the message is still worth keeping, not how long it
// was at first: a push service cannot know what passed before (WP-07).
func TestTTLIsWhatIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t)
		id := b.people.join(1, "push.example")[0]
		b.post.script(id, belfry.Outcome{Verdict: belfry.Later, RetryAfter: 30 * time.Second},
			belfry.Outcome{Verdict: belfry.Later, RetryAfter: 20 * time.Second}, accepted)
		start := time.Now()
		b.end(b.hello(time.Minute).ID)
		sent := b.post.to(id)
		for _, s := range sent {
			if want := max(time.Minute-s.at.Sub(start), time.Second); s.message.TTL != want {
				t.Errorf("TTL %v, %v after the launch", s.message.TTL, s.at.Sub(start))
			}
		}
		if len(sent) < 2 {
			t.Errorf("%d tries", len(sent))
		}
	})
}

// What is left of a lifetime is never written as 0, which would mean something
// else to a push service: throw it away unless the browser is there.
func TestTTLIsNeverZeroByAccident(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t)
		b.post.slow["push.example"] = 700 * time.Millisecond
		ids := b.people.join(1, "push.example")
		b.post.script(ids[0], large, accepted)
		b.end(b.hello(time.Second).ID)
		for _, s := range b.post.to("") {
			if s.message.TTL != time.Second {
				t.Errorf("TTL %v", s.message.TTL)
			}
		}
	})
}

// Now or never: one try, however late its turn comes (WP-06).
func TestTTLZero(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t, func(c *broadcasts.Config) { c.PerHost = 1 })
		b.post.slow["push.example"] = time.Second
		ids := b.people.join(5, "push.example")
		b.post.script(ids[2], later)
		last := b.end(b.hello(0).ID)
		if last.Counts != (broadcasts.Counts{Targets: 5, Accepted: 4, Expired: 1}) {
			t.Errorf("%+v", last.Counts)
		}
		if sent := b.post.to(""); len(sent) != 5 || sent[4].message.TTL != 0 {
			t.Errorf("%d tries", len(sent))
		}
	})
}

// The urgency and the topic go along, the topic not in clear (WP-10).
func TestWhatIsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t, func(c *broadcasts.Config) { c.Origins = []string{site, "https://shop.example"} })
		one, two := b.people.join(1, "push.example", "news")[0], b.people.join(1, "push.example", "news")[0]
		b.people.change(two, func(s *belfry.Subscription) { s.Origin = "https://shop.example" })
		m := hello(time.Hour)
		m.Urgency, m.Topic, m.URL = belfry.UrgencyHigh, "prices", "/sale"
		launched := b.launch(m, belfry.Audience{Channels: []string{"news"}})
		b.end(launched.ID)
		for id, origin := range map[string]string{one: site, two: "https://shop.example"} {
			want, err := m.Payload(launched.ID, "news", origin)
			if err != nil {
				t.Fatal(err)
			}
			got := b.post.to(id)[0].message
			if string(got.Payload) != string(want) || got.Urgency != belfry.UrgencyHigh || got.Topic != m.TopicHeader() || got.Unpadded {
				t.Errorf("%s\n got %+v\nwant %s", origin, got, want)
			}
		}
	})
}

// Links that say which message they are of are a part of the message: of what is
// sent, also after a restart, and of what is measured before anything is.
func TestClickLinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		link := func(id string) string { return id + ".signed" }
		b := newBell(t, func(c *broadcasts.Config) { c.ClickLink = link })
		row := b.people.join(1, "push.example")[0]
		m := hello(time.Hour)
		m.URL = "/sale"
		launched := b.launch(m, belfry.Audience{All: true})
		b.end(launched.ID)
		if got, want := string(b.post.to(row)[0].message.Payload), `"navigate":"`+site+"/sale?belfry="+link(launched.ID)+`"`; !strings.Contains(got, want) {
			t.Errorf("%s, want %s", got, want)
		}
		if launched.Message.URL != "/sale" {
			t.Errorf("an operator reads %s", launched.Message.URL)
		}
		m.Body = strings.Repeat("x", belfry.MaxPayload)
		m.Body = m.Body[:len(m.Body)-overhead(t, m)]
		if _, err := m.Payload(launched.ID, "", site); err != nil {
			t.Fatal(err)
		}
		if _, _, err := b.Launch(t.Context(), broadcasts.Request{Message: m, Audience: belfry.Audience{All: true}}); !errors.Is(err, belfry.ErrTooLarge) {
			t.Errorf("with links it does not fit: %v", err)
		}
	})
}

// overhead is how many octets of a payload are not the body.
func overhead(t *testing.T, m belfry.Message) int {
	t.Helper()
	m.Body = "x"
	p, err := m.Payload(strings.Repeat("0", 26), "", site)
	if err != nil {
		t.Fatal(err)
	}
	return len(p) - 1
}

// A subscription of a site that the operator no longer serves gets nothing,
// since its links could not be checked, and is kept for the day the site is back.
func TestOriginNotServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t)
		ids := b.people.join(3, "push.example")
		b.people.change(ids[1], func(s *belfry.Subscription) { s.Origin = "https://elsewhere.example" })
		last := b.end(b.hello(time.Hour).ID)
		if last.Counts != (broadcasts.Counts{Targets: 3, Accepted: 2, Failed: 1}) || last.Failures["origin-not-served"] != 1 {
			t.Errorf("%+v %v", last.Counts, last.Failures)
		}
		if len(b.post.to(ids[1])) != 0 || !b.people.there(ids[1]) {
			t.Error("it was rung, or lost")
		}
	})
}

// A subscription that was just made and is called gone may not be: FCM has had
// such spells (WP-62). An import is as old as the file it came from.
func TestYoungAndGone(t *testing.T) {
	for _, tt := range []struct {
		name     string
		change   func(*belfry.Subscription, time.Time)
		second   belfry.Outcome
		lifetime time.Duration
		want     broadcasts.Counts
		tries    int
		stays    bool
	}{
		{"made now", func(s *belfry.Subscription, now time.Time) { s.Created = now }, gone, time.Hour, broadcasts.Counts{Gone: 1}, 2, false},
		{"made now, and well again", func(s *belfry.Subscription, now time.Time) { s.Created = now }, accepted, time.Hour, broadcasts.Counts{Accepted: 1}, 2, true},
		{"made now, no time to ask again", func(s *belfry.Subscription, now time.Time) { s.Created = now }, gone, time.Minute, broadcasts.Counts{Expired: 1}, 1, true},
		{"renewed now", func(s *belfry.Subscription, now time.Time) { s.Created, s.Seen = now.Add(-time.Hour), now }, gone, time.Hour, broadcasts.Counts{Gone: 1}, 2, false},
		{"made 11 minutes ago", func(s *belfry.Subscription, now time.Time) { s.Created = now.Add(-11 * time.Minute) }, gone, time.Hour, broadcasts.Counts{Gone: 1}, 1, false},
		{"imported now", func(s *belfry.Subscription, now time.Time) { s.Created, s.Imported = now, true }, gone, time.Hour, broadcasts.Counts{Gone: 1}, 1, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBell(t)
				id := b.people.join(1, "push.example")[0]
				b.people.change(id, func(s *belfry.Subscription) { tt.change(s, time.Now()) })
				b.post.script(id, gone, tt.second)
				last := b.end(b.hello(tt.lifetime).ID)
				tt.want.Targets = 1
				sent := b.post.to(id)
				if last.Counts != tt.want || len(sent) != tt.tries || b.people.there(id) != tt.stays {
					t.Errorf("%+v after %d tries, there: %t", last.Counts, len(sent), b.people.there(id))
				}
				if len(sent) == 2 && sent[1].at.Sub(sent[0].at) != time.Minute {
					t.Errorf("asked again after %v", sent[1].at.Sub(sent[0].at))
				}
			})
		})
	}
}

// A browser renews its endpoint while we ask at the old one, which is gone. To
// forget it then would lose somebody who did everything right.
func TestGoneAndRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t)
		id := b.people.join(1, "push.example")[0]
		b.post.script(id, gone, accepted)
		renewed := endpoint("other.example", "new")
		b.post.before = func(s belfry.Subscription) {
			b.people.change(id, func(s *belfry.Subscription) { s.Endpoint = renewed })
		}
		last := b.end(b.hello(time.Hour).ID)
		sent := b.post.to(id)
		if last.Counts.Accepted != 1 || len(sent) != 2 || sent[1].token != renewed || !b.people.there(id) {
			t.Errorf("%+v after %d tries, there: %t", last.Counts, len(sent), b.people.there(id))
		}
		if b.post.most["other.example"] != 1 {
			t.Error("the new endpoint was not asked in its own lane")
		}
	})
}

// The same after we have asked: the word "gone" waits a moment to be written
// down with others, and is about the old endpoint alone.
func TestGoneAndRenewedBeforeTheCommit(t *testing.T) {
	for name, change := range map[string]func(*belfry.Subscription){
		"stays in the channel": func(*belfry.Subscription) {},
		"leaves the channel":   func(s *belfry.Subscription) { s.Channels = nil },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBell(t)
				ids := b.people.join(2, "push.example", "news")
				b.people.join(1, "slow.example", "news") // keeps the broadcast from ending at once
				b.post.slow["slow.example"] = time.Second
				b.post.script(ids[0], gone)
				b.post.script(ids[1], gone)
				time.AfterFunc(100*time.Millisecond, func() {
					b.people.change(ids[0], func(s *belfry.Subscription) { s.Endpoint = endpoint("push.example", "new"); change(s) })
				})
				last := b.end(b.launch(hello(time.Hour), belfry.Audience{Channels: []string{"news"}}).ID)
				if last.Counts != (broadcasts.Counts{Targets: 3, Accepted: 1, Gone: 2}) {
					t.Errorf("%+v", last.Counts)
				}
				if !b.people.there(ids[0]) || b.people.there(ids[1]) {
					t.Errorf("renewed: there %t; gone: there %t", b.people.there(ids[0]), b.people.there(ids[1]))
				}
			})
		})
	}
}

// A browser that renews its endpoint and leaves the channel while we ask at the
// old one is not forgotten either.
func TestGoneRenewedAndLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t)
		id := b.people.join(1, "push.example", "news")[0]
		b.post.script(id, gone)
		b.post.before = func(belfry.Subscription) {
			b.people.change(id, func(s *belfry.Subscription) { s.Endpoint, s.Channels = endpoint("push.example", "new"), nil })
		}
		b.end(b.launch(hello(time.Hour), belfry.Audience{Channels: []string{"news"}}).ID)
		if !b.people.there(id) {
			t.Error("a live subscription was removed")
		}
	})
}

// A browser that renews its endpoint whenever it is asked does not keep a
// broadcast busy for ever, nor its push service.
func TestGoneAndRenewedForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t)
		id := b.people.join(1, "push.example")[0]
		b.post.script(id, gone)
		n := 0
		b.post.before = func(s belfry.Subscription) {
			n++
			b.people.change(id, func(s *belfry.Subscription) { s.Endpoint = endpoint("push.example", fmt.Sprint(n)) })
		}
		last := b.end(b.hello(time.Hour).ID)
		if last.Counts.Expired != 1 || n < 8 || n > 100 || !b.people.there(id) {
			t.Errorf("%+v after %d tries", last.Counts, n)
		}
	})
}

// Who leaves gets nothing later than a second after; who leaves the channel
// has left it; who renews the endpoint is asked at the new one (REL-28).
func TestChangesWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t)
		ids := b.people.join(5, "push.example", "news")
		for _, id := range ids {
			b.post.script(id, belfry.Outcome{Verdict: belfry.Later, RetryAfter: time.Minute}, accepted)
		}
		launched := b.launch(hello(time.Hour), belfry.Audience{Channels: []string{"news", "sport"}})
		time.Sleep(30 * time.Second)
		b.people.leave(ids[0])
		b.people.change(ids[1], func(s *belfry.Subscription) { s.Channels = []string{"weather"} })
		b.people.change(ids[2], func(s *belfry.Subscription) { s.Channels = []string{"sport"} })
		b.people.change(ids[3], func(s *belfry.Subscription) { s.Endpoint = endpoint("other.example", "new") })
		last := b.end(launched.ID)
		if last.Counts != (broadcasts.Counts{Targets: 5, Accepted: 3, Left: 2}) {
			t.Errorf("%+v", last.Counts)
		}
		for i, tries := range []int{1, 1, 2, 2, 2} {
			if sent := b.post.to(ids[i]); len(sent) != tries {
				t.Errorf("%d: %d tries, want %d", i, len(sent), tries)
			}
		}
		if sent := b.post.to(ids[3]); sent[1].host != "other.example" {
			t.Errorf("asked at %s", sent[1].host)
		}
	})
}

// Rows that move to another push service wait in its lane, not in their old ones.
func TestMovedWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t, func(c *broadcasts.Config) { c.PerHost = 1 })
		b.post.slow["new.example"] = time.Minute
		for i := range 10 {
			id := b.people.join(1, fmt.Sprintf("old%d.example", i))[0]
			b.post.script(id, belfry.Outcome{Verdict: belfry.Later, RetryAfter: time.Minute}, accepted)
		}
		launched := b.hello(time.Hour)
		time.Sleep(time.Second)
		for i := range 10 {
			id := fmt.Sprintf("%026d", i+1)
			b.people.change(id, func(s *belfry.Subscription) { s.Endpoint = endpoint("new.example", id) })
		}
		if last := b.end(launched.ID); last.Counts.Accepted != 10 || b.post.most["new.example"] != 1 {
			t.Errorf("%+v, %d at a time", last.Counts, b.post.most["new.example"])
		}
	})
}

// A second is the longest that anybody is rung after leaving, so a try that
// comes a second and a half after the first looks again.
func TestLeavesBetweenTries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t)
		id := b.people.join(1, "push.example")[0]
		b.post.script(id, belfry.Outcome{Verdict: belfry.Later, RetryAfter: 1500 * time.Millisecond}, accepted)
		launched := b.hello(time.Hour)
		time.Sleep(100 * time.Millisecond)
		b.people.leave(id)
		if last := b.end(launched.ID); last.Counts.Left != 1 || len(b.post.to(id)) != 1 {
			t.Errorf("%+v after %d tries", last.Counts, len(b.post.to(id)))
		}
	})
}

// The same holds for those who wait for a first turn behind a slow push service.
func TestChangesBeforeTheFirstTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t, func(c *broadcasts.Config) { c.PerHost = 1 })
		b.post.slow["push.example"] = 400 * time.Millisecond
		ids := b.people.join(100, "push.example")
		for _, id := range ids {
			b.people.change(id, func(s *belfry.Subscription) { s.User = "ada" })
		}
		launched := b.launch(hello(time.Hour), belfry.Audience{Users: []string{"ada"}})
		time.Sleep(10 * time.Second)
		left := time.Now()
		for i, id := range ids[50:] {
			if i%2 == 0 {
				b.people.leave(id)
			} else {
				b.people.change(id, func(s *belfry.Subscription) { s.User = "eve" })
			}
		}
		last := b.end(launched.ID)
		if last.Counts.Accepted+last.Counts.Left != 100 || last.Counts.Left < 20 {
			t.Errorf("%+v", last.Counts)
		}
		for _, s := range b.post.to("") {
			if slices.Contains(ids[50:], s.id) && s.at.After(left) {
				t.Errorf("%s was rung %v after leaving", s.id, s.at.Sub(left))
			}
		}
	})
}

// A store that cannot be read while a row waits costs the row this message, is
// said once, and loses nobody.
func TestUnreadableWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t)
		ids := b.people.join(10, "push.example")
		for _, id := range ids {
			b.post.script(id, belfry.Outcome{Verdict: belfry.Later, RetryAfter: time.Minute}, accepted)
		}
		launched := b.hello(time.Hour)
		time.Sleep(30 * time.Second)
		b.people.fail(errors.New("disk on fire"))
		last := b.end(launched.ID)
		if last.State != broadcasts.Done || last.Counts.Failed != 10 || last.Failures["audience-unreadable"] != 10 || b.people.size() != 10 {
			t.Errorf("%s %+v %v", last.State, last.Counts, last.Failures)
		}
		if n := b.log.count("disk on fire"); n != 1 {
			t.Errorf("said %d times", n)
		}
	})
}
