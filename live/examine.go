package live

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"unique"

	"go.etcd.io/bbolt"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/internal/boltfile"
)

// examineStep is how many keys are looked at in one transaction.
const examineStep = 256

// Examine reads every event, and follows each to its entries in the indexes and
// back. Who publishes meanwhile is not in its way.
func (l *Log) Examine(ctx context.Context) (belfry.Checkup, error) {
	x := examination{}
	err := x.walk(ctx, l.db.View)
	return x.checkup(), err
}

// Mend brings the indexes into agreement with the events, beside who publishes.
func (l *Log) Mend(ctx context.Context) error {
	x := examination{}
	return x.walk(ctx, func(look func(*bbolt.Tx) error) error {
		faults := x.faults()
		if err := l.db.View(look); err != nil || x.faults() == faults {
			return err
		}
		x.mends = true
		defer func() { x.mends = false }()
		return boltfile.Explain(l.db.Update(look))
	})
}

// An examination is what is known so far.
type examination struct {
	mends                                    bool // put right what is found
	events, entries, damaged, missing, stray int
}

func (x *examination) faults() int { return x.missing + x.stray }

func (x *examination) walk(ctx context.Context, transact func(func(*bbolt.Tx) error) error) error {
	for _, of := range []struct {
		bucket []byte
		look   func(t tables, k, v []byte) error
	}{{eventsName, x.event}, {groupsName, x.group}, {messagesName, x.message}} {
		err := boltfile.Walk(ctx, transact, of.bucket, examineStep, func(tx *bbolt.Tx) boltfile.Visit {
			t := openTables(tx)
			return func(k, v []byte) error { return of.look(t, k, v) }
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// event looks whether an event can be read and found.
func (x *examination) event(t tables, k, _ []byte) error {
	x.events++
	seq := number(k)
	r, err := t.event(seq)
	if err != nil {
		x.damaged++
		return nil
	}
	groups := groupsOf(r.Audience)
	found := bytes.Equal(t.messages.Get([]byte(r.ID)), k)
	for _, g := range groups {
		at, _ := t.groups.Cursor().Seek(groupKey(g, seq))
		found = found && bytes.Equal(at, groupKey(g, seq))
	}
	if found {
		return nil
	}
	x.missing++
	if x.mends {
		return t.index(seq, r.ID, groups)
	}
	return nil
}

// group looks whether an entry leads to an event of its group.
func (x *examination) group(t tables, k, _ []byte) error {
	x.entries++
	name, seq := split(k)
	r, err := t.event(seq)
	if err == nil && slices.Contains(groupsOf(r.Audience), unique.Make(name)) {
		return nil
	}
	if err != nil && t.events.Get(seqKey(seq)) != nil {
		return nil // the event is damaged; it leads to a place where something was missed
	}
	x.stray++
	if x.mends {
		return t.groups.Delete(k)
	}
	return nil
}

func split(k []byte) (name string, seq uint64) {
	at := len(k) - 8
	if at < 1 || k[at-1] != 0 {
		return "", 0
	}
	return string(k[:at-1]), number(k[at:])
}

// message looks whether a message's id leads to its event.
func (x *examination) message(t tables, k, v []byte) error {
	x.entries++
	r, err := t.event(number(v))
	if err == nil && r.ID == string(k) || err != nil && t.events.Get(v) != nil {
		return nil
	}
	x.stray++
	if x.mends {
		return t.messages.Delete(k)
	}
	return nil
}

func (x *examination) checkup() belfry.Checkup {
	found := belfry.Checkup{Looked: []belfry.Looked{{What: "events", Count: x.events}, {What: "index entries of events", Count: x.entries}}}
	add := func(n int, what, hint string) {
		if n > 0 {
			found.Findings = append(found.Findings, belfry.Finding{Severity: belfry.Fault, What: fmt.Sprintf(what, n), Hint: hint})
		}
	}
	const rebuild = "put it right with `belfry doctor --rebuild`"
	add(x.damaged, "events for open pages are damaged, and pages are told that they missed something: %d", "keep a copy of the file as it is; they leave the log with their age")
	add(x.missing, "events for open pages cannot be found by who should hear them: %d", rebuild)
	add(x.stray, "index entries lead to no event: %d", rebuild)
	return found
}
