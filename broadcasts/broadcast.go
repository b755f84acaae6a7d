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
//     who leaves before their turn is counted as left.
//   - At every commit targets = pending + accepted + suppressed + expired +
//     gone + left + failed + cancelled.
//   - Only 404 and 410 remove a subscription.
//   - A broadcast that was cut off by a restart is cancelled, and says so.
package broadcasts

import (
	"maps"
	"slices"
	"time"

	"github.com/belfry-push/belfry"
)

// A State is where a broadcast stands in its life.
type State string

const (
	Running   State = "running"
	Done      State = "done"
	Cancelled State = "cancelled"
)

// ReasonRestart is why a broadcast is cancelled that was running when the
// server went down.
const ReasonRestart = "restart"

// A Broadcast is one message to one audience, in the form that operators read.
type Broadcast struct {
	Launch
	Progress
}

// A Launch is what never changes in a broadcast.
type Launch struct {
	ID       string          `json:"id"` // also the message's
	Message  belfry.Message  `json:"message"`
	Audience belfry.Audience `json:"audience"`
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
	Pace     float64        `json:"pace"`     // rows settled a second since the start
	ETA      *time.Time     `json:"eta"`
	Hosts    []Host         `json:"hosts"`
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
	State    string `json:"state"`
	Reason   string `json:"reason,omitempty"`
	Accepted int    `json:"accepted"`
}

// Ended reports whether nothing more will happen to the broadcast.
func (p Progress) Ended() bool { return p.State == Done || p.State == Cancelled }

// cancelRest ends the broadcast with everything that was pending cancelled.
func (p *Progress) cancelRest(reason string, now time.Time) {
	p.State, p.Reason, p.Finished = Cancelled, &reason, &now
	p.Counts.Cancelled += p.Counts.Pending
	p.Counts.Pending = 0
	p.Pace, p.ETA = 0, nil
}

// finish ends the broadcast once every row was visited. A row that was there at
// launch and was not met any more has left in between.
func (p *Progress) finish(now time.Time) {
	p.State, p.Finished = Done, &now
	p.Counts.Left += p.Counts.Pending
	p.Counts.Pending = 0
	p.ETA = nil
}

// measure says how fast the broadcast goes and when it will be done.
func (p *Progress) measure(now time.Time) {
	elapsed := now.Sub(*p.Started).Seconds()
	settled := p.Counts.Targets - p.Counts.Pending
	if elapsed <= 0 || settled == 0 {
		return
	}
	p.Pace = float64(settled) / elapsed
	eta := now.Add(time.Duration(float64(p.Counts.Pending) / p.Pace * float64(time.Second))).UTC()
	p.ETA = &eta
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
	switch s.result {
	case accepted:
		p.Counts.Accepted++
	case suppressed:
		p.Counts.Suppressed++
	case expired:
		p.Counts.Expired++
	case gone:
		p.Counts.Gone++
	case failed:
		p.Counts.Failed++
		if _, known := p.Failures[s.reason]; !known && len(p.Failures) >= maxReasons {
			s.reason = other
		}
		p.Failures[s.reason]++
	}
	p.share(s)
}

func (p *Progress) share(s settlement) {
	i := 0
	for i < len(p.Hosts) && p.Hosts[i].Host != s.host {
		i++
	}
	if i == len(p.Hosts) && i >= maxHosts {
		s.host, i = other, i-1
		p.Hosts[i].Host = other
	}
	if i == len(p.Hosts) {
		p.Hosts = append(p.Hosts, Host{Host: s.host, State: "open"})
	}
	if s.result == accepted {
		p.Hosts[i].Accepted++
	}
}

// copy returns progress that can be read while p goes on.
func (p Progress) copy() Progress {
	p.Failures, p.Hosts = maps.Clone(p.Failures), slices.Clone(p.Hosts)
	return p
}
