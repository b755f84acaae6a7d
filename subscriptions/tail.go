package subscriptions

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"sync"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/internal/boltfile"
	"go.etcd.io/bbolt"
)

// maxTail is how many rows an import brings before they are indexed: some 20 MB
// of memory, and about what New reads where an import was killed. With half as
// many, twice the pages are written.
const maxTail = 1 << 17

// A tail is the rows that an import appended and that are not in
// subscriptions.by_endpoint yet. Each row's hash belongs on another page of that
// index; gathered and sorted, many meet on one, and a page is written some times
// and not with each of a hundred transactions.
//
// It says where a row may be, and not that it is there: a transaction may be
// taken back, and a row may leave or move. So who follows it looks at the row.
// On the disk is only where it begins, as the sequence of the index; from there
// on all rows may be missing in the index, and New makes the tail anew.
type tail struct {
	mu   sync.RWMutex // guards rows
	rows map[[32]byte]uint64
}

func newTail() *tail { return &tail{rows: map[[32]byte]uint64{}} }

func (l *tail) add(hash [32]byte, seq uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rows[hash] = seq
}

func (l *tail) find(hash [32]byte) (seq uint64, found bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	seq, found = l.rows[hash]
	return seq, found
}

func (l *tail) holds(row belfry.Subscription) bool {
	seq, found := l.find(row.Endpoint.Hash())
	return found && seq == uint64(row.Seq)
}

func (l *tail) size() int {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return len(l.rows)
}

// A late row is one that is not indexed yet.
type late struct {
	hash [32]byte
	seq  uint64
}

// sorted is the tail in the order of the index.
func (l *tail) sorted() []late {
	l.mu.RLock()
	defer l.mu.RUnlock()
	all := make([]late, 0, len(l.rows))
	for hash, seq := range l.rows {
		all = append(all, late{hash, seq})
	}
	slices.SortFunc(all, func(a, b late) int { return bytes.Compare(a.hash[:], b.hash[:]) })
	return all
}

// leave leaves an entry of the index of endpoints to the tail, and notes on the
// disk where that begins.
func (t tables) leave(e entry) error {
	seq := binary.BigEndian.Uint64(e.value)
	t.tail.add([32]byte([]byte(e.key)), seq)
	if t.byEndpoint.Sequence() > 0 {
		return nil
	}
	return t.byEndpoint.SetSequence(seq)
}

// late reads the row with this endpoint, if it is in the tail.
func (t tables) late(e belfry.Endpoint, hash [32]byte) (belfry.Subscription, error) {
	seq, found := t.tail.find(hash)
	if !found {
		return belfry.Subscription{}, belfry.ErrNotFound
	}
	row, err := t.row(seq)
	if err != nil || row.Endpoint != e { // it is gone, or damaged and so nobody's, or was never written
		return belfry.Subscription{}, belfry.ErrNotFound
	}
	return row, nil
}

// Index finishes an import: it brings the index of endpoints up to date. Rows are
// found all the while; what is not indexed when the server dies, New indexes.
func (s *Store) Index(ctx context.Context) error {
	s.importing.Lock()
	defer s.importing.Unlock()
	if s.tail.Load().size() == 0 {
		return nil
	}
	return wrap("index", s.index(ctx))
}

// index writes the tail into the index, a piece at a time, as Import does.
func (s *Store) index(ctx context.Context) error {
	all := s.tail.Load().sorted()
	for at, more := 0, true; more; {
		if err := ctx.Err(); err != nil {
			return err
		}
		from := at
		err := s.db.Update(func(tx *bbolt.Tx) error {
			t := s.tables(tx)
			if err := t.room(); err != nil { // what is left is for those who leave
				return err
			}
			for at < len(all) && at-from < maxTail/8 && (at-from < fewest || s.waiting.Load() == 0) {
				if err := t.index(all[at]); err != nil {
					return err
				}
				at++
			}
			if more = at < len(all); more {
				return nil
			}
			return t.byEndpoint.SetSequence(0)
		})
		if err != nil {
			return boltfile.Explain(err)
		}
	}
	// A new one, for whoever reads in a transaction from before needs the old.
	s.tail.Store(newTail())
	return nil
}

// index adds a row to the index, if it is still there and where it was.
func (t tables) index(l late) error {
	row, err := t.row(l.seq)
	if err != nil || row.Endpoint.Hash() != l.hash {
		return nil
	}
	return t.byEndpoint.Put(l.hash[:], seqKey(l.seq))
}

// resume indexes what an import left behind that was killed.
func (s *Store) resume() error {
	var from uint64
	err := boltfile.View(s.db, func(tx *bbolt.Tx) error {
		t := s.tables(tx)
		if from = t.byEndpoint.Sequence(); from == 0 {
			return nil
		}
		c := t.rows.Cursor()
		for k, v := c.Seek(seqKey(from)); k != nil; k, v = c.Next() {
			if row, err := rowOf(k, v); err == nil {
				t.tail.add(row.Endpoint.Hash(), uint64(row.Seq))
			}
		}
		return nil
	})
	if err != nil || from == 0 {
		return err
	}
	if err := s.index(context.Background()); !errors.Is(err, belfry.ErrFull) {
		return err
	}
	s.log.Warn("the rows of an import that was cut off are not indexed, for want of room; they are found none the less, and the next import or start indexes them")
	return nil
}
