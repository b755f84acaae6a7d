package pushtest

import (
	"fmt"
	"math"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/belfry-push/belfry"
)

// A Limit is how many messages a push service takes from a site, as Chrome's
// takes 1,000 a minute of one that it thinks disruptive (PS-04): a bucket of a
// minute's messages, full at first. What is beyond it is answered 429. The zero
// Limit is none.
type Limit struct {
	PerMinute  int        `json:"perMinute"`
	RetryAfter RetryAfter `json:"retryAfter"`
}

// A RetryAfter is how a push service says for how long it wants to be left alone.
type RetryAfter string

const (
	InSeconds RetryAfter = "seconds" // until there is room again; the default
	AsDate    RetryAfter = "date"    // the same (RFC 9110 §10.2.3)
	Unsaid    RetryAfter = "unsaid"  // without the header field
	Absurd    RetryAfter = "absurd"  // in words that are no time
)

func (l Limit) check() error {
	switch l.RetryAfter {
	case "", InSeconds, AsDate, Unsaid, Absurd:
	default:
		return belfry.Invalid("limit", "retryAfter", fmt.Sprintf("%+q is not seconds, date, unsaid or absurd", string(l.RetryAfter)))
	}
	if l.PerMinute < 0 {
		return belfry.Invalid("limit", "perMinute", "must not be negative")
	}
	return nil
}

// Limit sets a limit for the whole service, and begins with a full bucket.
func (s *Service) Limit(l Limit) {
	if err := l.check(); err != nil {
		panic("pushtest: " + err.Error())
	}
	s.bucket.set(l, s.now())
}

// A bucket holds what a limit leaves for now.
type bucket struct {
	mu     sync.Mutex // guards what follows
	limit  Limit
	tokens float64
	at     time.Time // when they were counted
}

func (b *bucket) set(l Limit, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.limit, b.tokens, b.at = l, float64(l.PerMinute), now
}

// take takes room for one message, or refuses it.
func (b *bucket) take(now time.Time) *refusal {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.limit.PerMinute == 0 {
		return nil
	}
	most := float64(b.limit.PerMinute)
	b.tokens, b.at = min(most, b.tokens+most*now.Sub(b.at).Minutes()), now
	if b.tokens >= 1 {
		b.tokens--
		return nil
	}
	wait := int(math.Ceil((1 - b.tokens) / most * 60))
	bad := &refusal{status: http.StatusTooManyRequests, errno: errnoOther, message: "Too many messages", reason: "limit",
		detail: fmt.Sprintf("more than %d messages in a minute", b.limit.PerMinute), header: http.Header{}}
	switch b.limit.RetryAfter {
	case "", InSeconds:
		bad.header.Set("Retry-After", strconv.Itoa(wait))
	case AsDate:
		bad.header.Set("Retry-After", now.Add(time.Duration(wait)*time.Second).UTC().Format(http.TimeFormat))
	case Absurd:
		bad.header.Set("Retry-After", "when the bell has rung")
	}
	return bad
}
