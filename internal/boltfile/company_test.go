package boltfile

import (
	"errors"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

func opened(t *testing.T) *File {
	f, err := Open(filepath.Join(t.TempDir(), "belfry.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// write lets so many write at once. What it returns waits for them, and says how
// many each transaction took.
func write(t *testing.T, f *File, n int) (wait func() map[int]int) {
	var writers sync.WaitGroup
	var mu sync.Mutex
	transactions := map[int]int{}
	for range n {
		writers.Go(func() {
			if err := f.Batch(func(tx *bbolt.Tx) error {
				mu.Lock()
				defer mu.Unlock()
				transactions[tx.ID()]++
				return nil
			}); err != nil {
				t.Error(err)
			}
		})
	}
	return func() map[int]int {
		writers.Wait()
		return transactions
	}
}

// Who comes while another transaction is under way shares the next one with all
// who came meanwhile: a crowd that came in ten parts would wait for ten flushes.
func TestCompanyGrowsWhileItWaits(t *testing.T) {
	t.Parallel()
	f := opened(t)
	f.MaxBatchDelay = 0
	const crowd = 100
	var transactions func() map[int]int
	if err := f.Update(func(tx *bbolt.Tx) error {
		transactions = write(t, f, crowd)
		f.await(crowd)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if got := transactions(); len(got) != 1 {
		t.Errorf("transactions and their rows: %v", got)
	}
}

// A crowd of more than one transaction takes is written in several, to the last
// of it.
func TestLargeCompany(t *testing.T) {
	t.Parallel()
	f := opened(t)
	f.MaxBatchDelay, f.MaxBatchSize = 0, 7
	written := 0
	for id, rows := range write(t, f, 200)() {
		if written += rows; rows > f.MaxBatchSize {
			t.Errorf("transaction %d wrote %d rows", id, rows)
		}
	}
	if written != 200 {
		t.Errorf("%d rows were written", written)
	}
}

// A crowd that waits when the file fails, or is closed, is told so to the last of it.
func TestCompanyOfALostFile(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(*File, func() error) error{
		"fails": func(f *File, wait func() error) error {
			return f.Update(func(tx *bbolt.Tx) error {
				tx.OnCommit(func() { panic("page 7 already freed") })
				return wait()
			})
		},
		"is closed": func(f *File, wait func() error) error {
			f.writing.Lock()
			defer f.writing.Unlock()
			wait()
			return errors.Join(errClosed, f.Close())
		},
	} {
		f := opened(t)
		f.MaxBatchDelay, f.MaxBatchSize = 0, 7
		var writers sync.WaitGroup
		err := lose(f, func() error {
			for range 50 {
				writers.Go(func() {
					if f.Batch(func(*bbolt.Tx) error { t.Errorf("where it %s: somebody writes", name); return nil }) == nil {
						t.Errorf("where it %s: somebody is told that it is written", name)
					}
				})
			}
			f.await(50)
			return nil
		})
		if err == nil {
			t.Errorf("it never %s", name)
		}
		writers.Wait()
	}
}

var errClosed = errors.New("closed")

// await waits until so many wait to write.
func (f *File) await(n int) {
	deadline := time.Now().Add(10 * time.Second)
	for waiting := 0; waiting < n && time.Now().Before(deadline); runtime.Gosched() {
		f.company.mu.Lock()
		waiting = len(f.company.waiting)
		f.company.mu.Unlock()
	}
}
