package broadcasts

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/belfry-push/belfry"
)

const (
	// pageSize is how many rows are read at once: some hundred kilobytes.
	pageSize = 256

	// maxOpen is how many rows of one broadcast are read and not settled: in
	// flight, waiting for a place in their lane, or for their next try. It bounds
	// memory, at some kilobytes a row, and it is how far a slow push service can
	// fall behind before the others wait for it too.
	maxOpen = 4096
)

// A run is one broadcast on its way.
type run struct {
	Launch
	engine   *Engine
	payloads map[string][]byte // by origin
	topic    string
	deadline time.Time // the launch's, by the monotonic clock
	targets  int
	open     lane           // rows read and not settled
	rows     sync.WaitGroup // the same, to wait for
	cutOff   atomic.Bool    // a row stays pending, because the engine stops
	told     sync.Map       // what the log was told of this broadcast, to tell it once

	progress Progress // the committer's own: what it writes next

	mu      sync.Mutex    // guards changed
	changed chan struct{} // closed and replaced at each commit
}

// A lane holds a token for each row that is in it.
type lane chan struct{}

func newRun(e *Engine, b Broadcast, payloads map[string][]byte, deadline time.Time) *run {
	b.Failures, b.Hosts = maps.Clone(b.Failures), slices.Clone(b.Hosts) // b is its caller's
	return &run{Launch: b.Launch, engine: e, payloads: payloads, topic: b.Message.TopicHeader(), deadline: deadline,
		targets: b.Counts.Targets, open: make(lane, maxOpen), progress: b.Progress, changed: make(chan struct{})}
}

// change returns a channel that closes at the next commit.
func (r *run) change() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.changed
}

// announce wakes the watchers.
func (r *run) announce() {
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.changed)
	r.changed = make(chan struct{})
}

// once reports whether it is the first time that it is asked about what.
func (r *run) once(what string) bool {
	_, told := r.told.LoadOrStore(what, true)
	return !told
}

// reasonUnreadable is why rows fail and broadcasts are cancelled when
// subscriptions cannot be read.
const reasonUnreadable = "audience-unreadable"

// deliver pages through the audience, hands out every row and, when all are
// settled, ends the broadcast. Cut off by Close, it leaves the rest pending.
func (r *run) deliver() {
	err := r.handOut()
	r.rows.Wait()
	switch {
	case r.cutOff.Load():
	case err != nil:
		r.engine.Log.Error("cannot read the audience", "broadcast", r.ID, "err", err)
		r.engine.committer.end(r, func(p *Progress, now time.Time) { p.cancelRest(reasonUnreadable, now) })
	default:
		r.engine.committer.end(r, (*Progress).finish)
	}
}

// handOut meets every row of the audience, unless the engine stops. It hands
// out at most as many as there were targets: a row that was there before the
// launch and joined its channel after it was not meant.
func (r *run) handOut() error {
	var after belfry.Position
	for done, missing := false, r.targets; !done && missing > 0; {
		read := time.Now()
		rows, next, last, err := r.engine.Audience.Page(r.engine.flight, r.Audience, after, r.Until, min(pageSize, missing))
		if err != nil {
			if r.engine.stop.Err() != nil {
				r.cutOff.Store(true)
			}
			return err
		}
		for _, row := range rows {
			if !r.hand(row, read) {
				r.cutOff.Store(true)
				return nil
			}
		}
		after, done, missing = next, last, missing-len(rows)
	}
	return nil
}

// hand gives a row its turn beside the pager, as soon as fewer than maxOpen are
// open. It reports false when the engine stops.
func (r *run) hand(row belfry.Subscription, read time.Time) bool {
	select {
	case r.open <- struct{}{}:
	case <-r.engine.stop.Done():
		return false
	}
	r.rows.Go(func() {
		(&attempt{run: r, row: row, read: read}).work()
		<-r.open
	})
	return true
}
