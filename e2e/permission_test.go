//go:build e2e

package e2e

import (
	"context"
	"testing"

	"github.com/belfry-push/belfry/sender/pushtest"
)

// A person takes the permission back in the browser's settings, and gives it again.
// The page says at once how it stands, the server keeps no row that cannot be rung,
// and nobody is asked anything. Where this breaks, operators count people who have
// left, and who comes back by the settings is never rung again.
func TestPermission(t *testing.T) {
	t.Parallel()
	eachBrowser(t, func(t *testing.T, profile func(*testing.T, *Desktop, *pushtest.Service) Profile) {
		program := Build(t)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		push := startPush(t)
		desktop := NewDesktop(ctx, t)
		visitor := profile(t, desktop, push)
		server := program.Serve(ctx, t, t.TempDir(), "127.0.0.1:0", push)
		act := acts(t)
		registered := func(want int) {
			t.Helper()
			server.until(ctx, t, "the row follows", func() bool { return server.Registered(ctx, t) == want })
		}

		browser := visitor.Open(ctx, t)
		browser.Visit(ctx, t, server.Page())
		browser.Press(ctx, t, "#subscribe")
		browser.Reads(ctx, t, "#state", "on")
		registered(1)

		browser.permit(ctx, t, server.Page(), false)
		browser.Reads(ctx, t, "#state", "denied")
		registered(0)
		act("taken back, with the page open")
		browser.permit(ctx, t, server.Page(), true)
		browser.Reads(ctx, t, "#state", "on")
		registered(1)
		act("given again")

		browser.Close(ctx, t)
		awaitBrowsers(ctx, t, push, 0)
		browser = visitor.Open(ctx, t)
		browser.permit(ctx, t, server.Page(), false)
		registered(1)
		browser.Visit(ctx, t, server.Page())
		browser.Reads(ctx, t, "#state", "denied")
		registered(0)
		act("taken back with no page open, and the next visit takes the row")

		browser.permit(ctx, t, server.Page(), true)
		browser.Reads(ctx, t, "#state", "on")
		registered(1)
		server.Send(ctx, t, 1, "Back", "Nobody was asked.", "--push", "always")
		desktop.Dismiss(t, shows(ctx, t, desktop, "Back", "Nobody was asked."))
		act("given again, and rung")
		desktop.Quiet(t)
		browser.Close(ctx, t)
		server.Stop(ctx, t)
	})
}

func (b *Browser) permit(ctx context.Context, t *testing.T, page string, yes bool) {
	t.Helper()
	if err := b.Permit(ctx, page[:len(page)-1], yes); err != nil {
		t.Fatalf("the browser's settings: %v", err)
	}
}
