package subscriptions

import (
	"context"
	"encoding/binary"
	"errors"

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
// holds the changes in memory until it ends. The endpoint and the id of a
// damaged row are free afterwards: its browser can register again.
func (s *Store) Rebuild(ctx context.Context) (Rebuilt, error) {
	var done Rebuilt
	err := s.db.Update(func(tx *bbolt.Tx) error {
		done = Rebuilt{}
		for _, name := range derivedNames {
			if err := tx.DeleteBucket(name); err != nil {
				return err
			}
			if _, err := tx.CreateBucket(name); err != nil {
				return err
			}
		}
		t := openTables(tx)
		return t.rows.ForEach(func(k, v []byte) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			if len(k) != 8 {
				done.Damaged++
				return nil
			}
			row, err := decode(binary.BigEndian.Uint64(k), v)
			if errors.Is(err, belfry.ErrCorrupt) {
				done.Damaged++
				return nil
			}
			done.Rows++
			return t.derive(nil, &row)
		})
	})
	if err != nil {
		return Rebuilt{}, wrap("rebuild", boltfile.Explain(err))
	}
	return done, nil
}
