package broadcasts_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/broadcasts"
)

// wiped is a bell whose push service calls two of five gone, and whose broadcast
// is paused for that.
func wiped(t *testing.T) (b *bell, asked broadcasts.Broadcast) {
	b = newBell(t)
	b.post.slow["wrong.example"], b.post.slow["fine.example"] = 20*time.Millisecond, 20*time.Millisecond
	for i := range 1000 {
		for _, id := range b.people.join(5, "wrong.example")[:2] {
			b.post.script(id, gone)
		}
		if id := b.people.join(1, "fine.example")[0]; i%10 == 0 {
			b.post.script(id, gone) // a tenth, which is nothing special
		}
	}
	launched := b.hello(time.Hour)
	time.Sleep(time.Minute)
	return b, b.get(launched.ID)
}

// A push service that suddenly calls two of five gone may be wrong, and half of
// a site's subscribers must not be removed for that. An operator decides, at
// leisure and over a restart (WP-63, REL-18).
func TestMassDeletion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, got := wiped(t)
		c, h := got.Counts, got.Hosts[0]
		if got.State != broadcasts.Paused || c.Accepted != 3900 || c.Gone > 100+200+128 || c.Gone+c.Pending != 2100 || h.Gone+h.Suspect != 2000 || h.Suspect != c.Pending {
			t.Errorf("%s %+v %+v", got.State, c, got.Hosts)
		}
		if want := fmt.Sprintf("wrong.example says that %d more subscribers are gone: confirm removes them, dismiss keeps them", h.Suspect); *got.Reason != want {
			t.Errorf("paused for %q, want %q", *got.Reason, want)
		}
		if n := b.log.count("level=WARN", "host=wrong.example", "confirm"); n != 1 || b.log.count("host=fine.example", "confirm") != 0 {
			t.Errorf("the operator is told %d times", n)
		}
		t.Logf("%d of 2000 were removed before somebody is asked", h.Gone)
		b.restart()
		time.Sleep(24 * time.Hour)
		if again := b.get(got.ID); again.Counts != c || b.people.size() != 6000-c.Gone {
			t.Errorf("a day later %+v, %d there", again.Counts, b.people.size())
		}
		if resumed, err := b.Resume(t.Context(), got.ID); err != nil || resumed.State != broadcasts.Running {
			t.Errorf("%s %v", resumed.State, err)
		}
		time.Sleep(time.Second)
		if again := b.get(got.ID); again.State != broadcasts.Paused || again.Counts != c || *again.Reason != *got.Reason {
			t.Errorf("resumed, and %s %+v", again.State, again.Counts)
		}

		renewed, left := fmt.Sprintf("%026d", 5989), fmt.Sprintf("%026d", 5990)
		if !b.people.there(renewed) || !b.people.there(left) {
			t.Fatal("these were to be suspect")
		}
		b.people.change(renewed, func(s *belfry.Subscription) { s.Endpoint = endpoint("wrong.example", "new") })
		b.people.leave(left)
		if _, err := b.Confirm(t.Context(), got.ID); err != nil {
			t.Fatal(err)
		}
		last := b.end(got.ID)
		if last.State != broadcasts.Done || last.Counts != (broadcasts.Counts{Targets: 6000, Accepted: 3900, Gone: 2098, Left: 1, Failed: 1}) ||
			last.Failures["endpoint-renewed"] != 1 || last.Hosts[0].Suspect != 0 || last.Hosts[0].Gone != 1998 {
			t.Errorf("%s %+v %v %+v", last.State, last.Counts, last.Failures, last.Hosts)
		}
		if b.people.size() != 3901 || !b.people.there(renewed) || len(b.post.to("")) != 6000 {
			t.Errorf("%d there, %d attempts", b.people.size(), len(b.post.to("")))
		}
	})
}

// Who is called gone by mistake stays.
func TestDismiss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, got := wiped(t)
		if _, err := b.Dismiss(t.Context(), got.ID); err != nil {
			t.Fatal(err)
		}
		last := b.end(got.ID)
		if want := (broadcasts.Counts{Targets: 6000, Accepted: 3900, Gone: got.Counts.Gone, Failed: got.Counts.Pending}); last.Counts != want ||
			last.Failures["gone-dismissed"] != want.Failed || b.people.size() != 6000-want.Gone {
			t.Errorf("%+v %v, %d there", last.Counts, last.Failures, b.people.size())
		}
		if _, err := b.Confirm(t.Context(), got.ID); !errors.Is(err, belfry.ErrConflict) || !strings.Contains(err.Error(), "is done") {
			t.Errorf("what is done was confirmed: %v", err)
		}
		id := b.people.join(1, "fine.example")[0]
		b.post.script(id, belfry.Outcome{Verdict: belfry.Later, RetryAfter: time.Minute})
		other := b.launch(hello(time.Hour), belfry.Audience{Subscriptions: []string{id}})
		time.Sleep(time.Second)
		if _, err := b.Pause(t.Context(), other.ID); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Dismiss(t.Context(), other.ID); !errors.Is(err, belfry.ErrConflict) || !strings.Contains(err.Error(), "suspects nobody") {
			t.Errorf("nobody was dismissed: %v", err)
		}
	})
}

// A restart in the middle does not make a push service credible again.
func TestSuspectsSurviveRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t, func(c *broadcasts.Config) { c.PerHost = 20 })
		b.post.slow["wrong.example"] = 100 * time.Millisecond
		for range 1000 {
			for _, id := range b.people.join(5, "wrong.example")[:2] {
				b.post.script(id, gone)
			}
		}
		launched := b.hello(time.Hour)
		for range 8 {
			time.Sleep(2500 * time.Millisecond)
			ctx, cancel := within(10 * time.Second)
			b.Close(ctx)
			cancel()
			b.start()
		}
		time.Sleep(time.Minute)
		got := b.get(launched.ID)
		if got.State != broadcasts.Paused || got.Counts.Accepted != 3000 || got.Counts.Gone > 200+20 || got.Hosts[0].Suspect != 2000-got.Counts.Gone {
			t.Errorf("%s %+v %+v", got.State, got.Counts, got.Hosts)
		}
		if cancelled, err := b.Cancel(t.Context(), launched.ID); err != nil || cancelled.Counts.Cancelled != got.Counts.Pending {
			t.Errorf("%+v, %v", cancelled.Counts, err)
		}
	})
}
