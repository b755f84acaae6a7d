package broadcasts

import (
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/belfry-push/belfry"
)

// ReasonCanary is why a broadcast is paused that has reached the few who get it
// first: its operator looks how it went, and lets it go on.
const ReasonCanary = "canary"

// A Canary is how many get a broadcast first, before its operator says that the
// rest may: a part of them, "1%", or a number, "500".
type Canary string

// checkCanary says what is wrong with the canary, if there is one.
func (r Request) checkCanary() error {
	if r.Canary == nil {
		return nil
	}
	if _, err := r.Canary.rows(1); err != nil {
		return belfry.Invalid("canary", "canary", `must be a part such as "1%", under 100%, or a number such as "500"`)
	}
	if r.Push == PushNever {
		return belfry.Invalid("canary", "canary", "cannot go with push never: pages that are open hear it all at once")
	}
	if r.Message.Lifetime() == 0 {
		return belfry.Invalid("canary", "canary", "cannot go with a ttl of 0: now or never is over when the canary is")
	}
	return nil
}

// rows is how many of targets come first: one at least.
func (c Canary) rows(targets int) (int, error) {
	part, percent := strings.CutSuffix(string(c), "%")
	if !percent {
		n, err := strconv.ParseUint(part, 10, 32)
		if n == 0 && err == nil {
			err = strconv.ErrRange
		}
		return int(n), err
	}
	p, err := strconv.ParseFloat(part, 64)
	if err == nil && !(0 < p && p < 100) {
		err = strconv.ErrRange
	}
	return int(math.Ceil(float64(targets) * p / 100)), err
}

// batch is how many rows are to be handed out before the broadcast is over, or
// its operator is asked: all of them once he has answered.
func (b Broadcast) batch() int {
	if b.Canary == nil || b.Proven {
		return b.Counts.Targets
	}
	n, err := b.Canary.rows(b.Counts.Targets)
	if err != nil { // it was checked at launch
		return b.Counts.Targets
	}
	return min(n, b.Counts.Targets)
}

// over is what becomes of a broadcast of which every row that was handed out is
// settled: it waits for its operator where these were the canary, and is done
// where nobody is left to hand out.
func (r *run) over(p *Progress, now time.Time) {
	if r.course.Handed == r.batch && r.batch < p.Counts.Targets {
		p.pause(ReasonCanary)
	} else {
		p.finish(now)
	}
}
