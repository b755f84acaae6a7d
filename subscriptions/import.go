package subscriptions

import (
	"cmp"
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

// fewest is how many rows of an import share a transaction at least while
// somebody waits to write; they take some 20 ms, and fewer would mostly wait for
// the disk.
const fewest = 1000

// Import stores a batch from a file. A new endpoint makes a row without a
// secret, so that no browser can change it until it registers anew. A known one
// is brought up to date: its keys are replaced, its channels are united, user,
// locale and the like are replaced where they are given; it keeps its id, its
// secret and its place. Whatever cannot be stored is reported and the rest goes
// on. After an error nothing is stored beyond what is counted.
//
// A row that names no VAPID key has the one that its endpoint had, since that
// belongs to one key for life, or key where it is new.
//
// All share one transaction, since the pages that many rows change are written
// once. But as soon as a visitor waits, those that are in are written, and the
// rest is left for the next one. Index belongs after the last batch.
func (s *Store) Import(ctx context.Context, batch []belfry.Subscription, key string) (done Imported, err error) {
	many := len(batch) >= fewest
	if many {
		s.loading.Store(true)
	}
	for at := 0; at < len(batch); {
		if err := ctx.Err(); err != nil {
			return done, err
		}
		var part Imported
		next := at
		err := s.db.Update(func(tx *bbolt.Tx) error {
			t := s.tables(tx)
			t.hold()
			for next < len(batch) && (next-at < fewest || s.waiting.Load() == 0) {
				if err := s.importInto(&part, t, next, batch[next], key); err != nil {
					return err
				}
				next++
			}
			return t.settle()
		})
		if err != nil {
			return done, wrap("import", boltfile.Explain(err))
		}
		at = next
		done.add(part)
	}
	if many {
		return done, wrap("import", s.indexDown(ctx, s.mostLate()))
	}
	s.catchUp()
	return done, nil
}

func (i *Imported) add(part Imported) {
	i.Created += part.Created
	i.Updated += part.Updated
	i.Refused = append(i.Refused, part.Refused...)
}

// importInto stores the row with this index and counts it. An error is one that
// the whole transaction cannot go on after.
func (s *Store) importInto(done *Imported, t tables, index int, sub belfry.Subscription, key string) error {
	created, err := s.importOne(t, sub, key)
	var refused *belfry.Error
	switch {
	case errors.As(err, &refused):
		done.Refused = append(done.Refused, Refusal{index, refused})
	case err != nil:
		return err
	case created:
		done.Created++
	default:
		done.Updated++
	}
	return nil
}

func (s *Store) importOne(t tables, sub belfry.Subscription, key string) (created bool, err error) {
	if sub, err = checked(sub); err != nil {
		return false, err
	}
	if err := sub.Memory.Check(); err != nil {
		return false, err
	}
	old, err := t.byHash(sub.Endpoint)
	if errors.Is(err, belfry.ErrNotFound) {
		sub.ID, sub.Secret, sub.Imported = id.New(), belfry.SecretHash{}, true
		sub.KeyID = cmp.Or(sub.KeyID, key)
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
	sub.Channels = append(sub.Channels, inherited(old, cmp.Or(sub.User, old.User))...)
	sub.KeyID = cmp.Or(sub.KeyID, old.KeyID, key)
	row, err := checked(refreshed(old, sub))
	if err != nil {
		return false, err
	}
	return false, t.save(&old, &row)
}
