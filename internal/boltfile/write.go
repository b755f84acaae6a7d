package boltfile

import (
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"

	"github.com/belfry-push/belfry"
)

// A verdict is why nothing is written any more.
type verdict struct {
	once   sync.Once
	passed chan struct{} // closed once it is
	why    error
}

// Failed is closed once a commit has failed in a way that leaves nobody knowing
// what is on the disk. Nothing is written from then on, and Failure says why.
func (f *File) Failed() <-chan struct{} { return f.failed.passed }

// Failure is why nothing is written any more, once that is so.
func (f *File) Failure() error { return f.failed.why }

// Update is bbolt's for a file that may be damaged, on a disk that may fail.
// Where bbolt would panic while fn runs, nothing is written, and it is an error
// with belfry.ErrCorrupt. Where a commit panics, or the disk refuses it for
// another reason than that it is full, the file has failed: what the system
// keeps of a file after a write or a flush that failed is not what is on the disk
// (REL-09, REL-15).
func (f *File) Update(fn func(*bbolt.Tx) error) error {
	// bbolt's own lock is free again before it is known that a commit failed, and
	// whoever waits for it would write on.
	f.writing.Lock()
	defer f.writing.Unlock()
	return f.update(fn)
}

// update is Update for who holds writing.
func (f *File) update(fn func(*bbolt.Tx) error) (err error) {
	select {
	case <-f.failed.passed:
		return f.failed.why
	default:
	}
	committing := false
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		recovered := recover()
		if recovered != nil {
			err = crashed(recovered)
		}
		if committing && err != nil && (recovered != nil || !isFull(err)) {
			f.failed.once.Do(func() {
				f.failed.why = unwritable(f.Path(), err)
				close(f.failed.passed)
			})
			err = f.failed.why
		}
	}()
	return f.DB.Update(func(tx *bbolt.Tx) error {
		err := fn(tx)
		committing = err == nil
		return err
	})
}

// isFull reports whether a commit failed for want of room, which bbolt bears: a
// file that could not grow, or a write. A flush that found none is another thing:
// what it was to bring to the disk may be there or not.
func isFull(err error) bool {
	at, ok := errors.AsType[*fs.PathError](err)
	return errors.Is(err, bbolterrors.ErrMaxSizeReached) || ok && at.Op != "sync" && isNoSpace(err)
}

// crashed says whose fault a panic is. Of damaged pages bbolt finds out itself, or
// the system, when somebody reads them; anything else is a fault of ours, and to
// call that damage would send an operator to his backups.
func crashed(recovered any) error {
	_, unreadable := recovered.(interface{ Addr() uintptr })
	if unreadable || byBolt() {
		return &belfry.Error{Kind: belfry.ErrCorrupt, Code: "database-damaged", Text: fmt.Sprintf("pages of the database are damaged: %v", recovered),
			Hint: "keep a copy of the file as it is, and restore it from a backup"}
	}
	return fmt.Errorf("boltfile: a fault of belfry, and nothing is written: %v\n%s", recovered, debug.Stack())
}

// byBolt reports whether the panic that is being recovered from came out of bbolt,
// and not out of what a caller of ours does within a transaction.
func byBolt() bool {
	var pcs [64]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(0, pcs[:])])
	for panicking := false; ; {
		frame, more := frames.Next()
		switch {
		case frame.Function == "runtime.gopanic":
			panicking = true
		case panicking && strings.HasPrefix(frame.Function, "go.etcd.io/bbolt"):
			return true
		case panicking && strings.HasPrefix(frame.Function, "github.com/belfry-push/belfry"), !more:
			return false
		}
	}
}

func unwritable(path string, err error) error {
	return &belfry.Error{Kind: belfry.ErrNotUsable, Code: "database-unwritable", Where: path, Text: "could not be written, and nobody knows what is on the disk: " + err.Error(),
		Hint: "the server has stopped, so that nothing is taken for written that is not; check the disk, keep a copy of the file as it is, and start again, from a backup where it is refused"}
}
