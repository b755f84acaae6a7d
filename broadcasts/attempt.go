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

	// maxTries is how often one row is tried. With full jitter the tries take a
	// minute on average and two at most, unless a push service says when (WP-69).
	maxTries = 8

	// A subscription younger than youth that is called gone is asked again after
	// doubt: FCM has had spells of wrong 404s for new ones (WP-62).
	youth = 10 * time.Minute
	doubt = time.Minute

	// maxHold bounds how long a Presence can keep one row waiting in all, so that
	// one which forgets a device silences nobody.
	maxHold = time.Minute
)

// An attempt is one row's way from its first turn to its settlement.
type attempt struct {
	run     *run
	row     belfry.Subscription
	read    time.Time     // when row was read
	wait    time.Duration // before its first turn, where an earlier run has begun with it
	tries   int
	short   bool          // seal without padding, since the last answer was TooLarge
	doubted bool          // it was called gone, and may not be
	held    time.Duration // on behalf of Presence, in all
}

// work takes turns until the row is settled or the engine stops. Between turns
// the row holds no place in its lane.
func (a *attempt) work() {
	if a.row.ID == "" { // it has left since an earlier run began with it
		a.settle(left, "")
		return
	}
	a.sleep(a.wait)
	for {
		lane, ok := a.enter()
		if !ok {
			break
		}
		wait, settled := a.turn()
		a.leave(lane)
		if settled {
			return
		}
		a.sleep(wait)
	}
	a.run.cutOff.Store(true)
}

// sleep waits for the next turn, or until the run stops.
func (a *attempt) sleep(wait time.Duration) {
	if wait <= 0 {
		return
	}
	select {
	case <-time.After(wait):
	case <-a.run.stop.Done():
	}
}

// enter takes a place in the row's lane, or reports false when the engine stops.
func (a *attempt) enter() (lane, bool) {
	e := a.run.engine
	lane := e.lane(a.row.Host())
	select {
	case lane <- struct{}{}:
	case <-a.run.stop.Done():
		return nil, false
	}
	select {
	case e.all <- struct{}{}:
	case <-a.run.stop.Done():
		<-lane
		return nil, false
	}
	if a.run.stop.Err() != nil { // of two ways that are open, select takes either
		a.leave(lane)
		return nil, false
	}
	return lane, true
}

func (a *attempt) leave(l lane) {
	<-a.run.engine.all
	<-l
}

// turn looks whether the row is still to be rung, makes one try and acts on its
// verdict. It returns how long to wait before the next turn, unless settled.
func (a *attempt) turn() (wait time.Duration, settled bool) {
	e, b := a.run.engine, a.run
	lane := a.row.Host()
	there, err := a.refresh(freshFor)
	payload, served := b.payloads[cmp.Or(a.row.Origin, e.Origins[0])]
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
	case payload == nil:
		return a.settle(failed, "message-too-large")
	case b.Message.Lifetime() == 0 && b.again:
		return a.settle(expired, "") // now or never (RFC 8030 §5.2), and now was before the restart or pause
	case b.Message.Lifetime() == 0:
		ttl = 0 // one try, whenever its turn comes
	case ttl <= 0:
		return a.settle(expired, "") // WP-07
	default:
		ttl = max(ttl, time.Second) // less would be written as 0, which means something else
	}
	reach := e.Presence.Reached(a.row.ID, b.ID)
	if reach.Spared {
		return a.settle(suppressed, "")
	}
	if wait := a.hold(reach); wait > 0 {
		return wait, false
	}
	o := e.Sender.Send(b.flight, a.row, belfry.PushMessage{Payload: payload, TTL: ttl,
		Urgency: b.Message.Urgency, Topic: b.topic, Unpadded: a.short})
	a.tries++
	a.log(o)
	return a.act(o)
}

// act does what a verdict asks for: it is the only place in the house that does.
func (a *attempt) act(o belfry.Outcome) (wait time.Duration, settled bool) {
	switch o.Verdict {
	case belfry.Accepted:
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
		if !a.short {
			a.short = true
			return 0, false
		}
	case belfry.OurFault:
		a.warn(o)
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
	case there && a.row.Endpoint != asked && a.tries < maxTries:
		return 0, false
	case there && a.row.Endpoint != asked:
		return a.settle(failed, reason(o))
	case !a.doubted && a.young():
		a.doubted = true
		return a.again(doubt)
	}
	return a.settle(gone, "")
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

// postpone decides when a row that could not be served now is tried again.
func (a *attempt) postpone(o belfry.Outcome) (time.Duration, bool) {
	if a.tries >= maxTries {
		return a.settle(failed, reason(o))
	}
	if o.RetryAfter > 0 {
		return a.again(o.RetryAfter + rand.N(o.RetryAfter/5+1)) // not all in one moment (WP-66)
	}
	return a.again(backoff(a.tries))
}

// again waits for the next turn, or expires the row when that would come too late.
func (a *attempt) again(wait time.Duration) (time.Duration, bool) {
	if wait >= time.Until(a.run.deadline) {
		return a.settle(expired, "")
	}
	r, at, try := a.run, a.row.Seq, Try{a.tries, stamp(a.run.engine.Now().Add(wait)), wait}
	r.engine.committer.note(r, func(time.Time) { r.rows.try(at, try) })
	return wait, false
}

// backoff is how long to wait after the n-th try: 1, 2, 4 s … 5 min with full jitter (WP-69).
func backoff(n int) time.Duration {
	ceiling := min(time.Second<<(n-1), 5*time.Minute)
	return rand.N(ceiling) + time.Millisecond
}

// hold is how long Presence keeps the row waiting now. It fails open: a row is
// rung rather than held for too long or past its deadline.
func (a *attempt) hold(r Reach) time.Duration {
	wait := min(time.Until(r.Hold), maxHold-a.held)
	if wait <= 0 || wait >= time.Until(a.run.deadline) {
		return 0
	}
	a.held += wait
	return wait
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
		a.run.engine.Log.Error("cannot read a subscription again", "broadcast", a.run.ID, "subscription", a.row.ID, "err", err)
	}
	return a.settle(failed, reasonUnreadable)
}

func (a *attempt) settle(r result, reason string) (time.Duration, bool) {
	a.run.engine.committer.settle(a.run, settlement{a.row, r, reason})
	return 0, true
}

// reason names a failure for the operator's count: the push service's word where it gave one.
func reason(o belfry.Outcome) string {
	return cmp.Or(o.Reason, o.Verdict.String())
}

func (a *attempt) log(o belfry.Outcome) {
	if log := a.run.engine.Log; log.Enabled(context.Background(), slog.LevelDebug) {
		log.Debug("attempt", "broadcast", a.run.ID, "subscription", a.row.ID, "host", a.row.Host(), "n", a.tries,
			"verdict", o.Verdict.String(), "status", o.Status, "reason", o.Reason, "err", o.Err)
	}
}

// warn tells the operator of a fault of ours, once for each broadcast and host
// and not for each of a million rows (WP-65).
func (a *attempt) warn(o belfry.Outcome) {
	if a.run.once(a.row.Host()) {
		a.run.engine.Log.Warn("a push service refuses our token: check the clock, the subject and the key",
			"broadcast", a.run.ID, "host", a.row.Host(), "status", o.Status, "reason", o.Reason, "skew", o.Skew)
	}
}
