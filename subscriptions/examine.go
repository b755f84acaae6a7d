package subscriptions

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/internal/boltfile"
	"go.etcd.io/bbolt"
)

// examineStep is how many keys are looked at in one transaction.
const examineStep = 256

// indexNames are the derived buckets whose entries lead to rows.
var indexNames = [][]byte{idsName, endsName, chansName, usersName}

// Examine reads every row, follows every row to its index entries and back, and
// counts anew what is counted. Whoever registers meanwhile is not in its way:
// what is compared with each other is read in one transaction. With an error it
// returns what it found until then.
func (s *Store) Examine(ctx context.Context) (belfry.Checkup, error) {
	x := newExamination()
	err := x.walk(ctx, func(look func(*bbolt.Tx) error) error {
		x.tail = s.tail.Load()
		return s.db.View(look)
	})
	return x.checkup(), err
}

// Mend brings everything that is derived into agreement with the rows, while
// others go on registering: only where a few rows have faults does it write, in
// a transaction for them alone. The endpoint and the id of a damaged row are
// free afterwards, so that its browser can register again.
//
// It looks until it finds nothing more: a count that is too low may reach none,
// and be gone, while others leave and before its turn has come.
func (s *Store) Mend(ctx context.Context) error {
	for range mostMends {
		found, err := s.mend(ctx)
		if err != nil {
			return wrap("mend", boltfile.Explain(err))
		}
		if !found {
			return nil
		}
	}
	return nil
}

// mostMends is how often Mend looks: what is still wrong then stays so, and
// Examine says it.
const mostMends = 5

func (s *Store) mend(ctx context.Context) (found bool, err error) {
	x := newExamination()
	err = x.walk(ctx, func(look func(*bbolt.Tx) error) error {
		faults := x.faults
		x.tail = s.tail.Load()
		if err := s.db.View(look); err != nil || x.faults == faults {
			return err
		}
		x.mends = true
		defer func() { x.mends = false }()
		return s.db.Update(look)
	})
	return x.faults > 0, err
}

// An examination is what is known so far.
type examination struct {
	mends  bool  // put right what is found
	tail   *tail // where rows are that an index may lack; from before the transaction, as in read
	faults int

	rows, entries, counts int
	damaged               []string       // rows, some of them by number
	unread                int            // how many are damaged
	missing               map[string]int // rows that are not in an index, by its name
	strays                map[string]int // entries of an index that lead to no row that has them
	uncounted, wrong      int            // counts that are not there; that are not right
}

func newExamination() *examination {
	return &examination{strays: map[string]int{}, missing: map[string]int{}}
}

// walk looks at everything. What is missing comes first, so that counting, which
// comes last, finds all there is to count.
func (x *examination) walk(ctx context.Context, transact func(func(*bbolt.Tx) error) error) error {
	err := boltfile.Walk(ctx, transact, rowsName, examineStep, x.row)
	for _, name := range indexNames {
		err = errors.Join(err, boltfile.Walk(ctx, transact, name, examineStep, x.entry(name)))
	}
	// To count a channel is work enough for one transaction.
	return errors.Join(err, boltfile.Walk(ctx, transact, countName, 1, x.count))
}

// mend puts a fault right, when it is to.
func (x *examination) mend(how func() error) error {
	x.faults++
	if !x.mends {
		return nil
	}
	return how()
}

// maxNamed is how many damaged rows are named.
const maxNamed = 5

// row looks at rows, and at what is derived from them.
func (x *examination) row(tx *bbolt.Tx) boltfile.Visit {
	t := openTables(tx)
	return func(k, v []byte) error {
		x.rows++
		row, err := rowOf(k, v)
		if err != nil {
			if x.unread++; x.unread <= maxNamed {
				x.damaged = append(x.damaged, number(k))
			}
			return nil
		}
		for _, e := range t.entries(&row) {
			got := e.index.Get([]byte(e.key))
			if got == nil && e.index == t.byEndpoint && x.tail.holds(row) {
				x.entries++
				continue
			}
			if got == nil || !bytes.Equal(got, e.value) {
				x.missing[t.name(e.index)]++
				if err := x.mend(func() error { return e.index.Put([]byte(e.key), e.value) }); err != nil {
					return err
				}
			}
		}
		for _, key := range tallies(&row) {
			if t.counts.Get([]byte(key)) == nil {
				x.uncounted++
				if err := x.mend(func() error { return t.setTally(key, t.recount(key)) }); err != nil {
					return err
				}
			}
		}
		return nil
	}
}

// entry looks at the entries of an index: each must lead to a row that has it.
func (x *examination) entry(index []byte) func(*bbolt.Tx) boltfile.Visit {
	return func(tx *bbolt.Tx) boltfile.Visit {
		t := openTables(tx)
		return func(k, v []byte) error {
			x.entries++
			seq := v
			if len(v) == 0 && len(k) > 8 {
				seq = k[len(k)-8:]
			}
			row, err := rowOf(seq, t.rows.Get(seq))
			for _, e := range t.entries(&row) {
				if err == nil && t.name(e.index) == string(index) && string(e.key) == string(k) {
					return nil
				}
			}
			x.strays[string(index)]++
			return x.mend(func() error { return tx.Bucket(index).Delete(k) })
		}
	}
}

// count counts anew.
func (x *examination) count(tx *bbolt.Tx) boltfile.Visit {
	t := openTables(tx)
	return func(k, v []byte) error {
		x.counts++
		n := t.recount(string(k))
		if n > 0 && bytes.Equal(v, seqKey(n)) {
			return nil
		}
		x.wrong++
		return x.mend(func() error { return t.setTally(string(k), n) })
	}
}

func rowOf(k, v []byte) (belfry.Subscription, error) {
	if len(k) != 8 {
		return belfry.Subscription{}, damaged(0)
	}
	return decode(binary.BigEndian.Uint64(k), v)
}

// number names a row to people.
func number(k []byte) string {
	if len(k) != 8 {
		return fmt.Sprintf("%+q", k)
	}
	return fmt.Sprint(binary.BigEndian.Uint64(k))
}

// name is the name of an index.
func (t tables) name(index *bbolt.Bucket) string {
	switch index {
	case t.byID:
		return string(idsName)
	case t.byEndpoint:
		return string(endsName)
	case t.byChannel:
		return string(chansName)
	}
	return string(usersName)
}

// recount counts what the tally with this key should be: in the index that holds
// its members, where there is one. Else all rows are read, which is the one look
// that takes about a second when they are a million.
func (t tables) recount(key string) (n uint64) {
	counted := func(row belfry.Subscription, err error) bool {
		return err == nil && slices.Contains(tallies(&row), key)
	}
	switch kind, name := key[:1], key[1:]; kind {
	case tallyAll:
		c := t.byID.Cursor()
		for k, _ := c.First(); k != nil; k, _ = c.Next() {
			n++
		}
	case tallyChannel:
		for s := newStream(t.byChannel, name+"\x00", 0); !s.ended; s.next() {
			n++
		}
	case tallyUser:
		for s := newStream(t.byUser, name+"\x00", 0); !s.ended; s.next() {
			n++
		}
	case tallyDevices:
		for s := newStream(t.byUser, name+"\x00", 0); !s.ended; s.next() {
			if counted(t.row(s.seq)) {
				n++
			}
		}
	default:
		c := t.rows.Cursor()
		for k, v := c.First(); k != nil; k, v = c.Next() {
			if counted(rowOf(k, v)) {
				n++
			}
		}
	}
	return n
}

const rebuildHint = "make the indexes anew with `belfry doctor --rebuild`"

// checkup says it in words.
func (x *examination) checkup() belfry.Checkup {
	c := belfry.Checkup{Looked: []belfry.Looked{{What: "subscriptions", Count: x.rows}, {What: "index entries", Count: x.entries}, {What: "counts", Count: x.counts}}}
	find := func(hint, format string, args ...any) {
		c.Findings = append(c.Findings, belfry.Finding{Severity: belfry.Fault, What: fmt.Sprintf(format, args...), Hint: hint})
	}
	if x.unread > 0 {
		which := strings.Join(x.damaged, ", ")
		if x.unread > maxNamed {
			which += ", …"
		}
		find("restore a backup from before; or `belfry doctor --rebuild` lets their browsers register anew",
			"%d of %d subscriptions cannot be read (number %s) and are rung no more", x.unread, x.rows, which)
	}
	for _, name := range indexNames {
		if n := x.missing[string(name)]; n > 0 {
			find(rebuildHint, "%d of %d subscriptions cannot be found through %s", n, x.rows, name)
		}
		if n := x.strays[string(name)]; n > 0 {
			find(rebuildHint, "%d of %d index entries cannot be followed from %s to a subscription", n, x.entries, name)
		}
	}
	if x.uncounted > 0 {
		find(rebuildHint, "%d times a subscription is not in a count that should hold it", x.uncounted)
	}
	if x.wrong > 0 {
		find(rebuildHint, "%d of %d counts of subscriptions cannot be right", x.wrong, x.counts)
	}
	return c
}
