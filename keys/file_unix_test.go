//go:build unix

package keys_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/keys"
)

// Whoever shares the machine and can read the file can ring every subscriber
// (SEC-21).
func TestOpenRefusesFilesThatOthersCanRead(t *testing.T) {
	_, path := newFile(t)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("a new file has mode %v: %v", info.Mode(), err)
	}
	for _, mode := range []fs.FileMode{0o644, 0o640, 0o604, 0o660, 0o620, 0o602, 0o601, 0o666} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		_, err := keys.Open(path)
		e := told(t, err, belfry.ErrNotUsable, "key-file")
		if !strings.Contains(e.Text, "can be read by others") || e.Hint != "chmod 600 "+path {
			t.Errorf("mode %o: %q, hint %q", mode, e.Text, e.Hint)
		}
	}
	for _, mode := range []fs.FileMode{0o600, 0o400} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		ring := open(t, path)
		if _, err := ring.Rotate(); err != nil {
			t.Errorf("mode %o: %v", mode, err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("after a change the file has mode %v: %v", info.Mode(), err)
		}
	}
}

// Whoever owns the file can put other keys into it (SEC-21).
func TestOpenRefusesFilesOfOthers(t *testing.T) {
	path := "/etc/passwd" // owned by root
	if os.Geteuid() == 0 {
		_, path = newFile(t)
		if err := os.Chown(path, 12345, -1); err != nil {
			t.Fatal(err)
		}
	}
	_, err := keys.Open(path)
	e := told(t, err, belfry.ErrNotUsable, "key-file")
	if !strings.Contains(e.Text, "belongs to user") || !strings.Contains(e.Hint, "chown") {
		t.Errorf("%q, hint %q", e.Text, e.Hint)
	}
}

func TestOpenRefusesAFolder(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := keys.Open(dir)
	if e := told(t, err, belfry.ErrNotUsable, "key-file"); e.Text != "is not a file" {
		t.Errorf("got %q", e.Text)
	}
}

// Who can read the secret can tell receivers of callbacks whatever they like.
func TestOpenWebhookRefusesAFileThatOthersCanRead(t *testing.T) {
	path := webhookKey(t, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	_, _, err := keys.OpenWebhook(path)
	told(t, err, belfry.ErrNotUsable, "key-file")
}

// Who can read the secret can hear what is for any user.
func TestOpenUserKeyRefusesAFileThatOthersCanRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "user.key")
	if _, _, err := keys.OpenUserKey(path); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("a new file has mode %v: %v", info.Mode(), err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	_, _, err := keys.OpenUserKey(path)
	told(t, err, belfry.ErrNotUsable, "key-file")
}
