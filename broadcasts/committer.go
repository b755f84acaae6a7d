package broadcasts

import (
	"context"
	"log/slog"
	"math"
	"time"

	"github.com/belfry-push/belfry"
)

const (
	// One transaction takes at most this many rows or this long, whichever comes
	// first, and nothing commits per row. So many more can wait meanwhile, which is
	// what comes in during an fsync. What a crash repeats or forgets is bounded by
	// the sum.
	maxBatch = 192
	maxQueue = 64
	maxDelay = 200 * time.Millisecond
	// The end of a broadcast waits so long for others that end, about as long as
	// the fsync takes that they then share.
	endDelay = time.Millisecond
	// retryCommit is how long a commit that failed, on a full disk say, is left
	// alone. Meanwhile attempts block on the queue: sending without booking would
	// ring people twice (REL-09).
	retryCommit = time.Second
)

// A committer gathers what became of the rows of all broadcasts and writes it
// down, many in one transaction. The progress of a running broadcast belongs to
// its one goroutine; everybody else sees what is in the journal.
type committer struct {
	journal  Journal
	log      *slog.Logger
	now      func() time.Time
	lanes    *lanes
	patience context.Context // while it lasts, a commit that fails is tried again
	queue    chan entry
	gone     []belfry.Subscription // to forget, not yet committed
	done     chan struct{}
}

// An entry is one line for the journal: a row's last word, or a change of the
// broadcast.
type entry struct {
	run *run
	settlement
	change    func(now time.Time) // nil for a row's last word
	committed chan struct{}       // closed when it is on disk; nil where nobody waits for that
	last      bool                // nothing more is known of the run
}

func newCommitter(patience context.Context, cfg Config, ls *lanes) *committer {
	c := &committer{journal: cfg.Journal, log: cfg.Log, now: cfg.Now, lanes: ls, patience: patience,
		queue: make(chan entry, maxQueue), done: make(chan struct{})}
	go c.work()
	return c
}

// settle hands over one row's last word.
func (c *committer) settle(r *run, s settlement) { c.queue <- entry{run: r, settlement: s} }

// note changes a broadcast, beside the rows that are settled.
func (c *committer) note(r *run, change func(now time.Time)) {
	c.queue <- entry{run: r, change: change}
}

// end changes the state of a broadcast of which no row is on its way, and
// returns once that is on disk.
func (c *committer) end(r *run, how func(p *Progress, now time.Time)) {
	c.hand(entry{run: r, change: func(now time.Time) { how(&r.progress, now) }, last: true})
}

// flush returns once all that was handed over before is on disk.
func (c *committer) flush(r *run) { c.hand(entry{run: r, change: func(time.Time) {}}) }

// hand hands an entry over and returns once it is on disk.
func (c *committer) hand(e entry) {
	e.committed = make(chan struct{})
	c.queue <- e
	<-e.committed
}

// close writes what is left and stops. Nobody may hand over anything any more.
func (c *committer) close() {
	close(c.queue)
	<-c.done
}

func (c *committer) work() {
	defer close(c.done)
	for first := range c.queue {
		c.commit(c.gather(first))
	}
}

// gather collects a batch that begins with first. The end of a broadcast hardly
// waits for company, since somebody looks at a progress bar.
func (c *committer) gather(first entry) []entry {
	batch := append(make([]entry, 0, maxBatch), first)
	timer := time.NewTimer(maxDelay)
	defer timer.Stop()
	hurry := func(e entry) {
		switch {
		case e.last:
			timer.Reset(endDelay)
		case e.committed != nil:
			timer.Reset(0)
		}
	}
	hurry(first)
	for len(batch) < maxBatch {
		select {
		case e, open := <-c.queue:
			if !open {
				return batch
			}
			batch = append(batch, e)
			hurry(e)
		case <-timer.C:
			return batch
		}
	}
	return batch
}

// commit books a batch and writes it down.
func (c *committer) commit(batch []entry) {
	now, touched := stamp(c.now()), map[*run]bool{}
	for _, e := range batch {
		if e.run.closed {
			continue // word of a lane, which does not matter any more
		}
		touched[e.run], e.run.closed = true, e.last
		if e.committed != nil {
			defer close(e.committed)
		}
		if e.change != nil {
			e.change(now)
			continue
		}
		e.run.progress.settle(e.settlement)
		e.run.rows.settle(e.at)
		switch {
		case e.result == gone:
			c.gone = append(c.gone, e.row)
		case e.memory != e.row.Memory:
			e.row.Memory = e.memory
			e.run.learnt = append(e.run.learnt, e.row)
		}
	}
	changes := make([]Change, 0, len(touched))
	for r := range touched {
		most, wait := c.look(r)
		if r.progress.State == Running {
			r.progress.measure(now, &r.gauge, r.Deadline, most, wait)
		}
		r.course.Lease = Lease{r.engine.Holder, now}
		changes = append(changes, Change{Broadcast{r.Launch, r.progress, r.course}, r.rows.changed, r.learnt})
	}
	if !c.write(changes) {
		return
	}
	c.gone = nil
	for r := range touched {
		r.learnt = nil
		r.pager.written(r.rows.left)
		r.rows.written()
		r.announce()
		if r.progress.Ended() {
			r.engine.callBack(r.Launch, r.progress)
		}
	}
}

// look says how it stands with the push services of a broadcast, and returns how
// many rows a second they let us settle that have any left, and when they do.
func (c *committer) look(r *run) (most float64, wait time.Duration) {
	wait = math.MaxInt64
	for i := range r.progress.Hosts {
		h := &r.progress.Hosts[i]
		var limit float64
		var closed time.Duration
		h.State, h.Reason, limit, closed = c.lanes.look(h.Host)
		if r.pager.busy(hostID(h.Host)) {
			most, wait = most+limit, min(wait, closed)
		}
	}
	if most == 0 {
		return math.Inf(1), 0
	}
	return most, wait
}

// write commits, and tries again until it has, since these verdicts are known
// nowhere else. Only a server that has no more time to stop gives up, and says
// false: then the rows count as pending, and the next start tries them again.
func (c *committer) write(changes []Change) bool {
	for tries := 0; ; tries++ {
		err := c.journal.Commit(context.Background(), changes, c.gone)
		if err == nil {
			if tries > 0 {
				c.log.Info("writing down what was sent works again")
			}
			return true
		}
		if tries == 0 {
			c.log.Error("cannot write down what was sent; sending waits", "err", err)
		}
		select {
		case <-time.After(retryCommit):
		case <-c.patience.Done():
			return false
		}
	}
}
