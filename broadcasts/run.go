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

// A run is one broadcast on its way.
type run struct {
	Launch
	engine   *Engine
	payloads map[wording][]byte
	topic    string
	wall     time.Time      // when it began, by the wall clock
	began    time.Time      // the same moment, by the monotonic clock
	deadline time.Time      // the launch's, by the monotonic clock
	late     chan struct{}  // closed at the deadline; never where it is now or never
	batch    int            // how many rows to hand out
	again    bool           // it goes on with what an earlier run began
	gauge    gauge          // how fast it goes; the committer's own
	waiting  bool           // for the moment to start; guarded by engine.mu once it runs
	limiter  *rate.Limiter  // of rows that begin
	pager    *pager         // brings rows into memory
	edition  *edition       // its part among those of its topic, once it has begun
	jury     *jury          // counts who is called gone
	decision decision       // what an operator says of suspect rows
	idle     chan *attempt  // where workers without a row wait for one; closed when there will be none
	working  sync.WaitGroup // workers, each with a row or idle
	cutOff   atomic.Bool    // a row stays pending, because the run stops
	crashes  atomic.Int64   // how often it made our own code panic, over all restarts
	told     sync.Map       // what the log was told of this broadcast, to tell it once

	stop   context.Context // ends when no new attempt may begin
	halt   context.CancelFunc
	flight context.Context // ends attempts in flight
	kill   context.CancelFunc
	order  atomic.Pointer[order] // what an operator wants to become of it
	done   chan struct{}         // closed when it has stopped, and that is on disk
	begun  atomic.Bool           // that it runs is on disk: who is told of a lane may write it down

	progress Progress // this and what follows are the committer's own: what it writes next
	course   Course
	rows     *openRows
	learnt   []belfry.Subscription // whose Memory is another now, not yet committed
	closed   bool                  // its last change was made

	mu      sync.Mutex    // guards changed
	changed chan struct{} // closed and replaced at each commit
}

// newRun prepares to deliver b, of which so many rows are open.
func newRun(e *Engine, b Broadcast, open map[HostID]int, payloads map[wording][]byte) *run {
	b.Failures, b.Expiries, b.Hosts = maps.Clone(b.Failures), maps.Clone(b.Expiries), slices.Clone(b.Hosts) // b is its caller's
	now := e.Now()
	left := min(b.Deadline.Sub(now), b.Message.Lifetime()) // a clock that was set back must not make it longer
	r := &run{Launch: b.Launch, engine: e, payloads: payloads, topic: b.Message.TopicHeader(),
		began: time.Now(), wall: now, late: make(chan struct{}), idle: make(chan *attempt), batch: b.batch(), done: make(chan struct{}),
		gauge: gauge{since: stamp(now), before: b.Counts.Targets - b.Counts.Pending}, waiting: b.State == Scheduled, limiter: b.limiter(),
		progress: b.Progress, course: b.Course, rows: newOpenRows(), changed: make(chan struct{})}
	r.deadline = r.began.Add(left)
	r.crashes.Store(int64(b.Crashes))
	r.pager, r.jury = newPager(r, b.Course, open), newJury(b.Hosts)
	r.stop, r.halt = context.WithCancel(e.stop)
	r.flight, r.kill = context.WithCancel(e.flight)
	return r
}

// now is the time by which turns are written down, in nanoseconds since 1970. It
// is the wall clock's as the run began, and does not jump with it from then on.
func (r *run) now() int64 { return r.wall.Add(time.Since(r.began)).UnixNano() }

// due is when a row has its turn. One that began to wait at a time that is still
// to come was parked before the clock was set back: it waits anew.
func (r *run) due(t Turn, try Try) int64 {
	if began := t.Next - int64(try.Wait); t.Next != never && began > r.now() {
		return r.wall.UnixNano() + int64(try.Wait)
	}
	return t.Next
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

// deliver brings every row to its settlement and ends the broadcast. Cut off by
// Close, it leaves the rest pending; by an operator, as he asked.
func (r *run) deliver() {
	if r.Message.Lifetime() > 0 {
		defer time.AfterFunc(time.Until(r.deadline), func() { close(r.late) }).Stop()
	}
	err := r.page()
	r.working.Wait()
	if r.stop.Err() != nil && r.pager.unfinished() {
		r.cutOff.Store(true)
	}
	switch order := r.order.Load(); {
	case r.cutOff.Load() && order != nil:
		r.engine.committer.end(r, order.book)
	case r.cutOff.Load():
	case err != nil:
		r.engine.Log.Error("cannot read the audience", "broadcast", r.ID, "err", err)
		r.engine.committer.end(r, func(p *Progress, now time.Time) { p.cancelRest(reasonUnreadable, now) })
	case r.pager.unfinished():
		r.engine.committer.end(r, func(p *Progress, _ time.Time) { p.ask() })
	default:
		r.engine.committer.end(r, r.over)
	}
}

// page brings all rows into memory, and lets the workers go when there are no
// more, or when that crashes.
func (r *run) page() error {
	defer close(r.idle)
	return r.pager.page()
}

// work has a row worked on: by a worker that has none, since a new goroutine
// would first have to grow its stack, or else by a new one.
func (r *run) work(a *attempt) {
	select {
	case r.idle <- a:
	default:
		r.hire(a)
	}
}

// hire has a row worked on by a new worker.
func (r *run) hire(a *attempt) {
	r.working.Go(func() {
		for ; a != nil; a = <-r.idle {
			for ; a != nil; a = r.pager.leave(a.at) {
				a.work()
			}
		}
	})
}

// obey stops the run as an operator wants it to. To cancel outdoes to pause.
func (r *run) obey(o order) {
	if !r.order.CompareAndSwap(nil, &o) && o.to == Cancelled {
		r.order.Store(&o)
	}
	r.halt()
}
