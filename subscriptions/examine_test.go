package subscriptions_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/subscriptions"
	"go.etcd.io/bbolt"
)

func (h *house) examine() (looked string, findings []string) {
	h.t.Helper()
	got, err := h.Examine(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	for _, l := range got.Looked {
		looked += fmt.Sprintf("%d %s, ", l.Count, l.What)
	}
	for _, f := range got.Findings {
		if f.Hint == "" || f.Severity != belfry.Fault {
			h.t.Errorf("%+v", f)
		}
		findings = append(findings, f.What)
	}
	return looked, findings
}

// populated is a house with ten browsers: five on "a", five on "a" and "b", two of ann's.
func populated(t *testing.T) *house {
	h := newHouse(t, subscriptions.Config{})
	for n := range 10 {
		sub := browser(n, "a")
		if n%2 == 0 {
			sub.Channels = []string{"a", "b"}
		}
		if n < 2 {
			sub.User = "ann"
		}
		h.register(sub)
	}
	h.index()
	return h
}

// seq is the key of the n-th row.
func seq(n byte) []byte { return []byte{0, 0, 0, 0, 0, 0, 0, n} }

// Whatever the disk does to a row or to what is derived from it, the operator
// reads of it; and what is said to mend it does.
func TestExamineNamesDamage(t *testing.T) {
	for _, tt := range []struct {
		name   string
		bucket string
		damage func(b *bbolt.Bucket) error
		want   []string // beginnings, before and
		stays  []string // after mending
	}{
		{"a record", "subscriptions", func(b *bbolt.Bucket) error {
			flipped := slices.Clone(b.Get(seq(3)))
			flipped[20] ^= 4
			return b.Put(seq(3), flipped)
		}, []string{"1 of 10 subscriptions cannot be read (number 3)", "1 of 37 index entries cannot be followed from subscriptions.by_id ",
			"1 of 37 index entries cannot be followed from subscriptions.by_endpoint ", "2 of 37 index entries cannot be followed from subscriptions.by_channel ",
			"2 of 7 counts"}, []string{"1 of 10 subscriptions cannot be read (number 3)"}},
		{"many records", "subscriptions", func(b *bbolt.Bucket) (err error) {
			for n := range byte(10) {
				err = errors.Join(err, b.Put(seq(n+1), nil))
			}
			return err
		}, []string{"10 of 10 subscriptions cannot be read (number 1, 2, 3, 4, 5, …)", "10 of 37", "10 of 37", "15 of 37", "2 of 37", "3 of 7"},
			[]string{"10 of 10 subscriptions cannot be read"}},
		{"a key that is none", "subscriptions", func(b *bbolt.Bucket) error { return b.Put([]byte("x\x1b"), b.Get(seq(1))) },
			[]string{`1 of 11 subscriptions cannot be read (number "x\x1b")`}, []string{"1 of 11"}},
		{"a lost record", "subscriptions", func(b *bbolt.Bucket) error { return b.Delete(seq(10)) },
			[]string{"1 of 37", "1 of 37", "1 of 37", "2 of 7"}, nil},
		{"a lost id", "subscriptions.by_id", func(b *bbolt.Bucket) error { k, _ := b.Cursor().First(); return b.Delete(k) },
			[]string{"1 of 10 subscriptions cannot be found through subscriptions.by_id", "1 of 7 counts"}, nil},
		{"an id that is none's", "subscriptions.by_id", func(b *bbolt.Bucket) error { return b.Put([]byte("01zz"), seq(3)) },
			[]string{"1 of 38 index entries cannot be followed from subscriptions.by_id", "1 of 7 counts"}, nil},
		{"an endpoint that is another's", "subscriptions.by_endpoint", func(b *bbolt.Bucket) error {
			k, v := b.Cursor().First()
			other := seq(1)
			if bytes.Equal(v, other) {
				other = seq(2)
			}
			return b.Put(slices.Clone(k), other)
		}, []string{"1 of 10 subscriptions cannot be found through subscriptions.by_endpoint", "1 of 37 index entries cannot be followed from subscriptions.by_endpoint"}, nil},
		{"an entry cut short", "subscriptions.by_endpoint", func(b *bbolt.Bucket) error { k, _ := b.Cursor().First(); return b.Put(slices.Clone(k), []byte{1}) },
			[]string{"1 of 10", "1 of 37"}, nil},
		{"a listener who is missed", "subscriptions.by_channel", func(b *bbolt.Bucket) error { k, _ := b.Cursor().Last(); return b.Delete(k) },
			[]string{"1 of 10 subscriptions cannot be found through subscriptions.by_channel", "1 of 7 counts"}, nil},
		{"a listener who left", "subscriptions.by_channel", func(b *bbolt.Bucket) error { return b.Put(append([]byte("c\x00"), seq(1)...), nil) },
			[]string{"1 of 38 index entries cannot be followed from subscriptions.by_channel"}, nil},
		{"a device that is missed", "subscriptions.by_user", func(b *bbolt.Bucket) error { k, _ := b.Cursor().Last(); return b.Delete(k) },
			[]string{"1 of 10 subscriptions cannot be found through subscriptions.by_user", "2 of 7 counts"}, nil},
		{"a short user", "subscriptions.by_user", func(b *bbolt.Bucket) error { return b.Put([]byte("x"), nil) },
			[]string{"1 of 38 index entries cannot be followed from subscriptions.by_user"}, nil},
		{"a count", "subscriptions.counts", func(b *bbolt.Bucket) error { return b.Put([]byte("kkey-a"), seq(9)) }, []string{"1 of 7 counts of subscriptions cannot be right"}, nil},
		{"a count cut short", "subscriptions.counts", func(b *bbolt.Bucket) error { return b.Put([]byte("a"), []byte{10}) }, []string{"1 of 7 counts"}, nil},
		{"a count of nothing", "subscriptions.counts", func(b *bbolt.Bucket) error { return b.Put([]byte("x"), seq(1)) }, []string{"1 of 8 counts"}, nil},
		{"a count of none", "subscriptions.counts", func(b *bbolt.Bucket) error { return b.Put([]byte("cz"), seq(0)) }, []string{"1 of 8 counts"}, nil},
		{"a member with a value", "subscriptions.by_channel", func(b *bbolt.Bucket) error { return b.Put(append([]byte("a\x00"), seq(1)...), seq(1)) },
			[]string{"1 of 10 subscriptions cannot be found through subscriptions.by_channel"}, nil},
		{"a lost count", "subscriptions.counts", func(b *bbolt.Bucket) error { return b.Delete([]byte("cb")) }, []string{"5 times a subscription is not in a count"}, nil},
		{"a lost count of devices", "subscriptions.counts", func(b *bbolt.Bucket) error { return b.Delete([]byte("dann")) }, []string{"2 times a subscription"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := populated(t)
			if looked, findings := h.examine(); looked != "10 subscriptions, 37 index entries, 7 counts, " || findings != nil {
				t.Fatalf("before: %s %q", looked, findings)
			}
			if err := h.file.Update(func(tx *bbolt.Tx) error { return tt.damage(tx.Bucket([]byte(tt.bucket))) }); err != nil {
				t.Fatal(err)
			}
			begin := func(what, beginning string) bool { return strings.HasPrefix(what, beginning) }
			if _, findings := h.examine(); !slices.EqualFunc(findings, tt.want, begin) {
				t.Errorf("%q", findings)
			}
			if err := h.Mend(t.Context()); err != nil {
				t.Fatal(err)
			}
			mended := dump(t, h)
			if _, err := h.Rebuild(t.Context()); err != nil || !maps.Equal(mended, dump(t, h)) {
				t.Errorf("mended is not as rebuilt, %v", err)
			}
			if _, findings := h.examine(); !slices.EqualFunc(findings, tt.stays, begin) {
				t.Errorf("after mending: %q", findings)
			}
		})
	}
}

// While the server serves, nothing that is right is called wrong, and mending
// loses nobody: whoever registers, changes or leaves meanwhile has done so after it.
func TestExamineAndMendBesideVisitors(t *testing.T) {
	h := newHouse(t, subscriptions.Config{})
	h.fast()
	var visitors sync.WaitGroup
	for n := range 40 {
		visitors.Go(func() {
			for i := range 10 {
				sub := browser(100*n+i, "a", "b")
				sub.User, sub.KeyID = fmt.Sprintf("user%d", n), fmt.Sprintf("key%d", i%3)
				r, err := h.Register(t.Context(), sub, nil)
				if err == nil && i%3 == 1 {
					_, err = h.Update(t.Context(), r.Subscription.ID, subscriptions.Change{Channels: &[]string{"c"}})
				}
				if err == nil && i%3 == 2 {
					err = h.Remove(t.Context(), r.Subscription.ID)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	gone := make(chan struct{})
	go func() { visitors.Wait(); close(gone) }()
	for looks, over := 0, false; !over || looks < 3; looks++ {
		select {
		case <-gone:
			over = true
		default:
		}
		if looked, findings := h.examine(); findings != nil {
			t.Fatalf("%s %q", looked, findings)
		}
		h.unindex()
		if err := h.Mend(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n, stayed, moved := h.count(everybody), h.count(channels("a")), h.count(channels("c")); n != 280 || stayed != 160 || moved != 120 {
		t.Errorf("%d there, %d with their channels and %d with another, want 280, 160 and 120", n, stayed, moved)
	}
}

// unindex loses every second entry of what nobody needs to change or leave.
func (h *house) unindex() {
	h.t.Helper()
	err := h.file.Update(func(tx *bbolt.Tx) (err error) {
		for _, name := range []string{"subscriptions.by_channel", "subscriptions.counts"} {
			b, n := tx.Bucket([]byte(name)), 0
			var lost [][]byte
			b.ForEach(func(k, _ []byte) error {
				if n++; n%2 == 0 {
					lost = append(lost, k)
				}
				return nil
			})
			for _, k := range lost {
				err = errors.Join(err, b.Delete(k))
			}
		}
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
}
