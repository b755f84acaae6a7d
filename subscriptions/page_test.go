package subscriptions_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/subscriptions"
	"go.etcd.io/bbolt"
)

// seqs are the places of rows, which say who they are.
func seqs(rows []belfry.Subscription) (all []belfry.Position) {
	for _, row := range rows {
		all = append(all, row.Seq)
	}
	return all
}

// Each person is rung once, however many of the channels they listen to, and
// whatever the size of the pages.
func TestPageAudiences(t *testing.T) {
	h := newHouse(t, subscriptions.Config{})
	var ids []string
	for n, in := range [][]string{{"a"}, {"a", "b"}, {"b"}, {"c"}, {}, {"a", "b", "c"}, {"ab"}} {
		sub := browser(n, in...)
		sub.User = []string{"ann", "bob", "an"}[n%3]
		ids = append(ids, h.register(sub).Subscription.ID)
	}
	if err := h.Remove(t.Context(), ids[2]); err != nil { // seq 3
		t.Fatal(err)
	}
	for _, c := range []struct {
		audience belfry.Audience
		want     []belfry.Position
	}{
		{everybody, []belfry.Position{1, 2, 4, 5, 6, 7}},
		{channels("a"), []belfry.Position{1, 2, 6}},
		{channels("b", "a"), []belfry.Position{1, 2, 6}},
		{channels("a", "c", "c", "nobody"), []belfry.Position{1, 2, 4, 6}},
		{channels("nobody"), nil},
		{belfry.Audience{Users: []string{"ann"}}, []belfry.Position{1, 4, 7}},
		{belfry.Audience{Users: []string{"bob", "ann", "bob"}}, []belfry.Position{1, 2, 4, 5, 7}},
		{belfry.Audience{Subscriptions: []string{ids[6], ids[0], ids[2], ids[0]}}, []belfry.Position{1, 7}},
		{belfry.Audience{}, nil},
	} {
		for limit := 1; limit <= 8; limit++ {
			if got := seqs(h.all(c.audience, subscriptions.End, limit)); !slices.Equal(got, c.want) {
				t.Errorf("%+v, pages of %d: %v, want %v", c.audience, limit, got, c.want)
			}
		}
		if n := h.count(c.audience); n != len(c.want) {
			t.Errorf("%+v: counted %d, want %d", c.audience, n, len(c.want))
		}
		var got []belfry.Position
		for row, err := range h.All(t.Context(), c.audience) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, row.Seq)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%+v: All gives %v, want %v", c.audience, got, c.want)
		}
	}
}

// The ends of a window: after is not in it, until is. One off, and a restart
// rings somebody twice or a newcomer hears old news.
func TestPageBounds(t *testing.T) {
	h := newHouse(t, subscriptions.Config{})
	for n := range 5 {
		h.register(browser(n, "a"))
	}
	until, err := h.Horizon(t.Context())
	if err != nil || until != 5 {
		t.Fatalf("horizon %d, %v", until, err)
	}
	h.register(browser(5, "a"))
	for _, a := range []belfry.Audience{everybody, channels("a"), channels("a", "b")} {
		for _, c := range []struct {
			after, until belfry.Position
			limit        int
			want         []belfry.Position
			next         belfry.Position
			done         bool
		}{
			{0, until, 10, []belfry.Position{1, 2, 3, 4, 5}, 5, true},
			{0, until, 5, []belfry.Position{1, 2, 3, 4, 5}, 5, true},
			{0, until, 4, []belfry.Position{1, 2, 3, 4}, 4, false},
			{4, until, 4, []belfry.Position{5}, 5, true},
			{5, until, 4, nil, 5, true},
			{2, 3, 4, []belfry.Position{3}, 3, true},
			{3, 2, 4, nil, 3, true},
			{0, 0, 4, nil, 0, true},
			{5, subscriptions.End, 4, []belfry.Position{6}, 6, true},
			{subscriptions.End, subscriptions.End, 4, nil, subscriptions.End, true},
		} {
			rows, next, done, err := h.Page(t.Context(), a, c.after, c.until, c.limit)
			if err != nil || !slices.Equal(seqs(rows), c.want) || next != c.next || done != c.done {
				t.Errorf("%+v (%d, %d] limit %d: %v, next %d, done %v, %v; want %v, %d, %v",
					a, c.after, c.until, c.limit, seqs(rows), next, done, err, c.want, c.next, c.done)
			}
		}
	}
}

// The horizon only rises: if a removed last row gave its place to the next to
// come, that newcomer would hear a broadcast launched before.
func TestHorizonOutlivesTheLastRow(t *testing.T) {
	h := newHouse(t, subscriptions.Config{})
	r := h.register(browser(1))
	if err := h.Remove(t.Context(), r.Subscription.ID); err != nil {
		t.Fatal(err)
	}
	h.reopen()
	if at, err := h.Horizon(t.Context()); err != nil || at != 1 {
		t.Errorf("horizon %d, %v", at, err)
	}
	if again := h.register(browser(1)); again.Subscription.Seq != 2 {
		t.Errorf("place %d was given out twice", again.Subscription.Seq)
	}
}

// While a broadcast goes through its audience, people come, go and change.
// Nobody is rung twice, and nobody who stays is left out (REL-28).
func TestPageWhileRowsChange(t *testing.T) {
	h := newHouse(t, subscriptions.Config{})
	h.fast()
	for _, a := range []belfry.Audience{everybody, channels("a"), channels("a", "b"), {Users: []string{"ann", "bob"}}} {
		h.Import(t.Context(), crowd(0, 300), "")
		stay := map[belfry.Position]bool{}
		for _, row := range h.all(a, subscriptions.End, 100) {
			stay[row.Seq] = true
		}
		r := rand.New(rand.NewPCG(11, uint64(len(stay))))
		rows := h.all(everybody, subscriptions.End, 1000)
		seen := map[belfry.Position]bool{}
		next := 1000
		for at, done := belfry.Position(0), false; !done; {
			var page []belfry.Subscription
			var err error
			page, at, done, err = h.Page(t.Context(), a, at, subscriptions.End, 1+r.IntN(20))
			if err != nil {
				t.Fatal(err)
			}
			for _, row := range page {
				if seen[row.Seq] {
					t.Fatalf("%+v: row %d seen twice", a, row.Seq)
				}
				seen[row.Seq] = true
			}
			if len(seen) > 2000 {
				t.Fatal("it never ends")
			}
			for range 2 {
				gone := rows[r.IntN(len(rows))]
				if h.Remove(t.Context(), gone.ID) == nil {
					delete(stay, gone.Seq)
				}
				moved := browser(next)
				h.Update(t.Context(), rows[r.IntN(len(rows))].ID, subscriptions.Change{Subscription: &moved})
				next++
			}
			if next < 1400 {
				h.Import(t.Context(), crowd(2000+next, 1), "")
			}
		}
		for seq := range stay {
			if !seen[seq] {
				t.Errorf("%+v: row %d was there all the while and was not seen", a, seq)
			}
		}
	}
}

// crowd is n subscriptions from browser number first on, spread over channels and users.
func crowd(first, n int) (all []belfry.Subscription) {
	for i := range n {
		in := [][]string{{"a"}, {"b"}, {"a", "b"}, {"c"}, nil}[i%5]
		sub := browser(first+i, in...)
		sub.User = []string{"", "ann", "bob", "eve"}[i%4]
		all = append(all, sub)
	}
	return all
}

// fast is for tests of many small steps: each would wait 10 ms for company and
// then for the disk.
func (h *house) fast() { h.file.MaxBatchDelay, h.file.NoSync = 0, true }

// Pages are read while visitors register; neither waits for the other for long
// and the race detector has something to look at.
func TestPageBesideRegistrations(t *testing.T) {
	h := newHouse(t, subscriptions.Config{})
	var wg sync.WaitGroup
	for n := range 200 {
		wg.Go(func() {
			r, err := h.Register(t.Context(), browser(n, "a"), nil)
			if err == nil && n%3 == 0 {
				err = h.Remove(t.Context(), r.Subscription.ID)
			}
			if err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			last := belfry.Position(0)
			for row, err := range h.All(t.Context(), channels("a", "b")) {
				if err != nil || row.Seq <= last {
					t.Errorf("row %d after %d, %v", row.Seq, last, err)
				}
				last = row.Seq
			}
		})
	}
	wg.Wait()
	if n := h.count(channels("a")); n != 133 {
		t.Errorf("%d rows, want 133", n)
	}
}

// A row that the disk damaged costs that one person a message. It must not
// stop the broadcast for all who come after, nor bring the server down (REL-14).
func TestDamagedRows(t *testing.T) {
	var log strings.Builder
	h := newHouse(t, subscriptions.Config{Log: slog.New(slog.NewTextHandler(&log, nil))})
	var rows []belfry.Subscription
	var ids []string
	var secret belfry.DeviceSecret
	for n := range 10 {
		r := h.register(browser(n, "a"))
		rows, ids, secret = append(rows, r.Subscription), append(ids, r.Subscription.ID), r.Secret
	}
	h.index() // a damaged row that is not indexed yet is nobody's at once
	err := h.file.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte("subscriptions"))
		key := func(n byte) []byte { return []byte{0, 0, 0, 0, 0, 0, 0, n} }
		flipped := slices.Clone(b.Get(key(3)))
		flipped[20] ^= 4
		return errors.Join(b.Put(key(3), flipped), b.Put(key(4), nil), b.Delete(key(5)),
			b.Put(key(10), b.Get(key(9))))
	})
	if err != nil {
		t.Fatal(err)
	}
	whole := []belfry.Position{1, 2, 6, 7, 8, 9}
	for limit := 1; limit < 12; limit++ {
		if got := seqs(h.all(channels("a"), subscriptions.End, limit)); !slices.Equal(got, whole) {
			t.Errorf("pages of %d: %v, want %v", limit, got, whole)
		}
	}
	was := h.Damaged()
	h.all(channels("a"), subscriptions.End, 100)
	if n := h.Damaged() - was; n != 4 {
		t.Errorf("%d damaged rows counted, want 4", n)
	}
	if !strings.Contains(log.String(), "sequence=3") || strings.Contains(log.String(), "googleapis") {
		t.Errorf("log: %s", log.String())
	}
	for _, id := range []string{ids[2], ids[3], ids[4], ids[9]} {
		if _, err := h.Get(t.Context(), id); !errors.Is(err, belfry.ErrCorrupt) {
			t.Errorf("get: %v", err)
		}
		if err := h.Remove(t.Context(), id); !errors.Is(err, belfry.ErrCorrupt) {
			t.Errorf("remove: %v", err)
		}
	}
	if err := h.Authorize(t.Context(), ids[9], secret); !errors.Is(err, belfry.ErrDenied) {
		t.Errorf("authorize: %v", err)
	}
	// The browser is told to subscribe anew, which heals it.
	if _, err := h.Register(t.Context(), browser(9, "a"), &secret); !errors.Is(err, belfry.ErrConflict) {
		t.Errorf("register: %v", err)
	}
	tx, err := h.file.Begin(true)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := h.Forget(tx, rows); n != 6 || err != nil {
		t.Errorf("forgot %d, %v; damaged rows must not stop the committer", n, err)
	}
	tx.Rollback()

	done, err := h.Rebuild(t.Context())
	if err != nil || done.Rows != 6 || done.Damaged != 3 {
		t.Fatalf("%+v, %v", done, err)
	}
	if n := h.count(everybody); n != 6 || h.count(channels("a")) != 6 {
		t.Errorf("%d rows counted after the rebuild", n)
	}
	if r := h.register(browser(9, "a")); !r.Created {
		t.Error("the endpoint of a damaged row is not free after the rebuild")
	}
}

// A key has no checksum of its own. One that a flipped bit makes smaller must not
// lead whoever pages back to where they were, for ever, and one that it makes
// greater must not be the end of the list. (bbolt may not find a neighbour of it,
// which is passed over as well: it searches keys that it takes to be in order.)
func TestDamagedKeys(t *testing.T) {
	const rows, broken = 20, 10
	for _, becomes := range []uint64{3, 1 << 40} {
		h := newHouse(t, subscriptions.Config{Log: slog.New(slog.DiscardHandler)})
		for n := range rows {
			h.register(browser(n, "a"))
		}
		var row []byte
		key := binary.BigEndian.AppendUint64(nil, broken)
		h.file.View(func(tx *bbolt.Tx) error {
			row = append(slices.Clone(key), tx.Bucket([]byte("subscriptions")).Get(key)...)
			return nil
		})
		h.file.Close()
		file, err := os.ReadFile(h.path)
		if err != nil {
			t.Fatal(err)
		}
		file = bytes.ReplaceAll(file, row, append(binary.BigEndian.AppendUint64(nil, becomes), row[8:]...))
		if err := os.WriteFile(h.path, file, 0o600); err != nil {
			t.Fatal(err)
		}
		h.open()
		for limit := 1; limit < rows+2; limit++ {
			var met []belfry.Position
			at, done := belfry.Position(0), false
			for range 2 * rows {
				var page []belfry.Subscription
				if page, at, done, err = h.Page(t.Context(), everybody, at, rows, limit); err != nil || done {
					met = append(met, seqs(page)...)
					break
				}
				met = append(met, seqs(page)...)
			}
			if err != nil || !done || !slices.Contains(met, rows) || !slices.IsSorted(met) || slices.Contains(met, broken) {
				t.Fatalf("with %d as %d, pages of %d: %v, %v, done %v", broken, becomes, limit, met, err, done)
			}
		}
	}
}

// A damaged count is mended by a rebuild, and until then keeps nobody from
// leaving, nor from coming.
func TestDamagedCounts(t *testing.T) {
	h := newHouse(t, subscriptions.Config{})
	one, two := h.register(browser(1, "a")), h.register(browser(2, "a"))
	err := h.file.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte("subscriptions.counts"))
		return errors.Join(b.Delete([]byte("a")), b.Put([]byte("ca"), []byte{1}))
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Remove(t.Context(), one.Subscription.ID); err != nil {
		t.Errorf("remove: %v", err)
	}
	h.register(browser(3, "a"))
	if _, err := h.Rebuild(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n, m := h.count(everybody), h.count(channels("a")); n != 2 || m != 2 {
		t.Errorf("counted %d and %d, want 2", n, m)
	}
	if row := h.get(two.Subscription.ID); row.Seq != 2 {
		t.Errorf("%+v", row)
	}
}

// Rows are appended: their pages are filled, or the file is twice as large as
// it needs to be.
func TestPagesAreFilled(t *testing.T) {
	h := newHouse(t, subscriptions.Config{})
	for first := 0; first < 3000; first += 100 {
		if _, err := h.Import(t.Context(), crowd(first, 100), ""); err != nil {
			t.Fatal(err)
		}
	}
	err := h.file.View(func(tx *bbolt.Tx) error {
		stats := tx.Bucket([]byte("subscriptions")).Stats()
		if used := float64(stats.LeafInuse) / float64(stats.LeafAlloc); used < 0.75 {
			t.Errorf("only %.0f %% of the pages is used", 100*used)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Secrets must not show in what the store says of a row (SEC-22).
func TestErrorsHoldNoSecret(t *testing.T) {
	h := newHouse(t, subscriptions.Config{})
	r := h.register(browser(1))
	_, err := h.Register(t.Context(), browser(1), nil)
	text := fmt.Sprintf("%v %+v %#v %+v %v", err, err, err, r, r.Subscription)
	for _, secret := range []string{r.Subscription.Endpoint.Reveal(), r.Secret.Reveal(), r.Subscription.Auth.Reveal(), r.Subscription.P256dh.Reveal()} {
		if strings.Contains(text, secret) {
			t.Errorf("%s holds %s", text, secret)
		}
	}
}

// Keys tells the operator when an old key can be retired (WP-50).
func TestKeys(t *testing.T) {
	h := newHouse(t, subscriptions.Config{})
	one, two := h.register(browser(1)), h.register(browser(2))
	key := "key-b"
	if _, err := h.Update(t.Context(), one.Subscription.ID, subscriptions.Change{KeyID: &key}); err != nil {
		t.Fatal(err)
	}
	check := func(want map[string]int) {
		t.Helper()
		if got, err := h.Keys(t.Context()); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%v, %v, want %v", got, err, want)
		}
	}
	check(map[string]int{"key-a": 1, "key-b": 1})
	if err := h.Remove(t.Context(), two.Subscription.ID); err != nil {
		t.Fatal(err)
	}
	h.reopen()
	check(map[string]int{"key-b": 1})
}

// A union larger than one counting step is counted whole.
func TestCountLargeUnion(t *testing.T) {
	h := newHouse(t, subscriptions.Config{})
	h.fast()
	for first := 0; first < 25_000; first += 5000 {
		if _, err := h.Import(t.Context(), crowd(first, 5000), ""); err != nil {
			t.Fatal(err)
		}
	}
	if n := h.count(channels("a", "b", "c")); n != 20_000 {
		t.Errorf("counted %d, want 20000", n)
	}
	if n := h.count(channels("a", "b")); n != 15_000 {
		t.Errorf("counted %d, want 15000", n)
	}
}

func BenchmarkImport(b *testing.B) {
	h := newHouse(b, subscriptions.Config{Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	batches := make([][]belfry.Subscription, b.N)
	for i := range batches {
		batches[i] = crowd(i*1000, 1000)
	}
	for b.ResetTimer(); len(batches) > 0; batches = batches[1:] {
		if _, err := h.Import(b.Context(), batches[0], ""); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*1000/b.Elapsed().Seconds(), "rows/s")
}

func BenchmarkIterate(b *testing.B) {
	const rows = 50_000
	h := newHouse(b, subscriptions.Config{})
	for first := 0; first < rows; first += 10_000 {
		if _, err := h.Import(b.Context(), crowd(first, 10_000), ""); err != nil {
			b.Fatal(err)
		}
	}
	for name, a := range map[string]belfry.Audience{"all": everybody, "channel": channels("a"), "union": channels("a", "b", "c")} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			seen := 0
			for b.Loop() {
				for _, err := range h.All(b.Context(), a) {
					if err != nil {
						b.Fatal(err)
					}
					seen++
				}
			}
			b.ReportMetric(float64(seen)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

func BenchmarkRegister(b *testing.B) {
	for _, together := range []int{1, 50, 500} {
		b.Run(fmt.Sprintf("together=%d", together), func(b *testing.B) {
			h := newHouse(b, subscriptions.Config{})
			n := 0
			for b.Loop() {
				var wg sync.WaitGroup
				for range together {
					n++
					sub := browser(n, "a")
					wg.Go(func() {
						if _, err := h.Register(b.Context(), sub, nil); err != nil {
							b.Error(err)
						}
					})
				}
				wg.Wait()
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "registrations/s")
		})
	}
}
