package keys_test

import (
	"path/filepath"
	"testing"

	"github.com/belfry-push/belfry/keys"
)

// A ring that comes back from disk different from how it was written loses
// every subscription made with the key that changed.
func TestRingOutlivesTheProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "vapid.json")
	ring, err := keys.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	first := ring.Current()
	second, err := ring.Rotate()
	if err != nil {
		t.Fatal(err)
	}
	reopened, err := keys.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	list := reopened.List()
	if len(list) != 2 || list[0].ID != first.ID || list[0].Current || list[1] != second || reopened.Current() != second {
		t.Fatalf("ring came back as %+v", list)
	}
	signer := keys.NewSigner(reopened, "mailto:ops@example.com", nil)
	for _, id := range []string{"", first.ID, second.ID} {
		if _, err := signer.Authorization("https://push.example.net", id); err != nil {
			t.Errorf("key %q: %v", id, err)
		}
	}
}
