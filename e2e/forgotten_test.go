//go:build e2e

package e2e

import (
	"context"
	"net"
	"slices"
	"testing"
)

// Mozilla's push service loses a browser now and then, which then drops all that
// it subscribed to and says so to the worker. It registers anew, with no page open
// and nobody asked, as the same row (BR-13). Where that breaks, all who are not on
// the site in that moment are rung no more. If the server is away just then, the next visit makes up for it.
// Chromium is told of no such thing.
func TestForgotten(t *testing.T) {
	t.Parallel()
	program := Build(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	push := startPush(t)
	desktop := NewDesktop(ctx, t)
	visitor := NewFirefox(t, desktop, push)
	data := t.TempDir()
	server := program.Serve(ctx, t, data, "127.0.0.1:0", push)
	act := acts(t)

	browser := visitor.Open(ctx, t)
	browser.opens(ctx, t, server.Page())
	browser.Press(ctx, t, "#subscribe")
	browser.Reads(ctx, t, "#state", "on")
	before := server.rows(ctx, t)
	expect(t, "registered", len(before), 1)
	if err := browser.CloseTab(ctx, "about:blank"); err != nil {
		t.Fatal(err)
	}
	act("registered, and no page is open")

	push.Forget()
	var after []row
	server.until(ctx, t, "the browser is heard of again", func() bool {
		after = server.rows(ctx, t)
		return !slices.Equal(after, before)
	})
	if len(after) != 1 || after[0].ID != before[0].ID {
		t.Errorf("the rows %+v have become %+v", before, after)
	}
	act("forgotten, and registered anew")
	server.Send(ctx, t, 1, "Anew", "By another endpoint.")
	desktop.Dismiss(t, shows(ctx, t, desktop, "Anew", "By another endpoint."))
	expect(t, "endpoints that were rung", len(push.Received()), 1)

	server.Stop(ctx, t)
	push.Forget()
	server.called(ctx, t)
	act("forgotten while the server is away, for which the browser has asked")
	server = program.Serve(ctx, t, data, server.address, push)
	browser.opens(ctx, t, server.Page())
	browser.Reads(ctx, t, "#state", "on")
	if now := server.rows(ctx, t); len(now) != 1 || now[0].ID != before[0].ID {
		t.Errorf("the rows %+v have become %+v", before, now)
	}
	server.Send(ctx, t, 1, "Again", "By a third one.", "--push", "always")
	desktop.Dismiss(t, shows(ctx, t, desktop, "Again", "By a third one."))
	act("came back, and registered anew")
	desktop.Quiet(t)
	browser.Close(ctx, t)
	server.Stop(ctx, t)
	act("all closed")
}

// A row is what the server shows of a registration.
type row struct{ ID, Seen string }

func (s *Server) rows(ctx context.Context, t *testing.T) []row {
	t.Helper()
	var all []row
	s.Ask(ctx, t, &all, "subscriptions", "list")
	return all
}

// called waits until somebody asks for the server, which has stopped, and hangs up.
func (s *Server) called(ctx context.Context, t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	caller, err := l.Accept()
	if err != nil {
		t.Fatalf("nobody asks for the server: %v", err)
	}
	caller.Close()
}
