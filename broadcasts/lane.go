package broadcasts

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/belfry-push/belfry"
)

// States of a push service, as operators read them.
const (
	open    = "open"    // rows are sent to it as they come
	waiting = "waiting" // it asked us to wait, or fails
	paused  = "paused"  // it refuses us, and the fault is ours
)

const (
	// failures in a row open the breaker: then it is asked once in every probe,
	// until it answers otherwise (REL-04).
	failures = 10
	probe    = time.Second

	// Where a lane carries little, so do fewer that go on for so long: an operator
	// hears within a minute of one that nobody gets through, even where each try
	// takes its ten seconds (REL-06).
	fewFailures  = 3
	slowFailures = 3 * time.Second

	// refused is how often a push service is asked that refuses our token. Until
	// somebody has put that right each of our requests is one too many (WP-65).
	refused = time.Minute

	// A push service is slowed down when so many of its last answers ask us to: a
	// few subscriptions that are asked for too often are no reason (WP-66).
	fewAnswers   = 20
	manyAnswers  = 200
	fewThrottled = 5
	tooMany      = 0.05

	// From its slowed pace it comes back by so much of the former a second, which
	// counts as this at least: an hour after the worst of days it is fast again.
	recovery    = 0.01
	leastFormer = 20

	// unbounded is a pace that we do not reach, in attempts a second.
	unbounded = 100_000

	// Chrome's push service lets a site that it limits have this much, and says so
	// by 429. It looks again once a day; we try for more after an hour (PS-04).
	chromePace = 1000.0 / 60
	chromeHour = time.Hour

	// maxSkew is how far our clock may be off before an operator should hear of it
	// where a token is refused (REL-08).
	maxSkew = 5 * time.Minute

	// What a push service has asked for is kept in mind so long after the last
	// broadcast.
	memory = time.Hour

	// maxLanes bounds how many push services have a lane of their own, since hosts
	// come from strangers. All others share one.
	maxLanes = 1024
)

// lanes are the ways to all push services. All broadcasts share them.
type lanes struct {
	perHost int
	pace    func(host string) float64

	mu  sync.Mutex // guards all
	all map[string]*lane
}

// to returns the lane to host.
func (ls *lanes) to(host string) *lane {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	l := ls.all[host]
	if l == nil && len(ls.all) >= maxLanes {
		host = other
		l = ls.all[host]
	}
	if l == nil || !l.rests.IsZero() && time.Since(l.rests) > memory {
		l = newLane(host, ls.perHost, ls.pace(host))
		ls.all[host] = l
	}
	l.rests = time.Time{}
	return l
}

// rest is for when no broadcast runs: it forgets the lanes of which there is
// nothing to keep in mind.
func (ls *lanes) rest() {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	now := time.Now()
	for host, l := range ls.all {
		switch {
		case !l.memorable(now) || !l.rests.IsZero() && now.Sub(l.rests) > memory:
			delete(ls.all, host)
		case l.rests.IsZero():
			l.rests = now
		}
	}
}

// look says how it stands with a push service, how many attempts it lets begin in
// a second, and in what time.
func (ls *lanes) look(host string) (state, reason string, limit float64, wait time.Duration) {
	ls.mu.Lock()
	l := ls.all[host]
	ls.mu.Unlock()
	if l == nil {
		return open, "", math.Inf(1), 0
	}
	return l.look(time.Now())
}

// A Standing is how it stands with one push service.
type Standing struct {
	Host     string  // or "other", of those that have no lane of their own
	State    string  // open, waiting or paused
	Pace     float64 // attempts that may begin in a second; +Inf where nothing bounds it
	InFlight int     // attempts that have no answer yet
	Waiting  int     // rows in memory that stand in line for an attempt
}

// Standings says how it stands with each push service that a broadcast is on its
// way to, or of which there is something to keep in mind, in no order.
func (e *Engine) Standings() (list []Standing) {
	e.lanes.mu.Lock()
	defer e.lanes.mu.Unlock()
	for _, l := range e.lanes.all {
		s := Standing{Host: l.host, InFlight: int(l.flying.Load()), Waiting: int(l.standing.Load())}
		s.State, _, s.Pace, _ = l.look(time.Now())
		list = append(list, s)
	}
	return list
}

// trouble is what last went wrong at a push service, or nothing where it answers.
func (ls *lanes) trouble(host string) string {
	ls.mu.Lock()
	l := ls.all[host]
	ls.mu.Unlock()
	if l == nil {
		return ""
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if state, reason := l.state(time.Now()); state != open && l.why == "" {
		return reason
	}
	return l.why
}

// A lane is the way to one push service: how many attempts are on it at a time,
// and when the next may begin.
type lane struct {
	host   string
	gate   chan struct{} // held by the row that is next
	places chan struct{} // held by attempts in flight, and by rows at the gate
	news   chan struct{} // holds a token when the next may begin sooner than it was told
	rests  time.Time     // since when no broadcast runs; the lanes' own

	flying   atomic.Int64 // attempts in flight
	standing atomic.Int64 // rows that wait to begin one

	mu       sync.Mutex // guards what follows
	until    time.Time  // nothing begins before
	failed   int        // answers that were none, in a row
	since    time.Time  // when the first of them was
	why      string     // what the last one was; empty while there are none
	refusing bool       // it refuses our token
	reason   string     // why it is not open
	pace
}

func newLane(host string, places int, limit float64) *lane {
	l := &lane{host: host, gate: make(chan struct{}, 1), places: make(chan struct{}, places), news: make(chan struct{}, 1)}
	l.limiter = rate.NewLimiter(rate.Inf, 1)
	if limit > 0 {
		l.set(limit)
	}
	return l
}

// begin lets the next attempt begin and returns which slow-down it knows of, or
// how long to wait before asking again.
func (l *lane) begin(now time.Time) (slowed int, wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if wait = l.until.Sub(now); wait > 0 {
		return 0, wait
	}
	if wait = l.pace.begin(now); wait > 0 {
		return 0, wait
	}
	switch {
	case l.refusing:
		l.until = now.Add(refused)
	case l.failed >= failures:
		l.until = now.Add(probe)
	}
	return l.slowed, 0
}

// look says how it stands with the lane.
func (l *lane) look(now time.Time) (state, reason string, limit float64, wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	state, reason = l.state(now)
	if limit = float64(l.limiter.Limit()); limit == float64(rate.Inf) {
		limit = math.Inf(1)
	}
	return state, reason, limit, max(0, l.until.Sub(now))
}

func (l *lane) state(now time.Time) (state, reason string) {
	switch {
	case l.refusing:
		return paused, l.reason
	case l.failed >= failures, l.until.After(now):
		return waiting, l.reason
	}
	return open, ""
}

// memorable reports whether the next broadcast should know how it stands.
func (l *lane) memorable(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	state, _ := l.state(now)
	return state != open || l.slowed > 0
}

// answered learns from the outcome of an attempt that knew of so many
// slow-downs, and reports the state where that has changed it.
func (l *lane) answered(o belfry.Outcome, slowed int, now time.Time) (state string, changed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before, _ := l.state(now)
	switch {
	case o.Verdict == belfry.Cancelled, o.Verdict == belfry.Blocked:
		return before, false // nobody answered, and nobody was asked
	case o.Verdict == belfry.Later && o.RetryAfter > 0:
		l.works()
		l.slowDown(o, slowed, now)
	case o.Verdict == belfry.Later:
		l.fails(o, now)
	case o.Verdict == belfry.OurFault:
		if l.works(); !l.refusing {
			l.refusing, l.until, l.reason = true, now.Add(refused), refusal(o)
		}
	default:
		l.works()
		if l.refusing {
			l.refusing, l.until = false, time.Time{}
		}
		l.count(false, slowed)
	}
	select {
	case l.news <- struct{}{}:
	default:
	}
	state, _ = l.state(now)
	return state, state != before
}

// fails notes that there was no answer.
func (l *lane) fails(o belfry.Outcome, now time.Time) {
	before := l.failed
	if l.failed++; before == 0 {
		l.since = now
	}
	if l.failed >= fewFailures && now.Sub(l.since) >= slowFailures {
		l.failed = max(l.failed, failures)
	}
	if l.why = reason(o); l.failed < failures || l.refusing {
		return
	}
	l.reason = fmt.Sprintf("it fails (%s) and is asked once a second", l.why)
	if before < failures {
		l.until = now.Add(probe)
	}
}

// works notes that there was an answer.
func (l *lane) works() {
	if l.failed >= failures && !l.refusing {
		l.until = time.Time{}
	}
	l.failed, l.why = 0, ""
}

// slowDown obeys a push service that asks us to wait: all rows do where that is
// no accident of one.
func (l *lane) slowDown(o belfry.Outcome, slowed int, now time.Time) {
	many := l.count(true, slowed)
	chrome := o.Status == 429 && google(l.host)
	if slowed != l.slowed || !many && (!chrome || now.Before(l.capped)) {
		return
	}
	l.halve(now)
	if chrome {
		l.set(chromePace)
		l.capped = now.Add(chromeHour)
	}
	if !l.refusing {
		l.until, l.reason = now.Add(o.RetryAfter), fmt.Sprintf("it asked us to slow down (%s)", reason(o))
	}
}

// refusal says in one sentence what is wrong between us and a push service.
func refusal(o belfry.Outcome) string {
	text := fmt.Sprintf("it refuses our token (%s)", reason(o))
	switch {
	case o.Skew > maxSkew:
		text += fmt.Sprintf(" and our clock is %s behind its own", o.Skew.Round(time.Second))
	case o.Skew < -maxSkew:
		text += fmt.Sprintf(" and our clock is %s ahead of its own", (-o.Skew).Round(time.Second))
	}
	return text
}

// google reports whether a push service is one that Chrome's limits hold for.
func google(host string) bool {
	switch host {
	case "fcm.googleapis.com", "android.googleapis.com", "jmt17.google.com":
		return true
	}
	return false
}

// A pace is how many attempts may begin in a second. It doubles each second
// until it is bounded no more, is halved when a push service asks us to slow
// down, and then comes back slowly.
type pace struct {
	limiter *rate.Limiter
	grown   time.Time // when it grew last
	former  float64   // what it was before the last slow-down; 0 without one
	slowed  int       // how often it was slowed down
	capped  time.Time // it does not grow before

	answers   [manyAnswers]bool // the last ones since then, true for those that were throttled
	next, n   int               // where the next one goes, and how many there are
	throttles int               // how many of them were throttled

	second time.Time // when the current second began
	begun  int       // attempts in it
	last   int       // and in the one before
}

// set changes how many attempts may begin in a second. A hundredth of them may
// do so at once: no timer is fine enough for thousands.
func (p *pace) set(limit float64) {
	if limit >= unbounded {
		p.limiter.SetLimit(rate.Inf)
		return
	}
	p.limiter.SetLimit(rate.Limit(limit))
	p.limiter.SetBurst(max(1, int(limit/100)))
}

// begin takes a place in time for one attempt, or returns how long to wait for it.
func (p *pace) begin(now time.Time) time.Duration {
	p.grow(now)
	if limit := p.limiter.Limit(); limit != rate.Inf {
		if missing := 1 - p.limiter.TokensAt(now); missing > 0 {
			return time.Duration(missing/float64(limit)*float64(time.Second)) + time.Microsecond
		}
		p.limiter.AllowN(now, 1)
	}
	if now.Sub(p.second) >= time.Second {
		p.last, p.begun, p.second = p.begun, 0, now
	}
	p.begun++
	return 0
}

func (p *pace) grow(now time.Time) {
	limit := p.limiter.Limit()
	since := now.Sub(p.grown).Seconds()
	switch {
	case limit == rate.Inf, since < 1:
		return
	case p.grown.IsZero(), now.Before(p.capped):
	case p.former == 0:
		p.set(2 * float64(limit))
	default:
		p.set(float64(limit) + recovery*p.former*since)
	}
	p.grown = now
}

// halve slows down, from what was allowed or from what came about if that was less.
func (p *pace) halve(now time.Time) {
	was := min(float64(p.limiter.Limit()), float64(max(p.begun, p.last)))
	p.former = max(leastFormer, was)
	p.set(max(1, was/2))
	p.grown = now
	p.slowed++
	p.next, p.n, p.throttles = 0, 0, 0
}

// count books an answer to an attempt that knew of so many slow-downs, and
// reports whether so many are throttled that we are too fast. What was in flight
// at the last slow-down says nothing of the pace since.
func (p *pace) count(throttled bool, slowed int) (tooFast bool) {
	if slowed != p.slowed {
		return false
	}
	if p.n < manyAnswers {
		p.n++
	} else if p.answers[p.next] {
		p.throttles--
	}
	p.answers[p.next] = throttled
	p.next = (p.next + 1) % manyAnswers
	if throttled {
		p.throttles++
	}
	return p.n >= fewAnswers && p.throttles >= fewThrottled && float64(p.throttles) >= tooMany*float64(p.n)
}

// tell lets everybody know who looks at a broadcast that a lane has another state
// since an outcome, and the operator, once for each time and not for each of a
// million rows (WP-65). To be asked to slow down is no news.
func (e *Engine) tell(l *lane, state string, o belfry.Outcome) {
	_, why, _, _ := l.look(time.Now())
	level, text := slog.LevelWarn, "a push service refuses us; its rows wait"
	switch {
	case state == open:
		level, text, why = slog.LevelInfo, "a push service takes messages again", ""
	case state == waiting && o.RetryAfter > 0:
		level, text = slog.LevelDebug, "a push service asks us to slow down"
	case state == waiting:
		text = "a push service fails; its rows wait"
	}
	said := []any{"host", l.host, "reason", why, "status", o.Status}
	if o.Skew != 0 {
		said = append(said, "skew", o.Skew)
	}
	e.Log.Log(context.Background(), level, text, said...)
	e.mu.Lock()
	runs := slices.Collect(maps.Values(e.live))
	e.mu.Unlock()
	for _, r := range runs {
		if !r.begun.Load() {
			continue
		}
		e.committer.note(r, func(time.Time) { // which is a commit, with the states of all lanes
			if r.pager.busy(hostID(l.host)) {
				r.progress.host(l.host)
			}
		})
	}
}
