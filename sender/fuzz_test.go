package sender

import (
	"math"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/belfry-push/belfry"
)

// Whatever a push service writes into Retry-After, and whatever its clock says,
// we wait a second at least and an hour at most, neither a hammer nor a host
// given up for days; in between we wait for as long as it asks.
func FuzzRetryAfter(f *testing.F) {
	for _, seed := range []string{"30", "-5", "0", "+7", "1.5", "1e9", "999999999", "99999999999999999999", "-99999999999999999999",
		"Fri, 02 Jan 2026 03:00:00 GMT", "Friday, 02-Jan-26 03:04:35 GMT", "Fri Jan  2 03:04:35 2026",
		"Fri, 31 Dec 9999 23:59:59 GMT", "Mon, 01 Jan 0001 00:00:00 GMT", "soon", "", " 30 ", "30, 40", "0x1e", "３０"} {
		f.Add(seed, "", 429)
		f.Add(seed, "Fri, 02 Jan 2026 03:00:00 GMT", 503)
	}
	f.Add("Fri, 31 Dec 9999 23:59:59 GMT", "Mon, 01 Jan 0001 00:00:00 GMT", 406)
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	f.Fuzz(func(t *testing.T, value, date string, status int) {
		header := http.Header{"Retry-After": {value}, "Date": {date}}
		o := judge(answer{status: status, header: header, now: now})
		if o.Verdict != belfry.Later {
			if o.RetryAfter != 0 {
				t.Errorf("%d: %v, and yet it asks for %v", status, o.Verdict, o.RetryAfter)
			}
			return
		}
		if want := asked(value, date, now); o.RetryAfter != want {
			t.Errorf("%q at %q: %v, not %v", value, date, o.RetryAfter, want)
		}
	})
}

// asked says a second time how long a push service asks us to wait. It counts
// in seconds since 1970, which no date can carry out of range.
func asked(value, date string, now time.Time) time.Duration {
	value = strings.TrimSpace(value)
	seconds := big.NewInt(60)
	if n, ok := new(big.Int).SetString(value, 10); ok {
		seconds = n
	} else if until, err := http.ParseTime(value); err == nil {
		if there, err := http.ParseTime(date); err == nil {
			now = now.Add(there.Sub(now)) // no clock is taken to be more than 292 years off
		}
		seconds = big.NewInt(until.Unix() - now.Unix())
	}
	return time.Duration(max(1, min(clamped(seconds), 3600))) * time.Second
}

func clamped(n *big.Int) int64 {
	if n.IsInt64() {
		return n.Int64()
	}
	return int64(n.Sign()) * math.MaxInt64
}

// Whatever a push service answers, a subscriber is lost by 404 and 410 alone
// (WP-60, WP-61), and a message counts as accepted by 2xx alone.
func FuzzJudge(f *testing.F) {
	for _, status := range []int{0, 100, 200, 201, 204, 299, 301, 400, 401, 403, 404, 406, 408, 410, 413, 425, 429, 500, 503, 599, 600, -404, -201} {
		f.Add(status, "", "")
		f.Add(status, "dropped", `{"reason":"VapidPkHashMismatch"}`)
	}
	f.Fuzz(func(t *testing.T, status int, wns, body string) {
		o := judge(answer{status: status, header: http.Header{"X-Wns-Status": {wns}}, body: []byte(body)})
		if gone := status == 404 || status == 410; gone != (o.Verdict == belfry.Gone) {
			t.Errorf("%d %q: %v", status, body, o.Verdict)
		}
		if o.Verdict == belfry.Accepted && (status < 200 || status > 299) {
			t.Errorf("%d: %v", status, o.Verdict)
		}
		if bad := status >= 500 && status <= 599; bad && o.Verdict != belfry.Later {
			t.Errorf("%d %q: %v", status, body, o.Verdict)
		}
		if (o.Reason == "") != (o.Verdict == belfry.Accepted) || o.Verdict == 0 || o.Err != nil {
			t.Errorf("%d %q: %+v", status, body, o)
		}
	})
}

// Whatever a push service says about a request, what we show of it is one short
// line of printable text, without the secrets that were in the request and
// without a token that we have never seen.
func FuzzReason(f *testing.F) {
	const (
		secret  = "/canary:path;one,q2$r3!s4" // nothing in it looks like a token
		foreign = "APA91bHun4MxP5egoKMwt2KZFBaFUH"
	)
	f.Add("no registration ", " found", false)
	f.Add(`{"reason":"Bad `, `"}`, false)
	f.Add(`{"errno":102,"message":"`, `\n\u0000"}`, false)
	f.Add("<title>", "&lt;/title></title>", false)
	f.Add(strings.Repeat("x y ", 45), "\x1b[31m\u202e\xff", false)
	f.Add("https://push.example", "?q=1", false)
	f.Add("the channel https://push.example", " has expired", true)
	f.Fuzz(func(t *testing.T, before, after string, inHeader bool) {
		said := answer{status: 400, secrets: func() []string { return []string{secret} }}
		if text := before + secret + " " + foreign + after; inHeader {
			said.header = http.Header{"X-Wns-Error-Description": {text}}
		} else {
			said.body = []byte(text)
		}
		got := reason(said)
		if holdsPiece(got, secret) && !holdsPiece(before+after, secret) || holdsPiece(got, foreign) && !holdsPiece(before+after, foreign) {
			t.Errorf("holds of a secret: %q", got)
		}
		if len(got) > maxReason || !utf8.ValidString(got) || strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("not fit to show: %q", got)
		}
		if got == "" {
			t.Error("says nothing")
		}
	})
}

// holdsPiece reports whether text holds eight octets of secret or more.
func holdsPiece(text, secret string) bool {
	for i := range len(secret) - 7 {
		if strings.Contains(text, secret[i:i+8]) {
			return true
		}
	}
	return false
}
