package subscriptions

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/internal/boltfile"
	"go.etcd.io/bbolt"
)

// While an import goes on, its rows are in no index by endpoint. They are found
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
		}, "4 3 2"},
		{"one is imported again", func(s *Store) error {
			done, err := s.Import(t.Context(), []belfry.Subscription{{Endpoint: at("b")}, {Endpoint: at("c")}}, "")
			if done.Created != 1 || done.Updated != 1 {
				return fmt.Errorf("%+v, %w", done, err)
			}
			return err
		}, "2 3 4"},
		{"a transaction is taken back", func(s *Store) error {
			undone := errors.New("undone")
			err := s.db.Update(func(tx *bbolt.Tx) error {
				tables := s.tables(tx)
				tables.defers = true
				_, err := s.importOne(tables, belfry.Subscription{Endpoint: at("c")}, "")
				return errors.Join(err, undone)
			})
			if err.Error() != undone.Error() {
				return err
			}
			_, err = s.Register(t.Context(), belfry.Subscription{Endpoint: at("d")}, nil)
			return err
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
				if done, err := s.Import(t.Context(), []belfry.Subscription{{Endpoint: at("a")}, {Endpoint: at("b")}}, ""); done.Created != 2 || err != nil {
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
				check("while it goes on", false)
				if killed {
					file.Close()
					file, s = opened(t, path)
				} else if err := s.Index(t.Context()); err != nil {
					t.Fatal(err)
				}
				check("in the end", true)
			})
		}
	}
}

// Whoever reads in a transaction from before the end of an import finds its rows.
func TestTailInAnOlderTransaction(t *testing.T) {
	_, s := opened(t, filepath.Join(t.TempDir(), "belfry.db"))
	e := belfry.StoredEndpoint("https://fcm.googleapis.com/a")
	// The file must have room for what Index writes: bbolt would wait for the reader before it grows.
	batch := make([]belfry.Subscription, 2000)
	for i := range batch {
		batch[i].Endpoint = belfry.StoredEndpoint(fmt.Sprintf("https://fcm.googleapis.com/%d", i))
	}
	for _, b := range [][]belfry.Subscription{batch, batch, {{Endpoint: e}}} {
		if _, err := s.Import(t.Context(), b, ""); err != nil {
			t.Fatal(err)
		}
		if len(b) > 1 {
			if err := s.Index(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	err := s.read(t.Context(), func(before tables) error {
		if err := s.Index(t.Context()); err != nil {
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
		batch := make([]belfry.Subscription, 8192)
		for i := range batch {
			batch[i].Endpoint = belfry.StoredEndpoint(fmt.Sprintf("https://fcm.googleapis.com/%d/%d", n, i))
		}
		if _, err := s.Import(t.Context(), batch, ""); err != nil {
			t.Fatal(err)
		}
	}
	if n := s.tail.Load().size(); n != 8192 {
		t.Errorf("%d rows are not indexed yet, want those of the last batch", n)
	}
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
