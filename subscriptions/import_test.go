package subscriptions

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/belfry-push/belfry"
	"go.etcd.io/bbolt"
)

// An import shares one fsync among all rows of a batch while nobody else wants
// to write. A visitor who does is let in long before its end: to somebody who
// clicked "allow", a tenth of a second is long.
func TestImportMakesWay(t *testing.T) {
	file, s := opened(t, filepath.Join(t.TempDir(), "belfry.db"))
	commits := func() (n int) {
		file.View(func(tx *bbolt.Tx) error { n = tx.ID(); return nil })
		return n
	}
	for round, tt := range []struct{ waiting, commits int }{{0, 1}, {1, 3}} {
		batch := make([]belfry.Subscription, 2*fewest+1)
		for i := range batch {
			batch[i].Endpoint = belfry.StoredEndpoint(fmt.Sprintf("https://fcm.googleapis.com/%d/%d", round, i))
		}
		batch[2*fewest] = belfry.Subscription{} // refused, in the last transaction
		s.waiting.Store(int64(tt.waiting))
		before := commits()
		done, err := s.Import(t.Context(), batch, "")
		if err != nil || done.Created != 2*fewest || len(done.Refused) != 1 || done.Refused[0].Index != 2*fewest {
			t.Errorf("%d waiting: %d created, %d refused, %v", tt.waiting, done.Created, len(done.Refused), err)
		}
		if n := commits() - before; n != tt.commits {
			t.Errorf("%d waiting: %d transactions, want %d", tt.waiting, n, tt.commits)
		}
	}
	if n, err := s.Count(t.Context(), belfry.Audience{All: true}); n != 4*fewest {
		t.Errorf("%d rows, %v", n, err)
	}
}
