package subscriptions

import (
	"context"
	"errors"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/internal/boltfile"
	"github.com/belfry-push/belfry/internal/id"
	"go.etcd.io/bbolt"
)

// Imported says what became of a batch.
type Imported struct {
	Created int
	Updated int
	Refused []Refusal
}

// A Refusal is one subscription of a batch that was not stored.
type Refusal struct {
	Index int // in the batch, from 0
	Err   error
}

// Import stores a batch from a file in one transaction. A new endpoint makes a
// row without a secret, so that no browser can change it until it registers
// anew. A known one is brought up to date: its keys are replaced, its channels
// are united, user, locale and the like are replaced where they are given; it
// keeps its id, its secret and its place. Whatever cannot be stored is reported
// and the rest goes on; an error means that nothing of the batch was stored.
// Some 1,000 to a batch keep the write lock for about 20 ms.
func (s *Store) Import(ctx context.Context, batch []belfry.Subscription) (Imported, error) {
	if err := ctx.Err(); err != nil {
		return Imported{}, err
	}
	var done Imported
	err := s.db.Update(func(tx *bbolt.Tx) error {
		t := openTables(tx)
		for i, sub := range batch {
			created, err := s.importOne(t, sub)
			var refused *belfry.Error
			switch {
			case errors.As(err, &refused):
				done.Refused = append(done.Refused, Refusal{i, refused})
			case err != nil:
				return err
			case created:
				done.Created++
			default:
				done.Updated++
			}
		}
		return nil
	})
	if err != nil {
		return Imported{}, wrap("import", boltfile.Explain(err))
	}
	return done, nil
}

func (s *Store) importOne(t tables, sub belfry.Subscription) (created bool, err error) {
	if sub, err = checked(sub); err != nil {
		return false, err
	}
	old, err := t.byHash(sub.Endpoint)
	if errors.Is(err, belfry.ErrNotFound) {
		sub.ID, sub.Secret, sub.Imported = id.New(), belfry.SecretHash{}, true
		if sub.Created.IsZero() {
			sub.Created = s.time()
		}
		if err := t.room(); err != nil {
			return false, err
		}
		return true, t.add(&sub)
	}
	if err != nil {
		return false, err
	}
	sub.Channels = append(sub.Channels, old.Channels...)
	row, err := checked(refreshed(old, sub))
	if err != nil {
		return false, err
	}
	return false, t.save(&old, &row)
}
