package broadcasts

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/belfry-push/belfry"
)

// cancelPatience is how long attempts in flight may take to finish once their
// broadcast is cancelled. Then they are cut off: whoever cancels wants it now.
const cancelPatience = time.Second

// orphanPatience is how long an order waits for somebody to take up a broadcast
// that runs on paper and that nobody works on, as for a moment after a crash.
// One that was damaged when the server started is never taken up.
const orphanPatience = 2 * time.Second

// An order is what an operator wants to become of a broadcast.
type order struct {
	to   State
	book func(p *Progress, now time.Time)
}

var (
	pause  = order{Paused, func(p *Progress, _ time.Time) { p.pause(ReasonOperator) }}
	cancel = order{Cancelled, func(p *Progress, now time.Time) { p.cancelRest(ReasonOperator, now) }}
)

// Pause stops a broadcast, once the attempts in flight have their answers.
func (e *Engine) Pause(ctx context.Context, id string) (Broadcast, error) {
	b, err := e.Journal.Get(ctx, id)
	if err == nil && b.State != Scheduled {
		b, err = e.halted(ctx, id, pause)
	}
	if err == nil && b.State != Paused {
		err = forbidden(b, "paused")
	}
	return b, err
}

// Cancel ends a broadcast, scheduled, running or paused: who was not rung yet is not rung.
func (e *Engine) Cancel(ctx context.Context, id string) (Broadcast, error) {
	for {
		b, err := e.halted(ctx, id, cancel)
		if err != nil || b.State == Cancelled {
			return b, err
		}
		if b.State != Paused {
			return b, forbidden(b, "cancelled")
		}
		b, err = e.change(ctx, id, func(b *Broadcast) error {
			if b.State != Paused {
				return errResumed
			}
			cancel.book(&b.Progress, stamp(e.Now()))
			return nil
		})
		if !errors.Is(err, errResumed) {
			return b, err
		}
	}
}

var errResumed = errors.New("resumed meanwhile")

// Resume lets a paused broadcast go on where it was.
func (e *Engine) Resume(ctx context.Context, id string) (Broadcast, error) {
	return e.resume(ctx, id, undecided, "resumed")
}

// Confirm says that those are gone whom a paused broadcast suspects to be. They
// are removed, and it goes on.
func (e *Engine) Confirm(ctx context.Context, id string) (Broadcast, error) {
	return e.resume(ctx, id, confirmed, "confirmed")
}

// Dismiss says that those are not gone whom a paused broadcast suspects to be.
// They stay, this message counts as failed for them, and it goes on.
func (e *Engine) Dismiss(ctx context.Context, id string) (Broadcast, error) {
	return e.resume(ctx, id, dismissed, "dismissed")
}

func (e *Engine) resume(ctx context.Context, id string, d decision, what string) (Broadcast, error) {
	if err := e.open(); err != nil {
		return Broadcast{}, err
	}
	var r *run
	b, err := e.change(ctx, id, func(b *Broadcast) (err error) {
		if b.State != Paused {
			return forbidden(*b, what)
		}
		if d != undecided && b.suspects() == 0 {
			return &belfry.Error{Kind: belfry.ErrConflict, Code: "broadcast-state", Where: "broadcast " + b.ID, Text: "suspects nobody to be gone"}
		}
		b.Proven = b.Proven || *b.Reason == ReasonCanary
		b.Progress.resume()
		if r, err = e.again(ctx, *b); err == nil {
			r.decision = d
			e.enlist(r) // before anybody can read that it runs
		}
		return err
	})
	if err != nil {
		if r != nil {
			e.dismiss(r)
		}
		e.running.Done()
		return Broadcast{}, err
	}
	e.start(r)
	return b, nil
}

// halted gives an order to a broadcast that runs, and returns it once it has
// stopped and that is on disk. Of one that does not run, it changes nothing.
func (e *Engine) halted(ctx context.Context, id string, o order) (Broadcast, error) {
	var given <-chan time.Time // runs once nobody works on it
	for {
		e.mu.Lock()
		r, stirred, closed := e.live[id], e.stirred, e.closed // before reading, so that nobody takes it up unseen
		e.mu.Unlock()
		if r != nil {
			r.obey(o)
			if o.to == Cancelled {
				time.AfterFunc(cancelPatience, r.kill) // also when nobody waits for it any more
			}
			select {
			case <-r.done:
			case <-ctx.Done():
				return Broadcast{}, ctx.Err()
			}
			given = nil
		}
		b, err := e.Journal.Get(ctx, id)
		if err != nil || b.State != Running || closed {
			return b, err
		}
		if r != nil {
			continue // somebody has resumed it since, or it crashed
		}
		if given == nil {
			given = time.After(orphanPatience)
		}
		select {
		case <-stirred:
		case <-given:
			return b, &belfry.Error{Kind: belfry.ErrBusy, Code: "broadcast-orphaned", Where: "broadcast " + id, Text: "is running, and nobody works on it",
				Hint: "try again in a moment; if it stays so, look into the log for what kept it from going on"}
		case <-ctx.Done():
			return Broadcast{}, ctx.Err()
		}
	}
}

// change changes a broadcast that nobody works on, one at a time.
func (e *Engine) change(ctx context.Context, id string, how func(*Broadcast) error) (Broadcast, error) {
	e.control.Lock()
	defer e.control.Unlock()
	b, err := e.Journal.Get(ctx, id)
	if err == nil {
		err = how(&b)
	}
	if err == nil {
		err = e.Journal.Commit(ctx, []Change{{Broadcast: b}}, nil)
	}
	if err != nil {
		return Broadcast{}, err
	}
	e.stir()
	if b.Ended() {
		e.callBack(b.Launch, b.Progress)
	}
	return b, nil
}

func forbidden(b Broadcast, what string) error {
	return &belfry.Error{Kind: belfry.ErrConflict, Code: "broadcast-state", Where: "broadcast " + b.ID,
		Text: fmt.Sprintf("is %s and cannot be %s", b.State, what)}
}
