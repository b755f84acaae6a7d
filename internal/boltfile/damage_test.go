package boltfile_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"slices"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/internal/boltfile"
)

// A length on a page that leads out of the memory map must end one call and not
// the server, which everybody else is still using.
func TestViewOfADamagedRow(t *testing.T) {
	path := path(t)
	f := mustOpen(t, path)
	value := bytes.Repeat([]byte{'v'}, 100)
	err := f.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucket([]byte("rows"))
		if err != nil {
			return err
		}
		for _, key := range []string{"key-1", "key-2"} {
			if err := b.Put([]byte(key), bytes.Repeat(value, 20)); err != nil { // too much for a bucket inside its parent's page
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	f.Close()

	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	row := bytes.Index(file, append([]byte("key-1"), value...))
	if row < 0 {
		t.Fatal("the row is not in the file")
	}
	const firstLength = 16 + 12 // behind the page's head: flags, position, length of key, length of value
	page := row / os.Getpagesize() * os.Getpagesize()
	binary.NativeEndian.PutUint32(file[page+firstLength:], 1<<28)
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	f = mustOpen(t, path)
	sum := 0
	err = boltfile.View(f, func(tx *bbolt.Tx) error {
		for _, octet := range tx.Bucket([]byte("rows")).Get([]byte("key-1")) {
			sum += int(octet)
		}
		return nil
	})
	if !errors.Is(err, belfry.ErrCorrupt) {
		t.Errorf("%v, after a sum of %d", err, sum)
	}
	if err := f.Update(func(*bbolt.Tx) error { return nil }); err != nil {
		t.Errorf("nobody can write any more: %v", err)
	}
}

// A list of free pages with a flipped bit would let the next transaction write
// over rows, or make the file thousands of times as long.
func TestDamagedFreelist(t *testing.T) {
	path := path(t)
	f := mustOpen(t, path)
	fill(t, f)
	pageSize := f.Info().PageSize
	list := -1
	err := f.View(func(tx *bbolt.Tx) error {
		for n := range int(tx.Size()) / pageSize {
			if p, err := tx.Page(n); err != nil || p == nil {
				return err
			} else if p.Type == "freelist" {
				list = n
			}
		}
		return nil
	})
	f.Close()
	if err != nil || list < 0 {
		t.Fatalf("the file has no freelist: %v", err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	ids := make([]uint64, binary.NativeEndian.Uint16(whole[list*pageSize+10:])) // behind the page's id and flags
	const head = 16
	if _, err := binary.Decode(whole[list*pageSize+head:], binary.NativeEndian, ids); err != nil || len(ids) < 3 {
		t.Fatalf("there are only %d free pages: %v", len(ids), err)
	}
	mustOpen(t, path).Close()
	for name, damage := range map[string]func(ids []uint64){
		"far away":    func(ids []uint64) { ids[len(ids)-1] |= 1 << 40 },
		"a meta page": func(ids []uint64) { ids[0] = 1 },
		"twice":       func(ids []uint64) { ids[1] = ids[0] },
		"itself": func(ids []uint64) {
			at, _ := slices.BinarySearch(ids, uint64(list))
			ids[min(at, len(ids)-1)] = uint64(list)
		},
	} {
		t.Run(name, func(t *testing.T) {
			file, ids := bytes.Clone(whole), slices.Clone(ids)
			damage(ids)
			if _, err := binary.Encode(file[list*pageSize+head:], binary.NativeEndian, ids); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, file, 0o600); err != nil {
				t.Fatal(err)
			}
			f, err := boltfile.Open(path)
			if err == nil {
				f.Close()
			}
			refused(t, err, "database-damaged")
			if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, file) {
				t.Error("what was refused was changed")
			}
		})
	}
}

// bbolt goes on from the transaction before where the page of the last one is
// damaged. Whoever opens the file is told, and only then.
func TestDamagedMeta(t *testing.T) {
	path := path(t)
	f := mustOpen(t, path)
	fill(t, f)
	pageSize := f.Info().PageSize
	f.Close()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const magic, checksum = 16, 16 + 56
	for _, tt := range []struct {
		name string
		at   int
		told bool
	}{
		{"none", -1, false},
		{"the first, in its magic number", magic, true},
		{"the second, in its checksum", pageSize + checksum, true},
		{"behind what is read", pageSize - 1, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := bytes.Clone(whole)
			if tt.at >= 0 {
				file[tt.at] ^= 1
			}
			if err := os.WriteFile(path, file, 0o600); err != nil {
				t.Fatal(err)
			}
			f := mustOpen(t, path)
			defer f.Close()
			if told := f.Reverted != nil; told != tt.told {
				t.Errorf("it is told: %v", f.Reverted)
			}
		})
	}
}
