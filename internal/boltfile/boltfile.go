// Package boltfile opens the house's one bbolt file, and refuses it when it is
// held by another process, damaged, not ours or of a schema it does not know.
//
// It knows the bucket "meta" and nothing of the others, which belong to the
// rooms. It starts a new file only where there is none: whoever knows that
// there should be one calls [OpenExisting].
package boltfile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"github.com/belfry-push/belfry"
)

// Bucket of this package. Schema 1.
//
//	meta
//	    key    "schema"
//	    value  8-byte big-endian number of the schema of all buckets in the file
var (
	metaBucket = []byte("meta")
	schemaKey  = []byte("schema")
)

// Schema is the one this program reads and writes.
const Schema = 1

const (
	// MaxSize bounds the file, so that a flood of registrations ends as "full"
	// and not with the host's disk (SEC-42). A million subscriptions take
	// about 1 GiB; 64 GiB is far beyond what one server sends to.
	MaxSize int64 = 64 << 30

	// reserve is how much of MaxSize is kept for changes and removals (REL-09).
	reserve = 4 << 20

	// lockTimeout is how long a second process waits for the first one to end,
	// as it does in a restart, before it gives up (REL-20). bbolt waits for ever
	// when it is told nothing.
	lockTimeout = time.Second

	// maxBatchDelay is how long the first of several writers waits for company
	// before it is their turn; who comes until then goes with them. It is added to
	// what a visitor waits for a registration, who does not notice 10 ms.
	maxBatchDelay = 10 * time.Millisecond

	// maxBatchSize is how many writers share one transaction. A crowd waits for
	// two fsyncs a transaction, so it should fit into one; it then keeps all others
	// from the write lock for some 30 ms.
	maxBatchSize = 1024
)

// A File is the open database. Close it with its own Close.
type File struct {
	*bbolt.DB

	// Reverted says that one of the two pages was damaged that make a transaction
	// valid, when the file was opened: bbolt then goes on from the other one, and
	// what was written last may be missing. It is nil where both were whole.
	Reverted *belfry.Error

	pid     string // the sidecar file that says who holds the database
	spare   *spare
	company company
	writing sync.Mutex // held by who writes
	failed  verdict
}

// Open opens the database at path. Where there is no file it makes an empty one.
func Open(path string) (*File, error) {
	_, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		err = create(path)
	}
	if err != nil {
		return nil, fmt.Errorf("boltfile: %w", Explain(err))
	}
	return OpenExisting(path)
}

// OpenExisting opens the database at path and never makes one: an empty store
// where a full one was expected would look as if everybody had left (REL-15).
func OpenExisting(path string) (*File, error) {
	db, err := openGuarded(path)
	if err != nil {
		return nil, explainOpen(path, err)
	}
	db.MaxBatchDelay, db.MaxBatchSize = maxBatchDelay, maxBatchSize
	f := &File{DB: db, pid: sidecar(path), spare: spareOf(path), failed: verdict{passed: make(chan struct{})}}
	if f.Reverted, err = reverted(db); err != nil {
		db.Close()
		return nil, explainOpen(path, err)
	}
	f.sign()
	return f, nil
}

// Close ends all work on the file and gives it free.
func (f *File) Close() error {
	// The name goes first: once the lock is free, the sidecar may be the next holder's.
	os.Remove(f.pid)
	return f.DB.Close()
}

// openGuarded opens and checks the file. bbolt answers damage in places with a
// panic, and a file that was cut short with a fault when the missing part of
// the memory map is touched; here both become errors.
func openGuarded(path string) (db *bbolt.DB, err error) {
	var file *os.File
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", errDamaged, r)
		}
		if err == nil {
			return
		}
		if db != nil {
			db.Close()
		} else if file != nil {
			release(file) // bbolt panicked and kept it
		}
	}()
	options := options()
	options.OpenFile = func(name string, flag int, mode os.FileMode) (*os.File, error) {
		var err error
		file, err = openFile(name, flag, mode)
		return file, err
	}
	if db, err = bbolt.Open(path, 0o600, options); err != nil {
		return nil, err
	}
	return db, check(db)
}

// openFile opens what is there. bbolt would make a file that is missing, and
// would take one of no octets for a new one.
func openFile(name string, flag int, mode os.FileMode) (*os.File, error) {
	f, err := os.OpenFile(name, flag&^os.O_CREATE, mode)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	switch {
	case err != nil:
	case !info.Mode().IsRegular():
		err = errForeign
	case info.Size() == 0:
		err = errEmpty
	case info.Mode().Perm()&0o077 != 0:
		err = f.Chmod(0o600) // endpoints are secrets (SEC-20)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func options() *bbolt.Options {
	return &bbolt.Options{
		Timeout:      lockTimeout,
		FreelistType: bbolt.FreelistMapType,
		MaxSize:      int(min(MaxSize, math.MaxInt)),
		// NoSync and NoFreelistSync stay off: accepted work is durable work.
	}
}

// check refuses a file that is shorter than it says, not ours, or too new. A
// file without any bucket is ours from now on.
func check(db *bbolt.DB) error {
	fresh := false
	err := db.View(func(tx *bbolt.Tx) error {
		info, err := os.Stat(db.Path())
		if err != nil {
			return err
		}
		if info.Size() < tx.Size() {
			return fmt.Errorf("%w: %d of %d octets are there", errDamaged, info.Size(), tx.Size())
		}
		if err := checkFreelist(tx); err != nil {
			return err
		}
		if meta := tx.Bucket(metaBucket); meta != nil {
			return checkSchema(meta.Get(schemaKey))
		}
		if name, _ := tx.Cursor().First(); name != nil {
			return errForeign
		}
		fresh = true
		return nil
	})
	if err != nil || !fresh {
		return err
	}
	return db.Update(setSchema)
}

func checkSchema(v []byte) error {
	if len(v) != 8 {
		return fmt.Errorf("%w: its schema number is missing", errDamaged)
	}
	if n := binary.BigEndian.Uint64(v); n != Schema {
		return schemaError(n)
	}
	return nil
}

func setSchema(tx *bbolt.Tx) error {
	meta, err := tx.CreateBucket(metaBucket)
	if err != nil {
		return err
	}
	return meta.Put(schemaKey, binary.BigEndian.AppendUint64(nil, Schema))
}

// create makes an empty database at path in one step. bbolt writes the first
// pages of a new file in place, where a power cut can tear them (REL-03); so it
// is made under another name, flushed, and then given its own.
func create(path string) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, filepath.Base(path)+".new-*") // mode 0600
	if err != nil {
		return err
	}
	tmp := f.Name()
	defer os.Remove(tmp)
	if err := f.Close(); err != nil {
		return err
	}
	db, err := bbolt.Open(tmp, 0o600, options())
	if err != nil {
		return err
	}
	err = errors.Join(db.Update(setSchema), db.Close())
	if err == nil {
		err = syncFile(tmp)
	}
	if err == nil {
		err = publish(tmp, path)
	}
	if err != nil {
		return err
	}
	return syncDir(dir)
}

// publish gives tmp the name path unless that name is taken. A link fails then;
// a rename would pull the file away under a server that was started at the same
// moment and has it open already.
func publish(tmp, path string) error {
	err := os.Link(tmp, path)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return nil
	}
	return os.Rename(tmp, path) // the file system has no links
}

func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
