// Package subscriptions keeps who wants to hear from us: one row for each
// browser, in the house's one bbolt file.
//
// It does not check what a browser sent (the words do that), does not decide
// who may ask (web does, with [Store.Authorize]), and sends nothing.
//
// # What a caller is promised
//
//   - What was registered, changed or removed is on the disk when the call returns.
//   - A row keeps its place in the order of creation and its public id for life,
//     through every new endpoint.
//   - Whoever pages from one position to a later one meets no row twice, and
//     meets every row that is there all the while.
//   - A damaged row is passed over and counted; it stops nobody else's.
package subscriptions

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/internal/boltfile"
	"go.etcd.io/bbolt"
)

const (
	// defaultMaxRows is how many subscriptions one site keeps (SEC-42).
	defaultMaxRows = 1_000_000

	// maxDevices is how many browsers may register for one user (SEC-42). More
	// are refused and none is replaced: whoever can register in a user's name
	// could otherwise push out the devices that the person really uses.
	maxDevices = 20
)

// Config says how much is kept. Nothing in it is required.
type Config struct {
	// MaxRows is how many browsers may register before more are refused. Rows that
	// an operator imports are not held against it, or who moved in with as many
	// could register nobody. Defaults to 1,000,000.
	MaxRows int

	// Now tells the time. Defaults to time.Now.
	Now func() time.Time

	// Log hears of damaged rows, by sequence alone. Defaults to slog.Default().
	Log *slog.Logger
}

// A Store keeps subscriptions. Its methods may be called from any goroutine,
// and each is one transaction, which a change may share with others.
type Store struct {
	db      *boltfile.File
	maxRows uint64
	now     func() time.Time
	log     *slog.Logger
	damaged atomic.Uint64
	waiting atomic.Int64 // visitors in write; an import makes way for them
	asked   struct {     // for room, and in which transaction; belongs to who writes
		tx   *bbolt.Tx
		full error
	}
	leaving sync.Mutex // held by who leaves on a full disk

	tail     atomic.Pointer[tail] // which rows are not indexed yet
	indexing sync.Mutex           // held by who indexes them
	loading  atomic.Bool          // an import goes on, from its first batch until Index
	enough   atomic.Int64         // how many rows are worth it, where none does
	unread   uint64               // from which row on New could not read what is not indexed; 0 where it could
}

// New makes the store's buckets in db where they are missing. There is one Store
// for a db: another knows nothing of the rows that are not indexed yet.
func New(db *boltfile.File, cfg Config) (*Store, error) {
	s := &Store{db: db, maxRows: defaultMaxRows, now: cfg.Now, log: cfg.Log}
	switch {
	case db == nil:
		return nil, errors.New("subscriptions: no database")
	case cfg.MaxRows < 0:
		return nil, fmt.Errorf("subscriptions: MaxRows is %d", cfg.MaxRows)
	case cfg.MaxRows > 0:
		s.maxRows = uint64(cfg.MaxRows)
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.log == nil {
		s.log = slog.Default()
	}
	s.tail.Store(newTail())
	s.enough.Store(enough)
	err := makeTables(db)
	if err == nil {
		err = s.resume()
	}
	if err != nil {
		return nil, fmt.Errorf("subscriptions: %w", boltfile.Explain(err))
	}
	return s, nil
}

// Damaged is how many times a damaged row was passed over since New.
func (s *Store) Damaged() uint64 { return s.damaged.Load() }

// read runs fn in a transaction of its own.
func (s *Store) read(ctx context.Context, fn func(tables) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	late := s.tail.Load() // before the transaction: one that is older than the index has the tail of then
	return boltfile.View(s.db, func(tx *bbolt.Tx) error {
		t := openTables(tx)
		t.tail = late
		return fn(t)
	})
}

// write runs fn in a transaction that it shares with everybody who writes at
// the same time, so that many visitors who register together wait for one fsync
// and not in a queue of them. It returns after that fsync. How long the first
// waits for the others, and how many they may be, is set where the file is opened.
//
// fn may run more than once. It refuses with a [belfry.Error], and before it
// has written anything: a refusal must not make bbolt take back and repeat the
// work of all the others.
func (s *Store) write(ctx context.Context, fn func(tables) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.waiting.Add(1)
	defer s.waiting.Add(-1)
	var refused *belfry.Error
	err := s.db.Batch(func(tx *bbolt.Tx) error {
		refused = nil
		err := fn(s.tables(tx))
		if errors.As(err, &refused) {
			return nil
		}
		return err
	})
	if err != nil {
		return boltfile.Explain(err)
	}
	if refused != nil {
		return refused
	}
	return nil
}

// tables are openTables, and what is not indexed yet.
func (s *Store) tables(tx *bbolt.Tx) tables {
	t := openTables(tx)
	t.tail = s.tail.Load()
	return t
}

// passOver counts a row that cannot be read, and tells the operator.
func (s *Store) passOver(seq uint64) {
	s.damaged.Add(1)
	s.log.Warn("subscription is damaged and passed over", "sequence", seq)
}

func (s *Store) time() time.Time { return s.now().UTC().Truncate(time.Millisecond) }
