package sender

import (
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

// Whatever a push service writes into Retry-After, we wait a second at least
// and an hour at most: neither a hammer nor a host given up for days.
func FuzzRetryAfter(f *testing.F) {
	for _, seed := range []string{"30", "-5", "0", "+7", "1.5", "1e9", "999999999", "99999999999999999999", "-99999999999999999999",
		"Fri, 02 Jan 2026 03:00:00 GMT", "Friday, 02-Jan-26 03:04:35 GMT", "Fri Jan  2 03:04:35 2026",
		"Fri, 31 Dec 9999 23:59:59 GMT", "Mon, 01 Jan 0001 00:00:00 GMT", "soon", "", " 30 ", "30, 40", "0x1e", "３０"} {
		f.Add(seed, 429)
		f.Add(seed, 503)
	}
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	f.Fuzz(func(t *testing.T, value string, status int) {
		got := retryAfter(status, http.Header{"Retry-After": {value}}, now)
		if got < time.Second || got > time.Hour {
			t.Errorf("%q: %v", value, got)
		}
		if got != judge(answer{status: 503, header: http.Header{"Retry-After": {value}}, now: now}).RetryAfter {
			t.Errorf("%q: judged otherwise", value)
		}
	})
}

// Whatever a push service says about a request, what we show of it is one short
// line of printable text without the secrets that were in the request.
func FuzzReason(f *testing.F) {
	const secret = "/canary-path/APA91bHun4MxP5egoKMwt2KZFBaFUH"
	f.Add("no registration ", " found")
	f.Add(`{"reason":"Bad `, `"}`)
	f.Add(`{"errno":102,"message":"`, `\n\u0000"}`)
	f.Add("<title>", "&lt;/title></title>")
	f.Add(strings.Repeat("x y ", 45), "\x1b[31m\u202e\xff")
	f.Add("https://push.example", "?q=1")
	f.Fuzz(func(t *testing.T, before, after string) {
		got := reason(answer{status: 400, body: []byte(before + secret + after), secrets: func() []string { return []string{secret} }})
		if strings.Contains(got, "canary-path") || strings.Contains(got, "APA91bHun4MxP5ego") {
			t.Errorf("holds the secret: %q", got)
		}
		if len(got) > maxReason || !utf8.ValidString(got) || strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("not fit to show: %q", got)
		}
		if got == "" {
			t.Error("says nothing")
		}
	})
}
