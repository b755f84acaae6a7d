package broadcasts

import "github.com/belfry-push/belfry"

const (
	// A row that a push service refuses for reasons that we do not know is suspect
	// after so many days of it: one bad message of ours is one day (WP-68).
	refusedDays = 3

	// A row whose push service nobody reaches is suspect after so many days (WP-72).
	unreachedDays = 14
)

// short reports whether the row gets its messages without padding.
func (a *attempt) short() bool { return a.Short || a.row.Memory.Constrained }

// lesson is what is to be remembered of the row, now that it is settled. For a
// row that was accepted as always it is what it was, and nothing is written.
func (a *attempt) lesson(r result) belfry.Memory {
	m, day := a.row.Memory, belfry.DayOf(a.run.engine.Now())
	if a.last.Status != 0 {
		m.Unreached = 0
	}
	switch {
	case r == accepted:
		return belfry.Memory{Constrained: a.short()}
	case r == expired && a.Silent && m.Unreached == 0:
		m.Unreached = day
	case r == expired && a.Silent && day > m.Unreached+unreachedDays:
		m.Suspect = true
	case r != failed || a.last.Status == 0:
	case a.last.Verdict == belfry.TooLarge:
		m.Constrained = true
	case a.last.Verdict == belfry.WrongKey:
		m.WrongKey = m.WrongKey || a.run.jury.blame(hostID(a.row.Host()))
	case a.last.Verdict == belfry.Refused && m.Refused != day:
		m.Refused, m.RefusedDays = day, min(m.RefusedDays+1, refusedDays)
		m.Suspect = m.Suspect || m.RefusedDays == refusedDays
	}
	return m
}
