package main

import (
	"bytes"
	"crypto/x509"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"go.etcd.io/bbolt"

	"github.com/belfry-push/belfry"
)

// damage FILE BUCKET N: one bit of the N-th value of a bucket is not what it
// was, or where it has no value the key is lost. No server may run.
func cmdDamage(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(args[2])
	ts.Check(err)
	db, err := bbolt.Open(ts.MkAbs(args[0]), 0o600, &bbolt.Options{Timeout: within})
	ts.Check(err)
	defer db.Close()
	ts.Check(db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte(args[1]))
		c := b.Cursor()
		k, v := c.First()
		for ; n > 1; n-- {
			k, v = c.Next()
		}
		if len(v) == 0 {
			return b.Delete(k)
		}
		v = slices.Clone(v)
		v[len(v)-1] ^= 1
		return b.Put(k, v)
	}))
}

// blot FILE TEXT: every page that holds TEXT becomes zeros, under the eyes of
// whoever has the file open.
func cmdBlot(ts *testscript.TestScript, _ bool, args []string) {
	f, err := os.OpenFile(ts.MkAbs(args[0]), os.O_RDWR, 0)
	ts.Check(err)
	defer f.Close()
	page := make([]byte, os.Getpagesize())
	for at := int64(0); ; at += int64(len(page)) {
		if _, err := f.ReadAt(page, at); err == io.EOF {
			return
		}
		if bytes.Contains(page, []byte(args[1])) {
			_, err := f.WriteAt(make([]byte, len(page)), at)
			ts.Check(err)
		}
	}
}

// A disk that is nearly full and a certificate that is about to end are said in
// time, and not before.
func TestWhatWillGoWrong(t *testing.T) {
	severity := func(found []belfry.Finding) belfry.Severity {
		if len(found) == 0 {
			return ""
		}
		if found[0].What == "" || found[0].Hint == "" {
			t.Errorf("%+v", found[0])
		}
		return found[0].Severity
	}
	now := time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC)
	for in, want := range map[time.Duration]belfry.Severity{-time.Hour: belfry.Fault, time.Hour: belfry.Warning, 30 * 24 * time.Hour: ""} {
		if got := severity(lasts(&x509.Certificate{NotAfter: now.Add(in)}, now)); got != want {
			t.Errorf("a certificate that ends in %s: %q", in, got)
		}
	}
	for left, want := range map[uint64]belfry.Severity{0: belfry.Warning, 100 << 20: belfry.Warning, 1 << 30: "", math.MaxUint64: ""} {
		if got := severity(spacious("data", left)); got != want {
			t.Errorf("%d octets left: %q", left, got)
		}
	}
	if free(t.TempDir()) == 0 {
		t.Error("no disk has room for this test")
	}
}
