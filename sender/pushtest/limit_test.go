package pushtest_test

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belfry-push/belfry/sender/pushtest"
)

// A limit takes a minute's messages at once and then as many as it says; it says
// in its own way for how long it wants to be left alone.
func TestLimit(t *testing.T) {
	for form, want := range map[pushtest.RetryAfter][]string{
		"":                 {"10"},
		pushtest.InSeconds: {"10"},
		pushtest.AsDate:    {"Sat, 01 Jan 2000 00:00:10 GMT"},
		pushtest.Unsaid:    nil,
		pushtest.Absurd:    {"when the bell has rung"},
	} {
		t.Run(string(form), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, site := pushtest.NewMemoryService(t), newSite(t)
				s.Limit(pushtest.Limit{PerMinute: 6, RetryAfter: form})
				sub := s.Subscribe("")
				ask := func(status int) http.Header {
					t.Helper()
					got := do(t, s.Client(), site.request(t, sub, "hi"))
					if got.status != status {
						t.Fatalf("answered %d, want %d", got.status, status)
					}
					return got.header
				}
				for range 6 {
					ask(http.StatusCreated)
				}
				got := ask(http.StatusTooManyRequests).Values("Retry-After")
				if strings.Join(got, "|") != strings.Join(want, "|") {
					t.Errorf("Retry-After %q, want %q", got, want)
				}
				time.Sleep(10 * time.Second)
				ask(http.StatusCreated)
				ask(http.StatusTooManyRequests)
				if sum := s.Summary(); sum.Accepted != 7 || sum.Refused["limit"] != 2 {
					t.Errorf("%+v", sum)
				}
				s.Limit(pushtest.Limit{})
				ask(http.StatusCreated)
			})
		})
	}
}
