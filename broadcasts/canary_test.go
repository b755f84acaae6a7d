package broadcasts_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/broadcasts"
)

func canaried(text string) broadcasts.Request {
	c := broadcasts.Canary(text)
	return broadcasts.Request{Message: hello(24 * time.Hour), Audience: everybody, Options: broadcasts.Options{Canary: &c}}
}

// settled waits until a broadcast does not run, and returns it.
func (b *bell) settled(id string) broadcasts.Broadcast {
	b.t.Helper()
	for step, err := range b.Watch(b.t.Context(), id) {
		if err != nil {
			b.t.Fatal(err)
		}
		if mustAddUp(b.t, step); step.State != broadcasts.Running {
			return step
		}
	}
	b.t.Fatal("the watch ends")
	return broadcasts.Broadcast{}
}

// An operator who is not sure of a message sends it to a few, all of whom have
// their verdict when he is asked, and to nobody else until he says so. He is
// asked once, however often the server is restarted on the way.
func TestCanary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t, func(c *broadcasts.Config) { c.PerHost = 4 })
		b.post.slow["push.example"] = time.Second
		ids := b.people.join(6000, "push.example") // more than are read at once
		b.post.script(ids[3], belfry.Outcome{Verdict: belfry.Later, RetryAfter: time.Minute}, accepted)
		b.post.script(ids[4], belfry.Outcome{Verdict: belfry.Refused})
		launched := b.request(canaried("10"))
		time.Sleep(500 * time.Millisecond)
		b.restart() // all ten were handed out, four are in flight
		time.Sleep(1500 * time.Millisecond)
		if _, err := b.Pause(t.Context(), launched.ID); err != nil {
			t.Fatal(err)
		}
		if got, err := b.Resume(t.Context(), launched.ID); err != nil || got.State != broadcasts.Running { // that was not the answer
			t.Fatal(got.State, err)
		}
		got := b.settled(launched.ID)
		if got.State != broadcasts.Paused || *got.Reason != broadcasts.ReasonCanary || got.Counts != (broadcasts.Counts{Targets: 6000, Pending: 5990, Accepted: 9, Failed: 1}) || got.ETA != nil {
			t.Fatalf("%s %v %+v", got.State, got.Reason, got.Counts)
		}
		sent := len(b.post.to(""))
		time.Sleep(time.Hour)
		b.restart()
		time.Sleep(time.Hour)
		if got := b.get(launched.ID); got.State != broadcasts.Paused || len(b.post.to("")) != sent {
			t.Fatalf("%s, and %d more attempts", got.State, len(b.post.to(""))-sent)
		}
		if _, err := b.Resume(t.Context(), launched.ID); err != nil {
			t.Fatal(err)
		}
		b.restart() // at once, before anything else is written down
		time.Sleep(10 * time.Second)
		b.restart()
		if last := b.settled(launched.ID); last.State != broadcasts.Done || last.Counts != (broadcasts.Counts{Targets: 6000, Accepted: 5999, Failed: 1}) {
			t.Errorf("%s %v %+v", last.State, last.Reason, last.Counts)
		}
	})
}

// A message that goes wrong is taken back when only the canary has had it.
func TestCanaryTakenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t)
		b.people.join(1000, "push.example")
		launched := b.request(canaried("20"))
		b.settled(launched.ID)
		got, err := b.Cancel(t.Context(), launched.ID)
		if err != nil || got.Counts != (broadcasts.Counts{Targets: 1000, Accepted: 20, Cancelled: 980}) {
			t.Errorf("%+v, %v", got.Counts, err)
		}
	})
}

// How many the canary is. Where it is everybody who is there, nobody is asked.
func TestCanarySize(t *testing.T) {
	for _, tt := range []struct {
		text                string
		there, first, asked int
	}{
		{"1%", 1000, 10, 1}, {"0.25%", 1000, 3, 1}, {"1%", 5, 1, 1}, {"99.9%", 10, 10, 0}, {"50%", 1, 1, 0},
		{"1", 2, 1, 1}, {"300", 1000, 300, 1}, {"1000", 1000, 1000, 0}, {"4294967295", 1000, 1000, 0}, {"1%", 0, 0, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newBell(t)
			b.people.join(tt.there, "push.example")
			got := b.settled(b.request(canaried(tt.text)).ID)
			asked := 0
			if got.State == broadcasts.Paused {
				asked = 1
			}
			if asked != tt.asked || got.Counts.Accepted != tt.first {
				t.Errorf("%s of %d: %s with %+v", tt.text, tt.there, got.State, got.Counts)
			}
		})
	}
	b := newBell(t)
	for _, text := range []string{"", "%", "0", "0%", "100%", "-1", "-1%", "1.5", "some", "NaN%", "1 %", "4294967296"} {
		if _, _, err := b.Launch(t.Context(), canaried(text)); !errors.Is(err, belfry.ErrInvalid) || !strings.Contains(err.Error(), `such as "1%"`) {
			t.Errorf("%q: %v", text, err)
		}
	}
	r := canaried("1%")
	r.Message = hello(0)
	if _, _, err := b.Launch(t.Context(), r); !errors.Is(err, belfry.ErrInvalid) || !strings.Contains(err.Error(), "ttl") {
		t.Errorf("now or never: %v", err)
	}
	r = canaried("1%")
	r.Push = broadcasts.PushNever
	if _, _, err := b.Launch(t.Context(), r); !errors.Is(err, belfry.ErrInvalid) || !strings.Contains(err.Error(), "push never") {
		t.Errorf("live only: %v", err)
	}
}

// Who left is not waited for: a canary that finds nobody any more is the end.
func TestCanaryHasLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t)
		ids := b.people.join(100, "push.example")
		r := canaried("10")
		due := time.Now().Add(odd)
		r.At = &due
		launched := b.request(r)
		b.people.leave(ids[5:]...)
		if last := b.end(launched.ID); last.Counts != (broadcasts.Counts{Targets: 100, Accepted: 5, Left: 95}) {
			t.Errorf("%+v", last.Counts)
		}
	})
}
