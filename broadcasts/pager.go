package broadcasts

import (
	"maps"
	"math"
	"sync"
	"time"

	"github.com/belfry-push/belfry"
)

const (
	// pageSize is how many rows are read at once: some hundred kilobytes.
	pageSize = 256

	// maxHeld is how many rows of one broadcast are in memory, at some kilobytes
	// each: in flight, waiting for a place in their lane, or for a moment between
	// two tries.
	maxHeld = 4096

	// moment is how long a row waits in memory for its turn. Those that wait
	// longer do so in the journal.
	moment = time.Second

	// patience is how long the pager waits for room when no push service that it
	// knows has any. Then it looks whether there are rows of others behind those of
	// one that is dead or slow. Half of 100 ms is what a push service takes to
	// answer on a good day, and nothing beside what a broadcast takes.
	patience = 50 * time.Millisecond

	never = math.MaxInt64 // a turn that does not come
)

// A pager brings the rows of a run into memory, so many of each push service
// that its lane is never short of them. A row that finds no room is parked: it
// is in the journal alone, in its push service's line, until there is room. So
// no push service keeps another one's rows waiting, and memory does not grow. A
// restart is nothing special: what was open then is parked.
type pager struct {
	run  *run
	at   Course
	done bool      // the whole audience was passed
	fed  time.Time // when rows were last read because there was room for them

	looked belfry.Position // the rows up to here were looked at, or passed
	blind  bool            // there is nothing behind them
	reach  belfry.Position // up to here rows are parked where there is no room for them, since there is for the one here

	mu      sync.Mutex // guards what follows
	lines   map[HostID]*line
	held    int           // rows in memory that are being worked on
	holding int           // rows on hold
	awake   chan struct{} // holds a token when there may be something to do
}

// A line is what is open of one push service.
type line struct {
	host   HostID
	held   int                      // rows in memory
	parked int                      // rows in the journal alone
	due    int64                    // when the first of these may have its turn, by the run's clock
	known  map[belfry.Position]bool // rows in memory, and those that left it of which the journal does not know yet

	holds []hold // rows that wait for a page's word, the first to be released first

	working int        // rows that a worker has, but for those that wait for what is no place in their lane
	ready   []*attempt // rows in memory that wait for a worker to have done with another
}

// next gives a worker that has done with a row the one that waits longest, or nil.
func (l *line) next() (a *attempt) {
	if len(l.ready) == 0 {
		l.working--
		return nil
	}
	a, l.ready = l.ready[0], l.ready[1:]
	return a
}

// newPager prepares to go on at a course with the rows that are open.
func newPager(r *run, at Course, open map[HostID]int) *pager {
	p := &pager{run: r, at: at, done: at.Handed >= r.batch, lines: map[HostID]*line{}, awake: make(chan struct{}, 1)}
	for host, n := range open {
		p.line(host).parked = n
	}
	return p
}

func (p *pager) line(host HostID) *line {
	l := p.lines[host]
	if l == nil {
		l = &line{host: host, known: map[belfry.Position]bool{}}
		p.lines[host] = l
	}
	return l
}

// room is how many more rows of a line may come into memory: twice as many as
// may be in flight, or less where many push services share what there is.
func (p *pager) room(l *line) int {
	window := max(1, min(2*p.run.engine.PerHost, maxHeld/len(p.lines)))
	return min(window-l.held, maxHeld-p.held)
}

// busy reports whether a push service has open rows.
func (p *pager) busy(host HostID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.lines[host]
	return l != nil && l.held+l.parked+len(l.holds) > 0
}

// hungry reports whether a line has room for enough rows to be worth reading.
func (p *pager) hungry(l *line) bool {
	return p.room(l) >= max(1, min(p.run.engine.PerHost/2, maxHeld/len(p.lines)/4))
}

// page brings rows into memory until the whole audience was passed and nothing
// is open, or the run stops.
func (p *pager) page() error {
	p.fed = time.Now()
	for {
		released := p.release()
		refilled, err := p.refill()
		if err != nil {
			return err
		}
		advanced, err := p.advance()
		if err != nil || !released && !refilled && !advanced && !p.wait() || p.run.stop.Err() != nil {
			return err
		}
	}
}

// unfinished reports whether there are rows that were not passed or are parked:
// where no turn comes any more, those are suspect.
func (p *pager) unfinished() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.lines {
		if l.parked > 0 {
			return true
		}
	}
	return !p.done || p.holding > 0
}

// advance reads the next rows of the audience while any push service has room,
// or those before a row for which there is: so nothing is parked where there is
// only one push service. It passes at most as many as there were targets: a row
// that was there before the launch and joined its channel after it was not meant.
func (p *pager) advance() (moved bool, err error) {
	r, read := p.run, time.Now()
	limit := p.appetite()
	switch {
	case p.done:
		return false, nil
	case limit > 0:
		p.fed = read
	case p.at.After < p.reach:
		limit = pageSize
	default:
		return p.lookAhead(read)
	}
	rows, next, last, err := r.engine.Audience.Page(r.flight, r.Audience, p.at.After, r.Until, min(limit, r.batch-p.at.Handed))
	if err != nil {
		return false, err
	}
	handed := p.at.Handed + len(rows)
	p.at.After, p.at.Handed, p.done = next, handed, last || handed >= r.batch
	r.edition.pass(next)
	r.engine.committer.note(r, func(time.Time) {
		r.course.After, r.course.Handed = next, handed
		untried := new(Try)
		for _, row := range rows {
			r.rows.add(firstTurn(row), untried)
			r.progress.host(row.Host())
		}
	})
	for _, row := range rows {
		a := &attempt{run: r, at: firstTurn(row), row: row, read: read}
		if !p.admit(a) {
			p.park(a.at)
		}
	}
	return true, nil
}

// lookAhead looks for a row for which there is room, a page at a time, once no
// push service had any for a while. It writes nothing and no row is looked at
// twice, so that a broadcast to one slow push service costs little more by it.
func (p *pager) lookAhead(now time.Time) (moved bool, err error) {
	r := p.run
	switch {
	case p.blind:
		return false, nil
	case r.limiter.Tokens() < 0: // rows wait for the operator's rate, which more rows would not raise
		p.fed = now
		return false, nil
	case now.Sub(p.fed) < patience:
		return false, nil
	}
	rows, next, last, err := r.engine.Audience.Page(r.flight, r.Audience, max(p.looked, p.at.After), r.Until, pageSize)
	if err != nil {
		return false, err
	}
	p.looked, p.blind = next, last
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, row := range rows {
		l := p.lines[hostID(row.Host())]
		if l != nil && !p.hungry(l) {
			continue
		}
		if p.looked, p.blind = row.Seq, false; l == nil {
			p.reach = row.Seq
		}
		break // where room came meanwhile, advance reads on, and need not park what is before this row
	}
	return true, nil
}

func firstTurn(row belfry.Subscription) Turn { return Turn{Host: hostID(row.Host()), At: row.Seq} }

// appetite is how many rows to read.
func (p *pager) appetite() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.lines) == 0 {
		return min(pageSize, 2*p.run.engine.PerHost)
	}
	for _, l := range p.lines {
		if p.hungry(l) {
			n = max(n, min(pageSize, p.room(l)))
		}
	}
	return n
}

// refill brings parked rows back whose turn it is and for which there is room.
func (p *pager) refill() (moved bool, err error) {
	for _, l := range p.waiting() {
		more, some, err := p.unpark(l)
		moved = moved || some
		if err == nil && !more {
			// What was parked a moment ago may not be written down yet: it is
			// before we say that nothing more is due.
			p.expect(l, func(int64) int64 { return never })
			p.run.engine.committer.flush(p.run)
			_, some, err = p.unpark(l)
			moved = moved || some
		}
		if err != nil {
			return moved, err
		}
	}
	return moved, nil
}

// waiting returns the lines that have room, and parked rows whose turn it is.
func (p *pager) waiting() (list []*line) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.lines {
		if l.parked > 0 && l.due <= p.run.now() && p.hungry(l) {
			list = append(list, l)
		}
	}
	return list
}

// unpark brings back the first rows of a line. It reports whether there are more
// whose turn it is, else it notes when the next one is due.
func (p *pager) unpark(l *line) (more, moved bool, err error) {
	p.mu.Lock()
	known := maps.Clone(l.known) // before reading: what it says is then at least as new
	limit := len(known) + max(0, p.room(l)) + 1
	p.mu.Unlock()
	r := p.run
	open, err := r.engine.Journal.Turns(r.flight, r.ID, l.host, limit)
	if err != nil {
		return false, false, err
	}
	soon := r.now() + int64(moment)
	more = len(open) == limit
	for _, o := range open {
		if known[o.At] {
			continue
		}
		if next := p.when(o); next > soon {
			p.expect(l, func(due int64) int64 { return min(due, next) })
			return false, moved, nil
		}
		if !p.readmit(&attempt{run: r, at: o.Turn, Try: o.Try}) {
			// Rows whose last word was written down since take room until their
			// workers have done with them, and so may those of a new push service.
			// There may be fewer than limit then, and yet some are left.
			more = true
			break
		}
		moved = true
	}
	if more {
		p.expect(l, func(int64) int64 { return 0 })
	}
	return more, moved, nil
}

// when is when a parked row is due. Suspect rows have no turn until somebody has
// decided on them.
func (p *pager) when(o OpenRow) int64 {
	if o.Next == never && p.run.decision != undecided {
		return 0
	}
	return p.run.due(o.Turn, o.Try)
}

// expect changes when the next parked row of a line is due.
func (p *pager) expect(l *line, how func(due int64) int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l.due = how(l.due)
}

// admit brings a row into memory, if there is room for it. It has its turn at
// once, or when a worker has done with another row: more workers than places in
// the lane would wait for those, and each take its turns to wake up.
func (p *pager) admit(a *attempt) bool {
	p.mu.Lock()
	l := p.line(a.at.Host)
	if p.room(l) <= 0 {
		p.mu.Unlock()
		return false
	}
	l.held++
	p.held++
	l.known[a.at.At] = true
	now := l.working < p.run.engine.PerHost
	if now {
		l.working++
	} else {
		l.ready = append(l.ready, a)
	}
	p.mu.Unlock()
	if now {
		p.run.work(a)
	}
	return true
}

// readmit admits a row that was parked.
func (p *pager) readmit(a *attempt) bool {
	if !p.admit(a) {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lines[a.at.Host].parked--
	return true
}

// park leaves a row to the journal.
func (p *pager) park(t Turn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.line(t.Host)
	l.parked++
	l.due = min(l.due, t.Next)
}

// leave makes room: a row is not in memory any more. It returns the next one for
// its worker, or nil.
func (p *pager) leave(t Turn) (next *attempt) {
	p.mu.Lock()
	l := p.lines[t.Host]
	l.held--
	p.held--
	next = l.next()
	needed := p.held == 0 || p.hungry(l)
	p.mu.Unlock()
	if needed {
		p.wake()
	}
	return next
}

// rest is for a row that waits for what is no place in its lane: another one may
// have its turn.
func (p *pager) rest(t Turn) (next *attempt) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lines[t.Host].next()
}

// rise is for a row that has waited.
func (p *pager) rise(t Turn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lines[t.Host].working++
}

// written notes that the journal knows of rows that left memory: what it says
// of them is true again.
func (p *pager) written(left []Turn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range left {
		delete(p.lines[t.Host].known, t.At)
	}
}

func (p *pager) wake() {
	select {
	case p.awake <- struct{}{}:
	default:
	}
}

// wait waits until there may be something to do, or the run stops. It reports
// false when there never will be.
func (p *pager) wait() bool {
	due, over := p.next()
	if over {
		return false
	}
	wait := time.Duration(due - p.run.now())
	if !p.done && !p.blind {
		wait = min(wait, patience-time.Since(p.fed))
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-p.awake:
	case <-timer.C:
	case <-p.run.stop.Done():
	}
	return true
}

// next returns when the next row is due that is parked or on hold and for which
// there is room, and whether no row will ever be.
func (p *pager) next() (due int64, over bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	due, over = never, p.done && p.held == 0
	for _, l := range p.lines {
		if !p.hungry(l) {
			continue
		}
		if due = min(due, l.holdsUntil()); l.parked > 0 {
			due = min(due, l.due)
		}
	}
	return due, over && due == never
}
