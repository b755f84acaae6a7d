package subscriptions

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/internal/boltfile"
	"go.etcd.io/bbolt"
)

// New rows are in no index by endpoint for a while. They are found
// none the less, whatever becomes of them meanwhile, also when the server was
// killed in the middle; and in the end each is indexed that is there, and no other.
// A row that is not found would be doubled by its browser's next visit.
func TestTail(t *testing.T) {
	at := func(name string) belfry.Endpoint {
		return belfry.StoredEndpoint("https://fcm.googleapis.com/" + name)
	}
	move := func(s *Store, from, to string) error {
		row, err := s.ByEndpoint(t.Context(), at(from))
		if err == nil {
			_, err = s.Update(t.Context(), row.ID, Change{Subscription: &belfry.Subscription{Endpoint: at(to)}})
		}
		return err
	}
	tests := []struct {
		name    string
		happens func(*Store) error
		want    string // of a, b and c: the row's number
	}{
		{"nothing", func(s *Store) error { return nil }, "2 3 0"},
		{"one leaves", func(s *Store) error {
			row, err := s.ByEndpoint(t.Context(), at("a"))
			return errors.Join(err, s.Remove(t.Context(), row.ID))
		}, "0 3 0"},
		{"one moves", func(s *Store) error { return move(s, "a", "c") }, "0 3 2"},
		{"one moves to another's place", func(s *Store) error {
			var conflict *belfry.Error
			if err := move(s, "a", "b"); !errors.As(err, &conflict) || conflict.Code != "known-endpoint" {
				return fmt.Errorf("moved: %w", err)
			}
			return nil
		}, "2 3 0"},
		{"one moves and comes back", func(s *Store) error { return errors.Join(move(s, "a", "c"), move(s, "c", "a")) }, "2 3 0"},
		{"one moves and another takes its place", func(s *Store) error {
			_, err := s.Register(t.Context(), belfry.Subscription{Endpoint: at("a")}, nil)
			if err == nil {
				return errors.New("registered twice")
			}
			err = move(s, "a", "c")
			_, again := s.Register(t.Context(), belfry.Subscription{Endpoint: at("a")}, nil)
			return errors.Join(err, again)
		}, "1002 3 2"},
		{"one is imported again", func(s *Store) error {
			done, err := s.Import(t.Context(), []belfry.Subscription{{Endpoint: at("b")}, {Endpoint: at("c")}}, "")
			if done.Created != 1 || done.Updated != 1 {
				return fmt.Errorf("%+v, %w", done, err)
			}
			return err
		}, "2 3 1002"},
		{"a transaction is taken back", func(s *Store) error {
			undone := errors.New("undone")
			err := s.db.Update(func(tx *bbolt.Tx) error {
				_, err := s.importOne(s.tables(tx), belfry.Subscription{Endpoint: at("c")}, "")
				return errors.Join(err, undone)
			})
			if err.Error() != undone.Error() {
				return err
			}
			_, err = s.Register(t.Context(), belfry.Subscription{Endpoint: at("d")}, nil)
			return err
		}, "2 3 0"},
		{"one leaves and comes again in a transaction that is taken back", func(s *Store) error {
			undone := errors.New("undone")
			err := s.db.Update(func(tx *bbolt.Tx) error {
				tables := s.tables(tx)
				old, err := tables.byHash(at("a"))
				again := belfry.Subscription{ID: "again", Endpoint: at("a")}
				return errors.Join(err, tables.save(&old, nil), tables.add(&again), undone)
			})
			if err.Error() != undone.Error() {
				return err
			}
			return nil
		}, "2 3 0"},
	}
	for _, tt := range tests {
		for _, killed := range []bool{false, true} {
			t.Run(fmt.Sprint(tt.name, " ", killed), func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "belfry.db")
				file, s := opened(t, path)
				if _, err := s.Register(t.Context(), belfry.Subscription{Endpoint: at("before")}, nil); err != nil {
					t.Fatal(err)
				}
				batch := many("crowd", fewest)
				batch[0].Endpoint, batch[1].Endpoint = at("a"), at("b")
				if done, err := s.Import(t.Context(), batch, ""); done.Created != fewest || err != nil {
					t.Fatal(done, err)
				}
				check := func(when string, indexed bool) {
					t.Helper()
					var got [3]belfry.Position
					for i, name := range []string{"a", "b", "c"} {
						row, err := s.ByEndpoint(t.Context(), at(name))
						if err != nil && !errors.Is(err, belfry.ErrNotFound) {
							t.Error(err)
						}
						got[i] = row.Seq
					}
					if text := fmt.Sprint(got[0], got[1], got[2]); text != tt.want {
						t.Errorf("%s: rows %s, want %s", when, text, tt.want)
					}
					if found, err := s.Examine(t.Context()); err != nil || len(found.Findings) > 0 {
						t.Errorf("%s: %v, %v", when, found.Findings, err)
					}
					file.View(func(tx *bbolt.Tx) error {
						if from := openTables(tx).byEndpoint.Sequence(); indexed != (from == 0) {
							t.Errorf("%s: the index lacks rows from %d on", when, from)
						}
						return nil
					})
				}
				if err := tt.happens(s); err != nil {
					t.Fatal(err)
				}
				check("before they are indexed", false)
				if killed {
					file.Close()
					file, s = opened(t, path)
					check("after a start", false)
				}
				if err := s.index(t.Context()); err != nil {
					t.Fatal(err)
				}
				check("in the end", true)
			})
		}
	}
}

// Whoever reads in a transaction from before an Index finds its rows.
func TestTailInAnOlderTransaction(t *testing.T) {
	file, s := opened(t, filepath.Join(t.TempDir(), "belfry.db"))
	e := belfry.StoredEndpoint("https://fcm.googleapis.com/a")
	makeRoom(t, file)
	if _, err := s.Register(t.Context(), belfry.Subscription{Endpoint: e}, nil); err != nil {
		t.Fatal(err)
	}
	err := s.read(t.Context(), func(before tables) error {
		if err := s.index(t.Context()); err != nil {
			return err
		}
		_, err := before.byHash(e)
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// A long import indexes what it has brought from time to time, so that the tail
// takes no more memory than was said.
func TestTailIsBounded(t *testing.T) {
	_, s := opened(t, filepath.Join(t.TempDir(), "belfry.db"))
	for n := range maxTail/8192 + 1 {
		if _, err := s.Import(t.Context(), many(fmt.Sprint(n), 8192), ""); err != nil {
			t.Fatal(err)
		}
	}
	if n := s.tail.Load().size(); n != 8192 {
		t.Errorf("%d rows are not indexed yet, want those of the last batch", n)
	}
}

// A disk that is full when an import ends keeps nobody from leaving, and no server
// from starting; its rows are found, and indexed once there is room (REL-09).
func TestTailOnAFullDisk(t *testing.T) {
	file, s := opened(t, filepath.Join(t.TempDir(), "belfry.db"))
	file.NoSync = true
	file.MaxSize = 48 << 20
	refused := 0
	for n := 0; refused == 0; n++ {
		done, err := s.Import(t.Context(), many(fmt.Sprint(n), 4*fewest), "")
		if err != nil {
			t.Fatal(err)
		}
		refused = len(done.Refused)
	}
	s.waiting.Store(1) // in small pieces, which come closest to the end
	if err := s.index(t.Context()); !errors.Is(err, belfry.ErrFull) {
		t.Fatalf("indexed: %v", err)
	}
	file.View(func(tx *bbolt.Tx) error {
		if n := openTables(tx).byEndpoint.Stats().KeyN; n > 0 {
			t.Errorf("%d rows are indexed with what is held back for those who leave", n)
		}
		return nil
	})
	s, err := New(file, Config{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatalf("a server does not start: %v", err)
	}
	waitForIndex(s)
	for i := range 300 {
		row, err := s.ByEndpoint(t.Context(), many("0", i+1)[i].Endpoint)
		if err == nil {
			err = s.Remove(t.Context(), row.ID)
		}
		if err != nil {
			t.Fatalf("the %d. cannot leave: %v", i+1, err)
		}
	}
	file.MaxSize = 0
	if err := s.IndexAll(t.Context()); err != nil || s.tail.Load().size() > 0 {
		t.Errorf("once there is room: %v", err)
	}
	if found, err := s.Examine(t.Context()); err != nil || len(found.Findings) > 0 {
		t.Errorf("in the end: %v, %v", found.Findings, err)
	}
}

// Doctor still misses what should be indexed while there is a tail, and a damaged
// row of that keeps its browser from nothing.
func TestTailIsNoExcuse(t *testing.T) {
	file, s := opened(t, filepath.Join(t.TempDir(), "belfry.db"))
	visitor, imported := many("visitor", 1)[0], many("crowd", fewest)
	if _, err := s.Register(t.Context(), visitor, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.index(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Import(t.Context(), imported, ""); err != nil {
		t.Fatal(err)
	}
	err := file.Update(func(tx *bbolt.Tx) error {
		hash := visitor.Endpoint.Hash()
		return errors.Join(tx.Bucket(endsName).Delete(hash[:]), tx.Bucket(rowsName).Put(seqKey(2), []byte("damaged")))
	})
	if err != nil {
		t.Fatal(err)
	}
	found, err := s.Examine(t.Context())
	if missing := "1 of 1001 subscriptions cannot be found through subscriptions.by_endpoint"; err != nil || !slices.ContainsFunc(found.Findings, func(f belfry.Finding) bool { return f.What == missing }) {
		t.Errorf("doctor finds %v, %v", found.Findings, err)
	}
	if _, err := s.Register(t.Context(), imported[0], nil); err != nil {
		t.Errorf("whose row is damaged cannot register: %v", err)
	}
}

// Between the transactions of an Index visitors come, go and move. None is lost or
// found where they are not: at once, for who reads in a transaction from before,
// after it failed or was killed in the middle, and in the end.
func TestTailWhileItIsIndexed(t *testing.T) {
	const rows = 3 * fewest
	type where struct{ stays, leaves, moves, moved, comes belfry.Position }
	for _, pause := range []int{0, 2, 3} {
		for _, then := range []string{"goes on", "fails", "is killed", "is killed in the end"} {
			t.Run(fmt.Sprint(pause, " ", then), func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "belfry.db")
				file, s := opened(t, path)
				makeRoom(t, file)
				crowd := many("crowd", rows)
				if _, err := s.Import(t.Context(), crowd, ""); err != nil {
					t.Fatal(err)
				}
				was, is := where{stays: 1, leaves: 2, moves: 3}, where{stays: 1, leaves: rows + 2, moved: 3, comes: rows + 1}
				stays, leaves, moves, moved, comes := crowd[0], crowd[1], crowd[2], many("moved", 1)[0], many("visitor", 1)[0]
				seen := func(tx *bbolt.Tx, l *tail) (w where) {
					tables := openTables(tx)
					tables.tail = l
					for _, e := range []struct {
						at  belfry.Subscription
						seq *belfry.Position
					}{{stays, &w.stays}, {leaves, &w.leaves}, {moves, &w.moves}, {moved, &w.moved}, {comes, &w.comes}} {
						got, err := tables.byHash(e.at.Endpoint)
						if err != nil && !errors.Is(err, belfry.ErrNotFound) {
							t.Error(err)
						}
						*e.seq = got.Seq
					}
					return w
				}
				check := func(when string, l *tail) {
					t.Helper()
					file.View(func(tx *bbolt.Tx) error {
						if got := seen(tx, l); got != is {
							t.Errorf("%s: %+v, want %+v", when, got, is)
						}
						return nil
					})
					if found, err := s.Examine(t.Context()); err != nil || len(found.Findings) > 0 {
						t.Errorf("%s: %v, %v", when, found.Findings, err)
					}
				}
				before := s.tail.Load()
				old, err := file.Begin(false)
				if err != nil {
					t.Fatal(err)
				}
				checkOld := func(when string) {
					t.Helper()
					if got := seen(old, before); got != was {
						t.Errorf("%s, who began before sees %+v, want %+v", when, got, was)
					}
				}
				s.waiting.Store(1) // in small pieces
				stop := errors.New("stopped")
				ctx := &pausing{Context: t.Context(), at: pause, then: func() error {
					s.waiting.Store(0)
					id := func(sub belfry.Subscription) string {
						row, err := s.ByEndpoint(t.Context(), sub.Endpoint)
						if err != nil {
							t.Error(err)
						}
						return row.ID
					}
					_, came := s.Register(t.Context(), comes, nil)
					left := s.Remove(t.Context(), id(leaves))
					_, again := s.Register(t.Context(), leaves, nil)
					_, went := s.Update(t.Context(), id(moves), Change{Subscription: &moved})
					if err := errors.Join(came, left, again, went); err != nil {
						t.Error(err)
					}
					check("between", s.tail.Load())
					check("between, with the tail from before", before)
					checkOld("between")
					s.waiting.Store(1)
					if then == "fails" || then == "is killed" {
						return stop
					}
					return nil
				}}
				if err := s.index(ctx); err != nil && err != stop {
					t.Fatal(err)
				}
				if ctx.at >= 0 { // it was done before
					ctx.then()
				}
				s.waiting.Store(0)
				check("afterwards", s.tail.Load())
				check("afterwards, with the tail from before", before)
				checkOld("afterwards")
				old.Rollback()
				if strings.HasPrefix(then, "is killed") {
					file.Close()
					file, s = opened(t, path)
					check("after a start", s.tail.Load())
				}
				for range 2 { // what was begun, and what came meanwhile
					if err := s.index(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				check("in the end", newTail())
			})
		}
	}
}

// makeRoom leaves free pages in a file: with a reader who stays, bbolt would wait
// before it grows.
func makeRoom(t *testing.T, file *boltfile.File) {
	t.Helper()
	name := []byte("room")
	fill := func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucket(name)
		if err != nil {
			return err
		}
		return b.Put(name, make([]byte, 24<<20))
	}
	empty := func(tx *bbolt.Tx) error { return tx.DeleteBucket(name) }
	for _, step := range []func(*bbolt.Tx) error{fill, empty, func(*bbolt.Tx) error { return nil }} {
		if err := file.Update(step); err != nil {
			t.Fatal(err)
		}
	}
}

// pausing is a context that does something when it is asked for the at-th time.
type pausing struct {
	context.Context
	at   int
	then func() error
}

func (p *pausing) Err() error {
	if p.at--; p.at == -1 {
		return p.then()
	}
	return nil
}

// Those who register cause the index to be brought up to date, once they are
// enough, beside the next ones; not in the middle of an import, which does so at
// its end. What fails is tried again when as many more have come, not each time.
func TestTailCatchesUp(t *testing.T) {
	var log strings.Builder
	file, err := boltfile.Open(filepath.Join(t.TempDir(), "belfry.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	s, err := New(file, Config{Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	visitors := 0
	visits := func(want int) {
		t.Helper()
		visitors++
		if _, err := s.Register(t.Context(), many(fmt.Sprint(visitors), 1)[0], nil); err != nil {
			t.Fatal(err)
		}
		s.indexing.Lock() // it is held by who indexes
		defer s.indexing.Unlock()
		if got := s.tail.Load().size(); got != want {
			t.Errorf("after %d registrations %d rows are not indexed, want %d", visitors, got, want)
		}
	}
	load := func(n int) {
		t.Helper()
		if _, err := s.Import(t.Context(), many(fmt.Sprint("crowd", n), n), ""); err != nil {
			t.Fatal(err)
		}
	}
	load(enough - 2)
	if err := s.Index(t.Context()); err != nil {
		t.Fatal(err)
	}
	visits(enough - 1)
	visits(0)
	visits(1)
	s.enough.Store(2)
	if _, err := s.Import(t.Context(), many("one", 1), ""); err != nil {
		t.Fatal(err)
	}
	waitForIndex(s)
	visits(1)

	load(enough)
	visits(enough + 2)
	if err := s.Index(t.Context()); err != nil {
		t.Fatal(err)
	}
	visits(1)

	s.enough.Store(1)
	file.MaxSize = 1 << 20 // of which there is more already
	s.catchUp()
	waitForIndex(s)
	s.catchUp()
	waitForIndex(s)
	if n, want := s.enough.Load(), int64(enough+1); n != want || strings.Count(log.String(), "not indexed yet") != 1 {
		t.Errorf("after a failure %d rows are enough, want %d; the log says %q", n, want, &log)
	}
	file.MaxSize = 0
	if err := s.index(t.Context()); err != nil || s.enough.Load() != enough {
		t.Errorf("after that %d rows are enough, %v", s.enough.Load(), err)
	}
	visits(1)
	log.Reset()
	s.enough.Store(1)
	file.Close() // and this keeps nobody
	s.catchUp()
	s.indexing.Lock()
	defer s.indexing.Unlock()
	if got := s.tail.Load().size(); got != 1 || log.Len() > 0 {
		t.Errorf("%d rows are left in a file that was closed, want 1; the log says %q", got, &log)
	}
}

// An import waits for no index as long as it has not brought much, and a start
// indexes what it finds when that is much.
func TestTailWaitsForNobody(t *testing.T) {
	path := filepath.Join(t.TempDir(), "belfry.db")
	file, s := opened(t, path)
	s.indexing.Lock()
	if _, err := s.Import(t.Context(), many("crowd", enough), ""); err != nil {
		t.Fatal(err)
	}
	file.Close()
	_, s = opened(t, path)
	waitForIndex(s)
	if n := s.tail.Load().size(); n > 0 {
		t.Errorf("after a start %d rows are not indexed", n)
	}
}

// A damaged page of new rows keeps no server from starting. What it could not read
// stays noted, for a start after the file was mended.
func TestTailOnADamagedPage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "belfry.db")
	file, s := opened(t, path)
	if _, err := s.Import(t.Context(), many("crowd", 20), ""); err != nil {
		t.Fatal(err)
	}
	file.Close()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	file, err = boltfile.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	var row []byte
	file.View(func(tx *bbolt.Tx) error {
		row = append(seqKey(10), tx.Bucket(rowsName).Get(seqKey(10))...)
		return nil
	})
	file.Close()
	if err := os.WriteFile(path, bytes.ReplaceAll(whole, row, append(seqKey(3), row[8:]...)), 0o600); err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	if file, err = boltfile.Open(path); err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if s, err = New(file, Config{Log: slog.New(slog.NewTextHandler(&log, nil))}); err != nil {
		t.Fatalf("a server does not start: %v", err)
	}
	if n := s.tail.Load().size(); n != 9 || strings.Count(log.String(), "cannot be read") != 1 {
		t.Errorf("%d rows are known; the log says %q", n, &log)
	}
	if err := s.index(t.Context()); err != nil {
		t.Fatal(err)
	}
	file.View(func(tx *bbolt.Tx) error {
		if from := openTables(tx).byEndpoint.Sequence(); from != 1 {
			t.Errorf("the index is said to lack rows from %d on, want 1", from)
		}
		return nil
	})
}

func waitForIndex(s *Store) {
	s.indexing.Lock()
	defer s.indexing.Unlock()
}

// Rows are indexed all the while, and visitors come, go, move and look.
func TestTailBesideOthers(t *testing.T) {
	_, s := opened(t, filepath.Join(t.TempDir(), "belfry.db"))
	s.db.NoSync = true
	var all sync.WaitGroup
	for n := range 8 {
		all.Go(func() {
			for i, sub := range many(fmt.Sprint("visitor", n), 60) {
				s.enough.Store(20)
				done, err := s.Register(t.Context(), sub, nil)
				moved := belfry.Subscription{Endpoint: belfry.StoredEndpoint(sub.Endpoint.Reveal() + "/moved")}
				if err == nil && i%3 > 0 {
					if _, err := s.Register(t.Context(), sub, nil); err == nil {
						t.Errorf("%v is registered twice", sub.Endpoint.Reveal())
					}
				}
				switch {
				case err == nil && i%3 == 1:
					_, err = s.Update(t.Context(), done.Subscription.ID, Change{Subscription: &moved})
					sub = moved
				case err == nil && i%3 == 2:
					if err = s.Remove(t.Context(), done.Subscription.ID); err == nil {
						done, err = s.Register(t.Context(), sub, nil)
					}
				}
				if err != nil {
					t.Error(err)
				}
				if row, err := s.ByEndpoint(t.Context(), sub.Endpoint); err != nil || row.ID != done.Subscription.ID {
					t.Errorf("%v is %q, %v; want %q", sub.Endpoint.Reveal(), row.ID, err, done.Subscription.ID)
				}
			}
		})
	}
	all.Wait()
	s.indexing.Lock()
	defer s.indexing.Unlock()
	if found, err := s.Examine(t.Context()); err != nil || len(found.Findings) > 0 || s.tail.Load().size() > 100 {
		t.Errorf("%v, %v; %d are not indexed", found.Findings, err, s.tail.Load().size())
	}
}

// many are so many browsers with the same name.
func many(name string, n int) []belfry.Subscription {
	all := make([]belfry.Subscription, n)
	for i := range all {
		all[i].Endpoint = belfry.StoredEndpoint(fmt.Sprintf("https://fcm.googleapis.com/%s/%d", name, i))
	}
	return all
}

func opened(t *testing.T, path string) (*boltfile.File, *Store) {
	t.Helper()
	file, err := boltfile.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	s, err := New(file, Config{})
	if err != nil {
		t.Fatal(err)
	}
	return file, s
}
