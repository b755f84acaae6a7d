package subscriptions

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"iter"
	"math"
	"slices"

	"github.com/belfry-push/belfry"
	"go.etcd.io/bbolt"
)

const (
	defaultPage = 256

	// countStep is how many index keys are counted in one transaction; a longer
	// one would keep bbolt from using freed pages again.
	countStep = 10_000
)

// End is behind every position: whoever pages until End sees all there is.
const End belfry.Position = math.MaxUint64

// Horizon is the highest position given out so far. Rows that come later are
// behind it, so it is the snapshot of a launch.
func (s *Store) Horizon(ctx context.Context) (belfry.Position, error) {
	var at belfry.Position
	err := s.read(ctx, func(t tables) error {
		at = belfry.Position(t.rows.Sequence())
		return nil
	})
	return at, wrap("horizon", err)
}

// Page returns the audience's rows behind after, up to and with until, in order
// of creation. It reads no more than limit rows in one short transaction and
// gives copies. Page on from next until done. Damaged rows are passed over.
func (s *Store) Page(ctx context.Context, a belfry.Audience, after, until belfry.Position, limit int) (rows []belfry.Subscription, next belfry.Position, done bool, err error) {
	if limit <= 0 {
		limit = defaultPage
	}
	next, done = after, true
	err = s.read(ctx, func(t tables) error {
		for seq := range t.members(a, uint64(after)) {
			row, err := t.row(seq)
			switch {
			case errors.Is(err, belfry.ErrCorrupt), seq <= uint64(next):
				// Where a damaged row stands is not believed either: whoever went on from
				// there could go round in circles, or past everybody else.
				s.passOver(seq)
				continue
			case seq > uint64(until):
				return nil
			case len(rows) == limit:
				done = false
				return nil
			}
			rows, next = append(rows, row), belfry.Position(seq)
		}
		return nil
	})
	if err != nil {
		return nil, after, false, wrap("page", err)
	}
	return rows, next, done, nil
}

// All yields the audience's rows in order of creation, up to those that are
// there when it begins. It reads a page at a time, so a slow consumer holds no
// transaction open. One saved or removed meanwhile may or may not be seen; none
// is seen twice. An error is the last thing it yields.
func (s *Store) All(ctx context.Context, a belfry.Audience) iter.Seq2[belfry.Subscription, error] {
	return func(yield func(belfry.Subscription, error) bool) {
		until, err := s.Horizon(ctx)
		var rows []belfry.Subscription
		for at, done := belfry.Position(0), false; !done; {
			if err == nil {
				rows, at, done, err = s.Page(ctx, a, at, until, defaultPage)
			}
			if err != nil {
				yield(belfry.Subscription{}, err)
				return
			}
			for _, row := range rows {
				if !yield(row, nil) {
					return
				}
			}
		}
	}
}

// Keys says how many rows were made with each VAPID key, by key id.
func (s *Store) Keys(ctx context.Context) (map[string]int, error) {
	keys := map[string]int{}
	err := s.read(ctx, func(t tables) error {
		c := t.counts.Cursor()
		for k, _ := c.Seek([]byte(tallyKey)); bytes.HasPrefix(k, []byte(tallyKey)); k, _ = c.Next() {
			keys[string(k[len(tallyKey):])] = int(t.tally(string(k)))
		}
		return nil
	})
	return keys, wrap("keys", err)
}

// Marks says of how many rows each mark is remembered, by its name.
func (s *Store) Marks(ctx context.Context) (map[string]int, error) {
	marks := map[string]int{}
	err := s.read(ctx, func(t tables) error {
		for _, name := range []string{belfry.MarkWrongKey, belfry.MarkConstrained, belfry.MarkSuspect} {
			marks[name] = int(t.tally(tallyMark + name))
		}
		return nil
	})
	return marks, wrap("marks", err)
}

// members yields the sequences of an audience behind after, ascending, each
// once. It holds one cursor for each name in the audience and no more.
func (t tables) members(a belfry.Audience, after uint64) iter.Seq[uint64] {
	if after == math.MaxUint64 {
		return func(func(uint64) bool) {}
	}
	switch {
	case a.All:
		return merge(newStream(t.rows, "", after))
	case len(a.Channels) > 0:
		return merge(t.streams(t.byChannel, a.Channels, after)...)
	case len(a.Users) > 0:
		return merge(t.streams(t.byUser, a.Users, after)...)
	}
	return slices.Values(t.listed(a.Subscriptions, after))
}

// listed finds the sequences of the ids that are there.
func (t tables) listed(ids []string, after uint64) []uint64 {
	var seqs []uint64
	for _, id := range ids {
		if v := t.byID.Get([]byte(id)); len(v) == 8 && binary.BigEndian.Uint64(v) > after {
			seqs = append(seqs, binary.BigEndian.Uint64(v))
		}
	}
	slices.Sort(seqs)
	return slices.Compact(seqs)
}

func (t tables) streams(index *bbolt.Bucket, names []string, after uint64) []*stream {
	var all []*stream
	for _, name := range unique(names) {
		all = append(all, newStream(index, name+"\x00", after))
	}
	return all
}

// A stream walks the keys of a bucket that are prefix and a sequence.
type stream struct {
	cursor *bbolt.Cursor
	prefix []byte
	seq    uint64
	ended  bool
}

func newStream(b *bbolt.Bucket, prefix string, after uint64) *stream {
	s := &stream{cursor: b.Cursor(), prefix: []byte(prefix)}
	k, _ := s.cursor.Seek(append([]byte(prefix), seqKey(after+1)...))
	s.take(k)
	return s
}

func (s *stream) next() {
	k, _ := s.cursor.Next()
	s.take(k)
}

func (s *stream) take(k []byte) {
	if len(k) != len(s.prefix)+8 || !bytes.HasPrefix(k, s.prefix) {
		s.ended = true
		return
	}
	s.seq = binary.BigEndian.Uint64(k[len(s.prefix):])
}

// merge yields what the streams hold in one ascending order, each value once.
func merge(streams ...*stream) iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		for {
			lowest, found := uint64(0), false
			for _, s := range streams {
				if !s.ended && (!found || s.seq < lowest) {
					lowest, found = s.seq, true
				}
			}
			if !found || !yield(lowest) {
				return
			}
			for _, s := range streams {
				if !s.ended && s.seq == lowest {
					s.next()
				}
			}
		}
	}
}

func unique(names []string) []string {
	names = slices.Clone(names)
	slices.Sort(names)
	return slices.Compact(names)
}
