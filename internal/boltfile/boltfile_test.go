package boltfile_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/internal/boltfile"
	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"
)

func path(t *testing.T) string { return filepath.Join(t.TempDir(), "belfry.db") }

func mustOpen(t *testing.T, path string) *boltfile.File {
	t.Helper()
	f, err := boltfile.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// fill puts enough into the file for every kind of page to be in use.
func fill(t *testing.T, f *boltfile.File) {
	t.Helper()
	for range 3 {
		err := f.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("rows"))
			for n := range 2000 {
				if err == nil {
					err = b.Put(fmt.Appendf(nil, "%08d", n), bytes.Repeat([]byte{'x'}, 100))
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// refused checks that an error is one that an operator can act on.
func refused(t *testing.T, err error, code string) *belfry.Error {
	t.Helper()
	var own *belfry.Error
	if !errors.As(err, &own) {
		t.Fatalf("%v, want a belfry.Error", err)
	}
	if own.Code != code || own.Hint == "" {
		t.Fatalf("code %q, hint %q, want %q and a hint: %v", own.Code, own.Hint, code, err)
	}
	return own
}

// The file holds endpoints, which are secrets, and what was accepted must
// outlive a power cut.
func TestOpenSettings(t *testing.T) {
	t.Parallel()
	p := path(t)
	f := mustOpen(t, p)
	if f.NoSync || f.NoFreelistSync || f.FreelistType != bbolt.FreelistMapType || int64(f.MaxSize) != boltfile.MaxSize {
		t.Errorf("NoSync %v, NoFreelistSync %v, freelist %v, MaxSize %d", f.NoSync, f.NoFreelistSync, f.FreelistType, f.MaxSize)
	}
	info, err := os.Stat(p)
	if err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	// Nothing of the making is left behind.
	names, err := os.ReadDir(filepath.Dir(p))
	if err != nil || len(names) != 3 || names[0].Name() != "belfry.db" || names[1].Name() != "belfry.pid" || names[2].Name() != "belfry.reserve" {
		t.Errorf("the directory holds %v, %v", names, err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(p), "belfry.pid")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the sidecar outlives the holder: %v", err)
	}
	if err := os.Chmod(p, 0o644); err != nil {
		t.Fatal(err)
	}
	mustOpen(t, p)
	if info, _ := os.Stat(p); runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("a file that others may read stays %v", info.Mode())
	}
}

// What was written is there the next time.
func TestReopen(t *testing.T) {
	t.Parallel()
	p := path(t)
	f := mustOpen(t, p)
	fill(t, f)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := boltfile.OpenExisting(p)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	again.View(func(tx *bbolt.Tx) error {
		if tx.Bucket([]byte("rows")).Get([]byte("00001999")) == nil {
			t.Error("a row is lost")
		}
		if v := tx.Bucket([]byte("meta")).Get([]byte("schema")); binary.BigEndian.Uint64(v) != 1 {
			t.Errorf("schema %x", v)
		}
		return nil
	})
}

// A second serve on one directory must say so at once and not hang; it must
// name the first one, or the operator hunts for it (REL-20).
func TestSecondOpen(t *testing.T) {
	t.Parallel()
	p := path(t)
	mustOpen(t, p)
	began := time.Now()
	_, err := boltfile.Open(p)
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("took %v", took)
	}
	own := refused(t, err, "already-running")
	want := fmt.Sprintf("another belfry is already running on %s (process %d)", filepath.Dir(p), os.Getpid())
	if own.Error() != want || !errors.Is(err, belfry.ErrConflict) {
		t.Errorf("%q, want %q", own.Error(), want)
	}
}

// Two servers started at the same moment on a new directory: one gets it. If
// each made a file, one of them would write to a file that has no name.
func TestConcurrentCreation(t *testing.T) {
	t.Parallel()
	for range 3 {
		p := path(t)
		var mu sync.Mutex // guards open
		var open []*boltfile.File
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				f, err := boltfile.Open(p)
				if err != nil {
					refused(t, err, "already-running")
					return
				}
				mu.Lock()
				defer mu.Unlock()
				open = append(open, f)
			})
		}
		wg.Wait()
		if len(open) != 1 {
			t.Fatalf("%d are open at once", len(open))
		}
		open[0].Close()
	}
}

// Where there should be a database, an empty one must not take its place: it
// would look as if every visitor had left (REL-15).
func TestNeverMadeAnew(t *testing.T) {
	t.Parallel()
	p := path(t)
	_, err := boltfile.OpenExisting(p)
	refused(t, err, "database-missing")
	if _, err := os.Stat(p); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file was made: %v", err)
	}
	if err := os.WriteFile(p, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = boltfile.Open(p)
	refused(t, err, "database-damaged")
	if info, _ := os.Stat(p); info.Size() != 0 {
		t.Error("a file cut to nothing was filled anew")
	}
}

// A file of a newer belfry is refused politely and left alone, and so is a
// bbolt file of another program. One without any bucket becomes ours.
func TestSchema(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		bucket, key string
		value       []byte
		code        string
	}{
		"newer":       {"meta", "schema", []byte{0, 0, 0, 0, 0, 0, 0, 2}, "database-schema"},
		"none":        {"meta", "other", []byte{1}, "database-damaged"},
		"zero":        {"meta", "schema", make([]byte, 8), "database-damaged"},
		"foreign":     {"fridge", "milk", []byte{1}, "database-foreign"},
		"ours, empty": {},
	} {
		t.Run(name, func(t *testing.T) {
			p := path(t)
			db, err := bbolt.Open(p, 0o600, nil)
			if err != nil {
				t.Fatal(err)
			}
			if c.bucket != "" {
				db.Update(func(tx *bbolt.Tx) error {
					b, err := tx.CreateBucket([]byte(c.bucket))
					if err == nil {
						err = b.Put([]byte(c.key), c.value)
					}
					return err
				})
			}
			db.Close()
			before, _ := os.ReadFile(p)
			f, err := boltfile.Open(p)
			if c.code == "" {
				if err != nil {
					t.Fatal(err)
				}
				f.Close()
				mustOpen(t, p)
				return
			}
			refused(t, err, c.code)
			if after, _ := os.ReadFile(p); !bytes.Equal(before, after) {
				t.Error("the file was written to")
			}
		})
	}
}

// A damaged file ends in a clear error or, where the damage is in a page that
// opening does not need, in an open file; never in a panic, a hang or a lock
// that stays (REL-15).
func TestDamagedFile(t *testing.T) {
	t.Parallel()
	p := path(t)
	f := mustOpen(t, p)
	fill(t, f)
	page, used := f.Info().PageSize, 0
	f.View(func(tx *bbolt.Tx) error { used = int(tx.Size()); return nil })
	f.Close()
	whole, err := os.ReadFile(p)
	if err != nil {
		t.Fatal(err)
	}
	try := func(name string, damaged []byte, mustRefuse bool) {
		t.Helper()
		if err := os.WriteFile(p, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := boltfile.Open(p)
		if err == nil {
			f.Close()
			if mustRefuse {
				t.Errorf("%s: opened", name)
			}
			return
		}
		refused(t, err, "database-damaged")
	}
	zero := func(pages ...int) []byte {
		b := bytes.Clone(whole)
		for _, n := range pages {
			clear(b[n*page : (n+1)*page])
		}
		return b
	}
	try("both metas", zero(0, 1), true)
	try("garbage", bytes.Repeat([]byte("garbage "), 10_000), true)
	try("a text", []byte("hello\n"), true)
	for _, size := range []int{1, 100, page, 2 * page, 2*page + 1, 4 * page, used / 2, used - page} {
		try(fmt.Sprintf("cut to %d", size), whole[:size], true)
	}
	for n := range min(used/page, 64) {
		try(fmt.Sprintf("page %d zeroed", n), zero(n), false)
	}
	random := rand.New(rand.NewPCG(1, 2))
	for n := range 100 {
		b := bytes.Clone(whole)
		for range 1 + n/10 {
			b[random.IntN(used)] ^= 1 << random.IntN(8)
		}
		try("flipped bits", b, false)
	}
	try("one meta", zero(0), false)
	try("whole again", whole, false)
	mustOpen(t, p)
}

// Where the file ends before the pages it needs, the memory map behind its end
// faults when it is touched. That would take the whole process down without a
// word to the operator.
func TestCutFileDoesNotFault(t *testing.T) {
	t.Parallel()
	p := path(t)
	f := mustOpen(t, p)
	page := int64(f.Info().PageSize)
	f.Close()
	if err := os.Truncate(p, 2*page); err != nil {
		t.Fatal(err)
	}
	_, err := boltfile.Open(p)
	refused(t, err, "database-damaged")
	_, err = boltfile.Open(p) // and the lock is free again
	refused(t, err, "database-damaged")
}

// A full disk is said as such: the public answer to it is 507, and the operator
// must learn that space is what is missing.
func TestExplainFull(t *testing.T) {
	t.Parallel()
	full := []error{
		bbolterrors.ErrMaxSizeReached,
		&fs.PathError{Op: "write", Path: "belfry.db", Err: syscall.ENOSPC},
		fmt.Errorf("file resize error: %s", syscall.ENOSPC), // bbolt keeps the text alone
	}
	if runtime.GOOS == "windows" {
		full = full[:1]
	}
	for _, err := range full {
		if got := boltfile.Explain(err); !errors.Is(got, belfry.ErrFull) {
			t.Errorf("%v became %v", err, got)
		}
	}
	other := errors.New("other")
	if boltfile.Explain(other) != other || boltfile.Explain(nil) != nil {
		t.Error("other errors must pass unchanged")
	}
}
