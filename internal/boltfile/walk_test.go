package boltfile_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/internal/boltfile"
	"go.etcd.io/bbolt"
)

// walked is every key of the bucket "rows", as a walk meets them.
func walked(ctx context.Context, f *boltfile.File, step int) (keys []string, transactions int, err error) {
	err = boltfile.Walk(ctx, f.View, []byte("rows"), step, func(*bbolt.Tx) boltfile.Visit {
		transactions++
		return func(k, _ []byte) error {
			keys = append(keys, string(k))
			return nil
		}
	})
	return keys, transactions, err
}

// Whoever walks meets every key once, whatever the step, in transactions that
// each are short, and may remove it.
func TestWalk(t *testing.T) {
	f := mustOpen(t, path(t))
	fill(t, f)
	var want []string
	for n := range 2000 {
		want = append(want, fmt.Sprintf("%08d", n))
	}
	for _, step := range []int{1, 7, 1000, 2000, 3000} {
		got, transactions, err := walked(t.Context(), f, step)
		if err != nil || !slices.Equal(got, want) || transactions < 2000/step {
			t.Errorf("by %d: %d keys in %d transactions, %v", step, len(got), transactions, err)
		}
	}
	met := 0
	err := boltfile.Walk(t.Context(), f.Update, []byte("rows"), 10, func(tx *bbolt.Tx) boltfile.Visit {
		return func(k, _ []byte) error {
			met++
			return tx.Bucket([]byte("rows")).Delete(k)
		}
	})
	if left, _, _ := walked(t.Context(), f, 10); err != nil || met != 2000 || left != nil {
		t.Errorf("removing: %d keys met and %d left, %v", met, len(left), err)
	}
	stop := errors.New("stop")
	fill(t, f)
	err = boltfile.Walk(t.Context(), f.View, []byte("rows"), 10, func(tx *bbolt.Tx) boltfile.Visit {
		return func([]byte, []byte) error { return stop }
	})
	if err != stop {
		t.Errorf("stopped: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := walked(ended, f, 10); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// Pages that the disk damaged end a walk with a word about it: bbolt panics at
// some, and at others a walk that goes on from the last key would never end.
func TestWalkOverDamage(t *testing.T) {
	for name, damage := range map[string]func(page []byte){
		"a page of zeros":        func(page []byte) { clear(page) },
		"keys that go backward":  func(page []byte) { copy(page[bytes.Index(page, []byte("00001001")):], "00000001") },
		"a leaf called a branch": func(page []byte) { copy(page[8:], []byte{1, 0}) },
	} {
		p := path(t)
		f := mustOpen(t, p)
		fill(t, f)
		content, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		size := os.Getpagesize()
		for at := 0; at < len(content); at += size {
			if page := content[at : at+size]; bytes.Contains(page, []byte("00001001xxx")) {
				damage(page)
			}
		}
		if err := os.WriteFile(p, content, 0o600); err != nil { // under bbolt's eyes, as a disk does it
			t.Fatal(err)
		}
		if keys, _, err := walked(t.Context(), f, 10); !errors.Is(err, belfry.ErrCorrupt) {
			t.Errorf("%s: %d keys, %v", name, len(keys), err)
		}
	}
}

// A file that was cut short while it is open gives a fault where the rest of the
// memory map is touched, which would end the process.
func TestWalkOverACutFile(t *testing.T) {
	p := path(t)
	f := mustOpen(t, p)
	fill(t, f)
	if err := os.Truncate(p, int64(4*os.Getpagesize())); err != nil {
		t.Fatal(err)
	}
	if keys, _, err := walked(t.Context(), f, 10); !errors.Is(err, belfry.ErrCorrupt) {
		t.Errorf("%d keys, %v", len(keys), err)
	}
}
