package web

import (
	"fmt"
	"net/netip"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"

	"github.com/belfry-push/belfry"
)

const (
	// perDay bounds what one address can register in a day (SEC-42).
	perDay = 50
	// remembered bounds the memory that addresses cost; the least recent is forgotten.
	remembered = 100_000
)

// A limiter bounds by address what browsers write. Addresses live in memory only (SEC-26).
type limiter struct {
	what  string // is counted, in words
	limit Limit
	day   int // as many come back in a day
	known *lru.Cache[netip.Prefix, buckets]
}

type buckets struct{ short, day *rate.Limiter }

func newLimiter(what string, l Limit, day int) *limiter {
	known, err := lru.New[netip.Prefix, buckets](remembered)
	if err != nil {
		panic(err) // only a size below 1 is refused
	}
	return &limiter{what, l, day, known}
}

// allow takes one from ip's share, or says how long to wait.
func (l *limiter) allow(ip string) (time.Duration, error) {
	if l.limit.N == 0 {
		return 0, nil
	}
	prefix, err := shareOf(ip)
	if err != nil {
		return 0, err
	}
	b := l.bucketsOf(prefix)
	now := time.Now()
	for _, bucket := range []*rate.Limiter{b.short, b.day} {
		r := bucket.ReserveN(now, 1)
		if wait := r.DelayFrom(now); wait > 0 {
			r.CancelAt(now)
			return wait, &belfry.Error{Kind: errTooMany, Code: "too-many", Text: "too many " + l.what + " from this address", Hint: "wait as long as Retry-After says"}
		}
	}
	return 0, nil
}

func (l *limiter) bucketsOf(p netip.Prefix) buckets {
	fresh := buckets{
		rate.NewLimiter(rate.Every(l.limit.Per/time.Duration(l.limit.N)), l.limit.N),
		rate.NewLimiter(rate.Every(24*time.Hour/time.Duration(l.day)), max(l.day, l.limit.N)),
	}
	if known, found, _ := l.known.PeekOrAdd(p, fresh); found {
		l.known.Get(p) // marks it as recently used
		return known
	}
	return fresh
}

// shareOf is what of ip counts as one: an IPv6 customer holds a whole /64.
func shareOf(ip string) (netip.Prefix, error) {
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("web: peer without an address: %w", err)
	}
	addr = addr.Unmap()
	bits := 32
	if addr.Is6() {
		bits = 64
	}
	return addr.WithZone("").Prefix(bits)
}
