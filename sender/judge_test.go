package sender

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/internal/vectors"
)

// Every answer that push services are known to give leads to one verdict. The
// rows that cost subscribers when they are wrong are those that must not delete:
// our own faults and a push service's bad day.
func TestJudge(t *testing.T) {
	var v struct {
		Clock time.Time
		Rows  []struct {
			Service, Action, Why, Body string
			Status                     int
			Header                     map[string]string
			WaitSeconds                int `json:"wait_seconds"`
		}
	}
	vectors.Load(t, "responses", &v)
	verdicts := map[string]belfry.Verdict{
		"accepted": belfry.Accepted, "delete": belfry.Gone, "fail-message": belfry.Refused,
		"pause-host": belfry.OurFault, "rekey": belfry.WrongKey, "retry": belfry.Later,
		"wait": belfry.Later, "shrink-once": belfry.TooLarge,
	}
	if len(v.Rows) < 30 {
		t.Fatalf("only %d rows", len(v.Rows))
	}
	for _, row := range v.Rows {
		h := http.Header{}
		for name, value := range row.Header {
			h.Set(name, value)
		}
		got := judge(answer{status: row.Status, header: h, body: []byte(row.Body), now: v.Clock})
		want := belfry.Outcome{Verdict: verdicts[row.Action], Status: row.Status, Reason: got.Reason,
			RetryAfter: time.Duration(row.WaitSeconds) * time.Second}
		if got != want {
			t.Errorf("%s %d %q: %+v, want %+v (%s)", row.Service, row.Status, row.Body, got, want, row.Why)
		}
		if named := got.Reason != ""; named != (want.Verdict != belfry.Accepted) {
			t.Errorf("%s %d: reason %q", row.Service, row.Status, got.Reason)
		}
	}
}

// What no push service was seen to answer yet, or only in other words: nothing
// of it may delete, and a word in the wrong place may not stop a broadcast.
func TestJudgeUnknown(t *testing.T) {
	const mismatch = `{"reason":"VapidPkHashMismatch"}`
	tests := []struct {
		status int
		body   string
		want   belfry.Verdict
		wait   time.Duration
	}{
		{204, mismatch, belfry.Accepted, 0},
		{299, "", belfry.Accepted, 0},
		{101, "", belfry.Refused, 0},
		{304, "", belfry.Refused, 0},
		{400, "", belfry.Refused, 0},
		{400, "MismatchSenderId", belfry.WrongKey, 0},
		{401, "", belfry.OurFault, 0},
		{403, "UNAUTHORIZEDREGISTRATION", belfry.WrongKey, 0},
		{402, mismatch, belfry.Refused, 0},
		{404, mismatch, belfry.Gone, 0},
		{405, "", belfry.Refused, 0},
		{406, "", belfry.Later, time.Minute},
		{407, "", belfry.Refused, 0},
		{410, mismatch, belfry.Gone, 0},
		{413, mismatch, belfry.TooLarge, 0},
		{425, "", belfry.Later, 0},
		{429, mismatch, belfry.Later, time.Minute},
		{451, "", belfry.Refused, 0},
		{500, mismatch, belfry.Later, 0},
		{502, "", belfry.Later, 0},
		{504, "gone", belfry.Later, 0},
		{599, "", belfry.Later, 0},
		{600, "", belfry.Refused, 0},
		{999, "", belfry.Refused, 0},
	}
	for _, tt := range tests {
		got := judge(answer{status: tt.status, header: http.Header{}, body: []byte(tt.body)})
		if got.Verdict != tt.want || got.RetryAfter != tt.wait {
			t.Errorf("%d %s: %v after %v, want %v after %v", tt.status, tt.body, got.Verdict, got.RetryAfter, tt.want, tt.wait)
		}
	}
}

// How long to wait is the push service's to say, within reason, and by its own
// clock: where ours is wrong, its dates would else mean an hour or nothing.
func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	tests := []struct {
		value, date string
		want        time.Duration
	}{
		{"30", "", 30 * time.Second},
		{" 30 ", "", 30 * time.Second},
		{"0", "", time.Second},
		{"3601", "", time.Hour},
		{"99999999999999999999", "", time.Hour},
		{"-99999999999999999999", "", time.Second},
		{"1.5", "", time.Minute},
		{"", "", time.Minute},
		{"Fri, 02 Jan 2026 03:05:00 GMT", "", 55 * time.Second},
		{"Friday, 02-Jan-26 03:05:00 GMT", "", 55 * time.Second},
		{"Fri, 31 Dec 9999 23:59:59 GMT", "", time.Hour},
		{"Fri, 02 Jan 2026 09:00:30 GMT", "Fri, 02 Jan 2026 09:00:00 GMT", 30 * time.Second},
		{"Thu, 01 Jan 2026 09:00:30 GMT", "Thu, 01 Jan 2026 09:00:00 GMT", 30 * time.Second},
	}
	for _, tt := range tests {
		h := http.Header{"Retry-After": {tt.value}}
		if tt.date != "" {
			h.Set("Date", tt.date)
		}
		if got := judge(answer{status: 503, header: h, now: now}).RetryAfter; got != tt.want {
			t.Errorf("%q at %q: %v, want %v", tt.value, tt.date, got, tt.want)
		}
	}
}

// A push service may keep a message for less time than we asked and must say
// so. More than we asked, or nonsense, is not believed (WP-05).
func TestGrantedTTL(t *testing.T) {
	for value, want := range map[string]time.Duration{"3600": time.Hour, "60": time.Minute, "0": 0, "3601": 0, "-1": 0,
		"soon": 0, "": 0, "99999999999999999999": 0, " 60 ": time.Minute} {
		o := judge(answer{status: 201, header: http.Header{"Ttl": {value}}, asked: time.Hour})
		if o.Verdict != belfry.Accepted || o.TTL != want {
			t.Errorf("%q: %+v, want %v", value, o, want)
		}
	}
}

// What an operator reads of a refusal is the push service's own sentence,
// whichever form it comes in.
func TestReason(t *testing.T) {
	tests := []struct {
		name, header, body, want string
	}{
		{"Apple", "", `{"reason":"BadJwtToken"}`, "BadJwtToken"},
		{"autopush", "", `{"code":401,"errno":109,"error":"Unauthorized","message":"VAPID public key mismatch"}`, "errno 109: VAPID public key mismatch"},
		{"autopush without message", "", `{"code":503,"errno":201}`, "errno 201"},
		{"Google JSON", "", `{"error":{"code":400}}`, "403 Forbidden"},
		{"Google text", "", "authorization header must be specified.\n", "authorization header must be specified."},
		{"Google page", "", "<HTML>\n<HEAD>\n<TITLE>push subscription has\nunsubscribed &amp; expired.</TITLE></HEAD>", "push subscription has unsubscribed & expired."},
		{"page without title", "", "<p>no</p>", "403 Forbidden"},
		{"Microsoft", "Ttl value conflicts with X-WNS-Cache-Policy.", "", "Ttl value conflicts with X-WNS-Cache-Policy."},
		{"nothing", "", "", "403 Forbidden"},
		{"control characters", "", "a\x1b[31mred\x00\r\nSet-Cookie: x\u202e\xff", "a [31mred Set-Cookie: x"},
		{"long", "", "a" + strings.Repeat("é", 150), "a" + strings.Repeat("é", 99)},
		{"URL", "", "see https://push.example/p/secret?x=y for more", "see […] for more"},
		{"token", "", "no registration APA91bHun4MxP5egoKMwt2KZFBaFUH for it", "no registration […] for it"},
		{"token of letters", "", "no registration " + strings.Repeat("aBcD", 8), "no registration […]"},
		{"long word", "", "UnauthorizedRegistration", "UnauthorizedRegistration"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := http.Header{}
			if tt.header != "" {
				h.Set("X-WNS-Error-Description", tt.header)
			}
			got := judge(answer{status: 403, header: h, body: []byte(tt.body)}).Reason
			if got != tt.want {
				t.Errorf("reason %q, want %q", got, tt.want)
			}
			if len(got) > maxReason {
				t.Errorf("%d octets", len(got))
			}
		})
	}
}
