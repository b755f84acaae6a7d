package broadcasts

import "github.com/belfry-push/belfry"

// openRows are the rows of a broadcast that were handed out and are not settled,
// as the journal has them and as it will. They belong to the committer.
type openRows struct {
	booked  map[belfry.Position]bool // in the journal
	changed map[belfry.Position]*Try // since the last commit; nil is settled
}

func newOpenRows(booked map[belfry.Position]Try) openRows {
	rows := openRows{booked: map[belfry.Position]bool{}, changed: map[belfry.Position]*Try{}}
	for at := range booked {
		rows.booked[at] = true
	}
	return rows
}

func (o openRows) try(at belfry.Position, t Try) { o.changed[at] = &t }

// settle closes a row. One that the journal never heard of need not be told of.
func (o openRows) settle(at belfry.Position) {
	if o.booked[at] {
		o.changed[at] = nil
	} else {
		delete(o.changed, at)
	}
}

// written notes that the journal has what was changed.
func (o openRows) written() {
	for at, try := range o.changed {
		if try == nil {
			delete(o.booked, at)
		} else {
			o.booked[at] = true
		}
	}
	clear(o.changed)
}
