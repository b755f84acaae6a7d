package broadcasts

import (
	"encoding/hex"
	"fmt"
	"strings"
	"sync"

	"github.com/belfry-push/belfry"
)

// A push service that calls too many gone at once may be wrong: a proxy in
// between, a fault of its own. In June 2024 Google's had a spell of that for
// half of all old rows. From then on nobody is removed at its word in this
// broadcast until an operator has looked (WP-63, REL-18).
const (
	manyJudged = 200 // answers that we wait for before we judge
	tooGone    = 0.2 // of them, and somebody has to look
)

const (
	reasonDismissed = "gone-dismissed"   // an operator says that they are not gone
	reasonRenewed   = "endpoint-renewed" // an operator says that they are, but their browsers have come back since
)

// A decision is what an operator says of the rows that are suspect.
type decision uint8

const (
	undecided decision = iota
	confirmed
	dismissed
)

// A jury counts what the push services of one broadcast say of its rows.
type jury struct {
	mu     sync.Mutex // guards counts
	counts map[HostID]*count
}

type count struct {
	judged, gone int
	otherKey     int  // said to be made with a key that is not ours, in this run
	doubted      bool // its word is not enough any more
}

// newJury goes on from what an earlier run has counted.
func newJury(hosts []Host) *jury {
	j := &jury{counts: map[HostID]*count{}}
	for _, h := range hosts {
		c := j.of(hostID(h.Host))
		c.judged, c.gone, c.doubted = c.judged+h.Accepted+h.Gone+h.Suspect, c.gone+h.Gone+h.Suspect, c.doubted || h.Suspect > 0
	}
	return j
}

func (j *jury) of(host HostID) *count {
	if j.counts[host] == nil {
		j.counts[host] = &count{}
	}
	return j.counts[host]
}

// hear takes a push service's last word on one row. It reports whether that it is
// gone is to be doubted, and whether this is the first time.
func (j *jury) hear(host HostID, gone bool) (doubted, first bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	c := j.of(host)
	if c.judged++; !gone {
		return false, false
	}
	if c.gone++; c.doubted || c.judged < manyJudged || float64(c.gone) <= tooGone*float64(c.judged) {
		return c.doubted, false
	}
	c.doubted = true
	return true, true
}

// blame takes a push service's word that a row was made with another key, and
// reports whether that is to be remembered: where it says so of too many, the
// fault may be its own, or ours, and all would be rung no more until they visit.
func (j *jury) blame(host HostID) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	c := j.of(host)
	c.otherKey++
	return c.judged < manyJudged || float64(c.otherKey) <= tooGone*float64(c.judged)
}

// mark is how a suspect row remembers at which endpoint it was called gone.
func mark(e belfry.Endpoint) string {
	h := e.Hash()
	return hex.EncodeToString(h[:8])
}

// suspect keeps a row that was called gone for an operator to decide on.
func (a *attempt) suspect() {
	a.Suspect = mark(a.row.Endpoint)
	a.next(never)
}

// decide settles a suspect row as an operator has decided.
func (a *attempt) decide() {
	switch {
	case a.run.decision == dismissed:
		a.settle(failed, reasonDismissed)
	case mark(a.row.Endpoint) != a.Suspect:
		a.settle(failed, reasonRenewed)
	default:
		a.settle(gone, "")
	}
}

// suspects says how many rows an operator has to decide on.
func (p *Progress) suspects() (n int) {
	for _, h := range p.Hosts {
		n += h.Suspect
	}
	return n
}

// line returns the share of the push service in whose line a row stands.
func (p *Progress) line(host HostID) *Host {
	for i := range p.Hosts {
		if hostID(p.Hosts[i].Host) == host {
			return &p.Hosts[i]
		}
	}
	return &p.Hosts[len(p.Hosts)-1]
}

// ask pauses the broadcast until an operator has decided.
func (p *Progress) ask() {
	var all []string
	for _, h := range p.Hosts {
		if h.Suspect > 0 {
			all = append(all, fmt.Sprintf("%s says that %d more subscribers are gone", h.Host, h.Suspect))
		}
	}
	p.pause(strings.Join(all, ", ") + ": confirm removes them, dismiss keeps them")
}
