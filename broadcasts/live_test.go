package broadcasts_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/broadcasts"
)

// A board is where open pages read: each message once.
type board struct {
	mu     sync.Mutex // guards what follows
	events []belfry.Event
	asked  int
	fault  error // what publishing gives instead
}

func (p *board) Append(_ context.Context, e belfry.Event) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked++
	if p.fault != nil {
		return "", p.fault
	}
	for i, known := range p.events {
		if known.ID == e.ID {
			return fmt.Sprint(i), nil
		}
	}
	p.events = append(p.events, e)
	return fmt.Sprint(len(p.events) - 1), nil
}

func (p *board) mend() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = nil
}

func withBoard(p *board) func(*broadcasts.Config) {
	return func(c *broadcasts.Config) { c.Live = p }
}

// Open pages are told before the first device is rung, or the page of a person
// who reads could not spare their phone.
func TestPublished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &board{}
		b := newBell(t, withBoard(p), withPages(&pages{reach: map[string]func() belfry.Reach{fmt.Sprintf("%026d", 1): func() belfry.Reach {
			if p.asked == 0 {
				t.Error("a device is rung before pages are told")
			}
			return belfry.Reach{}
		}}}))
		b.people.join(3, "push.example", "news")
		news := belfry.Audience{Channels: []string{"news"}}
		launched := b.request(broadcasts.Request{Message: hello(time.Hour), Audience: news})
		if last := b.end(launched.ID); last.Counts.Accepted != 3 || last.Push != broadcasts.PushAuto {
			t.Errorf("%+v, push %q", last.Counts, last.Push)
		}
		if len(p.events) != 1 || p.events[0].ID != launched.ID || p.events[0].Message.Title != hello(0).Title ||
			fmt.Sprint(p.events[0].Audience) != fmt.Sprint(news) || !p.events[0].Time.Equal(*launched.Started) {
			t.Errorf("%+v", p.events)
		}
	})
}

// Whether pages were told before a crash nobody knows, so they are told again,
// as of the same moment: the log knows the message.
func TestPublishedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &board{}
		b := newBell(t, withBoard(p))
		b.people.join(500, "push.example")
		slowly := 10
		launched := b.request(broadcasts.Request{Message: hello(time.Hour), Audience: everybody, Options: broadcasts.Options{Rate: &slowly}})
		time.Sleep(5 * time.Second)
		b.restart()
		if last := b.end(launched.ID); last.Counts.Accepted != 500 {
			t.Errorf("%+v", last.Counts)
		}
		if p.asked != 2 || len(p.events) != 1 {
			t.Errorf("asked %d times, %d events", p.asked, len(p.events))
		}
	})
}

// A full disk keeps a broadcast waiting, which would find nowhere to write down
// whom it rang either; a damaged log does not.
func TestNotPublished(t *testing.T) {
	for name, tt := range map[string]struct {
		fault error
		push  broadcasts.Push
		waits bool
	}{
		"full":            {fmt.Errorf("append: %w", belfry.ErrFull), broadcasts.PushAuto, true},
		"damaged":         {belfry.ErrCorrupt, broadcasts.PushAlways, false},
		"damaged, no way": {belfry.ErrCorrupt, broadcasts.PushNever, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &board{fault: tt.fault}
				b := newBell(t, withBoard(p))
				b.people.join(2, "push.example")
				launched := b.request(broadcasts.Request{Message: hello(time.Hour), Audience: everybody, Options: broadcasts.Options{Push: tt.push}})
				time.Sleep(10 * time.Second)
				now, err := b.Get(t.Context(), launched.ID)
				if err != nil || now.Ended() == tt.waits {
					t.Errorf("%s: %+v, %v", now.State, now.Counts, err)
				}
				p.mend()
				if last := b.end(launched.ID); last.State != broadcasts.Done || last.Counts.Accepted != last.Counts.Targets {
					t.Errorf("%+v", last.Counts)
				}
			})
		})
	}
}

// Live only is for pages: nobody is rung, and there is nobody to count.
func TestLiveOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &board{}
		b := newBell(t, withBoard(p))
		ids := b.people.join(2, "push.example")
		never := broadcasts.Options{Push: broadcasts.PushNever}
		r := broadcasts.Request{Message: hello(time.Hour), Audience: everybody, Options: never}
		if est, err := b.Estimate(t.Context(), r); err != nil || est.Targets != 0 {
			t.Errorf("%+v, %v", est, err)
		}
		launched := b.request(r)
		if last := b.end(launched.ID); last.State != broadcasts.Done || last.Counts != (broadcasts.Counts{}) {
			t.Errorf("%s, %+v", last.State, last.Counts)
		}
		if len(p.events) != 1 || len(b.post.to(ids[0])) != 0 {
			t.Errorf("%d events, and rung", len(p.events))
		}
		for _, wrong := range []broadcasts.Request{
			{Message: hello(time.Hour), Audience: belfry.Audience{Subscriptions: ids}, Options: never},
			{Message: hello(time.Hour), Audience: everybody, Options: broadcasts.Options{Push: "sometimes"}},
		} {
			var e *belfry.Error
			if _, _, err := b.Launch(t.Context(), wrong); !errors.As(err, &e) || e.Code != "push" {
				t.Errorf("%v", err)
			}
		}
	})
}

// Without live events nothing may be for pages only: it would reach nobody.
func TestNoBoard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t)
		_, _, err := b.Launch(t.Context(), broadcasts.Request{Message: hello(time.Hour), Audience: everybody, Options: broadcasts.Options{Push: broadcasts.PushNever}})
		if err == nil || !strings.Contains(err.Error(), "no live events") {
			t.Errorf("%v", err)
		}
	})
}

// What could not be told yet when a broadcast is paused or cut off is told when
// it goes on.
func TestLiveOnlyThatIsStopped(t *testing.T) {
	for name, stop := range map[string]func(b *bell, id string) error{
		"restart": func(b *bell, id string) error { b.restart(); return nil },
		"pause": func(b *bell, id string) error {
			_, paused := b.Pause(b.t.Context(), id)
			_, resumed := b.Resume(b.t.Context(), id)
			return errors.Join(paused, resumed)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &board{fault: fmt.Errorf("append: %w", belfry.ErrFull)}
				b := newBell(t, withBoard(p))
				launched := b.request(broadcasts.Request{Message: hello(time.Hour), Audience: everybody, Options: broadcasts.Options{Push: broadcasts.PushNever}})
				time.Sleep(10 * time.Second)
				if err := stop(b, launched.ID); err != nil {
					t.Error(err)
				}
				p.mend()
				if last := b.end(launched.ID); last.State != broadcasts.Done || len(p.events) != 1 {
					t.Errorf("%s, %d events", last.State, len(p.events))
				}
			})
		})
	}
}
