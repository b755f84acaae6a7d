// Package broadcasts takes one message to many subscriptions.
//
// A launch is written down before it is answered; then an [Engine] pages
// through the audience, asks a [Sender] for one attempt each and gathers the
// verdicts, which one committer writes many at a time. It is the only place
// that acts on a verdict. It does not know how a message is sealed or where
// subscriptions are kept: both are asked for through interfaces of its own.
//
// # What an operator is promised
//
//   - A broadcast that has an id is on disk.
//   - Its recipients are those of the launch: who registers later gets nothing,
//     who leaves before their turn is counted as left. So it is with a scheduled
//     one, which nobody sees grow after they were told how many it is for.
//   - A scheduled broadcast starts once, whatever the clock does; it starts late
//     where the server was down, or not at all when that is too late.
//   - At every commit targets = pending + accepted + suppressed + expired +
//     gone + left + failed + cancelled, and nobody is shown what no commit wrote.
//   - Only 404 and 410 remove a subscription, and not where a push service says
//     so of more than a fifth: then an operator is asked. A fault of ours costs nobody a
//     message either, if it is put right before the deadline.
//   - No push service is asked by more than Config.PerHost attempts at a time, nor
//     faster than it wants; one that fails is asked once a second. None keeps
//     another one's rows waiting, and memory does not grow with the audience.
//   - A broadcast that makes our own code panic costs the row at which it does so;
//     the third time it is cancelled, over all restarts.
//   - A broadcast that was cut off, by a restart or a power cut, goes on where it
//     was. What was sent and not yet written down is sent again: at most what is
//     in flight and 256 rows, the committer's batch and those that wait for it.
//   - Of two broadcasts with one topic the latest wins: nobody's last message is
//     the older one's.
//   - Who is to be told how a broadcast ended is told, or was tried for a day. It
//     may be told twice.
package broadcasts

import (
	"math"
	"time"

	"github.com/belfry-push/belfry"
)

// A State is where a broadcast stands in its life.
type State string

const (
	Scheduled State = "scheduled"
	Running   State = "running"
	Paused    State = "paused"
	Done      State = "done"
	Cancelled State = "cancelled"
)

// ReasonOperator is why a broadcast is paused or cancelled that somebody asked
// to be.
const ReasonOperator = "operator"

// A Broadcast is one message to one audience, in the form that operators read.
type Broadcast struct {
	Launch
	Progress
	Course `json:"-"`
}

// A Launch is what does not change in a broadcast until it ends. Then it is wiped.
type Launch struct {
	ID       string          `json:"id"` // also the message's
	Message  belfry.Message  `json:"message"`
	Audience belfry.Audience `json:"audience"`
	Callback belfry.Callback `json:"callback"` // is told how it ended
	Options
	Starts   *time.Time      `json:"starts"`   // with At: when it starts, which is later by a little on a full hour
	Deadline time.Time       `json:"deadline"` // when the message stops being worth saying
	Created  time.Time       `json:"created"`
	Warnings []string        `json:"warnings,omitempty"` // what the operator should know of the message
	Until    belfry.Position `json:"-"`                  // the last row there was at launch
}

// Progress is what changes while a broadcast runs.
type Progress struct {
	State    State          `json:"state"`
	Reason   *string        `json:"reason"`
	Started  *time.Time     `json:"started"`
	Finished *time.Time     `json:"finished"`
	Counts   Counts         `json:"counts"`
	Failures map[string]int `json:"failures"` // by reason
	Expiries map[string]int `json:"expiries"` // by what last stood in the way
	Pace     float64        `json:"pace"`     // rows settled a second since the start, or since it goes on again
	ETA      *time.Time     `json:"eta"`
	Hosts    []Host         `json:"hosts"`
}

// unknownCourse stands in Handed where a record says nothing of a course, as
// those did that knew of no resuming: who has been rung cannot be known.
const unknownCourse = -1

// A Course is how far a broadcast has come through its audience.
type Course struct {
	After   belfry.Position `json:"after"`             // the pager has passed all rows up to it
	Handed  int             `json:"handed"`            // how many
	Proven  bool            `json:"proven,omitempty"`  // the canary went well: the operator let the broadcast go on
	Lease   Lease           `json:"lease,omitzero"`    // whose it is to deliver
	Crashes int             `json:"crashes,omitempty"` // how often it made our own code panic
}

// A Try is what is known of a row that was tried and is not settled.
type Try struct {
	Tries   int           `json:"tries,omitempty"`
	Wait    time.Duration `json:"wait,omitempty"`    // before its next turn, when it began to wait; a clock may be wrong by more
	Short   bool          `json:"short,omitempty"`   // seal without padding: it was TooLarge with it
	Doubted bool          `json:"doubted,omitempty"` // it was called gone, and may not be
	Held    time.Duration `json:"held,omitempty"`    // on behalf of Presence, in all
	Silent  bool          `json:"silent,omitempty"`  // nobody answered at the last try
	Suspect string        `json:"suspect,omitempty"` // called gone at the endpoint with this mark, and an operator is to decide
}

// Counts says what became of the audience. Targets is the sum of the others.
type Counts struct {
	Targets    int `json:"targets"`
	Pending    int `json:"pending"`
	Accepted   int `json:"accepted"`
	Suppressed int `json:"suppressed"`
	Expired    int `json:"expired"`
	Gone       int `json:"gone"`
	Left       int `json:"left"`
	Failed     int `json:"failed"`
	Cancelled  int `json:"cancelled"`
}

// A Host is one push service's share.
type Host struct {
	Host     string `json:"host"`
	State    string `json:"state"`            // open, waiting or paused
	Reason   string `json:"reason,omitempty"` // why it is not open
	Accepted int    `json:"accepted"`
	Gone     int    `json:"gone,omitempty"`
	Suspect  int    `json:"suspect,omitempty"` // called gone, and an operator is to decide
}

// Ended reports whether nothing more will happen to the broadcast.
func (p Progress) Ended() bool { return p.State == Done || p.State == Cancelled }

// begin starts a broadcast that was scheduled.
func (p *Progress) begin(now time.Time) { p.State, p.Started = Running, &now }

// pause stops the broadcast until it is resumed.
func (p *Progress) pause(reason string) { p.State, p.Reason, p.ETA = Paused, &reason, nil }

// resume is the end of a pause.
func (p *Progress) resume() { p.State, p.Reason = Running, nil }

// cancelRest ends the broadcast with everything that was pending cancelled.
func (p *Progress) cancelRest(reason string, now time.Time) {
	p.State, p.Reason, p.Finished, p.ETA = Cancelled, &reason, &now, nil
	p.Counts.Cancelled += p.Counts.Pending
	p.Counts.Pending = 0
}

// finish ends the broadcast once every row was visited. A row that was there at
// launch and was not met any more has left in between.
func (p *Progress) finish(now time.Time) {
	p.State, p.Finished, p.ETA = Done, &now, nil
	p.Counts.Left += p.Counts.Pending
	p.Counts.Pending = 0
}

// measure says how fast the broadcast goes, and when it will be done, which is at
// its deadline at the latest. Its push services let it settle so many rows a
// second at most, after that wait.
func (p *Progress) measure(now time.Time, g *gauge, deadline time.Time, most float64, wait time.Duration) {
	pace := g.read(now, p.Counts.Targets-p.Counts.Pending, most, wait)
	if pace <= 0 || math.IsInf(pace, 1) {
		return
	}
	p.Pace = math.Round(10*pace) / 10
	left := min(wait.Seconds()+float64(p.Counts.Pending)/pace, max(deadline.Sub(now), 0).Seconds())
	eta := now.Add(seconds(left)).Truncate(time.Millisecond)
	p.ETA = &eta
}

// A result is what became of one row, the field of Counts that it adds to.
type result uint8

const (
	accepted result = iota + 1
	suppressed
	expired
	gone
	left
	failed
)

// of returns the count that r adds to.
func (c *Counts) of(r result) *int {
	return [...]*int{accepted: &c.Accepted, suppressed: &c.Suppressed, expired: &c.Expired,
		gone: &c.Gone, left: &c.Left, failed: &c.Failed}[r]
}

// A settlement is the last word on one row.
type settlement struct {
	at     Turn
	try    Try
	row    belfry.Subscription // as it was at the last try
	result result
	reason string        // with failed, and with expired what last stood in the way
	memory belfry.Memory // what is to be remembered of the row
}

// maxHosts and maxReasons bound what a hostile audience can make a record grow
// to: anybody may register an endpoint at a host that a wildcard allows.
const (
	maxHosts   = 64
	maxReasons = 32
	other      = "other"
)

// settle books one row.
func (p *Progress) settle(s settlement) {
	p.Counts.Pending--
	*p.Counts.of(s.result)++
	switch s.result {
	case failed:
		tally(&p.Failures, s.reason)
	case expired:
		tally(&p.Expiries, s.reason)
	}
	if s.try.Suspect != "" {
		p.line(s.at.Host).Suspect--
	}
	switch host := s.row.Host(); {
	case host == "": // it is not there any more
	case s.result == accepted:
		p.host(host).Accepted++
	case s.result == gone:
		p.host(host).Gone++
	default:
		p.host(host)
	}
}

// tally books one more for a reason.
func tally(reasons *map[string]int, why string) {
	if *reasons == nil { // of a record that knew of none
		*reasons = map[string]int{}
	}
	if _, known := (*reasons)[why]; !known && len(*reasons) >= maxReasons {
		why = other
	}
	(*reasons)[why]++
}

// host returns the share of the push service with this name. Those that come
// after maxHosts share the last place.
func (p *Progress) host(name string) *Host {
	for i := range p.Hosts {
		if p.Hosts[i].Host == name {
			return &p.Hosts[i]
		}
	}
	if len(p.Hosts) < maxHosts {
		p.Hosts = append(p.Hosts, Host{Host: name, State: open})
	} else {
		p.Hosts[maxHosts-1].Host = other
	}
	return &p.Hosts[len(p.Hosts)-1]
}
