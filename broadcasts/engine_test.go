package broadcasts_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/broadcasts"
	"github.com/belfry-push/belfry/broadcasts/broadcaststest"
)

func TestNew(t *testing.T) {
	whole := broadcasts.Config{Journal: broadcaststest.NewMemory(nil), Audience: &people{}, Sender: &post{}, Origins: []string{site}}
	for name, spoil := range map[string]func(*broadcasts.Config){
		"journal":  func(c *broadcasts.Config) { c.Journal = nil },
		"audience": func(c *broadcasts.Config) { c.Audience = nil },
		"sender":   func(c *broadcasts.Config) { c.Sender = nil },
		"origins":  func(c *broadcasts.Config) { c.Origins = nil },
		"perHost":  func(c *broadcasts.Config) { c.PerHost = -1 },
	} {
		c := whole
		spoil(&c)
		if _, err := broadcasts.New(t.Context(), c); err == nil || !strings.Contains(strings.ToLower(err.Error()), strings.ToLower(name)) {
			t.Errorf("without %s: %v", name, err)
		}
	}
	e, err := broadcasts.New(t.Context(), whole)
	if err != nil {
		t.Fatal(err)
	}
	e.Close(t.Context())
}

// Who has an id finds the broadcast in the journal, as it was said, before the
// first attempt is made.
func TestLaunch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t)
		refused := b.people.join(2, "push.example", "news")[1]
		b.post.script(refused, belfry.Outcome{Verdict: belfry.Refused})
		b.people.join(1, "push.example", "sport")
		b.post.slow["push.example"] = time.Second
		now := time.Now()
		got := b.launch(hello(90*time.Second), belfry.Audience{Channels: []string{"news", "news"}})
		if !regexp.MustCompile(`^[0-9a-z]{26}$`).MatchString(got.ID) || got.State != broadcasts.Running || !got.Created.Equal(now) ||
			!got.Started.Equal(now) || !got.Deadline.Equal(now.Add(90*time.Second)) || got.Until != 3 || got.Warnings != nil ||
			got.Counts != (broadcasts.Counts{Targets: 2, Pending: 2}) || !reflect.DeepEqual(got.Audience.Channels, []string{"news"}) {
			t.Errorf("%+v", got)
		}
		stored := b.get(got.ID)
		if !reflect.DeepEqual(stored, got) {
			t.Errorf("\n got %+v\nwant %+v", stored, got)
		}
		last := b.end(got.ID)
		if !reflect.DeepEqual(stored, got) {
			t.Error("what Launch returned changes under its caller's hands")
		}
		if last.State != broadcasts.Done || last.Reason != nil || last.Counts.Accepted != 1 || last.Counts.Failed != 1 || last.Finished.Sub(now).Round(10*time.Millisecond) != time.Second {
			t.Errorf("%s %v %+v finished %v", last.State, last.Reason, last.Counts, last.Finished)
		}
		if list, err := b.List(t.Context(), "", 10); err != nil || len(list) != 1 || !reflect.DeepEqual(list[0], last) {
			t.Errorf("%+v, %v", list, err)
		}
	})
}

// A broadcast to nobody is over at once, and is no error.
func TestNobodyThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t)
		b.people.join(1, "push.example", "news")
		last := b.end(b.launch(hello(time.Hour), belfry.Audience{Channels: []string{"sport"}}).ID)
		if last.State != broadcasts.Done || last.Counts != (broadcasts.Counts{}) || len(b.post.to("")) != 0 {
			t.Errorf("%s %+v", last.State, last.Counts)
		}
	})
}

// What is wrong with a message is said before anything is written or sent.
func TestLaunchRefused(t *testing.T) {
	body := func(n int) belfry.Message { return belfry.Message{Title: "T", Body: strings.Repeat("a", n)} }
	empty, err := body(0).Payload(strings.Repeat("0", 26), "", site)
	if err != nil {
		t.Fatal(err)
	}
	frame := len(empty) + len(`"body":"",`)
	for _, tt := range []struct {
		name     string
		message  belfry.Message
		audience belfry.Audience
		kind     error
		text     string
	}{
		{"no title", belfry.Message{}, everybody, belfry.ErrInvalid, "message.title"},
		{"link to a stranger", belfry.Message{Title: "T", URL: "https://evil.example/"}, everybody, belfry.ErrInvalid, "message.url"},
		{"no audience", hello(0), belfry.Audience{}, belfry.ErrInvalid, "audience"},
		{"no channel", hello(0), belfry.Audience{Channels: []string{"News"}}, belfry.ErrInvalid, "audience.channels"},
		{"3994 octets", body(3994 - frame), everybody, belfry.ErrTooLarge, "3994"},
		{"5000 octets", body(5000 - frame), everybody, belfry.ErrTooLarge, "5000"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBell(t)
			b.people.join(1, "push.example")
			_, _, err := b.Launch(t.Context(), broadcasts.Request{Message: tt.message, Audience: tt.audience})
			if !errors.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("%v", err)
			}
			if list, _ := b.List(t.Context(), "", 10); len(list) != 0 || len(b.post.to("")) != 0 {
				t.Error("it was written or sent")
			}
		})
	}
	for n, warned := range map[int]bool{2641: false, 2642: true, 3993: true} {
		b := newBell(t)
		got := b.launch(body(n-frame), everybody)
		if stored := b.get(got.ID); warned != (len(got.Warnings) == 1) || !reflect.DeepEqual(stored.Warnings, got.Warnings) {
			t.Errorf("%d octets: warnings %q, stored %q", n, got.Warnings, stored.Warnings)
		}
		if warned && !strings.Contains(got.Warnings[0], fmt.Sprint(n)) {
			t.Errorf("%d octets: %q", n, got.Warnings[0])
		}
	}
}

// The longest form counts: a message that fits one of our sites and not
// another is refused before anybody gets it (WP-33).
func TestTooLargeForOneOrigin(t *testing.T) {
	b := newBell(t, func(c *broadcasts.Config) { c.Origins = []string{site, "https://a.longer.example.com", site} })
	m := belfry.Message{Title: "T", Body: "a"}
	short, err := m.Payload(strings.Repeat("0", 26), "", site)
	if err != nil {
		t.Fatal(err)
	}
	m.Body = strings.Repeat("a", 3993-len(short)+1) // fits the first exactly
	if _, _, err := b.Launch(t.Context(), broadcasts.Request{Message: m, Audience: everybody}); !errors.Is(err, belfry.ErrTooLarge) {
		t.Errorf("%v", err)
	}
	m.Body = m.Body[:len(m.Body)-3993+2641] // and so does the warning
	if got := b.launch(m, everybody); len(got.Warnings) != 1 {
		t.Errorf("warnings %q", got.Warnings)
	}
}

// A launch that cannot be written down is refused, and nobody is rung.
func TestLaunchOnFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t)
		b.people.join(1, "push.example")
		b.journal.fail(&belfry.Error{Kind: belfry.ErrFull, Code: "full", Text: "the disk is full"})
		if _, _, err := b.Launch(t.Context(), broadcasts.Request{Message: hello(time.Hour), Audience: everybody}); !errors.Is(err, belfry.ErrFull) {
			t.Errorf("%v", err)
		}
		synctest.Wait()
		if len(b.post.to("")) != 0 {
			t.Error("somebody was rung")
		}
		b.journal.fail(nil)
		b.people.fail(errBroken)
		if _, _, err := b.Launch(t.Context(), broadcasts.Request{Message: hello(time.Hour), Audience: everybody}); !errors.Is(err, errBroken) {
			t.Errorf("%v", err)
		}
	})
}

// Who registers after the launch was not meant by it, and who left the site
// before their turn is counted and not rung (REL-28).
func TestJoinedAndLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t)
		b.post.slow["push.example"] = 100 * time.Millisecond
		ids := b.people.join(5000, "push.example")
		launched := b.hello(24 * time.Hour)
		time.Sleep(50 * time.Millisecond)
		late := b.people.join(20, "late.example")
		b.people.leave(ids[4990:]...) // not read yet
		last := b.end(launched.ID)
		if last.Counts != (broadcasts.Counts{Targets: 5000, Accepted: 4990, Left: 10}) {
			t.Errorf("%+v", last.Counts)
		}
		for _, id := range append(late, ids[4990:]...) {
			if len(b.post.to(id)) != 0 {
				t.Errorf("%s was rung", id)
			}
		}
	})
}

// A row that was there before the launch and joins the channel after it takes
// nobody's place beyond the count: the numbers still add up.
func TestOldRowJoinsTheChannel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t, func(c *broadcasts.Config) { c.PerHost = 10 })
		b.post.slow["push.example"] = 10 * time.Second
		old := b.people.join(100, "push.example")
		meant := b.people.join(4990, "push.example", "news")
		more := b.people.join(100, "push.example")
		launched := b.launch(hello(24*time.Hour), belfry.Audience{Channels: []string{"news"}})
		time.Sleep(time.Second)
		for _, id := range append(old, more...) {
			b.people.change(id, func(s *belfry.Subscription) { s.Channels = []string{"news"} })
		}
		last := b.end(launched.ID)
		if last.Counts != (broadcasts.Counts{Targets: 4990, Accepted: 4990}) || len(b.post.to(meant[4989])) != 1 {
			t.Errorf("%+v", last.Counts)
		}
	})
}

// An audience that cannot be read any more ends the broadcast, which says so;
// those who were reached keep their counts.
func TestUnreadableAudience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t)
		b.post.slow["push.example"] = time.Second
		b.people.join(6000, "push.example")
		launched := b.hello(time.Hour)
		time.Sleep(500 * time.Millisecond)
		b.people.fail(errBroken)
		last := b.end(launched.ID)
		if last.State != broadcasts.Cancelled || *last.Reason != "audience-unreadable" || last.Counts.Cancelled == 0 || last.Counts.Accepted == 0 {
			t.Errorf("%s %v %+v", last.State, last.Reason, last.Counts)
		}
		if b.log.count("level=ERROR", "cannot read the audience", "broken") != 1 {
			t.Error("the operator is not told why")
		}
	})
}

// Each commit is a step that a watcher can see, on the disk when it is seen,
// and never a step back.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t)
		b.post.slow["push.example"] = 300 * time.Millisecond
		b.people.join(1000, "push.example")
		launched := b.hello(time.Hour)
		steps, before := 0, 1001
		for step, err := range b.Watch(t.Context(), launched.ID) {
			if err != nil {
				t.Fatal(err)
			}
			mustAddUp(t, step)
			if steps++; step.Counts.Pending > before {
				t.Errorf("%d pending after %d", step.Counts.Pending, before)
			}
			before = step.Counts.Pending
			if stored, _ := b.journal.Get(t.Context(), step.ID); !reflect.DeepEqual(stored, step) {
				t.Errorf("shown %+v, stored %+v", step.Counts, stored.Counts)
			}
			if settled := step.Counts.Targets - step.Counts.Pending; settled > 0 && !step.Ended() {
				took := time.Since(launched.Created).Seconds()
				if want := float64(settled) / took; step.Pace < want*0.9 || step.Pace > want*1.1 {
					t.Errorf("pace %v, want %v", step.Pace, want)
				}
				end := launched.Created.Add(time.Duration(took / float64(settled) * 1000 * float64(time.Second)))
				if off := step.ETA.Sub(end); off < -time.Second || off > time.Second {
					t.Errorf("eta %v, want %v", step.ETA, end)
				}
			}
		}
		if steps < 5 || before != 0 {
			t.Errorf("%d steps, %d pending in the last", steps, before)
		}
		// Once it is over there is one step, the last.
		if last := b.end(launched.ID); last.Counts.Accepted != 1000 || last.Pace == 0 {
			t.Errorf("%+v", last)
		}
	})
}

// A watcher that is slow misses steps, not the end; one that goes away is let go.
func TestWatchers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t)
		b.post.slow["push.example"] = time.Second
		b.people.join(1000, "push.example")
		launched := b.hello(time.Hour)
		var last broadcasts.Broadcast
		for step := range b.Watch(t.Context(), launched.ID) {
			last = step
			time.Sleep(time.Minute)
		}
		if !last.Ended() {
			t.Errorf("the last seen is %s, %+v", last.State, last.Counts)
		}

		launched = b.hello(time.Hour)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(1500*time.Millisecond, cancel)
		for step, err := range b.Watch(ctx, launched.ID) {
			if last = step; err != nil {
				t.Error(err)
			}
		}
		if last.Ended() || time.Since(launched.Created) != 1500*time.Millisecond {
			t.Errorf("%+v after %v", last.Counts, time.Since(launched.Created))
		}
		for range b.Watch(t.Context(), launched.ID) {
			break
		}
		for _, err := range b.Watch(t.Context(), "nothing") {
			if !errors.Is(err, belfry.ErrNotFound) {
				t.Error(err)
			}
		}
	})
}

// To watch a fast broadcast is to see some steps a second, not each commit, and
// the end as soon as it is there.
func TestWatchersGlance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t)
		b.post.slow["push.example"] = 5 * time.Millisecond
		b.people.join(10_000, "push.example")
		launched := b.hello(time.Hour)
		var last broadcasts.Broadcast
		steps := 0
		for last = range b.Watch(t.Context(), launched.ID) {
			steps++
		}
		late := time.Since(*last.Finished)
		if took := last.Finished.Sub(launched.Created); b.journal.commits < 40 || steps > int(took/(50*time.Millisecond))+3 {
			t.Errorf("%d steps of %d commits in %v", steps, b.journal.commits, took)
		}
		if !last.Ended() || late > 10*time.Millisecond {
			t.Errorf("%+v, seen %v after the end", last.Counts, late)
		}
	})
}

// An estimate of an end behind the deadline would be wrong: by then all is
// settled one way or another.
func TestETAIsNotBehindTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t)
		b.post.slow["quick.example"] = time.Millisecond // what is settled in no time has no pace
		b.people.join(1, "quick.example")
		for _, id := range b.people.join(1000, "push.example") {
			b.post.script(id, belfry.Outcome{Verdict: belfry.Later, RetryAfter: 30 * time.Second})
		}
		launched := b.hello(time.Minute)
		time.Sleep(time.Second)
		if got := b.get(launched.ID); got.ETA == nil || got.ETA.After(got.Deadline) || got.ETA.Before(time.Now()) {
			t.Errorf("eta %v, deadline %v", got.ETA, got.Deadline)
		}
	})
}

// Programs read the JSON: times are UTC with at most milliseconds, lists and
// objects are never null, and what we print we read again.
func TestJSON(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		zone := time.FixedZone("UTC+5:45", 5*3600+45*60)
		b := newBell(t, func(c *broadcasts.Config) {
			c.Now = func() time.Time { return time.Now().In(zone).Add(123456789) }
		})
		b.post.slow["push.example"] = 1234567 * time.Microsecond
		ids := b.people.join(2, "push.example")
		launched := b.hello(time.Hour)
		mustReadAgain(t, launched, `"failures":{}`, `"hosts":[]`, `"reason":null`, `"finished":null`, `"eta":null`, `"state":"running"`)
		b.post.script(ids[0], belfry.Outcome{Verdict: belfry.Refused, Reason: "bad"})
		for step := range b.Watch(t.Context(), launched.ID) {
			mustReadAgain(t, step)
		}
		text := mustReadAgain(t, b.get(launched.ID), `"failures":{"bad":1}`, `"accepted":1`, `"state":"done"`,
			`"hosts":[{"host":"push.example","state":"open","accepted":1}]`)
		if strings.Contains(text, "until") || strings.Contains(text, "Until") {
			t.Errorf("it shows a position: %s", text)
		}
	})
}

var timeInJSON = regexp.MustCompile(`"\d{4}-\d\d-\d\dT[^"]*"`)

func mustReadAgain(t *testing.T, b broadcasts.Broadcast, parts ...string) string {
	t.Helper()
	b.Course = broadcasts.Course{} // which nobody is shown
	text, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range parts {
		if !bytes.Contains(text, []byte(part)) {
			t.Errorf("no %s in %s", part, text)
		}
	}
	for _, at := range timeInJSON.FindAll(text, -1) {
		if !regexp.MustCompile(`^"[-0-9]{10}T[:0-9]{8}(\.\d{1,3})?Z"$`).Match(at) {
			t.Errorf("the time %s", at)
		}
	}
	again := broadcasts.Broadcast{}
	if err := json.Unmarshal(text, &again); err != nil {
		t.Fatal(err)
	}
	again.Until = b.Until
	if !reflect.DeepEqual(again, b) {
		t.Errorf("\n got %+v\nwant %+v", again, b)
	}
	return string(text)
}

// A wall clock that somebody sets while a broadcast runs neither expires it nor
// gives it more time.
func TestWallClockJumps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var jump atomic.Int64
		b := newBell(t, func(c *broadcasts.Config) {
			c.Now = func() time.Time { return time.Now().Add(time.Duration(jump.Load())) }
		})
		id := b.people.join(1, "push.example")[0]
		b.post.script(id, belfry.Outcome{Verdict: belfry.Later, RetryAfter: time.Second}, belfry.Outcome{Verdict: belfry.Later, RetryAfter: time.Second}, accepted)
		jump.Store(int64(-3 * time.Hour))
		launched := b.hello(time.Minute)
		synctest.Wait()
		for _, by := range []time.Duration{25 * time.Hour, -25 * time.Hour} {
			jump.Store(int64(by))
			time.Sleep(time.Second * 6 / 5)
		}
		last := b.end(launched.ID)
		sent := b.post.to(id)
		if last.Counts.Accepted != 1 || len(sent) != 3 || sent[2].message.TTL < 57*time.Second || sent[2].message.TTL > time.Minute {
			t.Errorf("%+v, %d tries", last.Counts, len(sent))
		}
	})
}

// A hostile audience, each at a host of its own and each refused in words of
// its own, does not make a record grow without end.
func TestRecordsStaySmall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t)
		for i := range 300 {
			b.people.join(1, fmt.Sprintf("h%d.example", i))
			id := b.people.join(1, fmt.Sprintf("h%d.example", i))[0]
			b.post.script(id, belfry.Outcome{Verdict: belfry.Refused, Reason: fmt.Sprintf("reason %d", i)})
		}
		last := b.end(b.hello(time.Hour).ID)
		if last.Counts.Accepted != 300 || last.Counts.Failed != 300 || len(last.Hosts) > 64 || len(last.Failures) > 33 || last.Failures["other"] < 250 {
			t.Errorf("%+v, %d hosts, %d reasons", last.Counts, len(last.Hosts), len(last.Failures))
		}
		if h := last.Hosts[63]; h.Host != "other" || h.Accepted < 200 {
			t.Errorf("the last host is %+v", h)
		}
	})
}

// Attempts are logged at Debug, and no line holds an endpoint or a payload (SEC-22).
func TestLogHoldsNoSecret(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t)
		id := b.people.join(1, "push.example")[0]
		b.people.change(id, func(s *belfry.Subscription) { s.Endpoint = endpoint("push.example", "canary") })
		b.end(b.launch(belfry.Message{Title: "canary"}, everybody).ID)
		if b.log.count("level=DEBUG", id, "host=push.example", "verdict=accepted") != 1 || b.log.count("canary") != 0 {
			t.Errorf("%s", b.log.buf.String())
		}
	})
}
