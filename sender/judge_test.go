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
