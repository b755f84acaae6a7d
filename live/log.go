// Package live tells pages that are open now: it keeps a log of events and
// streams it to whoever listens.
//
// It does not know HTTP routes, origins or who a user is: web says who listens
// to what, and hands over a connection. It does not decide what is published
// either: a broadcast does, once, by its message's id.
//
// # What a page is promised
//
//   - The events of its channels arrive in the order of the log, each at most once
//     on a connection.
//   - A page that comes back with a cursor first gets what it missed, or a reset
//     when the log no longer reaches back that far. It is never silently given less.
//   - A page that reads too slowly is sent away, not skipped over: it comes back
//     with its cursor, and the promise above makes it whole.
//   - What was appended survives a power cut.
package live

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/internal/boltfile"
)

const (
	// One transaction takes at most this many events or this long to gather,
	// whichever comes first: an fsync is shared, and nobody waits for company
	// for longer than a person could notice.
	maxBatch = 256
	maxDelay = 2 * time.Millisecond
)

// LogConfig says how much a Log keeps. All of it has a default.
type LogConfig struct {
	// Age, Count and Octets bound what is kept; what is over any of them is
	// removed from the oldest on. Defaults: 24 hours, which is how long a message is
	// worth saying by default; a million events; 512 MiB of records, which take
	// about as much again in indexes.
	Age    time.Duration
	Count  uint64
	Octets uint64

	// Now is the wall clock. Default: time.Now.
	Now func() time.Time
	// Log gets faults. Default: none.
	Log *slog.Logger
}

// A Log keeps events in the order in which they were published.
type Log struct {
	LogConfig
	db    *boltfile.File
	epoch string
	queue chan request
	stop  chan struct{} // closed when nothing more is taken
	end   sync.Once
	done  chan struct{} // closed when all that was taken is on disk

	mu     sync.Mutex       // guards follow
	follow func(e []*entry) // is told what is on disk, in order
}

// A request is an event on its way to the disk.
type request struct {
	*entry
	answer chan<- error
}

// Open opens the log in db. Where there is none it begins one, under a new epoch.
func Open(db *boltfile.File, cfg LogConfig) (*Log, error) {
	if cfg.Age <= 0 {
		cfg.Age = 24 * time.Hour
	}
	if cfg.Count == 0 {
		cfg.Count = 1_000_000
	}
	if cfg.Octets == 0 {
		cfg.Octets = 512 << 20
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	l := &Log{LogConfig: cfg, db: db, queue: make(chan request, maxBatch), stop: make(chan struct{}), done: make(chan struct{}), follow: func([]*entry) {}}
	if err := boltfile.MakeBuckets(db, stateName, eventsName, groupsName, messagesName); err != nil {
		return nil, fmt.Errorf("live: %w", boltfile.Explain(err))
	}
	if err := l.name(); err != nil {
		return nil, fmt.Errorf("live: %w", boltfile.Explain(err))
	}
	go l.work()
	return l, nil
}

// name reads the epoch, or gives one to a log that has none.
func (l *Log) name() error {
	b, err := l.bounds()
	if l.epoch = b.epoch; err != nil || l.epoch != "" {
		return err
	}
	l.epoch = newEpoch()
	return l.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(stateName).Put(epochKey, []byte(l.epoch)) })
}

// Renew makes the log in db another one, for a copy that goes its own way from
// here on: a page that knows the original by a cursor is told that it has missed
// something, and not given what now has the same number.
func Renew(db *boltfile.File) error {
	return db.Update(func(tx *bbolt.Tx) error {
		if state := tx.Bucket(stateName); state != nil {
			return state.Delete(epochKey)
		}
		return nil
	})
}

// bounds are where the log begins and ends now.
func (l *Log) bounds() (b bounds, err error) {
	err = boltfile.View(l.db, func(tx *bbolt.Tx) error {
		b = openTables(tx).bounds()
		return nil
	})
	return b, err
}

// Append writes an event down and returns its cursor once it is on disk. A
// message that is in the log already has the cursor that it got then. One that is
// older than anything the log keeps is not written, and has none.
func (l *Log) Append(ctx context.Context, e belfry.Event) (cursor string, err error) {
	if len(groupsOf(e.Audience)) == 0 || l.Now().Sub(e.Time) > l.Age {
		return "", nil // nobody hears it, or it has been here and gone
	}
	entry, err := newEntry(e)
	if err != nil {
		return "", fmt.Errorf("live: append %s: %w", e.ID, err)
	}
	if len(entry.record) > maxEvent {
		return "", &belfry.Error{Kind: belfry.ErrTooLarge, Code: "message-too-large", Where: "message",
			Text: fmt.Sprintf("is %d octets, over the %d of an event", len(entry.record), maxEvent), Hint: "shorten body or data"}
	}
	answer := make(chan error, 1)
	select {
	case <-l.stop:
		return "", stopping()
	default:
	}
	select {
	case l.queue <- request{entry, answer}:
	case <-l.stop:
		return "", stopping()
	case <-ctx.Done():
		return "", ctx.Err()
	}
	select {
	case err = <-answer:
	case <-l.done: // it came too late, or just in time
		select {
		case err = <-answer:
		default:
			err = stopping()
		}
	}
	if err != nil {
		return "", fmt.Errorf("live: append %s: %w", e.ID, err)
	}
	return cursorAt(l.epoch, entry.seq), nil
}

func stopping() error {
	return &belfry.Error{Kind: belfry.ErrBusy, Code: "stopping", Text: "the server is shutting down", Hint: "try again in a moment"}
}

// Close takes nothing more and returns once all that was taken is on disk.
func (l *Log) Close() {
	l.end.Do(func() { close(l.stop) })
	<-l.done
}

// work writes down what is appended, many in one transaction, and removes what is
// too old. It is the only one that writes to the log.
func (l *Log) work() {
	defer close(l.done)
	sweep := time.NewTicker(sweepEvery)
	defer sweep.Stop()
	for {
		select {
		case first := <-l.queue:
			l.commit(l.gather(first))
		case <-sweep.C:
			l.sweep()
		case <-l.stop:
			for len(l.queue) > 0 {
				l.commit(l.gather(<-l.queue))
			}
			return
		}
	}
}

// gather collects a batch that begins with first.
func (l *Log) gather(first request) []request {
	batch := append(make([]request, 0, maxBatch), first)
	timer := time.NewTimer(maxDelay)
	defer timer.Stop()
	for len(batch) < maxBatch {
		select {
		case r := <-l.queue:
			batch = append(batch, r)
		case <-timer.C:
			return batch
		case <-l.stop:
			return batch
		}
	}
	return batch
}

// commit writes a batch down, tells who follows, and only then those who wait.
func (l *Log) commit(batch []request) {
	var fresh []*entry
	err := l.update(func(t tables) error {
		fresh = fresh[:0]
		if err := boltfile.Room(t.events.Tx()); err != nil {
			return err
		}
		for _, r := range batch {
			isNew, err := t.add(r.entry)
			if err != nil {
				return err
			}
			if isNew {
				fresh = append(fresh, r.entry)
			}
		}
		_, err := l.prune(t, len(batch)+perSweep)
		return err
	})
	if err == nil && len(fresh) > 0 {
		l.mu.Lock()
		l.follow(fresh)
		l.mu.Unlock()
	}
	for _, r := range batch {
		r.record = nil // it is on disk; those who are slow to read need not hold it
		r.answer <- err
	}
}

// update runs one transaction.
func (l *Log) update(fn func(tables) error) error {
	return boltfile.Explain(l.db.Update(func(tx *bbolt.Tx) error { return fn(openTables(tx)) }))
}

const (
	// perPage and pageOctets bound what one transaction reads for one page that
	// catches up: it is sent when the transaction has ended.
	perPage    = 256
	pageOctets = 64 << 10
)

// A stretch is a part of the log as somebody hears it.
type stretch struct {
	bounds
	events []*entry
	upTo   uint64 // everything up to here is in events, or not for them
	lost   Gap    // why some of it is not, or empty
	more   bool   // there may be more behind upTo
}

// read returns what any of groups hears behind a position, up to limit events.
func (l *Log) read(after uint64, groups []group, limit int) (s stretch, err error) {
	err = boltfile.View(l.db, func(tx *bbolt.Tx) error {
		t := openTables(tx)
		s = stretch{bounds: t.bounds()}
		if after < s.floor {
			s.lost = Overflow
		}
		octets := 0
		for seq := range t.after(max(after, s.floor), groups) {
			if len(s.events) == limit || octets > pageOctets {
				s.more = true
				return nil
			}
			r, err := t.event(seq)
			if errors.Is(err, belfry.ErrCorrupt) {
				l.Log.Error("an event cannot be read; pages are told that they missed something", "err", err)
				s.lost = Lost
				continue
			}
			e, err := r.entry(seq)
			if err != nil {
				return err
			}
			s.events, octets, s.upTo = append(s.events, e), octets+len(r.Message), seq
		}
		s.upTo = s.head
		return nil
	})
	return s, err
}

// last returns the last n events that any of groups hears, or fewer where there
// are no more, and where some are damaged or too large for one page.
func (l *Log) last(groups []group, n int) (s stretch, err error) {
	err = boltfile.View(l.db, func(tx *bbolt.Tx) error {
		t := openTables(tx)
		b := t.bounds()
		s = stretch{bounds: b, upTo: b.head}
		octets := 0
		for seq := range t.before(groups) {
			if len(s.events) == n || octets > pageOctets || seq <= b.floor {
				break
			}
			r, err := t.event(seq)
			if errors.Is(err, belfry.ErrCorrupt) {
				l.Log.Error("an event cannot be read; it is left out", "err", err)
				continue
			}
			e, err := r.entry(seq)
			if err != nil {
				return err
			}
			s.events, octets = append(s.events, e), octets+len(r.Message)
		}
		slices.Reverse(s.events)
		return nil
	})
	return s, err
}
