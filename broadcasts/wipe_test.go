package broadcasts_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/broadcasts"
)

// canary is what nobody may find in the file once a broadcast has ended.
const canary = "canary-4711"

// What people were told is in no record of the file once they were told it, nor
// in a compacted copy, which has no free pages (SEC-25). The same holds for the
// secret of a callback that was called.
func TestNothingIsLeftOfAMessage(t *testing.T) {
	r := newBoltRig(t)
	b := launched("01jz0000000000000000000001")
	b.Message = belfry.Message{Title: "Title", Body: canary, URL: "/" + canary, Icon: "/" + canary, Image: "/" + canary, Lang: canary, Tag: "tag",
		Actions: []belfry.Action{{Action: canary, Title: canary, URL: "/" + canary}}, Data: json.RawMessage(`{"a":"` + canary + `"}`),
		Variants: belfry.Variants{"de": {Title: canary, Body: canary, URL: "/" + canary, Image: "/" + canary, Actions: []belfry.Action{{Action: canary, Title: canary}}}}}
	b.Callback = belfry.StoredCallback("https://hooks.example.com/" + canary)
	if _, err := r.Create(t.Context(), b, nil); err != nil {
		t.Fatal(err)
	}
	if live, compact := r.holds(canary); !live || !compact {
		t.Error("a message that is still to be sent is not in the file")
	}
	b.State, b.Counts.Pending, b.Counts.Accepted = broadcasts.Done, 0, 3
	if err := r.Commit(t.Context(), []broadcasts.Change{{Broadcast: b}}, nil); err != nil {
		t.Fatal(err)
	}
	if err := r.Called(t.Context(), b.ID); err != nil {
		t.Fatal(err)
	}
	if live, compact := r.holds(canary); live || compact {
		t.Errorf("the message is still there: in records %v, in a compacted file %v", live, compact)
	}
	if live, compact := r.holds("Title"); !live || !compact {
		t.Error("an operator does not know it again")
	}
}

// holds reports whether text is in any record, and anywhere in a compacted copy.
func (r *boltRig) holds(text string) (live, compact bool) {
	r.t.Helper()
	err := r.file.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(_ []byte, bucket *bbolt.Bucket) error {
			return bucket.ForEach(func(k, v []byte) error {
				live = live || bytes.Contains(k, []byte(text)) || bytes.Contains(v, []byte(text))
				return nil
			})
		})
	})
	if err != nil {
		r.t.Fatal(err)
	}
	path := filepath.Join(r.t.TempDir(), "compact.db")
	copied, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := bbolt.Compact(copied, r.file.DB, 0); err != nil {
		r.t.Fatal(err)
	}
	if err := copied.Close(); err != nil {
		r.t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		r.t.Fatal(err)
	}
	return live, bytes.Contains(raw, []byte(text))
}
