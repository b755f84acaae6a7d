package broadcasts

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

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
	deadline time.Time               // the launch's, by the monotonic clock
	batch    int                     // how many rows to hand out
	begun    map[belfry.Position]Try // rows that an earlier run handed out and did not settle
	from     Course                  // where that one came to
	again    bool                    // there was one
	since    time.Time               // when this one began
	before   int                     // rows that were settled then
	waiting  bool                    // for the moment to start; guarded by engine.mu once it runs
	limiter  *rate.Limiter           // of rows that begin
	open     lane                    // rows read and not settled
	working  sync.WaitGroup          // the same, to wait for
	cutOff   atomic.Bool             // a row stays pending, because the run stops
	told     sync.Map                // what the log was told of this broadcast, to tell it once

	stop   context.Context // ends when no new attempt may begin
	halt   context.CancelFunc
	flight context.Context // ends attempts in flight
	kill   context.CancelFunc
	order  atomic.Pointer[order] // what an operator wants to become of it
	done   chan struct{}         // closed when it has stopped, and that is on disk

	progress Progress // this and what follows are the committer's own: what it writes next
	course   Course
	rows     openRows

	mu      sync.Mutex    // guards changed
	changed chan struct{} // closed and replaced at each commit
}

// A lane holds a token for each row that is in it.
type lane chan struct{}

// newRun prepares to deliver b, of which begun is open.
func newRun(e *Engine, b Broadcast, begun map[belfry.Position]Try, payloads map[string][]byte) *run {
	b.Failures, b.Hosts = maps.Clone(b.Failures), slices.Clone(b.Hosts) // b is its caller's
	now := e.Now()
	left := min(b.Deadline.Sub(now), b.Message.Lifetime()) // a clock that was set back must not make it longer
	r := &run{Launch: b.Launch, engine: e, payloads: payloads, topic: b.Message.TopicHeader(),
		deadline: time.Now().Add(left), batch: b.batch(), begun: begun, from: b.Course,
		since: stamp(now), before: b.Counts.Targets - b.Counts.Pending, waiting: b.State == Scheduled,
		limiter: b.limiter(), open: make(lane, maxOpen), done: make(chan struct{}),
		progress: b.Progress, course: b.Course, rows: newOpenRows(begun), changed: make(chan struct{})}
	r.stop, r.halt = context.WithCancel(e.stop)
	r.flight, r.kill = context.WithCancel(e.flight)
	return r
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

// deliver hands out every row and, when all are settled, ends the broadcast. Cut
// off by Close, it leaves the rest pending; by an operator, as he asked.
func (r *run) deliver() {
	err := r.handOutBegun()
	if err == nil {
		err = r.handOut()
	}
	r.working.Wait()
	switch order := r.order.Load(); {
	case r.cutOff.Load() && order != nil:
		r.engine.committer.end(r, order.book)
	case r.cutOff.Load():
	case err != nil:
		r.engine.Log.Error("cannot read the audience", "broadcast", r.ID, "err", err)
		r.engine.committer.end(r, func(p *Progress, now time.Time) { p.cancelRest(reasonUnreadable, now) })
	default:
		r.engine.committer.end(r, r.over)
	}
}

// handOutBegun gives the rows another turn that an earlier run had begun with.
// What is known of one may be old, so it is read again when its turn comes.
func (r *run) handOutBegun() error {
	for _, at := range slices.Sorted(maps.Keys(r.begun)) {
		rows, _, _, err := r.page(belfry.Audience{All: true}, at-1, at, 1)
		if err != nil {
			return err
		}
		a := &attempt{run: r, row: belfry.Subscription{Seq: at}, tries: r.begun[at].Tries}
		a.wait = min(r.begun[at].Next.Sub(r.engine.Now()), r.begun[at].Wait)
		if len(rows) == 1 && meant(r.Audience, rows[0]) {
			a.row, a.read = rows[0], time.Now()
		}
		if !r.hand(a) {
			return nil
		}
	}
	return nil
}

// handOut meets every row of the audience behind the course, unless the run
// stops. It hands out at most as many as there were targets: a row that was
// there before the launch and joined its channel after it was not meant.
func (r *run) handOut() error {
	at := r.from
	for done := false; !done && at.Handed < r.batch && !r.cutOff.Load(); {
		read := time.Now()
		rows, next, last, err := r.page(r.Audience, at.After, r.Until, min(pageSize, r.batch-at.Handed))
		if err != nil {
			return err
		}
		course := Course{next, at.Handed + len(rows), at.Proven}
		at, done = course, last
		r.engine.committer.note(r, func(time.Time) {
			r.course = course
			for _, row := range rows {
				r.rows.try(row.Seq, Try{})
			}
		})
		for _, row := range rows {
			if !r.hand(&attempt{run: r, row: row, read: read}) {
				return nil
			}
		}
	}
	return nil
}

func (r *run) page(a belfry.Audience, after, until belfry.Position, limit int) ([]belfry.Subscription, belfry.Position, bool, error) {
	rows, next, done, err := r.engine.Audience.Page(r.flight, a, after, until, limit)
	if err != nil && r.stop.Err() != nil {
		r.cutOff.Store(true)
	}
	return rows, next, done, err
}

// hand gives a row its turn beside the pager, as soon as fewer than maxOpen are
// open and the operator's rate allows. It reports false when the run stops.
func (r *run) hand(a *attempt) bool {
	if r.limiter.Wait(r.stop) != nil {
		r.cutOff.Store(true)
		return false
	}
	select {
	case r.open <- struct{}{}:
	case <-r.stop.Done():
		r.cutOff.Store(true)
		return false
	}
	r.working.Go(func() {
		a.work()
		<-r.open
	})
	return true
}

// obey stops the run as an operator wants it to. To cancel outdoes to pause.
func (r *run) obey(o order) {
	if !r.order.CompareAndSwap(nil, &o) && o.to == Cancelled {
		r.order.Store(&o)
	}
	r.halt()
}
