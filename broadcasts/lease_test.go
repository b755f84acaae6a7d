package broadcasts_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/broadcasts"
)

// A server that shares a journal leaves alone what another one delivers, and
// takes over what nobody has written anything of for too long. The same server
// goes on at once, however often it is restarted.
func TestLeases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t, func(c *broadcasts.Config) { c.Holder = "one" })
		b.people.join(1000, "push.example")
		b.post.slow["push.example"] = time.Second
		launched := b.hello(time.Hour)
		for range 3 {
			time.Sleep(1500 * time.Millisecond)
			b.restart()
		}
		time.Sleep(1500 * time.Millisecond)
		done, left := b.get(launched.ID).Counts.Accepted, len(b.post.to(""))
		b.stop()
		b.cfg.Holder = "two"
		b.start()
		time.Sleep(time.Minute)
		if n := len(b.post.to("")); n != left || done == 0 {
			t.Errorf("%d attempts at what is another server's, %d accepted before", n-left, done)
		}
		b.stop()
		time.Sleep(10 * time.Minute)
		b.start()
		if got := b.end(launched.ID); got.Counts.Accepted != 1000 {
			t.Errorf("%+v", got.Counts)
		}
	})
}

// Whoever gives an order for a broadcast that this server does not work on is
// told so in a moment, and nobody turns in circles meanwhile.
func TestOrdersForTheOrphaned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t, func(c *broadcasts.Config) { c.Holder = "one" })
		b.people.join(1000, "push.example")
		b.post.slow["push.example"] = time.Second
		launched := b.hello(time.Hour)
		b.stop()
		b.cfg.Holder = "two"
		b.start()
		for name, order := range map[string]func(context.Context, string) (broadcasts.Broadcast, error){"pause": b.Pause, "cancel": b.Cancel} {
			began := time.Now()
			_, err := order(t.Context(), launched.ID)
			var told *belfry.Error
			if !errors.As(err, &told) || told.Kind != belfry.ErrBusy || told.Code != "broadcast-orphaned" || told.Hint == "" {
				t.Errorf("%s: %v", name, err)
			}
			if took := time.Since(began); took == 0 || took > 10*time.Second {
				t.Errorf("%s took %s", name, took)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := b.Cancel(ctx, launched.ID); !errors.Is(err, context.Canceled) {
			t.Errorf("a caller that has hung up is told %v", err)
		}
	})
}
