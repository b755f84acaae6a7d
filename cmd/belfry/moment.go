package main

import (
	"fmt"
	"math"
	"time"

	"github.com/spf13/cobra"
)

// schedule reads the flags that say when to start.
func (s *sending) schedule(c *cobra.Command) error {
	if c.Flags().Changed("at") {
		at, err := moment(s.at, time.Now())
		if err != nil {
			return wrongUsage(c, err)
		}
		s.options["at"] = at
	}
	if c.Flags().Changed("max-lateness") {
		s.options["maxLateness"] = int(math.Ceil(s.late.Seconds()))
	}
	return nil
}

// moment reads a time as people write it: with its zone, or in that of this
// machine. A time of day is the next one.
func moment(text string, now time.Time) (time.Time, error) {
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at, nil
	}
	if at, err := time.ParseInLocation("2006-01-02 15:04", text, now.Location()); err == nil {
		return at, nil
	}
	day, err := time.Parse("15:04", text)
	if err != nil {
		return day, fmt.Errorf("--at %q is not a time such as 2026-03-04T18:05:00+01:00, '2026-03-04 18:05' or 18:05", text)
	}
	at := time.Date(now.Year(), now.Month(), now.Day(), day.Hour(), day.Minute(), 0, 0, now.Location())
	if !at.After(now) {
		at = time.Date(now.Year(), now.Month(), now.Day()+1, day.Hour(), day.Minute(), 0, 0, now.Location())
	}
	return at, nil
}
