//go:build e2e

package e2e

import (
	"context"
	"testing"
	"time"

	"github.com/belfry-push/belfry/sender/pushtest"
)

// What browsers say of a message counts once; and a registration outlives a new
// key of the server and the end of its endpoint, without a question to the person.
// Whatever breaks here, subscriptions die silently: the page says on, and nobody
// is rung.
func TestHealing(t *testing.T) {
	t.Parallel()
	eachBrowser(t, func(t *testing.T, profile func(*testing.T, *Desktop, *pushtest.Service) Profile) {
		program := Build(t)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		push := startPush(t)
		desktop := NewDesktop(ctx, t)
		visitor := profile(t, desktop, push)
		server := program.Serve(ctx, t, t.TempDir(), "127.0.0.1:0", push)
		defer server.Stop(ctx, t)
		act := acts(t)

		browser := visitor.Open(ctx, t)
		browser.Visit(ctx, t, server.Page())
		browser.Press(ctx, t, "#subscribe")
		browser.Reads(ctx, t, "#state", "on")
		server.Send(ctx, t, 1, "Counted", "Once.", "--push", "always")
		shown := shows(ctx, t, desktop, "Counted", "Once.")
		handled(ctx, t, browser, 1)
		desktop.Click(t, shown)
		browser.Lands(ctx, t, server.Page()+"?from=Counted")
		server.told(ctx, t, told{Shown: 1, Clicked: 1})
		act("shown and clicked are counted")

		// A tab that has just asked the server takes its word for six hours (BR-10),
		// so each of these is a new visit.
		again := func() {
			t.Helper()
			browser.Close(ctx, t)
			awaitBrowsers(ctx, t, push, 0)
			browser = visitor.Open(ctx, t)
			browser.Visit(ctx, t, server.Page())
			browser.Reads(ctx, t, "#state", "on")
		}
		server.Ask(ctx, t, new(any), "keys", "rotate")
		again()
		server.moved(ctx, t)
		act("moved over to the new key")
		expect(t, "registered after a rotation", server.Registered(ctx, t), 1)
		server.told(ctx, t, told{Shown: 1, Clicked: 1})
		server.Send(ctx, t, 1, "Rotated", "By the new key.", "--push", "always")
		desktop.Dismiss(t, shows(ctx, t, desktop, "Rotated", "By the new key."))

		// A row as young as this is asked once more after a minute, before it goes (WP-62).
		all := push.Received()
		push.End(all[len(all)-1].Endpoint)
		server.send(ctx, t, counts{Targets: 1}, "Lost", "To nobody.", "--push", "always")
		expect(t, "registered after its endpoint was gone", server.Registered(ctx, t), 0)
		act("its endpoint was gone")
		again()
		act("opened again")
		server.until(ctx, t, "one is registered anew", func() bool { return server.Registered(ctx, t) == 1 })
		act("came back with another endpoint")
		server.Send(ctx, t, 1, "Back", "To the new endpoint.", "--push", "always")
		desktop.Dismiss(t, shows(ctx, t, desktop, "Back", "To the new endpoint."))
		desktop.Quiet(t)
		browser.Close(ctx, t)
	})
}

// told is what browsers said of a broadcast.
type told struct{ Shown, Clicked, Closed int }

// told waits until the first broadcast has these receipts.
func (s *Server) told(ctx context.Context, t *testing.T, want told) {
	t.Helper()
	s.until(ctx, t, "the receipts are all there", func() bool {
		var list []struct {
			Message  struct{ Title string }
			Receipts told
		}
		s.Ask(ctx, t, &list, "broadcasts", "list")
		for _, b := range list {
			if got := b.Receipts; b.Message.Title == "Counted" && (got.Shown > want.Shown || got.Clicked > want.Clicked || got.Closed > want.Closed) {
				t.Fatalf("counted more often than it happened: %+v", got)
			} else if b.Message.Title == "Counted" {
				return got == want
			}
		}
		return false
	})
}

// moved waits until nobody needs a key but the current one.
func (s *Server) moved(ctx context.Context, t *testing.T) {
	t.Helper()
	s.until(ctx, t, "all have moved to the new key", func() bool {
		var list []struct {
			Current       bool
			Subscriptions int
		}
		s.Ask(ctx, t, &list, "keys", "show")
		for _, k := range list {
			if k.Current {
				return k.Subscriptions == 1
			}
		}
		return false
	})
}

// until asks again and again.
func (s *Server) until(ctx context.Context, t *testing.T, what string, reached func() bool) {
	t.Helper()
	for every := time.NewTicker(100 * time.Millisecond); !reached(); {
		select {
		case <-every.C:
		case <-ctx.Done():
			t.Fatalf("waiting until %s: %v", what, ctx.Err())
		}
	}
}
