package broadcasts

import (
	"golang.org/x/time/rate"

	"github.com/belfry-push/belfry"
)

// maxRate is beyond what one server can send.
const maxRate = 1_000_000

// checkRate says whether rows can be begun at that rate.
func (o Options) checkRate() error {
	if o.Rate != nil && (*o.Rate < 1 || *o.Rate > maxRate) {
		return belfry.Invalid("rate", "rate", "must be 1 to 1000000 rows a second")
	}
	return nil
}

// limiter lets rows begin one after the other at the operator's rate. Those of
// 10 ms may begin together, since no timer is much finer. Without a rate it lets
// all pass.
func (o Options) limiter() *rate.Limiter {
	if o.Rate == nil {
		return rate.NewLimiter(rate.Inf, 0)
	}
	return rate.NewLimiter(rate.Limit(*o.Rate), max(1, *o.Rate/100))
}
