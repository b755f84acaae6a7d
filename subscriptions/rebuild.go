package subscriptions

import (
	"context"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/internal/boltfile"
	"go.etcd.io/bbolt"
)

// Rebuilt says what a rebuild found.
type Rebuilt struct {
	Rows    int // readable, and now indexed
	Damaged int // left where they are, out of every index and count
}

// Rebuild makes all derived buckets anew from the rows, in one transaction that
// holds them in memory until it ends. The endpoint and the id of a damaged row
// are free afterwards: its browser can register again.
func (s *Store) Rebuild(ctx context.Context) (Rebuilt, error) {
	var done Rebuilt
	err := s.db.Update(func(tx *bbolt.Tx) error {
		for _, name := range derivedNames {
			if err := tx.DeleteBucket(name); err != nil {
				return err
			}
			if _, err := tx.CreateBucket(name); err != nil {
				return err
			}
		}
		var err error
		done, err = openTables(tx).rebuild(ctx)
		return err
	})
	if err != nil {
		return Rebuilt{}, wrap("rebuild", boltfile.Explain(err))
	}
	return done, nil
}

// rebuild fills empty derived buckets. It gathers all entries and puts them in
// the order of their keys: bbolt keeps what one transaction adds to a page in
// one sorted list, and at random places 100,000 rows took a minute.
func (t tables) rebuild(ctx context.Context) (done Rebuilt, err error) {
	var entries []entry
	t.hold()
	err = t.rows.ForEach(func(k, v []byte) error {
		var row belfry.Subscription
		err := damaged(0)
		if len(k) == 8 {
			row, err = decode(binary.BigEndian.Uint64(k), v)
		}
		if err != nil {
			done.Damaged++
			return nil
		}
		done.Rows++
		entries = append(entries, t.entries(&row)...)
		for _, key := range tallies(&row) {
			t.held[key]++
		}
		return ctx.Err()
	})
	if err != nil {
		return done, err
	}
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.key, b.key) })
	for _, e := range entries {
		if err := e.index.Put([]byte(e.key), e.value); err != nil {
			return done, err
		}
	}
	return done, t.settle()
}
