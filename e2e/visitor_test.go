//go:build e2e

package e2e

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/belfry-push/belfry/sender/pushtest"
)

// A visitor registers, reads what comes on the page without being rung for it, is
// rung all the same where the operator wants that, goes home and is rung there,
// comes back by a click on what was shown, and leaves. Whatever breaks in this chain, nobody
// hears from the site any more, or somebody who left still does.
//
// It runs beside no other test: the server rings after 3 s whom a page has not
// spoken for, and a page on a busy machine may take that long.
func TestVisitor(t *testing.T) {
	eachBrowser(t, func(t *testing.T, profile func(*testing.T, *Desktop, *pushtest.Service) Profile) {
		program := Build(t) // which has no part in the limit
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		push := startPush(t)
		desktop := NewDesktop(ctx, t)
		visitor := profile(t, desktop, push)
		data := t.TempDir()
		act := acts(t)

		server := program.Serve(ctx, t, data, "127.0.0.1:0", push)
		defer func() { secretsStay(t, push, server) }()
		act("the server is ready")

		browser := visitor.Open(ctx, t)
		browser.Visit(ctx, t, server.Page())
		browser.Press(ctx, t, "#subscribe")
		browser.Reads(ctx, t, "#state", "on")
		act("registered by a click")
		expect(t, "registered", server.Registered(ctx, t), 1)
		photograph(ctx, t, browser)

		server.Looked(ctx, t)
		server.Spare(ctx, t, "Seen", "It is before you.")
		hears(ctx, t, browser, "Seen: It is before you.")
		desktop.Quiet(t)
		expect(t, "rung for what is on the page", len(push.Received()), 0)
		act("not rung for what the page shows")

		server.Send(ctx, t, 1, "Hello", "The page is open.", "--push", "always")
		shown := shows(ctx, t, desktop, "Hello", "The page is open.")
		handled(ctx, t, browser, 1)
		act("rung with the page open")
		desktop.Dismiss(t, shown)
		browser.Forgets(ctx, t)
		act("wiped away")

		browser.Close(ctx, t)
		awaitBrowsers(ctx, t, push, 0)
		server.Stop(ctx, t)
		secretsStay(t, push, server)
		server = program.Serve(ctx, t, data, server.address, push)
		act("browser closed, server restarted")
		expect(t, "registered after a restart", server.Registered(ctx, t), 1)

		server.Send(ctx, t, 1, "Again", "Nobody is there.")
		desktop.Quiet(t)
		browser = visitor.Open(ctx, t)
		shown = shows(ctx, t, desktop, "Again", "Nobody is there.")
		handled(ctx, t, browser, 2)
		act("rung after the browser was closed, with no page open")
		desktop.Click(t, shown)
		browser.Lands(ctx, t, server.Page()+"?from=Again")
		act("came back by a click on the notification")

		server.Send(ctx, t, 1, "Offer", "With a button.", "--action", "look|Look|/?button=look", "--push", "always")
		shown = shows(ctx, t, desktop, "Offer", "With a button.")
		handled(ctx, t, browser, 3)
		desktop.Press(t, shown, "Look")
		browser.Lands(ctx, t, server.Page()+"?button=look")
		act("came back by a button of the notification")

		browser.Press(ctx, t, "#unsubscribe")
		browser.Reads(ctx, t, "#state", "off")
		expect(t, "registered after leaving", server.Registered(ctx, t), 0)
		server.Send(ctx, t, 0, "Nobody", "Nobody hears this.")
		desktop.Quiet(t)
		act("left")
		browser.Close(ctx, t)
		server.Stop(ctx, t)
		act("all closed")
	})
}

func handled(ctx context.Context, t *testing.T, browser *Browser, n int) {
	t.Helper()
	if err := browser.Handled(ctx, n); err != nil {
		t.Fatalf("%s is not done with push %d: %v", browser.process.Name, n, err)
	}
}

// startPush runs a push service without TLS at its own address, as Firefox wants
// it on loopback.
func startPush(t *testing.T) *pushtest.Service {
	t.Helper()
	push, err := pushtest.Start(pushtest.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { push.Close() })
	return push
}

// acts returns a function that notes in the log what has been done, and when.
func acts(t *testing.T) func(string) {
	begin := time.Now()
	return func(what string) {
		t.Helper()
		t.Logf("%5.2f s  %s", time.Since(begin).Seconds(), what)
	}
}

func expect(t *testing.T, what string, got, want int) {
	t.Helper()
	if got != want {
		t.Fatalf("%s: %d, want %d", what, got, want)
	}
}

// shows waits for the next notification and demands that it says title and body.
// Chromium puts a line above the body that says whose it is.
func shows(ctx context.Context, t *testing.T, desktop *Desktop, title, body string) Notification {
	t.Helper()
	n := desktop.Next(ctx, t)
	_, said, signed := strings.Cut(n.Body, "\n\n")
	if !signed {
		said = n.Body
	}
	if n.Summary != title || said != body {
		t.Fatalf("the desktop shows %q with the body %q, want %q and %q", n.Summary, n.Body, title, body)
	}
	return n
}

// awaitBrowsers waits until n browsers are connected to the push service.
func awaitBrowsers(ctx context.Context, t *testing.T, push *pushtest.Service, n int) {
	t.Helper()
	if _, err := push.Await(ctx, func(sum pushtest.Summary) bool { return sum.Browsers == n }); err != nil {
		t.Fatalf("the push service waits for %d browsers: %v", n, err)
	}
}

// secretsStay checks that the server wrote no endpoint into its log, though it
// logs every attempt: whoever reads one may ring that browser (SEC-22).
func secretsStay(t *testing.T, push *pushtest.Service, server *Server) {
	t.Helper()
	for _, r := range push.Received() {
		if r.Token == "" || strings.Contains(server.process.Said(), r.Token) {
			t.Errorf("the server's log holds an endpoint, or the push service knows none")
		}
	}
}

// photograph writes a picture of the page to the file that BELFRY_SCREENSHOT
// names, if it does: it is the one in the README.
func photograph(ctx context.Context, t *testing.T, browser *Browser) {
	t.Helper()
	path := os.Getenv("BELFRY_SCREENSHOT")
	if _, chromium := browser.remote.(*DevTools); path == "" || !chromium {
		return // one browser is enough
	}
	picture, err := browser.Photograph(ctx, 1100, 1190)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(path), 0o755)
	}
	if err == nil {
		err = os.WriteFile(path, picture, 0o644)
	}
	if err != nil {
		t.Fatalf("screenshot: %v", err)
	}
}
