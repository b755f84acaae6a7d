package broadcasts

import (
	"slices"
	"time"

	"github.com/belfry-push/belfry"
)

// A Presence knows which devices look at a page of ours right now.
type Presence interface {
	// Reached says how far the message has come to the device by its pages. It is
	// asked before each attempt, must not block, and fails open: in doubt, ring.
	Reached(device, message string) belfry.Reach
}

type nobody struct{}

func (nobody) Reached(string, string) belfry.Reach { return belfry.Reach{} }

const (
	// maxHold bounds how long a Presence can keep one row waiting in all, so that
	// one which forgets a device silences nobody.
	maxHold = time.Minute

	// maxHolds is how many rows of one broadcast wait so in memory, at some two
	// hundred octets each. What is more waits in the journal.
	maxHolds = 16384
)

// A hold is a row that waits for a page's word: it has no place in its lane and
// none in the window of rows in memory. It is pending in the journal as it was
// before, so what is on hold when the run stops is rung when it goes on.
type hold struct {
	at    Turn
	try   Try
	until int64 // by the run's clock
}

// reach says how far the message has come to the row by its pages. Where it is to
// be rung whatever they say, they are not asked.
func (a *attempt) reach() belfry.Reach {
	if a.run.Push == PushAlways {
		return belfry.Reach{}
	}
	return a.run.engine.Presence.Reached(a.row.ID, a.run.ID)
}

// spared looks whether the row needs no push, or may turn out not to, before it
// stands in line for one. It reports whether there is nothing more to do now.
func (a *attempt) spared() bool {
	r := a.reach()
	if r.Spared {
		a.settle(suppressed, "")
		return true
	}
	wait := a.patience(r.Hold)
	if wait > 0 && !a.run.pager.hold(a, wait) {
		a.park(wait)
	}
	return wait > 0
}

// patience is how long the row may be kept waiting now. It fails open: a row is
// rung rather than held for too long or past its deadline.
func (a *attempt) patience(until time.Time) time.Duration {
	if until.IsZero() {
		return 0
	}
	wait := min(time.Until(until), maxHold-a.Held)
	if wait <= 0 || wait >= time.Until(a.run.deadline) {
		return 0
	}
	a.Held += wait
	return wait
}

// hold lets a row wait in memory, unless too many do.
func (p *pager) hold(a *attempt, wait time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.holding >= maxHolds {
		return false
	}
	a.handed = true
	l, h := p.lines[a.at.Host], hold{a.at, a.Try, p.run.now() + int64(wait)}
	i := len(l.holds)
	for i > 0 && l.holds[i-1].until > h.until { // mostly all of a broadcast wait for one moment
		i--
	}
	l.holds = slices.Insert(l.holds, i, h)
	p.holding++ // the pager hears of it when the row leaves its place
	return true
}

// release brings rows back whose time on hold is over and for which there is room.
func (p *pager) release() (moved bool) {
	for _, l := range p.holdsOver() {
		over := p.unhold(l)
		for i, h := range over {
			if !p.admit(&attempt{run: p.run, at: h.at, Try: h.try}) {
				p.holdAgain(l, over[i:])
				break
			}
			moved = true
		}
	}
	return moved
}

// holdAgain is for rows for which there was room a moment ago: a row that moved to
// a push service that nobody was at has made room less for all.
func (p *pager) holdAgain(l *line, rows []hold) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l.holds = slices.Concat(rows, l.holds)
	p.holding += len(rows)
}

// holdsOver returns the lines that have room, and rows whose time on hold is over.
func (p *pager) holdsOver() (list []*line) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.holding == 0 {
		return nil
	}
	for _, l := range p.lines {
		if l.holdsUntil() <= p.run.now() && p.hungry(l) {
			list = append(list, l)
		}
	}
	return list
}

// holdsUntil is when the first row of a line is on hold no more.
func (l *line) holdsUntil() int64 {
	if len(l.holds) == 0 {
		return never
	}
	return l.holds[0].until
}

// unhold takes as many rows as there is room for from those whose time is over.
func (p *pager) unhold(l *line) (over []hold) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now, room := p.run.now(), p.room(l)
	for len(over) < room && l.holdsUntil() <= now {
		over, l.holds = append(over, l.holds[0]), l.holds[1:]
	}
	p.holding -= len(over)
	return over
}
