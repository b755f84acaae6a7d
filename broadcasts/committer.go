package broadcasts

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"time"
)

const (
	// One transaction takes at most this many rows or this long, whichever comes
	// first: what a crash repeats or forgets is bounded by it, and nothing
	// commits per row.
	maxBatch = 256
	maxDelay = 200 * time.Millisecond
	// retryCommit is how long a commit that failed, on a full disk say, is left
	// alone. Meanwhile attempts block on the queue: sending without booking would
	// ring people twice.
	retryCommit = time.Second
)

// A committer gathers the settlements of all broadcasts and writes them down,
// many in one transaction. Everything that changes a running broadcast passes
// through its one goroutine.
type committer struct {
	journal Journal
	log     *slog.Logger
	queue   chan settlement
	ends    chan ending
	closing chan struct{}
	done    chan struct{}
}

// An ending asks for a broadcast to be ended behind everything settled before.
type ending struct {
	run  *run
	how  func(*Progress, time.Time)
	done chan struct{}
}

func newCommitter(j Journal, log *slog.Logger) *committer {
	c := &committer{journal: j, log: log, queue: make(chan settlement, maxBatch),
		ends: make(chan ending), closing: make(chan struct{}), done: make(chan struct{})}
	go c.work()
	return c
}

// settle hands over one row's last word.
func (c *committer) settle(s settlement) { c.queue <- s }

// end ends a broadcast whose attempts are all settled and returns once that is on disk.
func (c *committer) end(r *run, how func(p *Progress, now time.Time)) {
	e := ending{r, how, make(chan struct{})}
	c.ends <- e
	<-e.done
}

// close writes what is left and stops. Nobody may settle any more.
func (c *committer) close() {
	close(c.closing)
	close(c.queue)
	<-c.done
}

func (c *committer) work() {
	defer close(c.done)
	for {
		select {
		case s, open := <-c.queue:
			if !open {
				return
			}
			c.commit(c.gather(s))
		case e := <-c.ends:
			c.commit(c.drain())
			e.run.book(func(p *Progress) { e.how(p, time.Now().UTC()) })
			c.write([]*run{e.run}, nil)
			close(e.done)
		}
	}
}

// gather collects a batch that begins with first.
func (c *committer) gather(first settlement) []settlement {
	batch := append(make([]settlement, 0, maxBatch), first)
	timer := time.NewTimer(maxDelay)
	defer timer.Stop()
	for len(batch) < maxBatch {
		select {
		case s, open := <-c.queue:
			if !open {
				return batch
			}
			batch = append(batch, s)
		case <-timer.C:
			return batch
		}
	}
	return batch
}

// drain collects what is queued now without waiting.
func (c *committer) drain() (batch []settlement) {
	for {
		select {
		case s := <-c.queue:
			batch = append(batch, s)
		default:
			return batch
		}
	}
}

func (c *committer) commit(batch []settlement) {
	if len(batch) == 0 {
		return
	}
	now, touched := time.Now(), map[*run]bool{}
	var forget []string
	for _, s := range batch {
		if s.result == gone {
			forget = append(forget, s.subscription)
		}
		s.run.book(func(p *Progress) { p.settle(s) })
		touched[s.run] = true
	}
	for r := range touched {
		r.book(func(p *Progress) { p.measure(now) })
	}
	c.write(slices.Collect(maps.Keys(touched)), forget)
}

// write commits, and tries again until it has, since these verdicts are known
// nowhere else; only a server that is stopping gives up. Then it wakes the watchers.
func (c *committer) write(runs []*run, forget []string) {
	progress := make([]Broadcast, len(runs))
	for i, r := range runs {
		progress[i], _ = r.now()
	}
	for {
		err := c.journal.Commit(context.Background(), progress, forget)
		if err == nil {
			break
		}
		c.log.Error("cannot write down what was sent; sending waits", "err", err)
		select {
		case <-time.After(retryCommit):
		case <-c.closing:
			return
		}
	}
	for _, r := range runs {
		r.announce()
	}
}
