package subscriptions

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"iter"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/internal/boltfile"
	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"
)

const (
	// maxTail is how many new rows wait for their index while an import goes on: some
	// 25 MB of memory. Half as many would write twice the pages.
	maxTail = 1 << 17

	// enough is how many wait where no import goes on, in some 2 MB. The next
	// start reads them, which takes some 50 ms.
	enough = 1 << 14

	// pieces is in how many transactions a tail is indexed, since bbolt holds in
	// memory what one has changed, and keeps others from writing.
	pieces = 8
)

// A tail is new rows that are not in subscriptions.by_endpoint yet. Each row's hash
// belongs on another page of that index; gathered and sorted, many meet on one,
// and a page is written some times and not with each transaction. A crowd that
// registers would else wait for a page each, in an index that is large.
//
// It says where a row may be, and not that it is there: a transaction may be
// taken back, and a row may leave or move. So who follows it looks at the row.
// On the disk is only where it begins, as the sequence of the index; from there
// on all rows may be missing in the index, and New makes the tail anew.
type tail struct {
	mu   sync.RWMutex // guards the next two
	rows []late
	last map[[32]byte]int // where in rows the latest with this hash is, from 1

	// next is where rows go while these are being indexed. Who reads in a
	// transaction begins at the tail from before it, and so misses none.
	next atomic.Pointer[tail]
}

// A late row is one that is not indexed yet.
type late struct {
	hash   [32]byte
	seq    uint64
	before int // the one before it with this hash, as in last; 0 where there is none
}

func newTail() *tail { return &tail{last: map[[32]byte]int{}} }

// add is for who holds the lock to write. It forgets no row that had this hash
// before: who is reading may still see that one, and a transaction that is taken
// back leaves it where it was.
func (l *tail) add(hash [32]byte, seq uint64) {
	if next := l.next.Load(); next != nil {
		l = next
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rows = append(l.rows, late{hash, seq, l.last[hash]})
	l.last[hash] = len(l.rows)
}

// places are where a row with this hash may be.
func (l *tail) places(hash [32]byte) iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		for l := l; l != nil; l = l.next.Load() {
			for row := l.latest(hash); row.seq > 0; row = l.at(row.before) {
				if !yield(row.seq) {
					return
				}
			}
		}
	}
}

func (l *tail) latest(hash [32]byte) late {
	l.mu.RLock()
	at := l.last[hash]
	l.mu.RUnlock()
	return l.at(at)
}

func (l *tail) at(n int) late {
	if n == 0 {
		return late{}
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.rows[n-1]
}

func (l *tail) holds(row belfry.Subscription) bool {
	for seq := range l.places(row.Endpoint.Hash()) {
		if seq == uint64(row.Seq) {
			return true
		}
	}
	return false
}

func (l *tail) size() (n int) {
	for ; l != nil; l = l.next.Load() {
		l.mu.RLock()
		n += len(l.rows)
		l.mu.RUnlock()
	}
	return n
}

// first is the number of the oldest row, or 0.
func (l *tail) first() (seq uint64) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, row := range l.rows {
		if seq == 0 || row.seq < seq {
			seq = row.seq
		}
	}
	return seq
}

// sorted is the tail in the order of the index.
func (l *tail) sorted() []late {
	l.mu.RLock()
	all := slices.Clone(l.rows)
	l.mu.RUnlock()
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
	for seq := range t.tail.places(hash) {
		if t.rows.Get(seqKey(seq)) == nil { // it is gone, or was never written
			continue
		}
		if row, err := t.row(seq); err == nil && row.Endpoint == e { // else it is damaged, and so nobody's
			return row, nil
		}
	}
	return belfry.Subscription{}, belfry.ErrNotFound
}

// Index finishes an import: where it brought many rows it brings the index of
// endpoints up to date. Rows are found all the while.
func (s *Store) Index(ctx context.Context) error {
	s.loading.Store(false)
	return wrap("index", s.indexDown(ctx, enough))
}

// indexDown indexes until fewer rows than that wait.
func (s *Store) indexDown(ctx context.Context, to int) error {
	for s.tail.Load().size() >= to {
		s.indexing.Lock()
		err := s.index(ctx)
		s.indexing.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// catchUp indexes beside those who write, once enough rows wait.
func (s *Store) catchUp() {
	if s.tail.Load().size() < s.mostLate() || !s.indexing.TryLock() {
		return
	}
	go func() {
		defer s.indexing.Unlock()
		err := s.index(context.Background())
		if err != nil && !errors.Is(err, bbolterrors.ErrDatabaseNotOpen) { // a file that is closed meanwhile keeps its tail
			s.log.Warn("new subscriptions are not indexed yet; they are found none the less", "err", err)
		}
	}()
}

// mostLate is how many rows may wait. An import's are indexed when there are more,
// as long as it goes on.
func (s *Store) mostLate() int {
	most := int(s.enough.Load())
	if s.loading.Load() {
		most = max(most, maxTail)
	}
	return most
}

// index writes the tail into the index, a piece at a time. Who calls holds indexing.
// What fails is tried again when as many rows more have come, and not with each.
func (s *Store) index(ctx context.Context) error {
	err := s.indexTail(ctx)
	if err != nil {
		s.enough.Store(int64(s.tail.Load().size() + enough))
	} else {
		s.enough.Store(enough)
	}
	return err
}

func (s *Store) indexTail(ctx context.Context) error {
	full := s.tail.Load()
	var all []late
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
			if all == nil { // nobody else is writing here
				full.next.CompareAndSwap(nil, newTail())
				all = full.sorted()
			}
			for at < len(all) && at-from < max(len(all)/pieces, fewest) && (at-from < fewest || s.waiting.Load() == 0) {
				if err := t.index(all[at]); err != nil {
					return err
				}
				at++
			}
			if more = at < len(all); more {
				return nil
			}
			return t.byEndpoint.SetSequence(cmp.Or(s.unread, full.next.Load().first()))
		})
		if err != nil {
			return boltfile.Explain(err)
		}
	}
	// Not before: who reads in a transaction from before needs these rows.
	s.tail.Store(full.next.Load())
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

// resume reads the tail of a server that is gone. Behind a page that is damaged it
// reads no further: those rows are rung, but a browser that registers anew is not
// known. Where the tail begins then stays noted, for a start after the file was mended.
func (s *Store) resume() error {
	var from uint64
	err := boltfile.View(s.db, func(tx *bbolt.Tx) error {
		t := s.tables(tx)
		if from = t.byEndpoint.Sequence(); from == 0 {
			return nil
		}
		var before []byte
		c := t.rows.Cursor()
		for k, v := c.Seek(seqKey(from)); k != nil; k, v = c.Next() {
			if bytes.Compare(k, before) <= 0 { // it would lead round in circles
				return damaged(0)
			}
			if row, err := rowOf(k, v); err == nil {
				t.tail.add(row.Endpoint.Hash(), uint64(row.Seq))
			}
			before = k
		}
		return nil
	})
	if errors.Is(err, belfry.ErrCorrupt) {
		s.log.Warn("some of the newest subscriptions cannot be read, and their browsers may register once more", "err", err)
		s.unread, err = from, nil
	}
	if err == nil {
		s.catchUp()
	}
	return err
}
