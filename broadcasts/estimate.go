package broadcasts

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/belfry-push/belfry"
)

// An Estimate is what a broadcast would be, found out without writing or sending
// anything.
type Estimate struct {
	Targets  int       `json:"targets"`
	Hosts    []Share   `json:"hosts"`    // the largest first
	Payload  int       `json:"payload"`  // octets of plaintext, for the site with the longest links and the longest variant
	Body     int       `json:"body"`     // octets of one request's body, sealed and padded
	Warnings []string  `json:"warnings"` // what the operator should know before
	Duration int       `json:"duration"` // seconds from the first row to the last
	ETA      time.Time `json:"eta"`
	Assumes  string    `json:"assumes"` // what duration and eta rest on
}

// A Share is how many of the targets one push service has.
type Share struct {
	Host    string `json:"host"`
	Targets int    `json:"targets"`
}

// Estimate says what a launch of r would be, or why it would be refused.
func (e *Engine) Estimate(ctx context.Context, r Request) (Estimate, error) {
	b, payloads, err := e.prepare(r)
	if err != nil {
		return Estimate{}, err
	}
	hosts, foreign := map[string]int{}, 0
	if b.Push != PushNever {
		if hosts, foreign, err = e.survey(ctx, b.Audience, payloads); err != nil {
			return Estimate{}, err
		}
	}
	est := Estimate{Hosts: shares(hosts), Warnings: append([]string{}, b.Warnings...)}
	longest := slices.MaxFunc(slices.Collect(maps.Values(payloads)), func(a, b []byte) int { return cmp.Compare(len(a), len(b)) })
	est.Payload = len(longest)
	if est.Body, err = e.Sender.Size(belfry.PushMessage{Payload: longest}); err != nil {
		return Estimate{}, err
	}
	for _, s := range est.Hosts {
		est.Targets += s.Targets
	}
	takes, assumes := e.reckon(est)
	if b.Rate != nil {
		takes = max(takes, seconds(float64(est.Targets)/float64(*b.Rate)))
	}
	est.Duration, est.ETA, est.Assumes = int(math.Ceil(takes.Seconds())), cmp.Or(b.Starts, b.Started).Add(takes), assumes
	if foreign > 0 {
		est.Warnings = append(est.Warnings, fmt.Sprintf("%d registered at a site that this server does not ring for now, and would fail", foreign))
	}
	if life := b.Message.Lifetime(); life > 0 && takes > life {
		est.Warnings = append(est.Warnings, fmt.Sprintf("it takes longer than its ttl of %s: who is not rung by then would expire", life))
	}
	return est, nil
}

// survey counts the audience by push service, and who registered at a site that
// has no payload. It reads a page at a time, as a broadcast does, so that it
// holds no transaction open however many there are.
func (e *Engine) survey(ctx context.Context, a belfry.Audience, payloads map[wording][]byte) (hosts map[string]int, foreign int, err error) {
	until, _, err := e.Audience.Snapshot(ctx, a)
	hosts = map[string]int{}
	for at, done := belfry.Position(0), false; err == nil && !done; {
		var rows []belfry.Subscription
		rows, at, done, err = e.Audience.Page(ctx, a, at, until, pageSize)
		for _, row := range rows {
			host := row.Host()
			if _, known := hosts[host]; !known && len(hosts) >= maxHosts {
				host = other
			}
			hosts[host]++
			if _, served := payloads[wording{origin: cmp.Or(row.Origin, e.Origins[0])}]; !served {
				foreign++
			}
		}
	}
	return hosts, foreign, err
}

func shares(hosts map[string]int) []Share {
	list := make([]Share, 0, len(hosts))
	for host, n := range hosts {
		list = append(list, Share{host, n})
	}
	slices.SortFunc(list, func(a, b Share) int {
		return cmp.Or(cmp.Compare(b.Targets, a.Targets), cmp.Compare(a.Host, b.Host))
	})
	return list
}

// What an estimate reckons with: a push service is sent to slowly at first
// (PS-04) and twice as fast each second (PS-06), until as many attempts are in
// flight as may be.
const (
	firstPace  = 200                    // rows in the first second
	answerTime = 100 * time.Millisecond // how long a push service takes to answer
)

// reckon says how long a broadcast would take, and what that assumes.
func (e *Engine) reckon(est Estimate) (takes time.Duration, assumes string) {
	full := float64(e.PerHost) / answerTime.Seconds()
	for _, s := range est.Hosts {
		if s.Host != other { // which is many
			takes = max(takes, climb(float64(s.Targets), full))
		}
	}
	takes = max(takes, seconds(float64(est.Targets)/(total/answerTime.Seconds())))
	return takes, fmt.Sprintf("each push service is sent %d in the first second and twice as many each second, up to %.0f a second, all beside each other; "+
		"each answers within %s and none asks to slow down", firstPace, full, answerTime)
}

// climb is how long n rows take at a pace that doubles each second up to full.
func climb(n, full float64) time.Duration {
	took, pace := 0.0, min(firstPace, full)
	for ; n > pace && pace < full; pace = min(2*pace, full) {
		n -= pace
		took++
	}
	return seconds(took + n/pace)
}

func seconds(n float64) time.Duration { return time.Duration(n * float64(time.Second)) }

const (
	// tooSoon is after what time, and the wait, it is seen how fast a broadcast goes
	// that was slowed down; until then it is believed to go as fast as it is let.
	tooSoon = 5 * time.Second

	// recently is what is said of the pace rests on: at least so much time, and
	// twice as much at most.
	recently = 2 * time.Minute
)

// A gauge says how fast a broadcast goes now. What it did before its push
// services slowed it down says nothing of that; nor does what they let it do at
// one moment, which swings around a limit that has to be found by trying.
type gauge struct {
	since  time.Time // from when on it counts
	before int       // rows that were settled then
	most   float64   // how many a second there could be, when it was read last

	slowed float64   // how many a second it was slowed down to, as far as one knew; 0 where it never was
	let    float64   // how many there could be then
	seen   time.Time // when it is seen how fast it is now
}

// read returns how many rows a second are settled, of which so many are by now,
// where so many a second may be, after that wait.
func (g *gauge) read(now time.Time, settled int, most float64, wait time.Duration) float64 {
	elapsed, n := now.Sub(g.since), float64(settled-g.before)
	pace := 0.0
	if elapsed > 0 {
		pace = n / elapsed.Seconds()
	}
	first := g.slowed == 0 && most < g.most
	g.most = most
	switch {
	case first, pace > 2*most:
		// What a push service saves up while we wait it lets through behind that: half of the wait makes up for it.
		g.since, g.before, g.seen = now.Add(wait/2), settled, now.Add(wait+tooSoon)
		g.slowed, g.let = min(pace, most), most
		return g.slowed
	case g.slowed > 0 && (most == g.let || now.Before(g.seen)): // a limit that stands still is known
		return min(g.slowed, most)
	case elapsed > 2*recently:
		g.since, g.before = g.since.Add(elapsed/2), g.before+int(n/2)
	}
	return pace
}
