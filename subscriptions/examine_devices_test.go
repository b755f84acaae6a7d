package subscriptions

import (
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/internal/boltfile"
)

// A user's devices are those that registered themselves: a row that an operator
// imported for the same user is not counted as one, nor missed.
func TestExamineCountsDevicesAsTheyAre(t *testing.T) {
	file, err := boltfile.Open(filepath.Join(t.TempDir(), "belfry.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	s, err := New(file, Config{})
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"device", "imported"} {
		row := belfry.Subscription{ID: id, Endpoint: belfry.StoredEndpoint("https://push.example/" + id), User: "ann", Imported: id == "imported"}
		if err := file.Update(func(tx *bbolt.Tx) error { return s.tables(tx).add(&row) }); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := s.Examine(t.Context()); err != nil || len(got.Findings) > 0 || got.Looked[2].Count != 5 {
		t.Errorf("%+v, %v", got, err)
	}
}
