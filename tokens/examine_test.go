package tokens_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"

	"github.com/belfry-push/belfry/tokens"
)

// An operator hears of a token that is about to end before whoever uses it
// does, and of one that is damaged or has ended; of no other.
func TestExamine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, file := open(t, filepath.Join(t.TempDir(), "belfry.db"))
		defer file.Close()
		for name, lifetime := range map[string]time.Duration{"forever": 0, "long": 30 * 24 * time.Hour, "short": 8 * 24 * time.Hour} {
			if _, _, err := store.Make(t.Context(), name, tokens.Admin, nil, lifetime); err != nil {
				t.Fatal(err)
			}
		}
		expect := func(when string, want ...string) {
			t.Helper()
			got, err := store.Examine(t.Context())
			if err != nil || got.Looked[0].Count != 3 {
				t.Fatalf("%s: %+v, %v", when, got, err)
			}
			var found []string
			for _, f := range got.Findings {
				if found = append(found, f.What); f.Hint == "" {
					t.Errorf("%s: %q leads nowhere", when, f.What)
				}
			}
			if !slices.EqualFunc(found, want, strings.Contains) {
				t.Errorf("%s: %q", when, found)
			}
		}
		expect("at first")
		time.Sleep(26 * time.Hour)
		expect("a day later", `of "short" expires at 2000-01-09T`)
		time.Sleep(7 * 24 * time.Hour)
		expect("a week later", `of "short" expired at 2000-01-09T`)
		err := file.Update(func(tx *bbolt.Tx) error {
			b := tx.Bucket([]byte("tokens"))
			return b.ForEach(func(k, _ []byte) error { return b.Put(k, []byte("x")) })
		})
		if err != nil {
			t.Fatal(err)
		}
		damaged := "the record of a token is damaged"
		expect("damaged", damaged, damaged, damaged)
	})
}
