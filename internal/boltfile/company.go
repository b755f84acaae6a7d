package boltfile

import (
	"sync"
	"time"

	"go.etcd.io/bbolt"
)

// A company is those who wait to write together.
type company struct {
	mu      sync.Mutex // guards waiting
	waiting []writer
}

type writer struct {
	fn   func(*bbolt.Tx) error
	done chan error
}

// Batch is Update in a transaction that all share who write at that time; how
// many, and how long the first waits for them, are bbolt's settings. fn may run
// more than once. bbolt's own Batch commits where no caller of it can catch what
// a damaged page does.
func (f *File) Batch(fn func(*bbolt.Tx) error) error {
	w := writer{fn, make(chan error, 1)}
	f.company.mu.Lock()
	f.company.waiting = append(f.company.waiting, w)
	switch len(f.company.waiting) {
	case f.MaxBatchSize:
		go f.write()
	case 1:
		time.AfterFunc(f.MaxBatchDelay, f.write)
	}
	f.company.mu.Unlock()
	return <-w.done
}

// write writes what all have who wait once it is their turn, so that those who
// come while another transaction is under way share the next one, and tells them.
func (f *File) write() {
	all, err := f.together()
	if err == nil {
		f.spare.take()
	}
	for _, w := range all {
		w.done <- err
	}
}

// together returns whom err concerns. One of several who fails, and whose work
// bbolt then takes back with that of the others, is not among them and is tried
// once more alone.
func (f *File) together() (all []writer, err error) {
	f.writing.Lock()
	defer f.writing.Unlock()
	for all = f.gather(); len(all) > 0; {
		at := len(all) // nobody is to blame before it is somebody's turn, nor once all have had theirs
		err = f.update(func(tx *bbolt.Tx) error {
			for at = range all {
				if err := all[at].fn(tx); err != nil {
					return err
				}
			}
			at = len(all)
			return nil
		})
		if at == len(all) || len(all) == 1 {
			break
		}
		alone := all[at]
		all[at] = all[len(all)-1]
		all = all[:len(all)-1]
		go func() { alone.done <- f.Update(alone.fn) }()
	}
	return all, err
}

// gather takes those who wait, as many as one transaction takes, and lets the
// others come after them.
func (f *File) gather() []writer {
	f.company.mu.Lock()
	defer f.company.mu.Unlock()
	n := min(len(f.company.waiting), f.MaxBatchSize)
	all := f.company.waiting[:n:n]
	if f.company.waiting = f.company.waiting[n:]; len(f.company.waiting) == 0 {
		f.company.waiting = nil
	} else {
		go f.write()
	}
	return all
}
