package belfry

import (
	"fmt"
	"strings"
	"time"
)

// A Memory is what push services have let us know of a subscription at its
// endpoint. That of nearly all is zero; none of it removes anybody.
type Memory struct {
	// WrongKey: it was made with a VAPID key that none of ours is, so that sending
	// is in vain until its browser subscribes anew (WP-64).
	WrongKey bool `json:"wrongKey,omitzero"`
	// Constrained: it refused a padded message. From then on none is padded (WP-67).
	Constrained bool `json:"constrained,omitzero"`
	// Suspect: it was refused on three days for reasons that we do not know, or not
	// reached for two weeks (WP-68, WP-72). It is rung all the same, and shown.
	Suspect bool `json:"suspect,omitzero"`

	RefusedDays int `json:"refusedDays,omitzero"` // on how many days it was refused, since it was last accepted
	Refused     Day `json:"refused,omitzero"`     // the last of them
	Unreached   Day `json:"unreached,omitzero"`   // the first on which nobody answered, since somebody did
}

// Names of the marks, as operators read them.
const (
	MarkWrongKey    = "wrong-key"
	MarkConstrained = "constrained"
	MarkSuspect     = "suspect"
)

// Marks are what an operator should know of the subscription.
func (m Memory) Marks() (names []string) {
	for _, mark := range []struct {
		set  bool
		name string
	}{{m.WrongKey, MarkWrongKey}, {m.Constrained, MarkConstrained}, {m.Suspect, MarkSuspect}} {
		if mark.set {
			names = append(names, mark.name)
		}
	}
	return names
}

// Check reports whether m is one that we could have written.
func (m Memory) Check() error {
	if m.RefusedDays < 0 || m.RefusedDays > 255 || (m.RefusedDays == 0) != (m.Refused == 0) {
		return Invalid("memory", "memory", "refusedDays must be 1 to 255, and refused the last of these days")
	}
	return nil
}

// A Day is one of UTC's, counted from 1970-01-01; 0 is none.
type Day uint32

// DayOf is the day of a moment.
func DayOf(t time.Time) Day { return Day(max(t.Unix(), 0) / 86400) }

func (d Day) String() string { return time.Unix(int64(d)*86400, 0).UTC().Format(time.DateOnly) }

// MarshalText and UnmarshalText write a day as 2026-03-04.
func (d Day) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

func (d *Day) UnmarshalText(text []byte) error {
	t, err := time.Parse(time.DateOnly, strings.TrimSpace(string(text)))
	if err != nil || t.Unix() <= 0 {
		return fmt.Errorf("%s is not a day such as 2026-03-04", quote(string(text)))
	}
	*d = DayOf(t)
	return nil
}
