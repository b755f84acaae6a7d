package broadcasts

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/belfry-push/belfry"
)

// ReasonTooLate is why a scheduled broadcast is cancelled whose moment has
// passed, since the server was down, by more than its operator allowed.
const ReasonTooLate = "too-late"

const (
	// maxAhead bounds how far ahead a broadcast may be scheduled: further is a
	// slip of the pen.
	maxAhead = 366 * 24 * time.Hour

	// crowd is within what time a broadcast starts that is due on the full hour,
	// when everybody's are (PS-06).
	crowd = time.Minute

	// lookAgain is how often a broadcast that waits for its moment looks at the
	// wall clock, which somebody may have put (REL-08).
	lookAgain = time.Minute

	// punctual is how late no broadcast is too late: as late as one can become by
	// a restart or by looking at the clock only so often.
	punctual = time.Minute
)

// schedule fixes when a broadcast starts that is not to start now, and from when
// on it is not worth starting any more.
func (b *Broadcast) schedule(now time.Time) error {
	if b.MaxLateness != nil && (*b.MaxLateness < 0 || *b.MaxLateness > int(belfry.MaxTTL.Seconds())) {
		return belfry.Invalid("max-lateness", "maxLateness", fmt.Sprintf("must be 0 to %.0f seconds", belfry.MaxTTL.Seconds()))
	}
	if b.At == nil {
		if b.MaxLateness != nil {
			return belfry.Invalid("max-lateness", "maxLateness", "makes sense with at only")
		}
		return nil
	}
	at := stamp(*b.At)
	switch {
	case !at.After(now):
		return belfry.Invalid("at", "at", "has passed: the server's clock says "+now.Format(time.RFC3339))
	case at.Sub(now) > maxAhead:
		return belfry.Invalid("at", "at", "must be within a year")
	}
	starts := stamp(at.Add(aside(at, b.Message.Lifetime())))
	b.At, b.Starts, b.Deadline = &at, &starts, at.Add(b.Message.Lifetime())
	b.State, b.Started = Scheduled, nil
	return nil
}

// aside is how long a broadcast steps aside that is due at a full hour. What is
// worth saying for a moment only gives up half of it at most.
func aside(at time.Time, lifetime time.Duration) time.Duration {
	most := crowd
	if lifetime > 0 {
		most = min(most, lifetime/2)
	}
	if !at.Equal(at.Truncate(time.Hour)) {
		return 0
	}
	return rand.N(most + 1)
}

// tooLate reports whether a scheduled broadcast is not to start any more.
func (l Launch) tooLate(now time.Time) bool {
	late := now.Sub(*l.Starts)
	switch {
	case l.MaxLateness != nil && late > max(time.Duration(*l.MaxLateness)*time.Second, punctual):
		return true
	case l.Message.Lifetime() == 0: // now or never
		return late > punctual
	}
	return !now.Before(l.Deadline)
}

// await waits until a scheduled broadcast starts and writes down that it has,
// before the first attempt: whatever the clock does, it starts once (REL-08). It
// reports false where there is nothing to deliver.
func (r *run) await() bool {
	if !r.waiting {
		return true
	}
	e := r.engine
	for left := r.Starts.Sub(e.Now()); left > 0; left = r.Starts.Sub(e.Now()) {
		select {
		case <-time.After(min(left, lookAgain)):
		case <-r.stop.Done():
			if order := r.order.Load(); order != nil {
				e.committer.end(r, order.book)
			}
			return false
		}
	}
	now := stamp(e.Now())
	late, started := r.tooLate(now), now
	if !late {
		r.edition, started = e.topics.begin(r.Launch, now)
	}
	r.deadline, r.gauge.since = time.Now().Add(min(r.Deadline.Sub(now), r.Message.Lifetime())), now
	e.committer.hand(entry{run: r, last: late, change: func(time.Time) {
		if late {
			r.progress.cancelRest(ReasonTooLate, now)
		} else {
			r.progress.begin(started)
		}
	}})
	if late {
		e.Log.Warn("a scheduled broadcast is cancelled, since the server was not there in time", "broadcast", r.ID, "due", *r.Starts)
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	r.waiting = false
	return true
}
