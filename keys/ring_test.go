package keys_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/keys"
)

// newFile is a ring on disk and its path.
func newFile(t testing.TB) (*keys.Ring, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "vapid.json")
	ring, err := keys.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	return ring, path
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func open(t testing.TB, path string) *keys.Ring {
	t.Helper()
	ring, err := keys.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

func ids(r *keys.Ring) (all []string) {
	for _, k := range r.List() {
		all = append(all, k.ID)
	}
	return all
}

func stat(t testing.TB, path string) fs.FileInfo {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// told ends the test unless err is one that people see, of this kind and code.
func told(t *testing.T, err, kind error, code string) *belfry.Error {
	t.Helper()
	var e *belfry.Error
	if !errors.As(err, &e) || !errors.Is(err, kind) || e.Code != code {
		t.Fatalf("got %v, want %v with code %s", err, kind, code)
	}
	return e
}

// A ring that comes back from disk different from how it was written loses
// every subscription made with the key that changed.
func TestRingOutlivesTheProcess(t *testing.T) {
	ring, path := newFile(t)
	if _, err := ring.Rotate(); err != nil {
		t.Fatal(err)
	}
	if _, err := ring.Import(parse(t, fixture(t, "web-push.json")), false); err != nil {
		t.Fatal(err)
	}
	again := open(t, path)
	if !slices.Equal(again.List(), ring.List()) || again.Current() != ring.Current() {
		t.Fatalf("came back as %+v, was %+v", again.List(), ring.List())
	}
	for _, id := range ids(ring) {
		was, _ := ring.Export(id)
		is, err := again.Export(id)
		if err != nil || !bytes.Equal(was.JSON(), is.JSON()) {
			t.Errorf("key %s came back changed: %v", id, err)
		}
	}
}

// The file is a format that backups and other tools rely on.
func TestFileIsWhatItsDocSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // the bubble's clock begins at 2000-01-01
		ring, path := newFile(t)
		first, pair := ring.Current(), exported(t, ring, "")
		time.Sleep(time.Hour + 1500*time.Microsecond)
		second, err := ring.Rotate()
		if err != nil {
			t.Fatal(err)
		}
		next := exported(t, ring, "")
		want := map[string]any{"version": 1.0, "current": second.ID, "keys": []any{
			map[string]any{"id": first.ID, "publicKey": pair.PublicKey, "privateKey": pair.PrivateKey,
				"created": "2000-01-01T00:00:00Z", "retired": "2000-01-01T01:00:00.001Z"},
			map[string]any{"id": second.ID, "publicKey": next.PublicKey, "privateKey": next.PrivateKey,
				"created": "2000-01-01T01:00:00.001Z"},
		}}
		var got map[string]any
		if err := json.Unmarshal(readFile(t, path), &got); err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("file does not have its form")
		}
	})
}

func exported(t *testing.T, r *keys.Ring, id string) (w written) {
	t.Helper()
	pair, err := r.Export(id)
	if err == nil {
		err = json.Unmarshal(pair.JSON(), &w)
	}
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// The id stands in every subscription's row: the same key must have the same
// one on every server.
func TestKeyIDIsTheHashOfThePublicKey(t *testing.T) {
	ring, err := keys.CreateFrom(filepath.Join(t.TempDir(), "vapid.json"), parse(t, fixture(t, "web-push.json")))
	if err != nil {
		t.Fatal(err)
	}
	info := ring.Current()
	public, err := b64.DecodeString(info.PublicKey)
	if err != nil || len(public) != 65 {
		t.Fatalf("public key is %d octets: %v", len(public), err)
	}
	hash := sha256.Sum256(public)
	if want := fmt.Sprintf("%x", hash[:8]); info.ID != want {
		t.Errorf("id is %s, not %s", info.ID, want)
	}
	b, _ := json.Marshal(info)
	if want := fmt.Sprintf(`{"id":%q,"publicKey":%q,"current":true,"created":%q}`, info.ID, info.PublicKey,
		info.Created.Format(time.RFC3339Nano)); string(b) != want {
		t.Errorf("info is %s, not %s", b, want)
	}
}

// A missing key file beside subscriptions is a disaster that only the operator
// can mend; a new key in its place would make it final (WP-51).
func TestOpenMakesNothing(t *testing.T) {
	dir := t.TempDir()
	ring, err := keys.Open(filepath.Join(dir, "vapid.json"))
	if ring != nil || !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("got %v, %v", ring, err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("wrote %v", left)
	}
}

func TestCreateRefusesToOverwrite(t *testing.T) {
	_, path := newFile(t)
	was := readFile(t, path)
	ring, err := keys.Create(path)
	if e := told(t, err, belfry.ErrConflict, "keys-exist"); ring != nil || e.Hint == "" {
		t.Errorf("got %v, hint %q", ring, e.Hint)
	}
	if !bytes.Equal(readFile(t, path), was) {
		t.Error("the key that browsers subscribed with is gone")
	}

	link := filepath.Join(t.TempDir(), "vapid.json")
	if err := os.Symlink(filepath.Join(t.TempDir(), "not-mounted-yet.json"), link); err != nil {
		t.Fatal(err)
	}
	_, err = keys.Create(link)
	told(t, err, belfry.ErrConflict, "keys-exist")
	onlyFile(t, path)
}

// onlyFile ends the test if anything lies beside path: a forgotten temporary
// file holds private keys.
func onlyFile(t *testing.T, path string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 || entries[0].Name() != filepath.Base(path) {
		t.Fatalf("beside the key file lies %v: %v", entries, err)
	}
}

// Two servers started at once on a new folder must agree on one key.
func TestConcurrentCreateMakesOneRing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "vapid.json")
	made := make([]*keys.Ring, 8)
	var group sync.WaitGroup
	for i := range made {
		group.Go(func() { made[i], _ = keys.Create(path) })
	}
	group.Wait()
	made = slices.DeleteFunc(made, func(r *keys.Ring) bool { return r == nil })
	if len(made) != 1 || made[0].Current() != open(t, path).Current() {
		t.Fatalf("%d rings were made in one file", len(made))
	}
	onlyFile(t, path)
}

func TestCreateFromAnImportedPair(t *testing.T) {
	path := filepath.Join(t.TempDir(), "vapid.json")
	pair := parse(t, fixture(t, "openssl-ec.pem"))
	if _, err := keys.CreateFrom(path, pair); err != nil {
		t.Fatal(err)
	}
	got, err := open(t, path).Export("")
	if err != nil || !bytes.Equal(got.JSON(), pair.JSON()) {
		t.Errorf("another pair came back: %v", err)
	}
	_, err = keys.CreateFrom(filepath.Join(t.TempDir(), "vapid.json"), keys.Pair{})
	told(t, err, belfry.ErrInvalid, "key-pair")
}

// A key file that cannot be trusted must stop the server, before it makes
// subscriptions with a key that it cannot keep.
func TestOpenRefusesDamagedFiles(t *testing.T) {
	ring, path := newFile(t)
	good := string(readFile(t, path))
	w, id := exported(t, ring, ""), ring.Current().ID
	other, _ := newFile(t)
	ow := exported(t, other, "")
	start, end := strings.Index(good, "    {"), strings.LastIndex(good, "\n  ]")
	entry := good[start:end]

	tests := []struct{ name, content, want string }{
		{"empty", "", "not a key ring"},
		{"cut short", good[:len(good)/2], "not a key ring"},
		{"more behind it", good + "{}", "not a key ring"},
		{"a pair of web-push", string(fixture(t, "web-push.json")), "not a key ring"},
		{"an unknown member", strings.Replace(good, `"version"`, `"extra": 1, "version"`, 1), "not a key ring"},
		{"too long", good + strings.Repeat(" ", 1<<20), "not a key ring"},
		{"a newer version", strings.Replace(good, `"version": 1`, `"version": 2`, 1), "version 2"},
		{"no version", strings.Replace(good, `"version": 1,`, ``, 1), "version 0"},
		{"no keys", good[:start] + good[end:], "current key"},
		{"no current key", strings.Replace(good, `"current": "`+id+`"`, `"current": ""`, 1), "current key"},
		{"an unknown current key", strings.Replace(good, `"current": "`+id+`"`, `"current": "`+other.Current().ID+`"`, 1), "current key"},
		{"the same key twice", strings.Replace(good, entry, entry+",\n"+entry, 1), "key 2"},
		{"another key's id", strings.ReplaceAll(good, id, other.Current().ID), "key 1"},
		{"another key's public half", strings.Replace(good, w.PublicKey, ow.PublicKey, 1), "does not belong"},
		{"another key's private half", strings.Replace(good, w.PrivateKey, ow.PrivateKey, 1), "does not belong"},
		{"a private half cut short", strings.Replace(good, w.PrivateKey, w.PrivateKey[:40], 1), "does not belong"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.content == good {
				t.Fatal("the file is not damaged")
			}
			if err := os.WriteFile(path, []byte(tt.content), 0o600); err != nil {
				t.Fatal(err)
			}
			ring, err := keys.Open(path)
			e := told(t, err, belfry.ErrNotUsable, "key-file")
			if ring != nil || !strings.Contains(e.Text, tt.want) || e.Where != path || e.Hint == "" {
				t.Errorf("got %v: %q, hint %q", ring, e.Text, e.Hint)
			}
			for _, private := range []string{w.PrivateKey, ow.PrivateKey} {
				if strings.Contains(err.Error()+e.Hint, private[:12]) {
					t.Error("the error quotes a private key")
				}
			}
			if string(readFile(t, path)) != tt.content {
				t.Error("the file was changed: what is left of it might have been saved")
			}
		})
	}
}

func TestImport(t *testing.T) {
	ring, path := newFile(t)
	first := ring.Current()
	pair := parse(t, fixture(t, "web-push.json"))

	// As retired: it signs for imported subscriptions, new ones keep the current key.
	added, err := ring.Import(pair, false)
	if err != nil || added.Current || ring.Current() != first {
		t.Fatalf("got %+v, %v; current %+v", added, err, ring.Current())
	}
	// Again, as scripts do: nothing changes, not even the file.
	was := stat(t, path)
	if again, err := ring.Import(pair, false); err != nil || again != added || len(ring.List()) != 2 {
		t.Errorf("imported twice: %+v, %v", again, err)
	}
	if !os.SameFile(stat(t, path), was) {
		t.Error("a second import wrote the file")
	}
	// As current: the one before is retired, not lost.
	current, err := ring.Import(pair, true)
	if err != nil || !current.Current || current.ID != added.ID || ring.Current() != current {
		t.Fatalf("got %+v, %v", current, err)
	}
	if list := ring.List(); len(list) != 2 || list[0].Current || !list[1].Current {
		t.Errorf("ring is %+v", list)
	}
	was = stat(t, path)
	if again, err := ring.Import(pair, true); err != nil || again != current || !os.SameFile(stat(t, path), was) {
		t.Errorf("imported as current twice: %+v, %v", again, err)
	}
	// As retired once more: an import never retires the key in use.
	if still, err := ring.Import(pair, false); err != nil || still != current || ring.Current() != current {
		t.Errorf("got %+v, %v", still, err)
	}
	if _, err := ring.Import(keys.Pair{}, true); !errors.Is(err, belfry.ErrInvalid) {
		t.Errorf("an empty pair: %v", err)
	}
	if !slices.Equal(open(t, path).List(), ring.List()) {
		t.Error("the file says otherwise")
	}
}

func TestExportOfAnUnknownKey(t *testing.T) {
	ring, _ := newFile(t)
	pair, err := ring.Export("nobody")
	told(t, err, belfry.ErrNotFound, "unknown-key")
	if pair.JSON() != nil || pair.PEM() != nil || pair.String() != "[no key pair]" {
		t.Errorf("got %v", pair)
	}
}

// Where the disk is full or gone the rotation fails, and everything that worked
// before goes on working with the keys of before.
func TestFailedWriteLosesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	ring, err := keys.Create(filepath.Join(dir, "vapid.json"))
	if err != nil {
		t.Fatal(err)
	}
	was := ring.List()
	signer := keys.NewSigner(ring, subject, nil)
	away := dir + ".away"
	if err := os.Rename(dir, away); err != nil {
		t.Fatal(err)
	}
	if _, err := ring.Rotate(); err == nil {
		t.Fatal("rotated onto a disk that is not there")
	}
	if !slices.Equal(ring.List(), was) {
		t.Errorf("ring is %v, and no disk knows its new key", ring.List())
	}
	if h := readHeader(t, authorize(t, signer, audience, "")); h.k != was[0].PublicKey || !h.verify() {
		t.Error("signs with a key that no disk knows")
	}
	if err := os.Rename(away, dir); err != nil {
		t.Fatal(err)
	}
	if _, err := ring.Rotate(); err != nil || len(open(t, filepath.Join(dir, "vapid.json")).List()) != 2 {
		t.Errorf("does not recover: %v", err)
	}
	onlyFile(t, filepath.Join(dir, "vapid.json"))
}

// A key that an operator put into the file of a running server must not be
// written over by the next rotation.
func TestChangeKeepsWhatItHasNotRead(t *testing.T) {
	ring, path := newFile(t)
	if _, err := open(t, path).Rotate(); err != nil {
		t.Fatal(err)
	}
	was := readFile(t, path)
	_, err := ring.Rotate()
	told(t, err, belfry.ErrConflict, "keys-changed")
	if !bytes.Equal(readFile(t, path), was) || len(ring.List()) != 1 {
		t.Error("the key that was put there is gone")
	}

	if err := os.WriteFile(path, []byte("restored by half"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = ring.Rotate()
	told(t, err, belfry.ErrNotUsable, "key-file")
	onlyFile(t, path)

	// A file that is gone holds nothing that could be lost; the ring puts its keys back.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := ring.Rotate(); err != nil || !slices.Equal(open(t, path).List(), ring.List()) {
		t.Errorf("the ring did not bring its keys back: %v", err)
	}
}

// Operators rotate while imports run and thousands of sends sign. Nothing may
// be lost, and whoever reads the file meanwhile (a backup) reads a whole one.
func TestConcurrentChangesLoseNothing(t *testing.T) {
	ring, path := newFile(t)
	signer := keys.NewSigner(ring, subject, nil)
	pair := parse(t, fixture(t, "web-push.json"))
	const each, rounds = 4, 5

	var mu sync.Mutex
	made := map[string]bool{ring.Current().ID: true}
	var writers, readers sync.WaitGroup
	stop := make(chan struct{})
	for range each {
		writers.Go(func() {
			for range rounds {
				fresh, err := ring.Rotate()
				known, err2 := ring.Import(pair, false)
				if err := errors.Join(err, err2); err != nil {
					t.Error(err)
				}
				mu.Lock()
				made[fresh.ID], made[known.ID] = true, true
				mu.Unlock()
			}
		})
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				_, err := signer.Authorization(audience, "")
				_, err2 := keys.Open(path)
				_, err3 := ring.Export(ring.Current().ID)
				if err := errors.Join(err, err2, err3); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	writers.Wait()
	close(stop)
	readers.Wait()

	again := open(t, path)
	if len(made) != 2+each*rounds || len(again.List()) != len(made) || !slices.Equal(again.List(), ring.List()) {
		t.Errorf("%d keys made, %d in the file, %d on the ring", len(made), len(again.List()), len(ring.List()))
	}
	for _, k := range again.List() {
		if !made[k.ID] {
			t.Errorf("key %s was made by nobody", k.ID)
		}
	}
	onlyFile(t, path)
}

// Secrets are often mounted and linked to; a rotation must reach the file
// itself, or the next start finds the ring of before.
func TestChangeGoesThroughALink(t *testing.T) {
	_, path := newFile(t)
	link := filepath.Join(t.TempDir(), "vapid.json")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, link).Rotate(); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("the link was replaced: %v", err)
	}
	if n := len(open(t, path).List()); n != 2 {
		t.Errorf("the file holds %d keys", n)
	}
}
