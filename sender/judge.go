package sender

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/internal/outbound"
)

// An answer is what a push service said, and what is needed to understand it.
type answer struct {
	status  int
	header  http.Header
	body    []byte // at most maxAnswer octets of it
	now     time.Time
	asked   time.Duration // the TTL that we asked for
	secrets secrets       // what the reason must not repeat
}

// judge says what an answer means. It is the one place in the house that knows
// (WP-60..WP-71). What it does not know costs a message, never a subscriber.
func judge(a answer) belfry.Outcome {
	o := belfry.Outcome{Status: a.status}
	switch {
	case a.status/100 == 2 && !dropped(a.header):
		o.Verdict, o.TTL = belfry.Accepted, granted(a.header, a.asked)
		return o
	case a.status/100 == 2:
		o.Verdict = belfry.Later
	case a.status == http.StatusNotFound, a.status == http.StatusGone:
		o.Verdict = belfry.Gone
	case a.status == http.StatusRequestEntityTooLarge:
		o.Verdict = belfry.TooLarge
	case otherKey(a.status, a.body):
		o.Verdict = belfry.WrongKey
	case a.status == http.StatusUnauthorized, a.status == http.StatusForbidden:
		o.Verdict = belfry.OurFault
	case later(a.status):
		o.Verdict = belfry.Later
	default:
		o.Verdict = belfry.Refused
	}
	o.Skew = skew(a.header, a.now)
	if o.Verdict == belfry.Later {
		o.RetryAfter = retryAfter(a.status, a.header, a.now.Add(o.Skew))
	}
	o.Reason = reason(a)
	return o
}

// dropped reports whether Microsoft took a message and then threw it away (WP-70).
func dropped(h http.Header) bool {
	// By the names that net/http and internal/h2 keep them under, without Get, which
	// looks with every answer whether they are those.
	for _, said := range [...][]string{h["X-Wns-Status"], h["X-Wns-Notificationstatus"]} {
		if len(said) == 0 {
			continue
		}
		switch strings.ToLower(said[0]) {
		case "dropped", "channelthrottled":
			return true
		}
	}
	return false
}

// later reports whether a status speaks of now and not of the message: slow
// down, come back, or a push service having a bad day (WP-66, WP-69). 406 is
// how Microsoft says slow down (PS-33).
func later(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests, http.StatusNotAcceptable:
		return true
	}
	return status/100 == 5
}

// otherKeyTexts are how push services say that a subscription was made with
// another VAPID key: Apple, FCM, autopush, and FCM of old (WP-64). They are all
// there is to tell it from a fault of ours, which would pause the host.
var otherKeyTexts = []string{
	"vapidpkhashmismatch",
	"do not correspond to the credentials used to create the subscription",
	"vapid public key mismatch",
	"unauthorizedregistration",
	"mismatchsenderid",
}

func otherKey(status int, body []byte) bool {
	switch status {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden:
	default:
		return false
	}
	text := strings.ToLower(string(body))
	for _, t := range otherKeyTexts {
		if strings.Contains(text, t) {
			return true
		}
	}
	return false
}

const (
	leastWait   = time.Second
	mostWait    = time.Hour   // an absurd value must not silence a host for days
	defaultWait = time.Minute // FCM's advice where the header is missing (PS-06)
)

var wholeNumber = regexp.MustCompile(`^[+-]?[0-9]+$`)

// retryAfter is how long a push service asks us to wait; 0 means that it did
// not ask. now is by its clock, which is the one its date is meant by.
func retryAfter(status int, h http.Header, now time.Time) time.Duration {
	values := h.Values("Retry-After")
	if len(values) == 0 {
		if status == http.StatusTooManyRequests || status == http.StatusNotAcceptable {
			return defaultWait
		}
		return 0
	}
	value := strings.TrimSpace(values[0])
	if wholeNumber.MatchString(value) {
		// Out of range, ParseInt gives the nearest it can hold; it says so of what is no number, too.
		seconds, _ := strconv.ParseInt(value, 10, 64)
		return time.Duration(min(max(seconds, int64(leastWait/time.Second)), int64(mostWait/time.Second))) * time.Second
	}
	if date, err := http.ParseTime(value); err == nil {
		return min(max(date.Sub(now), leastWait), mostWait)
	}
	return defaultWait
}

// granted is the TTL that a push service says it will keep to. It may only be
// shorter than what was asked (RFC 8030 §5.2); anything else is ignored (WP-05).
func granted(h http.Header, asked time.Duration) time.Duration {
	value := h.Get("Ttl")
	if value == "" {
		return 0 // as most do; an error would be made for nothing
	}
	seconds, err := strconv.ParseUint(strings.TrimSpace(value), 10, 31)
	if t := time.Duration(seconds) * time.Second; err == nil && t <= asked {
		return t
	}
	return 0
}

// skew is how far a push service's clock is ahead of ours. A token signed by a
// wrong clock is refused by everybody, so an operator should hear of it (REL-08).
func skew(h http.Header, now time.Time) time.Duration {
	date, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return 0
	}
	return date.Sub(now)
}

// unanswered judges an attempt that ended without an answer. ctx is the
// caller's: when that is done, nobody waits for the message any more; when our
// own time limit is, the push service was too slow.
func unanswered(ctx context.Context, host string, err error, hide secrets) belfry.Outcome {
	if ctx.Err() != nil {
		return belfry.Outcome{Verdict: belfry.Cancelled, Reason: "stopped waiting for an answer",
			Err: fmt.Errorf("sender: %s: %w", host, ctx.Err())}
	}
	// The text of a *url.Error holds the whole endpoint (SEC-22). Its cause may
	// hold what the push service wrote, so that is cleaned like any answer.
	if lost, ok := errors.AsType[*url.Error](err); ok {
		err = lost.Err
	}
	return belfry.Outcome{Verdict: belfry.Later, Reason: outbound.Cause(err),
		Err: fmt.Errorf("sender: %s: %s", host, clean(err.Error(), hide))}
}
