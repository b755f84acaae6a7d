package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/broadcasts"
	"github.com/belfry-push/belfry/receipts"
	"github.com/belfry-push/belfry/web"
)

// follow shows a broadcast until it is over, then says how it stands: on stdout,
// and in the exit code. Interrupted, it detaches.
func (a *app) follow(ctx context.Context, cl *client, b web.Broadcast, over func(broadcasts.Broadcast) bool) error {
	resp, err := cl.send(ctx, http.MethodGet, broadcastPath(b.ID)+"/events", nil)
	if err != nil {
		return a.interrupted(ctx, b, err)
	}
	defer resp.Body.Close()
	bar, teller := a.bar(), a.teller()
	defer bar.end()
	for event, err := range events(resp.Body) {
		if err != nil {
			bar.end()
			return a.interrupted(ctx, b, err)
		}
		b = web.Broadcast{}
		if err := json.Unmarshal(event, &b); err != nil {
			return unreadable(err)
		}
		bar.show(b.Broadcast)
		if over(b.Broadcast) {
			bar.end()
			return a.ended(b, event)
		}
		teller.tell(b.Broadcast)
	}
	bar.end()
	return a.interrupted(ctx, b, errors.New("the server went away"))
}

// interrupted tells an operator who pressed Ctrl-C from a server that is gone.
func (a *app) interrupted(ctx context.Context, b web.Broadcast, err error) error {
	if ctx.Err() != nil {
		return a.detached(b)
	}
	return &belfry.Error{Kind: belfry.ErrBusy, Code: "lost-sight", Text: fmt.Sprintf("lost sight of broadcast %s: %s", b.ID, err),
		Hint: fmt.Sprintf("it goes on when the server does; see `belfry broadcasts watch %s`", b.ID)}
}

// ended reports a broadcast that is over, or asks; said is what the server said of it.
func (a *app) ended(b web.Broadcast, said json.RawMessage) error {
	if a.json {
		if err := a.printJSON(said); err != nil {
			return err
		}
	} else {
		fmt.Fprintln(a.out, summary(b))
		if asks(b.Broadcast) {
			fmt.Fprintf(a.err, "belfry: %s\n", paused(b.Broadcast))
		}
	}
	switch {
	case b.State == broadcasts.Cancelled:
		return exit{code: exitCancelled}
	case b.Counts.Failed > 0:
		return exit{code: exitSomeFail}
	}
	return nil
}

// summary is a broadcast in one line: what is zero is left out.
func summary(b web.Broadcast) string {
	var out bytes.Buffer
	fmt.Fprintf(&out, "%s %s", b.ID, b.State)
	if b.Reason != nil {
		fmt.Fprintf(&out, " (%s)", *b.Reason)
	}
	if b.Push == broadcasts.PushNever {
		fmt.Fprint(&out, ": for open pages only")
		return out.String()
	}
	fmt.Fprintf(&out, ": %d of %d accepted", b.Counts.Accepted, b.Counts.Targets)
	for _, c := range slices.Concat(lesser(b.Counts), receiptCounts(b.Receipts)) {
		fmt.Fprintf(&out, ", %d %s", c.n, c.word)
	}
	return out.String()
}

// A counted is a number and what was counted.
type counted struct {
	n    int
	word string
}

// lesser is every count but the targets and the accepted, without those that are zero.
func lesser(c broadcasts.Counts) (list []counted) {
	for _, part := range []counted{{c.Pending, "pending"}, {c.Suppressed, "suppressed"}, {c.Expired, "expired"}, {c.Gone, "gone"},
		{c.Left, "left"}, {c.Failed, "failed"}, {c.Cancelled, "cancelled"}} {
		if part.n > 0 {
			list = append(list, part)
		}
	}
	return list
}

// receiptCounts is what browsers said, without the counts that are zero.
func receiptCounts(told *receipts.Counts) (list []counted) {
	if told == nil {
		return nil
	}
	for _, part := range []counted{{told.Shown, "shown"}, {told.Clicked, "clicked"}, {told.Closed, "closed"}} {
		if part.n > 0 {
			list = append(list, part)
		}
	}
	return list
}

// events yields the data of each server-sent event, in the simple form that our
// own server writes: one data line each.
func events(r io.Reader) func(yield func([]byte, error) bool) {
	return func(yield func([]byte, error) bool) {
		in := bufio.NewScanner(r)
		in.Buffer(nil, 1<<20)
		for in.Scan() {
			if data, found := bytes.CutPrefix(in.Bytes(), []byte("data: ")); found && !yield(data, nil) {
				return
			}
		}
		if err := in.Err(); err != nil {
			yield(nil, err)
		}
	}
}

// printJSON writes v for a program.
func (a *app) printJSON(v any) error {
	e := json.NewEncoder(a.out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
