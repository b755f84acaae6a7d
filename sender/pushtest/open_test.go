package pushtest_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/internal/vectors"
	"github.com/belfry-push/belfry/sender/pushtest"
)

func decode(t testing.TB, s string) []byte {
	t.Helper()
	b, err := b64.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// appendixA is the browser and the sender of RFC 8291 Appendix A.
type appendixA struct {
	Inputs struct {
		Plaintext string `json:"plaintext_utf8"`
		Private   string `json:"ua_private"`
		Public    string `json:"ua_public"`
		Sender    string `json:"as_private"`
		Salt      string `json:"salt"`
		Auth      string `json:"auth_secret"`
	}
	Output struct{ Body string }
}

func readAppendixA(t testing.TB) (a appendixA, sub belfry.Subscription, browser, sender *ecdh.PrivateKey) {
	t.Helper()
	vectors.Load(t, "rfc8291-appendix-a", &a)
	var err error
	if browser, err = ecdh.P256().NewPrivateKey(decode(t, a.Inputs.Private)); err != nil {
		t.Fatal(err)
	}
	if sender, err = ecdh.P256().NewPrivateKey(decode(t, a.Inputs.Sender)); err != nil {
		t.Fatal(err)
	}
	sub.P256dh = belfry.PublicKey(decode(t, a.Inputs.Public))
	sub.Auth = belfry.AuthSecret(decode(t, a.Inputs.Auth))
	return a, sub, browser, sender
}

func TestOpenAppendixA(t *testing.T) {
	a, sub, browser, _ := readAppendixA(t)
	body := decode(t, a.Output.Body)
	plain, err := pushtest.Open(body, browser, sub.Auth)
	if err != nil || string(plain) != a.Inputs.Plaintext {
		t.Fatalf("opened %q, %v", plain, err)
	}
	// A body that lost its end must never pass for a whole one (WP-37).
	for n := range len(body) {
		if plain, err := pushtest.Open(body[:n], browser, sub.Auth); err == nil {
			t.Errorf("%d of %d octets opened as %q", n, len(body), plain)
		}
	}
	other := sub.Auth
	other[0] ^= 1
	if _, err := pushtest.Open(body, browser, other); err == nil {
		t.Error("opened with another subscription's auth secret")
	}
}

// What a browser drops without a word must fail loudly here, or a broken sender
// passes every test and reaches nobody.
func TestOpenBodies(t *testing.T) {
	_, sub, browser, _ := readAppendixA(t)
	var file struct {
		Rows []struct{ ID, Body, Expect, Why string }
	}
	vectors.Load(t, "bodies", &file)
	if len(file.Rows) == 0 {
		t.Fatal("no rows")
	}
	for _, row := range file.Rows {
		t.Run(row.ID, func(t *testing.T) {
			plain, err := pushtest.Open(decode(t, row.Body), browser, sub.Auth)
			if text, ok := strings.CutPrefix(row.Expect, "plaintext="); ok {
				if err != nil || string(plain) != text {
					t.Errorf("opened %q, %v; want %q", plain, err, text)
				}
				return
			}
			want := strings.TrimPrefix(row.Expect, "error: ")
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("opened %q, error %v; want error %q (%s)", plain, err, want, row.Why)
			}
		})
	}
}

// The examples have several records, other key ids and none: the content coding
// itself, below what a push message may use of it.
func TestOpenRFC8188Examples(t *testing.T) {
	var file struct {
		Examples []struct {
			ID        string
			Plaintext string `json:"plaintext_utf8"`
			IKM       string
			KeyID     string `json:"keyid_utf8"`
			Body      string
		}
	}
	vectors.Load(t, "rfc8188-examples", &file)
	if len(file.Examples) != 2 {
		t.Fatalf("%d examples", len(file.Examples))
	}
	for _, e := range file.Examples {
		body := decode(t, e.Body)
		plain, keyID, err := pushtest.OpenContent(body, decode(t, e.IKM))
		if err != nil || string(plain) != e.Plaintext || string(keyID) != e.KeyID {
			t.Errorf("§%s: opened %q with key id %q, %v", e.ID, plain, keyID, err)
		}
		if _, err := pushtest.Open(body, mustKey(t), belfry.AuthSecret{}); err == nil {
			t.Errorf("§%s: a key id that is no key passed for a push message", e.ID)
		}
	}
	// Cut behind the first of two records: the delimiter says that more must come.
	second := decode(t, file.Examples[1].Body)
	if plain, _, err := pushtest.OpenContent(second[:21+2+25], decode(t, file.Examples[1].IKM)); err == nil {
		t.Errorf("half a message opened as %q", plain)
	}
}

func mustKey(t testing.TB) *ecdh.PrivateKey {
	t.Helper()
	_, _, browser, _ := readAppendixA(t)
	return browser
}

// The draft that came before must not be mistaken for a push message.
func TestOpenRefusesAESGCM(t *testing.T) {
	var v struct {
		Private    string `json:"ua_private"`
		Auth       string `json:"auth_secret"`
		Ciphertext string
	}
	vectors.Load(t, "legacy-aesgcm-draft04", &v)
	key, err := ecdh.P256().NewPrivateKey(decode(t, v.Private))
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := pushtest.Open(decode(t, v.Ciphertext), key, belfry.AuthSecret(decode(t, v.Auth))); err == nil {
		t.Errorf("opened as %q", plain)
	}
}

// Sizes decide whether a message fits: the arithmetic must be exact, and an rs
// that does not exceed the record is refused (RFC 8291 §4).
func TestOpenSizes(t *testing.T) {
	a, sub, browser, sender := readAppendixA(t)
	var file struct {
		Rows []struct {
			Plaintext int    `json:"plaintext_len"`
			Pad       int    `json:"pad"`
			RS        uint32 `json:"rs"`
			BodyLen   int    `json:"body_len"`
			SHA256    string `json:"body_sha256"`
		}
	}
	vectors.Load(t, "sizes", &file)
	for _, row := range file.Rows {
		text := bytes.Repeat([]byte("a"), row.Plaintext)
		exact := sealing{key: sender, salt: decode(t, a.Inputs.Salt), pad: row.Pad, recordSize: row.RS}
		body := exact.seal(t, sub, text)
		if sum := sha256.Sum256(body); len(body) != row.BodyLen || hex.EncodeToString(sum[:]) != row.SHA256 {
			t.Errorf("%d octets sealed to %d, not to the body of the vector", row.Plaintext, len(body))
		}
		plain, err := pushtest.Open(body, browser, sub.Auth)
		if err != nil || !bytes.Equal(plain, text) {
			t.Errorf("%d octets with padding %d: opened %d octets, %v", row.Plaintext, row.Pad, len(plain), err)
		}
	}
	tight := sealing{recordSize: 4010}
	if _, err := pushtest.Open(tight.seal(t, sub, make([]byte, 3993)), browser, sub.Auth); err == nil {
		t.Error("rs 4010 holds a record of 4010 octets, and passed")
	}
}

// Whatever a stranger posts, the service answers it and does not fall over.
func FuzzOpen(f *testing.F) {
	a, sub, browser, _ := readAppendixA(f)
	f.Add(decode(f, a.Output.Body))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, body []byte) {
		plain, err := pushtest.Open(body, browser, sub.Auth)
		if err == nil && len(plain) > len(body)-103 {
			t.Errorf("%d octets opened to %d", len(body), len(plain))
		}
	})
}
