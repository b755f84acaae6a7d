package broadcasts

import (
	"cmp"
	"context"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/belfry-push/belfry"
)

const (
	// freshFor is how long a row may be sent to as it was read. Who leaves is
	// rung no later than this after leaving (REL-28).
	freshFor = time.Second

	// A subscription younger than youth that is called gone is asked again after
	// doubt: FCM has had spells of wrong 404s for new ones (WP-62).
	youth = 10 * time.Minute
	doubt = time.Minute
)

// An attempt is one row in memory, on its way to its settlement.
type attempt struct {
	run *run
	at  Turn // as the journal has it
	Try
	row  belfry.Subscription
	read time.Time      // when row was read
	last belfry.Outcome // of the last try since the row came into memory

	handed bool // the committer has its last word, or its next turn
}

// work takes turns until the row is settled, has to wait for longer than a
// moment, or the run stops. Between turns the row holds no place in its lane.
func (a *attempt) work() {
	defer a.rescue()
	if a.read.IsZero() && !a.find() {
		return
	}
	if a.Suspect != "" {
		a.decide()
		return
	}
	a.sleep(time.Duration(a.run.due(a.at, a.Try) - a.run.now()))
	if time.Now().Before(a.run.deadline) && a.moved() || a.spared() { // one that moves whenever it is read must have an end
		return
	}
	if a.Tries == 0 && a.run.Rate != nil {
		a.sleep(a.run.limiter.Reserve().Delay())
	}
	for {
		if a.overtaken() {
			a.settle(suppressed, "")
			return
		}
		pass, ok := a.enter()
		if !ok && a.run.stop.Err() == nil {
			a.expire("")
			return
		}
		if !ok {
			break
		}
		wait, settled := a.turn(pass)
		if settled {
			return
		}
		if wait > moment {
			a.park(wait)
			return
		}
		a.sleep(wait)
		if a.moved() || a.spared() {
			return
		}
	}
	a.run.cutOff.Store(true)
}

// find reads a row that was parked, since what was known of it may be old. It
// reports false when there is nobody to ring.
func (a *attempt) find() bool {
	r := a.run
	rows, _, _, err := r.engine.Audience.Page(r.flight, belfry.Audience{All: true}, a.at.At-1, a.at.At, 1)
	switch {
	case err != nil:
		a.unreadable(err)
	case len(rows) == 0 || !meant(r.Audience, rows[0]):
		a.settle(left, "")
	default:
		a.row, a.read = rows[0], time.Now()
		return true
	}
	return false
}

// park leaves the row to the journal until its next turn.
func (a *attempt) park(wait time.Duration) {
	a.Wait = wait
	a.next(a.run.now() + int64(wait))
}

// next leaves the row to the journal until then, in the line of the push service
// where it is now.
func (a *attempt) next(then int64) {
	r, from, try, host := a.run, a.at, a.Try, a.row.Host()
	to := Turn{hostID(host), then, from.At}
	a.handed = true
	r.engine.committer.note(r, func(time.Time) {
		r.rows.move(from, to, &try)
		r.progress.host(host) // which may never take anything: an operator is to see why
		if try.Suspect != "" {
			r.progress.line(to.Host).Suspect++
		}
	})
	r.pager.park(to)
	if to.Host != from.Host {
		r.pager.wake() // to leave a line gives no word of another
	}
}

// moved reports whether the row's browser has moved to another push service, and
// leaves the row to the journal then. Else it would take room and workers of its
// former push service from those who are there still, for as long as the other
// one keeps it waiting (REL-04).
func (a *attempt) moved() bool {
	if hostID(a.row.Host()) == a.at.Host {
		return false
	}
	a.park(0)
	return true
}

// sleep waits for the next turn, while it makes sense to wait.
func (a *attempt) sleep(wait time.Duration) {
	if wait <= 0 {
		return
	}
	defer a.rest()()
	select {
	case <-time.After(wait):
	case <-a.run.late:
	case <-a.run.stop.Done():
	}
}

// rest lets another row have its turn until this one has waited, for what is no
// place in its lane, and calls what it returns.
func (a *attempt) rest() (rise func()) {
	if next := a.run.pager.rest(a.at); next != nil {
		a.run.hire(next)
	}
	return func() { a.run.pager.rise(a.at) }
}

// overtaken waits while another broadcast with the same topic has an attempt to
// the row in flight, and reports whether a newer one has come by: then there is
// a newer message, or will be.
func (a *attempt) overtaken() bool {
	for {
		newer, busy := a.run.edition.look(a.row)
		if newer { // but it may not have meant the row, if what we know of that is old
			there, err := a.refresh(freshFor)
			newer, _ = a.run.edition.look(a.row)
			return newer && there && err == nil // else its turn says what has become of it
		}
		if busy == nil || !a.outwait(busy) {
			return false
		}
	}
}

// outwait waits for an attempt of another broadcast, while it makes sense to.
func (a *attempt) outwait(busy <-chan struct{}) bool {
	defer a.rest()()
	select {
	case <-busy:
		return true
	case <-a.run.late:
	case <-a.run.stop.Done():
	}
	return false
}

// A pass is leave to make one attempt.
type pass struct {
	lane   *lane
	slowed int // what the lane had been told until then
}

// enter takes a place in the row's lane and waits until the lane lets it begin.
// The place comes first: where nothing bounds a lane but its places, rows wait
// for those alone, and not in a second line as well. It reports false when the
// run stops or the message is not worth saying any more.
func (a *attempt) enter() (p pass, ok bool) {
	e, l := a.run.engine, a.run.engine.lanes.to(a.row.Host())
	l.standing.Add(1)
	defer l.standing.Add(-1)
	if !a.take(l.places) {
		return p, false
	}
	slowed, ok := 0, a.take(l.gate)
	if ok {
		slowed, ok = a.begin(l)
		ok = ok && a.take(e.all)
		<-l.gate
	}
	if !ok {
		<-l.places
		return p, false
	}
	p = pass{l, slowed}
	l.flying.Add(1)
	if a.run.stop.Err() != nil { // of two ways that are open, select takes either
		a.leave(p)
		return p, false
	}
	return p, true
}

// take puts a token where there is room for it, while it makes sense to wait.
func (a *attempt) take(tokens chan<- struct{}) bool {
	select {
	case tokens <- struct{}{}: // as most do; the other ways take longer to look at
		return true
	default:
	}
	select {
	case tokens <- struct{}{}:
		return true
	case <-a.run.late:
	case <-a.run.stop.Done():
	}
	return false
}

// begin waits at the head of a lane. What is to be said now or never is not said
// to a push service that cannot take it now.
func (a *attempt) begin(l *lane) (slowed int, ok bool) {
	for {
		now := time.Now()
		slowed, wait := l.begin(now)
		if wait <= 0 {
			return slowed, true
		}
		if state, _, _, _ := l.look(now); state != open && a.run.Message.Lifetime() == 0 {
			return 0, false
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-l.news:
		case <-a.run.late:
			ok = true
		case <-a.run.stop.Done():
			ok = true
		}
		if timer.Stop(); ok {
			return 0, false
		}
	}
}

func (a *attempt) leave(p pass) {
	p.lane.flying.Add(-1)
	<-a.run.engine.all
	<-p.lane.places
}

// turn looks whether the row is still to be rung, makes one try and acts on its
// verdict. Then its place in the lane is free. It returns how long to wait before
// the next turn, unless settled.
func (a *attempt) turn(p pass) (wait time.Duration, settled bool) {
	defer a.leave(p)
	e, b := a.run.engine, a.run
	lane := a.row.Host()
	there, err := a.refresh(freshFor)
	payload, served := b.payloads[e.wording(b.Message, a.row)]
	ttl := time.Until(b.deadline)
	switch {
	case err != nil:
		return a.unreadable(err)
	case !there:
		return a.settle(left, "")
	case a.row.Host() != lane:
		return 0, false // its browser moved to another push service, which has a lane of its own
	case !served: // a site that we no longer ring for: its links could not be checked
		return a.settle(failed, "origin-not-served")
	case a.row.Memory.WrongKey:
		return a.settle(failed, belfry.MarkWrongKey) // asking again is in vain until its browser comes (WP-64)
	case payload == nil:
		return a.settle(failed, "message-too-large")
	case b.Message.Lifetime() == 0 && b.again:
		return a.expire("") // now or never (RFC 8030 §5.2), and now was before the restart or pause
	case b.Message.Lifetime() == 0:
		ttl = 0 // one try, whenever its turn comes
	case ttl <= 0:
		return a.expire("") // WP-07
	default:
		ttl = max(ttl, time.Second) // less would be written as 0, which means something else
	}
	if a.reach().Spared { // while it stood in line
		return a.settle(suppressed, "")
	}
	if !b.edition.ask(a.row) {
		return 0, false // another broadcast with its topic was quicker
	}
	o := a.send(belfry.PushMessage{Payload: payload, TTL: ttl, Urgency: b.Message.Urgency, Topic: b.topic, Unpadded: a.short()})
	a.Tries++
	a.last, a.Silent = o, o.Verdict == belfry.Later && o.Status == 0
	a.log(o)
	if state, changed := p.lane.answered(o, p.slowed, time.Now()); changed {
		e.tell(p.lane, state, o)
	}
	return a.act(o)
}

// act does what a verdict asks for: it is the only place in the house that does.
func (a *attempt) act(o belfry.Outcome) (wait time.Duration, settled bool) {
	switch o.Verdict {
	case belfry.Accepted:
		a.run.jury.hear(hostID(a.row.Host()), false)
		return a.settle(accepted, "")
	case belfry.Gone:
		return a.gone(o)
	case belfry.Later:
		return a.postpone(o)
	case belfry.Cancelled:
		if a.run.flight.Err() == nil {
			return a.postpone(o)
		}
		a.run.cutOff.Store(true) // the row stays pending
		return 0, true
	case belfry.TooLarge:
		if !a.short() {
			a.Short = true
			return 0, false
		}
	case belfry.OurFault:
		return a.again(o, max(refused, backoff(a.Tries))) // it costs nobody a message but by time (WP-65)
	}
	if o.Status != 0 {
		a.run.jury.hear(hostID(a.row.Host()), false)
	}
	return a.settle(failed, reason(o))
}

// gone acts on a push service's word that the subscription has ended. Two may
// not have: one that is only just made (WP-62), and one whose browser has given
// us a new endpoint while we asked at the old one.
func (a *attempt) gone(o belfry.Outcome) (time.Duration, bool) {
	asked := a.row.Endpoint
	there, err := a.refresh(0)
	switch {
	case err != nil:
		return a.unreadable(err)
	case there && a.row.Endpoint != asked && a.Tries == 1:
		return 0, false
	case there && a.row.Endpoint != asked:
		return a.again(o, backoff(a.Tries)) // it may do so each time
	case !a.Doubted && a.young():
		a.Doubted = true
		return a.again(o, doubt)
	}
	return a.forget()
}

// forget settles a row that is gone, unless there is reason to doubt it.
func (a *attempt) forget() (time.Duration, bool) {
	r := a.run
	doubted, first := r.jury.hear(hostID(a.row.Host()), true)
	if first && r.decision == undecided {
		r.engine.Log.Warn("a push service says of too many that they are gone; nobody more is removed until an operator has decided",
			"broadcast", r.ID, "host", a.row.Host(), "hint", "belfry broadcasts confirm "+r.ID+", or dismiss")
	}
	switch {
	case doubted && r.decision == undecided:
		a.suspect()
	case r.decision == dismissed:
		a.settle(failed, reasonDismissed)
	default:
		a.settle(gone, "")
	}
	return 0, true
}

// young reports whether the row's browser gave us its endpoint only just now.
func (a *attempt) young() bool {
	return !a.row.Imported && a.run.engine.Now().Sub(later(a.row.Created, a.row.Seen)) < youth
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// postpone decides when a row that could not be served now is tried again: as
// often as there is time for until the deadline (WP-69).
func (a *attempt) postpone(o belfry.Outcome) (time.Duration, bool) {
	if o.RetryAfter > 0 {
		return a.again(o, o.RetryAfter+rand.N(o.RetryAfter/5+1)) // not all in one moment (WP-66)
	}
	return a.again(o, backoff(a.Tries))
}

// again waits for the next turn after an outcome, or expires the row when that
// would come too late.
func (a *attempt) again(o belfry.Outcome, wait time.Duration) (time.Duration, bool) {
	if wait >= time.Until(a.run.deadline) {
		return a.expire(reason(o))
	}
	return wait, false
}

// reasonLate is why a row expires whose push service is not known to fail: it
// never had its turn.
const reasonLate = "too-late"

// expire settles a row whose message is not worth saying any more. Without a
// reason of its own it is what last went wrong on its lane, which kept it waiting.
func (a *attempt) expire(why string) (time.Duration, bool) {
	return a.settle(expired, cmp.Or(why, a.run.engine.lanes.trouble(a.row.Host()), reasonLate))
}

// backoff is how long to wait after the n-th try: 1, 2, 4 s … 5 min with full jitter (WP-69).
func backoff(n int) time.Duration {
	ceiling := min(time.Second<<min(n-1, 9), 5*time.Minute)
	return rand.N(ceiling) + time.Millisecond
}

// refresh reads the row again if what we know of it is older than age, and
// reports whether it is still one of the audience's.
func (a *attempt) refresh(age time.Duration) (there bool, err error) {
	now := time.Now()
	if now.Sub(a.read) < age {
		return true, nil
	}
	e := a.run.engine
	this := belfry.Audience{Subscriptions: []string{a.row.ID}}
	rows, _, _, err := e.Audience.Page(a.run.flight, this, 0, a.run.Until, 1)
	if err != nil || len(rows) == 0 || !meant(a.run.Audience, rows[0]) {
		return false, err
	}
	a.row, a.read = rows[0], now
	return true, nil
}

// meant reports whether s still is whom a names: who has left a channel is not
// rung through it any more.
func meant(a belfry.Audience, s belfry.Subscription) bool {
	switch {
	case len(a.Channels) > 0:
		return slices.ContainsFunc(a.Channels, func(name string) bool { return slices.Contains(s.Channels, name) })
	case len(a.Users) > 0:
		return slices.Contains(a.Users, s.User)
	case len(a.Subscriptions) > 0:
		return slices.Contains(a.Subscriptions, s.ID)
	}
	return true
}

// unreadable gives up a row that cannot be read again, or leaves it pending
// when that is because the engine stops.
func (a *attempt) unreadable(err error) (time.Duration, bool) {
	if a.run.flight.Err() != nil {
		a.run.cutOff.Store(true)
		return 0, true
	}
	if a.run.once(reasonUnreadable) {
		a.run.engine.Log.Error("cannot read a subscription again", "broadcast", a.run.ID, "position", a.at.At, "err", err)
	}
	return a.settle(failed, reasonUnreadable)
}

// send makes one try, which ends with its answer, or a crash.
func (a *attempt) send(m belfry.PushMessage) belfry.Outcome {
	defer a.run.edition.answered(a.row)
	return a.run.engine.Sender.Send(a.run.flight, a.row, m)
}

func (a *attempt) settle(r result, reason string) (time.Duration, bool) {
	lesson := a.lesson(r)
	a.handed = true
	a.run.engine.committer.settle(a.run, settlement{a.at, a.Try, a.row, r, reason, lesson})
	return 0, true
}

// reason names a failure for the operator's count: the push service's word where it gave one.
func reason(o belfry.Outcome) string {
	return cmp.Or(o.Reason, o.Verdict.String())
}

func (a *attempt) log(o belfry.Outcome) {
	if log := a.run.engine.Log; log.Enabled(context.Background(), slog.LevelDebug) {
		log.Debug("attempt", "broadcast", a.run.ID, "subscription", a.row.ID, "host", a.row.Host(), "n", a.Tries,
			"verdict", o.Verdict.String(), "status", o.Status, "reason", o.Reason, "err", o.Err)
	}
}
