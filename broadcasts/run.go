package broadcasts

import (
	"cmp"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/belfry-push/belfry"
)

// A result is what became of one row, the field of Counts that it adds to.
type result uint8

const (
	accepted result = iota + 1
	suppressed
	expired
	gone
	failed
)

// A settlement is the last word on one row.
type settlement struct {
	run          *run
	subscription string
	host         string
	result       result
	reason       string // with failed
}

// A run is one broadcast on its way.
type run struct {
	Launch
	engine    *Engine
	targets   int
	payloads  map[string][]byte // by origin
	rows      sync.WaitGroup    // rows handed out and not settled
	abandoned atomic.Bool       // a row was given up because the engine stops

	mu       sync.Mutex // guards progress and changed
	progress Progress
	changed  chan struct{} // closed and replaced at each commit
}

// A lane holds a token for each attempt in flight to one push service.
type lane chan struct{}

func newRun(e *Engine, b Broadcast, payloads map[string][]byte) *run {
	return &run{Launch: b.Launch, engine: e, targets: b.Counts.Targets, payloads: payloads,
		progress: b.Progress.copy(), changed: make(chan struct{})}
}

// now returns the broadcast as it stands, and a channel that closes at the next commit.
func (r *run) now() (Broadcast, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return Broadcast{r.Launch, r.progress.copy()}, r.changed
}

// book changes the broadcast's progress.
func (r *run) book(change func(*Progress)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.progress)
}

// announce wakes the watchers.
func (r *run) announce() {
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.changed)
	r.changed = make(chan struct{})
}

// pageSize is how many rows are read at once: some hundred kilobytes.
const pageSize = 256

// deliver pages through the audience, hands out every row and, when all are
// settled, ends the broadcast. Cut off by Close, it leaves the rest pending.
func (r *run) deliver() {
	err := r.handOut()
	r.rows.Wait()
	switch {
	case err != nil:
		r.engine.Log.Error("cannot read the audience", "broadcast", r.ID, "err", err)
		r.engine.committer.end(r, func(p *Progress, now time.Time) { p.cancelRest("audience-unreadable", now) })
	case !r.abandoned.Load():
		r.engine.committer.end(r, (*Progress).finish)
	}
}

// handOut meets every row of the audience, unless the engine stops. It hands
// out at most as many as there were targets: somebody who joins a channel now
// was not meant.
func (r *run) handOut() error {
	left := r.targets
	for after, done := belfry.Position(0), false; !done && left > 0; {
		var rows []belfry.Subscription
		var err error
		rows, after, done, err = r.engine.Audience.Page(r.engine.flight, r.Audience, after, r.Until, min(pageSize, left))
		if err != nil {
			return err
		}
		for _, row := range rows {
			if !r.hand(row) {
				r.abandoned.Store(true)
				return nil
			}
		}
		left -= len(rows)
	}
	return nil
}

// hand waits for a free place in the row's lane and makes its first attempt
// beside the pager. It reports false when the engine stops.
func (r *run) hand(row belfry.Subscription) bool {
	a := &attempt{run: r, row: row, lane: r.engine.lane(row.Host()), n: 1}
	var served bool
	if a.payload, served = r.payload(row); !served {
		a.settle(failed, "origin-not-served")
		return true
	}
	if !a.enter() {
		return false
	}
	r.rows.Go(a.make)
	return true
}

// payload returns the message compiled for the row's origin. A site that the
// operator no longer serves gets nothing: its links could not be checked.
func (r *run) payload(row belfry.Subscription) ([]byte, bool) {
	p, ok := r.payloads[cmp.Or(row.Origin, r.engine.Origins[0])]
	return p, ok
}

// An attempt is one row's turn, from the first try to its settlement.
type attempt struct {
	run     *run
	row     belfry.Subscription
	lane    lane
	payload []byte
	n       int  // which try this is, from 1
	short   bool // the last answer was TooLarge
}

// enter takes a place in the lane, or reports false when the engine stops.
func (a *attempt) enter() bool {
	e := a.run.engine
	select {
	case a.lane <- struct{}{}:
	case <-e.stop.Done():
		return false
	}
	select {
	case e.all <- struct{}{}:
		return true
	case <-e.stop.Done():
		<-a.lane
		return false
	}
}

func (a *attempt) leave() {
	<-a.run.engine.all
	<-a.lane
}

// make tries until the row is settled or the engine stops. Between tries the
// attempt holds no place in its lane, only its own few hundred octets.
func (a *attempt) make() {
	for {
		wait, settled := a.once()
		a.leave()
		if settled {
			return
		}
		select {
		case <-time.After(wait):
		case <-a.run.engine.stop.Done():
		}
		if !a.enter() {
			a.run.abandoned.Store(true)
			return
		}
	}
}

// once makes one try and acts on its verdict: it is the only place in the house
// that does. It returns how long to wait before the next, unless settled.
func (a *attempt) once() (wait time.Duration, isSettled bool) {
	e, b := a.run.engine, a.run
	left := time.Until(b.Deadline)
	// A lifetime of 0 means now or never (RFC 8030 §5.2): one try, whenever its turn comes.
	if left <= 0 && !(b.Message.Lifetime() == 0 && a.n == 1) {
		return a.settle(expired, "")
	}
	reach := e.Presence.Reached(a.row.ID, b.ID)
	switch {
	case reach.Spared:
		return a.settle(suppressed, "")
	case time.Until(reach.Hold) > 0:
		return time.Until(reach.Hold), false
	}
	o := e.Sender.Send(e.flight, a.row, belfry.PushMessage{
		Payload: a.payload, TTL: max(left, 0), Urgency: b.Message.Urgency,
		Topic: b.Message.TopicHeader(), Unpadded: a.short,
	})
	e.Log.Debug("attempt", "broadcast", b.ID, "subscription", a.row.ID, "host", a.row.Host(), "n", a.n,
		"verdict", o.Verdict.String(), "status", o.Status, "reason", o.Reason, "err", o.Err)
	a.n++
	switch o.Verdict {
	case belfry.Accepted:
		return a.settle(accepted, "")
	case belfry.Gone:
		return a.settle(gone, "")
	case belfry.Cancelled:
		a.run.abandoned.Store(true) // the row stays pending
		return 0, true
	case belfry.Later:
		return a.postpone(o)
	case belfry.TooLarge:
		if !a.short {
			a.short = true
			return 0, false
		}
	case belfry.OurFault:
		e.Log.Warn("a push service refuses our token: check the clock, the subject and the key",
			"host", a.row.Host(), "status", o.Status, "reason", o.Reason, "skew", o.Skew)
	}
	return a.settle(failed, reason(o))
}

// maxTries is how often one row is tried; the tries are spread over minutes (WP-69).
const maxTries = 8

// postpone decides when a row that could not be served now is tried again.
func (a *attempt) postpone(o belfry.Outcome) (time.Duration, bool) {
	if a.n > maxTries {
		return a.settle(failed, reason(o))
	}
	wait := o.RetryAfter
	if wait == 0 {
		wait = backoff(a.n - 1)
	} else {
		wait += rand.N(wait/5 + 1) // all who were told the same second must not come back in it (WP-66)
	}
	if time.Now().Add(wait).After(a.run.Deadline) {
		return a.settle(expired, "")
	}
	return wait, false
}

// backoff is 1, 2, 4 s … 5 min with full jitter after the n-th try (WP-69).
func backoff(n int) time.Duration {
	ceiling := min(time.Second<<(n-1), 5*time.Minute)
	return rand.N(ceiling) + time.Millisecond
}

func (a *attempt) settle(r result, reason string) (time.Duration, bool) {
	a.run.engine.committer.settle(settlement{a.run, a.row.ID, a.row.Host(), r, reason})
	return 0, true
}

// reason names a failure for the operator's count: the push service's word where it gave one.
func reason(o belfry.Outcome) string {
	return cmp.Or(o.Reason, o.Verdict.String())
}
