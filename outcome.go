package belfry

import (
	"fmt"
	"time"
)

// A Verdict is what one attempt means for the house. The set is closed; what an
// answer means is decided in sender, what to do about it in broadcasts.
type Verdict uint8

const (
	Accepted  Verdict = iota + 1 // the push service took the message (2xx); never "delivered"
	Later                        // try again: no answer, 408, 425, 429, 5xx (WP-66, WP-69)
	Gone                         // the subscription has ended: 404 or 410, nothing else (WP-60, WP-61)
	WrongKey                     // made with a VAPID key that we did not sign with; keep it for healing (WP-64)
	OurFault                     // our token, clock or subject is refused; pause the host, keep everybody (WP-65)
	TooLarge                     // 413: seal it once more without padding (WP-67)
	Refused                      // this message will never be taken for this subscription; keep it (WP-68)
	Blocked                      // we do not speak to that host; nothing was sent (SEC-02)
	Cancelled                    // our side gave up waiting; nothing is known of the message
)

var verdictNames = [...]string{Accepted: "accepted", Later: "later", Gone: "gone", WrongKey: "wrong-key",
	OurFault: "our-fault", TooLarge: "too-large", Refused: "refused", Blocked: "blocked", Cancelled: "cancelled"}

func (v Verdict) String() string {
	if v == 0 || int(v) >= len(verdictNames) {
		return fmt.Sprintf("verdict(%d)", uint8(v))
	}
	return verdictNames[v]
}

// An Outcome is everything that one attempt has to say.
type Outcome struct {
	Verdict    Verdict
	Status     int           // HTTP status; 0 when nobody answered
	Reason     string        // the push service's own short reason or ours, safe to show; may be empty
	RetryAfter time.Duration // with Later: how long the push service asked us to wait; 0 means it did not
	TTL        time.Duration // with Accepted: how long it will keep the message (RFC 8030 §5.2); 0 means it did not say
	Skew       time.Duration // its clock less ours, from the Date header; 0 when unknown, and with Accepted
	Err        error         // what stopped the attempt, with no secret in it; nil when there was an answer
}
