package boltfile

import (
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

// Who comes while another transaction is under way shares the next one with all
// who came meanwhile: a crowd that came in ten parts would wait for ten flushes.
func TestCompanyGrowsWhileItWaits(t *testing.T) {
	t.Parallel()
	f := opened(t)
	f.MaxBatchDelay = 0
	const crowd = 100
	var writers sync.WaitGroup
	var mu sync.Mutex
	transactions := map[int]int{}
	if err := f.Update(func(tx *bbolt.Tx) error {
		for range crowd {
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
		deadline := time.Now().Add(10 * time.Second)
		for waiting := 0; waiting < crowd && time.Now().Before(deadline); runtime.Gosched() {
			f.company.mu.Lock()
			waiting = len(f.company.waiting)
			f.company.mu.Unlock()
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	writers.Wait()
	if len(transactions) != 1 {
		t.Errorf("transactions and their rows: %v", transactions)
	}
}

// A crowd of more than one transaction takes is written in several, to the last
// of it.
func TestLargeCompany(t *testing.T) {
	t.Parallel()
	f := opened(t)
	f.MaxBatchDelay, f.MaxBatchSize = 0, 7
	var writers sync.WaitGroup
	var mu sync.Mutex
	transactions := map[int]int{}
	for range 200 {
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
	writers.Wait()
	for id, rows := range transactions {
		if rows > f.MaxBatchSize {
			t.Errorf("transaction %d wrote %d rows", id, rows)
		}
	}
}
