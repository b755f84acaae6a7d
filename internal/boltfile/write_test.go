package boltfile_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/belfry-push/belfry"
)

func put(key string) func(*bbolt.Tx) error {
	return func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists([]byte("rows"))
		if err != nil {
			return err
		}
		return b.Put([]byte(key), []byte{1})
	}
}

// Many write in few transactions, and one of them who fails or meets a damaged
// page costs the others nothing.
func TestBatch(t *testing.T) {
	t.Parallel()
	f := mustOpen(t, path(t))
	refusal := errors.New("refused")
	var stale *bbolt.Bucket
	if err := f.Update(put("first")); err != nil {
		t.Fatal(err)
	}
	f.View(func(tx *bbolt.Tx) error { stale = tx.Bucket([]byte("rows")); return nil })
	var transactions atomic.Int64
	var writers sync.WaitGroup
	for n := range 200 {
		writers.Go(func() {
			err := f.Batch(func(tx *bbolt.Tx) error {
				tx.OnCommit(func() { transactions.Add(1) })
				switch {
				case n == 50:
					return refusal
				case n == 100:
					stale.Cursor().First() // bbolt finds that something is wrong, as it does with a damaged page
				case n == 150:
					panic("oh dear")
				}
				return put(fmt.Sprint(n))(tx)
			})
			switch {
			case n == 50 && err != refusal, n == 100 && !errors.Is(err, belfry.ErrCorrupt), n%50 != 0 && err != nil,
				n == 150 && (err == nil || errors.Is(err, belfry.ErrCorrupt) || !strings.Contains(err.Error(), "a fault of belfry")):
				t.Errorf("%d: %v", n, err)
			}
		})
	}
	writers.Wait()
	rows := 0
	last := 0
	f.View(func(tx *bbolt.Tx) error {
		rows, last = tx.Bucket([]byte("rows")).Stats().KeyN, int(tx.ID())
		return nil
	})
	if rows != 198 || last > 150 {
		t.Errorf("%d rows by %d transactions", rows, last)
	}
	select {
	case <-f.Failed():
		t.Errorf("nothing was committed that failed: %v", f.Failure())
	default:
	}
}

// After a commit that nobody knows the end of, nothing more is written: the next
// one could lie on top of what never came to the disk.
func TestFailedCommit(t *testing.T) {
	t.Parallel()
	f := mustOpen(t, path(t))
	write := map[string]func(func(*bbolt.Tx) error) error{"Update": f.Update, "Batch": f.Batch}
	err := f.Batch(func(tx *bbolt.Tx) error {
		tx.OnCommit(func() { panic("page 7 already freed") })
		return put("one")(tx)
	})
	refused(t, err, "database-unwritable")
	select {
	case <-f.Failed():
	default:
		t.Fatal("nobody is told")
	}
	for name, write := range write {
		err := write(func(*bbolt.Tx) error { t.Errorf("%s writes", name); return nil })
		refused(t, err, "database-unwritable")
	}
	refused(t, f.Failure(), "database-unwritable")
}

// Who waits to write while a commit fails does not write after it: he would be told
// that it is on the disk.
func TestQueueBehindFailedCommit(t *testing.T) {
	t.Parallel()
	f := mustOpen(t, path(t))
	var waiting sync.WaitGroup
	var begun atomic.Bool
	err := f.Update(func(tx *bbolt.Tx) error {
		for range 8 {
			waiting.Go(func() {
				refused(t, f.Update(func(*bbolt.Tx) error { begun.Store(true); return nil }), "database-unwritable")
			})
		}
		tx.OnCommit(func() { // bbolt's own lock is free here
			for range 1000 {
				runtime.Gosched()
			}
			panic("page 7 already freed")
		})
		return put("one")(tx)
	})
	refused(t, err, "database-unwritable")
	waiting.Wait()
	if begun.Load() {
		t.Error("somebody wrote behind it")
	}
}

// A full file or disk is no failure: it may have room again.
func TestFullIsNoFailure(t *testing.T) {
	t.Parallel()
	f := mustOpen(t, path(t))
	f.MaxSize = 1
	err := f.Update(func(tx *bbolt.Tx) error {
		for n := range 100_000 {
			if err := put(fmt.Sprint(n))(tx); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		t.Fatal("there was room")
	}
	f.MaxSize = 1 << 40
	if err := f.Update(put("one")); err != nil {
		t.Error(err)
	}
}

// What is held for those who leave is on the disk in full, is given up piece by
// piece to the last, and is taken again.
func TestReserve(t *testing.T) {
	t.Parallel()
	p := path(t)
	f := mustOpen(t, p)
	name := filepath.Join(filepath.Dir(p), "belfry.reserve")
	size := func() int64 {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	whole := size()
	pieces := 0
	for f.MakeRoom() {
		pieces++
	}
	if whole != 4<<20 || pieces < 10 || size() != 0 {
		t.Errorf("%d octets were given up in %d pieces, and %d are left", whole, pieces, size())
	}
	if err := f.Batch(put("one")); err != nil || size() != whole {
		t.Errorf("%v, and %d octets are held again", err, size())
	}
}
