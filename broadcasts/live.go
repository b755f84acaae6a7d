package broadcasts

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/belfry-push/belfry"
)

// A Live tells pages that are open now.
type Live interface {
	// Append publishes an event once it is on disk. A message that was published
	// before is not published again.
	Append(ctx context.Context, e belfry.Event) (cursor string, err error)
}

// A Push says whether the devices of an audience are rung besides pages that are
// open now.
type Push string

const (
	PushAuto   Push = "auto"   // but for those of whom a Presence says that they have it
	PushAlways Push = "always" // whatever a Presence knows
	PushNever  Push = "never"  // no device: it is live only, and has no targets
)

// checkPush says what is wrong with the way to the audience.
func (e *Engine) checkPush(r Request) error {
	switch r.Push {
	case "", PushAuto, PushAlways:
		return nil
	case PushNever:
		if e.Live == nil {
			return belfry.Invalid("push", "push", "cannot be never: this server has no live events")
		}
		if len(r.Audience.Subscriptions) > 0 {
			return belfry.Invalid("push", "push", "cannot be never for subscriptions: those are devices, and no pages")
		}
		return nil
	}
	return belfry.Invalid("push", "push", fmt.Sprintf("must be auto, always or never, not %+q", string(r.Push)))
}

// publish tells open pages, before the first attempt and, since nobody knows
// whether it was, again whenever the broadcast goes on. A full disk is waited
// for, as the committer does; another fault of the log keeps no device from
// being rung. A run that stops before it is told leaves that to the next one.
func (r *run) publish() {
	e := r.engine
	if e.Live == nil {
		return
	}
	event := belfry.Event{ID: r.ID, Time: *r.progress.Started, Audience: r.Audience, Message: r.Message}
	for r.stop.Err() == nil {
		_, err := e.Live.Append(r.stop, event)
		switch {
		case err == nil:
			return
		case r.stop.Err() != nil:
			continue
		case r.once("publish"):
			e.Log.Error("cannot tell pages that are open now", "broadcast", r.ID, "err", err)
		}
		if r.Push != PushNever && !errors.Is(err, belfry.ErrFull) {
			return
		}
		select {
		case <-time.After(retryCommit):
		case <-r.stop.Done():
		}
	}
	r.cutOff.Store(true)
}
