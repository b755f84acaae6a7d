//go:build e2e

package e2e

import (
	"context"
	"testing"

	"github.com/belfry-push/belfry/sender/pushtest"
)

// What one tab does the other shows without being loaded again, and both are one
// registration. Where this breaks, people turn on in one tab what they have just
// turned off in another, or are rung twice.
func TestTwoTabs(t *testing.T) {
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
		first, second := server.Page()+"?tab=1", server.Page()+"?tab=2"

		// The tab in front stays there until the browser has registered: Chromium's
		// start is over when a page that is in front has loaded and is quiet, and much
		// of what it should do waits for that, or for three minutes.
		browser := visitor.Open(ctx, t)
		browser.Visit(ctx, t, second)
		browser.mark(ctx, t)
		browser.opens(ctx, t, first)
		browser.mark(ctx, t)
		both := func(state string, rows int) {
			t.Helper()
			for _, tab := range []string{first, second} {
				if err := browser.Peek(ctx, tab); err != nil {
					t.Fatal(err)
				}
				browser.Reads(ctx, t, "#state", state)
				browser.marked(ctx, t, "tab", "page")
			}
			expect(t, "rows", server.Registered(ctx, t), rows)
			act("both are " + state)
		}
		both("off", 0)

		if err := browser.Peek(ctx, first); err != nil {
			t.Fatal(err)
		}
		browser.Press(ctx, t, "#subscribe")
		both("on", 1)
		server.Send(ctx, t, 1, "Once", "For both.", "--push", "always")
		desktop.Dismiss(t, shows(ctx, t, desktop, "Once", "For both."))

		browser.Lands(ctx, t, second)
		browser.Press(ctx, t, "#unsubscribe")
		both("off", 0)
		desktop.Quiet(t)
		browser.Close(ctx, t)
		server.Stop(ctx, t)
	})
}
