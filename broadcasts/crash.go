package broadcasts

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"time"
)

// ReasonCrashed is why rows fail at which our own code panicked, and why a
// broadcast is cancelled that made it do so too often.
const ReasonCrashed = "crashed"

// maxCrashes is after how many a broadcast is cancelled, over all restarts: one
// that is poison must neither end the process again and again nor keep it from
// starting (REL-13). A process that was killed counts as none.
const maxCrashes = 3

// A crash is a panic that was caught. What it says may hold what a log must not,
// an endpoint or the message: of a text that is not the runtime's own, it keeps
// the type.
type crash struct {
	what  string
	stack []byte
}

func (c *crash) Error() string { return "crashed: " + c.what }

func newCrash(recovered any) *crash {
	c := &crash{fmt.Sprintf("%T", recovered), debug.Stack()}
	if err, ours := recovered.(runtime.Error); ours {
		c.what = err.Error()
	}
	return c
}

// tellCrash logs a crash of a broadcast.
func (e *Engine) tellCrash(id string, c *crash) {
	e.Log.Error("a broadcast made belfry crash; after three times it is cancelled", "broadcast", id, "panic", c.what, "stack", string(c.stack),
		"hint", "this is a fault of belfry: report it with this stack")
}

// poisoned ends a broadcast that crashed too often.
func poisoned(p *Progress, now time.Time) { p.cancelRest(ReasonCrashed, now) }

// rescue keeps a panic at one row from ending the process: it costs that row.
func (a *attempt) rescue() {
	recovered := recover()
	if recovered == nil {
		return
	}
	r := a.run
	if r.once(ReasonCrashed) {
		r.engine.tellCrash(r.ID, newCrash(recovered))
	}
	r.engine.committer.note(r, func(time.Time) { r.course.Crashes++ })
	if r.crashes.Add(1) >= maxCrashes {
		r.obey(order{Cancelled, poisoned})
	}
	if !a.handed {
		a.handed = true
		r.engine.committer.settle(r, settlement{a.at, a.Try, a.row, failed, ReasonCrashed, a.row.Memory}) // no lesson: that may be what crashed
	}
}

// try delivers the broadcast, and reports whether that crashed.
func (r *run) try() (crashed bool) {
	defer func() {
		if recovered := recover(); recovered != nil {
			r.engine.tellCrash(r.ID, newCrash(recovered))
			crashed = true
		}
	}()
	if r.await() {
		r.begun.Store(true)
		r.publish()
		r.deliver()
	}
	return false
}

// crash ends a run that crashed, once that is counted on disk, and returns the
// one that is to go on with its broadcast, if it goes on.
func (e *Engine) crash(r *run) *run {
	r.halt()
	r.working.Wait()
	ordered := false
	e.committer.hand(entry{run: r, last: true, change: func(now time.Time) {
		order := r.order.Load()
		if ordered = order != nil; ordered {
			order.book(&r.progress, now)
		} else {
			r.course.Crashes++
		}
	}})
	e.dismiss(r)
	r.announce()
	for !ordered && e.stop.Err() == nil { // what was paused or cancelled is not ours any more: it may have been resumed already
		b, err := e.Journal.Get(e.stop, r.ID)
		var next *run
		if err == nil {
			next, b, err = e.revive(e.stop, b)
		}
		switch {
		case err != nil:
			e.Log.Error("cannot go on with a broadcast after a crash; it is tried again", "broadcast", r.ID, "err", err)
			select {
			case <-time.After(retryCommit):
			case <-e.stop.Done():
			}
			continue
		case next != nil:
			e.enlist(next)
		default:
			e.callBack(b.Launch, b.Progress)
		}
		e.stir()
		return next
	}
	return nil
}

// revive prepares to go on with a broadcast, or cancels it, where that or what
// it did before crashed too often.
func (e *Engine) revive(ctx context.Context, b Broadcast) (*run, Broadcast, error) {
	for b.Crashes < maxCrashes {
		r, err := e.again(ctx, b)
		var c *crash
		if !errors.As(err, &c) {
			return r, b, err
		}
		e.tellCrash(b.ID, c)
		b.Crashes++
		if err := e.Journal.Commit(ctx, []Change{{Broadcast: b}}, nil); err != nil {
			return nil, b, err
		}
	}
	poisoned(&b.Progress, stamp(e.Now()))
	return nil, b, e.Journal.Commit(ctx, []Change{{Broadcast: b}}, nil)
}
