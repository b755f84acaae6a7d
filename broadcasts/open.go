package broadcasts

// openRows is what changes in a broadcast's lines of open rows by the next
// commit. It belongs to the committer.
type openRows struct {
	changed map[Turn]*Try // nil is taken away
	left    []Turn        // rows that are not in memory any more
}

func newOpenRows() *openRows { return &openRows{changed: map[Turn]*Try{}} }

// add gives a row a turn. It never had the same one before.
func (o *openRows) add(t Turn, try *Try) { o.changed[t] = try }

// take ends a turn. Of one that the journal never heard of, it need not be told.
func (o *openRows) take(t Turn) {
	if o.changed[t] != nil {
		delete(o.changed, t)
	} else {
		o.changed[t] = nil
	}
}

// move ends a turn with another one, for which the row does not wait in memory.
func (o *openRows) move(from, to Turn, try *Try) {
	o.take(from)
	o.add(to, try)
	o.left = append(o.left, from)
}

// settle ends a row's last turn.
func (o *openRows) settle(t Turn) {
	o.take(t)
	o.left = append(o.left, t)
}

// written notes that the journal has what was changed.
func (o *openRows) written() {
	clear(o.changed)
	o.left = o.left[:0]
}
