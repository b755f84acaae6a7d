package main

import (
	"testing"
	"time"
)

// An operator writes a time as on the wall beside them, and everybody is rung at
// that one: not an hour off by a time zone, nor a day.
func TestMoment(t *testing.T) {
	here := time.FixedZone("here", 3600)
	now := time.Date(2026, 2, 28, 17, 30, 0, 0, here)
	for text, want := range map[string]string{
		"2026-03-04T18:05:06Z":          "2026-03-04T19:05:06+01:00",
		"2026-03-04T18:05:06.007-05:00": "2026-03-05T00:05:06+01:00",
		"2026-03-04 18:05":              "2026-03-04T18:05:00+01:00",
		"18:05":                         "2026-02-28T18:05:00+01:00",
		"7:05":                          "2026-03-01T07:05:00+01:00",
		"17:30":                         "2026-03-01T17:30:00+01:00",
	} {
		if got, err := moment(text, now); err != nil || got.In(here).Format(time.RFC3339) != want {
			t.Errorf("%s is %s, %v; want %s", text, got.In(here).Format(time.RFC3339), err, want)
		}
	}
	for _, text := range []string{"", "tomorrow", "25:00", "6pm", "2026-03-04", "2026-03-04T18:05:06", "2026-02-30 18:05", "04.03.2026 18:05"} {
		if got, err := moment(text, now); err == nil {
			t.Errorf("%q is %s", text, got)
		}
	}
}
