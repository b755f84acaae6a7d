package receipts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/internal/boltfile"
)

const (
	// commitEvery is how long a receipt waits in memory. All browsers of a broadcast
	// answer at once, and an fsync for each would take hours.
	commitEvery = 5 * time.Second
	// commitAt is how many are written without waiting for that.
	commitAt = 4096
	// maxWaiting bounds what may wait while a commit takes long or fails: some 3 MiB,
	// beside as much that is being written.
	maxWaiting = 4 * commitAt
)

// Config says how a Store works. Nothing is required.
type Config struct {
	Now func() time.Time // the wall clock. Default: time.Now
	Log *slog.Logger     // hears when receipts cannot be written. Default: none
}

// A Store counts receipts. Close it before the file.
type Store struct {
	Config
	db   *boltfile.File
	many chan struct{} // there are commitAt
	stop chan struct{}
	done chan struct{}

	mu      sync.Mutex // guards what follows
	waiting []Receipt
	fault   error // why the last commit failed; nil once one did not
}

// New makes the store's buckets in db where they are missing, and begins to write.
func New(db *boltfile.File, cfg Config) (*Store, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if err := boltfile.MakeBuckets(db, bucketCounts, bucketTotals, bucketSeen); err != nil {
		return nil, wrap("open", err)
	}
	s := &Store{Config: cfg, db: db, many: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{})}
	go s.work()
	return s, nil
}

// Add takes receipts, all or none, and returns before they are on disk. While
// they cannot be written it takes none, and says why; what it took before is
// written once that is possible again.
func (s *Store) Add(list []Receipt) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case len(list) == 0:
		return nil
	case s.fault != nil:
		return s.fault
	case len(s.waiting)+len(list) > maxWaiting:
		return &belfry.Error{Kind: belfry.ErrBusy, Code: "receipts-busy", Text: "receipts come faster than they can be written down", Hint: "try again in a minute"}
	}
	if s.waiting = append(s.waiting, list...); len(s.waiting) >= commitAt {
		select {
		case s.many <- struct{}{}:
		default:
		}
	}
	return nil
}

// Close writes what was taken, and stops. Nobody may add anything any more.
func (s *Store) Close() {
	close(s.stop)
	<-s.done
}

func (s *Store) work() {
	defer close(s.done)
	tick := time.NewTicker(commitEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-s.many:
		case <-s.stop:
			s.commit()
			return
		}
		s.commit()
	}
}

// commit writes what waits, in one transaction. What could not be written waits on.
func (s *Store) commit() {
	s.mu.Lock()
	batch := s.waiting
	s.waiting = nil
	s.mu.Unlock()
	if len(batch) == 0 {
		return
	}
	err := wrap("commit", s.db.Update(func(tx *bbolt.Tx) error { return s.write(tx, batch) }))
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err != nil && s.fault == nil:
		s.Log.Error("cannot write down receipts; no more are taken", "err", err)
	case err == nil && s.fault != nil:
		s.Log.Info("writing down receipts works again")
	}
	if s.fault = err; err != nil {
		s.waiting = append(batch, s.waiting...)
	}
}

// write counts a batch. On a disk that is nearly full it does not: what is left
// is for those who leave (REL-09).
func (s *Store) write(tx *bbolt.Tx, batch []Receipt) error {
	if err := boltfile.Room(tx); err != nil {
		return err
	}
	page := newSheet(tx, s.Now())
	for _, r := range batch {
		if err := page.book(r); err != nil {
			return err
		}
	}
	return errors.Join(page.write(), page.clear())
}

// Of returns the counts of messages, in their order, as the last commit left
// them: none for a message that nobody has said anything of, nil for one whose
// record is damaged.
func (s *Store) Of(_ context.Context, messages ...string) (list []*Counts, err error) {
	err = boltfile.View(s.db, func(tx *bbolt.Tx) error {
		list = make([]*Counts, len(messages))
		for i, id := range messages {
			c, err := countsOf(tx, bucketCounts, id)
			if err == nil {
				if c.Actions == nil {
					c.Actions = map[string]int{} // programs count on an object
				}
				list[i] = &c
			} else if !errors.Is(err, belfry.ErrCorrupt) {
				return err
			}
		}
		return nil
	})
	return list, wrap("read", err)
}

// Totals returns the counts of all messages, and of up to limit channels in the
// order of their names. One that is damaged counts as none.
func (s *Store) Totals(_ context.Context, limit int) (all Counts, channels map[string]Counts, err error) {
	err = boltfile.View(s.db, func(tx *bbolt.Tx) error {
		channels = map[string]Counts{}
		all, _ = countsOf(tx, bucketTotals, totalAll)
		c, prefix := tx.Bucket(bucketTotals).Cursor(), []byte(totalOf(""))
		for k, _ := c.Seek(prefix); bytes.HasPrefix(k, prefix) && len(channels) < limit; k, _ = c.Next() {
			channels[string(k[len(prefix):])], _ = countsOf(tx, bucketTotals, string(k))
		}
		return nil
	})
	return all, channels, wrap("read", err)
}

// wrap names the room; what has words for people keeps them.
func wrap(doing string, err error) error {
	var told *belfry.Error
	if err = boltfile.Explain(err); err == nil || errors.As(err, &told) {
		return err
	}
	return fmt.Errorf("receipts: %s: %w", doing, err)
}
