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

// perSecond counts the attempts that began in each whole second since began.
func (p *post) perSecond(began time.Time) (n []int) {
	for _, s := range p.to("") {
		second := int(s.at.Sub(began) / time.Second)
		for len(n) <= second {
			n = append(n, 0)
		}
		n[second]++
	}
	return n
}

// A shop that can serve so many visitors a second is not sent more, however many
// push services there are, however often the server is restarted, and though the
// broadcast is paused in between. Another broadcast is none of its business.
func TestRate(t *testing.T) {
	for _, perSecond := range []int{1, 7, 100, 1000} {
		synctest.Test(t, func(t *testing.T) {
			b := newBell(t)
			rows := 20 * perSecond
			b.people.join(rows/2, "a.example", "slowly")
			b.people.join(rows-rows/2, "b.example", "slowly")
			b.people.join(1, "c.example", "quickly")
			began := time.Now()
			r := broadcasts.Request{Message: hello(time.Hour), Audience: belfry.Audience{Channels: []string{"slowly"}}, Options: broadcasts.Options{Rate: &perSecond}}
			launched := b.request(r)
			if launched.Rate == nil || *launched.Rate != perSecond {
				t.Fatalf("%+v", launched)
			}
			time.Sleep(5500 * time.Millisecond)
			b.restart()
			time.Sleep(5 * time.Second)
			if _, err := b.Pause(t.Context(), launched.ID); err != nil {
				t.Fatal(err)
			}
			if last := b.end(b.launch(hello(time.Hour), belfry.Audience{Channels: []string{"quickly"}}).ID); last.Finished.Sub(*last.Started) > 10*time.Millisecond {
				t.Errorf("another broadcast waited for %v", last.Finished.Sub(*last.Started))
			}
			if _, err := b.Resume(t.Context(), launched.ID); err != nil {
				t.Fatal(err)
			}
			if last := b.end(launched.ID); last.Counts.Accepted != rows {
				t.Errorf("%+v", last.Counts)
			}
			most := perSecond + max(1, perSecond/100) + 1
			for second, n := range b.post.perSecond(began) {
				if n > most && second != 5 && second != 10 { // each start may begin with some at once
					t.Errorf("%d in second %d at a rate of %d", n, second, perSecond)
				}
			}
			if took := time.Since(began); took < 17*time.Second || took > 20*time.Second {
				t.Errorf("at a rate of %d, %d rows took %v", perSecond, rows, took)
			}
		})
	}
}

// A broadcast that goes slowly is stopped as quickly as any other.
func TestRateAndCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t)
		b.people.join(100, "push.example")
		slowly := 1
		launched := b.request(broadcasts.Request{Message: hello(time.Hour), Audience: everybody, Options: broadcasts.Options{Rate: &slowly}})
		time.Sleep(2500 * time.Millisecond)
		began := time.Now()
		got, err := b.Cancel(t.Context(), launched.ID)
		if err != nil || got.Counts != (broadcasts.Counts{Targets: 100, Accepted: 3, Cancelled: 97}) || time.Since(began) > 10*time.Millisecond {
			t.Errorf("%+v, %v after %v", got.Counts, err, time.Since(began))
		}
	})
}

// A rate that nothing could keep is refused, and a dry run reckons with one that
// is slower than the push services.
func TestRateAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t)
		b.people.join(100, "push.example")
		for _, n := range []int{0, -1, 1_000_001} {
			_, _, err := b.Launch(t.Context(), broadcasts.Request{Message: hello(time.Hour), Audience: everybody, Options: broadcasts.Options{Rate: &n}})
			if !errors.Is(err, belfry.ErrInvalid) || !strings.Contains(err.Error(), "1 to 1000000") {
				t.Errorf("%d: %v", n, err)
			}
		}
		for n, want := range map[int]int{10: 10, 1_000_000: 1} {
			est, err := b.Estimate(t.Context(), broadcasts.Request{Message: hello(time.Hour), Audience: everybody, Options: broadcasts.Options{Rate: &n}})
			if err != nil || est.Duration != want {
				t.Errorf("at a rate of %d: %d seconds, %v", n, est.Duration, err)
			}
		}
	})
}

// Rows that wait for the rate until the deadline are not held any longer.
func TestRateBeyondTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t)
		b.people.join(1000, "push.example")
		one, began := 1, time.Now()
		last := b.end(b.request(broadcasts.Request{Message: hello(10 * time.Second), Audience: everybody, Options: broadcasts.Options{Rate: &one}}).ID)
		if took := time.Since(began); took > 12*time.Second || last.Counts.Accepted > 12 || last.Counts.Accepted+last.Counts.Expired != 1000 {
			t.Errorf("it took %v: %+v", took, last.Counts)
		}
	})
}
