package broadcasts

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/internal/boltfile"
)

// A Journal is where broadcasts are written down. What a method has returned
// from survives a power cut.
type Journal interface {
	// Create writes a new broadcast.
	Create(ctx context.Context, b Broadcast) error
	// Commit writes the Progress of broadcasts and forgets the subscriptions that
	// are gone, given as they were when their push service said so, all in one
	// transaction: when it fails, nothing has changed. It keeps no reference to
	// what it is given.
	Commit(ctx context.Context, progress []Broadcast, gone []belfry.Subscription) error
	// Get returns one broadcast, or belfry.ErrNotFound.
	Get(ctx context.Context, id string) (Broadcast, error)
	// List returns up to limit broadcasts from the newest on, beginning behind
	// the id after if that is not empty.
	List(ctx context.Context, after string, limit int) ([]Broadcast, error)
	// Unfinished returns the broadcasts that have not ended.
	Unfinished(ctx context.Context) ([]Broadcast, error)
}

// Buckets of this package, in the house's one bbolt file. Schema 1.
//
//	broadcasts
//	    key    id, a ULID in lower case, so that keys are in order of creation
//	    value  version, CRC-32C, JSON of what never changes: message, audience, times, until
//	broadcasts.progress
//	    key    id
//	    value  version, CRC-32C, JSON of what every commit changes: state, counts, hosts
//	broadcasts.running
//	    key    id
//	    value  empty
//
// Message and progress are apart so that a commit writes a few hundred octets
// and not the message again. broadcasts.running is derived from the progress.
var (
	bucketBroadcasts = []byte("broadcasts")
	bucketProgress   = []byte("broadcasts.progress")
	bucketRunning    = []byte("broadcasts.running")
)

// A BoltJournal is a Journal in the house's one file.
type BoltJournal struct {
	db     *bbolt.DB
	forget func(tx *bbolt.Tx, gone []belfry.Subscription) (int, error)
}

// NewBoltJournal keeps broadcasts in db. forget removes subscriptions inside the
// transaction that books them as gone, but for those with a new endpoint since.
func NewBoltJournal(db *bbolt.DB, forget func(tx *bbolt.Tx, gone []belfry.Subscription) (int, error)) (*BoltJournal, error) {
	err := db.Update(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{bucketBroadcasts, bucketProgress, bucketRunning} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		return nil
	})
	return &BoltJournal{db, forget}, wrap("open", err)
}

// Create writes a new broadcast, unless the file is nearly full: what is left
// then is for those that are running (REL-09). Launches at one time share an
// fsync: a site that rings for single people makes many.
func (j *BoltJournal) Create(_ context.Context, b Broadcast) error {
	return wrap("create", j.db.Batch(func(tx *bbolt.Tx) error {
		if err := boltfile.Room(tx); err != nil {
			return err
		}
		value, err := boltfile.Seal(stored{b.Launch, b.Launch.Until})
		if err != nil {
			return err
		}
		if err := tx.Bucket(bucketBroadcasts).Put([]byte(b.ID), value); err != nil {
			return err
		}
		return putProgress(tx, b)
	}))
}

// Commit writes progress and forgets who is gone, in one transaction.
func (j *BoltJournal) Commit(_ context.Context, progress []Broadcast, gone []belfry.Subscription) error {
	return wrap("commit", j.db.Update(func(tx *bbolt.Tx) error {
		for _, b := range progress {
			if err := putProgress(tx, b); err != nil {
				return err
			}
		}
		if len(gone) == 0 {
			return nil
		}
		_, err := j.forget(tx, gone)
		return err
	}))
}

// Get returns one broadcast.
func (j *BoltJournal) Get(_ context.Context, id string) (b Broadcast, err error) {
	err = j.db.View(func(tx *bbolt.Tx) error {
		b, err = read(tx, []byte(id))
		return err
	})
	return b, wrap("get", err)
}

// List returns broadcasts from the newest on.
func (j *BoltJournal) List(_ context.Context, after string, limit int) (list []Broadcast, err error) {
	err = j.db.View(func(tx *bbolt.Tx) error {
		c := tx.Bucket(bucketBroadcasts).Cursor()
		key, _ := c.Last()
		if after != "" {
			if key, _ = c.Seek([]byte(after)); key == nil {
				key, _ = c.Last()
			}
			for key != nil && string(key) >= after {
				key, _ = c.Prev()
			}
		}
		for ; key != nil && len(list) < limit; key, _ = c.Prev() {
			b, err := read(tx, key)
			if err != nil {
				return err
			}
			list = append(list, b)
		}
		return nil
	})
	return list, wrap("list", err)
}

// Unfinished returns the broadcasts that have not ended.
func (j *BoltJournal) Unfinished(_ context.Context) (list []Broadcast, err error) {
	err = j.db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketRunning).ForEach(func(key, _ []byte) error {
			b, err := read(tx, key)
			list = append(list, b)
			return err
		})
	})
	return list, wrap("unfinished", err)
}

// stored is a Launch with the position that operators never see.
type stored struct {
	Launch
	Until belfry.Position `json:"until"`
}

func putProgress(tx *bbolt.Tx, b Broadcast) error {
	value, err := boltfile.Seal(b.Progress)
	if err != nil {
		return err
	}
	if err := tx.Bucket(bucketProgress).Put([]byte(b.ID), value); err != nil {
		return err
	}
	if b.Ended() {
		return tx.Bucket(bucketRunning).Delete([]byte(b.ID))
	}
	return tx.Bucket(bucketRunning).Put([]byte(b.ID), nil)
}

func read(tx *bbolt.Tx, id []byte) (Broadcast, error) {
	launch, progress := tx.Bucket(bucketBroadcasts).Get(id), tx.Bucket(bucketProgress).Get(id)
	if launch == nil && progress == nil {
		return Broadcast{}, &belfry.Error{Kind: belfry.ErrNotFound, Code: "not-found", Text: "no such broadcast"}
	}
	var s stored
	var b Broadcast
	if errors.Join(boltfile.Unseal(launch, &s), boltfile.Unseal(progress, &b.Progress)) != nil {
		return Broadcast{}, &belfry.Error{Kind: belfry.ErrCorrupt, Code: "database-damaged", Where: "broadcast " + string(id),
			Text: "is damaged in the database", Hint: "keep a copy of the file as it is, and restore it from a backup"}
	}
	b.Launch, b.Until = s.Launch, s.Until
	return b, nil
}

// wrap names the room; a full disk keeps the words that say what to do.
func wrap(doing string, err error) error {
	var told *belfry.Error
	if err = boltfile.Explain(err); err == nil || errors.As(err, &told) {
		return err
	}
	return fmt.Errorf("broadcasts: %s: %w", doing, err)
}
