package live

import (
	"time"

	"go.etcd.io/bbolt"

	"github.com/belfry-push/belfry/internal/boltfile"
)

const (
	// perSweep is how many events one transaction removes besides as many as it
	// adds: removing keeps up with publishing, and nobody waits for it.
	perSweep = 64
	// sweepEvery is how often it is looked for what has become too old while nobody publishes.
	sweepEvery = time.Minute
)

// over reports whether the oldest event is more than is to be kept.
func (l *Log) over(t tables, b bounds) bool {
	if b.floor >= b.head {
		return false
	}
	if b.head-b.floor > l.Count || number(t.state.Get(sizeKey)) > l.Octets {
		return true
	}
	r, err := t.event(b.floor + 1)
	return err == nil && l.Now().Sub(r.Time) > l.Age // a damaged one goes when its turn comes
}

// prune removes up to most events that are more than is to be kept, and reports
// whether there may be others.
func (l *Log) prune(t tables, most int) (more bool, err error) {
	b := t.bounds()
	for range most {
		if !l.over(t, b) {
			return false, nil
		}
		b.floor++
		if err := t.remove(b.floor); err != nil {
			return false, err
		}
	}
	return true, nil
}

// sweep removes what has become too old, in small transactions, until nothing is
// or somebody publishes. It writes nothing where there is nothing to remove.
func (l *Log) sweep() {
	due := false
	err := boltfile.View(l.db, func(tx *bbolt.Tx) error {
		t := openTables(tx)
		due = l.over(t, t.bounds())
		return nil
	})
	for due && err == nil && len(l.queue) == 0 {
		err = l.update(func(t tables) (err error) {
			due, err = l.prune(t, maxBatch)
			return err
		})
	}
	if err != nil {
		l.Log.Error("cannot remove old events", "err", err)
	}
}
