package sender

import (
	"bytes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"testing"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/internal/vectors"
)

// unb64 reads the vectors' encoding.
func unb64(t testing.TB, s string) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// appendixA is the example of RFC 8291.
type appendixA struct {
	Inputs struct {
		Plaintext  string
		AsPrivate  string `json:"as_private"`
		UaPublic   string `json:"ua_public"`
		UaPrivate  string `json:"ua_private"`
		Salt       string
		AuthSecret string `json:"auth_secret"`
	}
	Intermediate struct{ Header, Ciphertext string }
	Output       struct{ Body string }
}

// example loads Appendix A and returns the engine with its key pair and salt,
// and its browser.
func example(t testing.TB) (appendixA, native, belfry.Subscription) {
	t.Helper()
	var v appendixA
	vectors.Load(t, "rfc8291-appendix-a", &v)
	key, err := ecdh.P256().NewPrivateKey(unb64(t, v.Inputs.AsPrivate))
	if err != nil {
		t.Fatal(err)
	}
	salt := [16]byte(unb64(t, v.Inputs.Salt))
	e := native{rs: recordSize, fresh: func() (*ecdh.PrivateKey, [16]byte, error) { return key, salt, nil }}
	return v, e, belfry.Subscription{
		P256dh: belfry.PublicKey(unb64(t, v.Inputs.UaPublic)),
		Auth:   belfry.AuthSecret(unb64(t, v.Inputs.AuthSecret)),
	}
}

// The one example that the RFC gives: a body that differs in one octet is one
// that no browser opens. The RFC's text calls it 145 octets long; it is 144.
func TestSealAppendixA(t *testing.T) {
	v, e, sub := example(t)
	plaintext := unb64(t, v.Inputs.Plaintext)
	got, err := e.seal(&letter{p256dh: sub.P256dh, auth: sub.Auth, plaintext: plaintext, size: len(plaintext) + overhead})
	if err != nil {
		t.Fatal(err)
	}
	if want := unb64(t, v.Output.Body); !bytes.Equal(got, want) {
		t.Errorf("body\n got %x\nwant %x", got, want)
	}
	if header := unb64(t, v.Intermediate.Header); len(got) != 144 || !bytes.Equal(got[:86], header) {
		t.Errorf("%d octets, header %x", len(got), got[:86])
	}
}

// The sizes at every edge, with and without padding, to the octet. A record
// size that does not exceed the record is refused rather than sent.
func TestSealSizes(t *testing.T) {
	var v struct {
		Rows []struct {
			PlaintextLen int `json:"plaintext_len"`
			Pad          int
			RS           uint32
			BodyLen      int    `json:"body_len"`
			SHA256       string `json:"body_sha256"`
		}
	}
	vectors.Load(t, "sizes", &v)
	_, e, sub := example(t)
	for _, row := range v.Rows {
		t.Run(fmt.Sprintf("%d+%d rs %d", row.PlaintextLen, row.Pad, row.RS), func(t *testing.T) {
			e.rs = row.RS
			l := &letter{p256dh: sub.P256dh, auth: sub.Auth,
				plaintext: bytes.Repeat([]byte("a"), row.PlaintextLen), size: overhead + row.PlaintextLen + row.Pad}
			got, err := e.seal(l)
			if err != nil {
				t.Fatal(err)
			}
			if sum := sha256.Sum256(got); len(got) != row.BodyLen || hex.EncodeToString(sum[:]) != row.SHA256 {
				t.Errorf("%d octets %x, want %d %s", len(got), sum, row.BodyLen, row.SHA256)
			}
			e.rs = uint32(row.PlaintextLen + 1 + row.Pad + 16)
			if _, err := e.seal(l); err == nil {
				t.Errorf("record size %d is taken for a record as long (WP-23)", e.rs)
			}
		})
	}
}

// What a message leaves to the garbage collector, a broadcast leaves a million
// times. Nine of these objects are the key pair's and the agreement's.
func TestSealingAllocatesLittle(t *testing.T) {
	_, _, sub := example(t)
	msg := belfry.PushMessage{Payload: make([]byte, 350)}
	allocations := testing.AllocsPerRun(100, func() {
		if _, err := Seal(sub, msg); err != nil {
			t.Fatal(err)
		}
	})
	if allocations > 20 {
		t.Errorf("%v allocations", allocations)
	}
}

// The examples of RFC 8188: the first byte for byte; the second, which has two
// records, opens with the key and nonces that we derive.
func TestContentCoding(t *testing.T) {
	var v struct {
		Examples []struct {
			ID        string
			Plaintext string `json:"plaintext_utf8"`
			IKM, Salt string
			RS        int
			KeyID     string `json:"keyid_utf8"`
			Body      string
		}
	}
	vectors.Load(t, "rfc8188-examples", &v)
	for _, x := range v.Examples {
		t.Run(x.ID, func(t *testing.T) {
			ikm, salt, body := unb64(t, x.IKM), [16]byte(unb64(t, x.Salt)), unb64(t, x.Body)
			gcm, nonce, err := contentKey(ikm, salt)
			if err != nil {
				t.Fatal(err)
			}
			if got := openRecords(t, gcm, nonce, body[21+len(x.KeyID):], x.RS); got != x.Plaintext {
				t.Errorf("opens as %q, want %q", got, x.Plaintext)
			}
			if x.ID != "3.1" {
				return
			}
			got, err := encrypt(ikm, salt, uint32(x.RS), []byte(x.KeyID), []byte(x.Plaintext), 0)
			if err != nil || !bytes.Equal(got, body) {
				t.Errorf("body %x, %v, want %x", got, err, body)
			}
		})
	}
}

// openRecords opens records of rs octets each, as a receiver of RFC 8188 does.
func openRecords(t *testing.T, gcm cipher.AEAD, nonce, records []byte, rs int) string {
	t.Helper()
	var plaintext []byte
	for seq := byte(0); len(records) > 0; seq++ {
		record := records[:min(rs, len(records))]
		records = records[len(record):]
		n := bytes.Clone(nonce)
		n[len(n)-1] ^= seq
		b, err := gcm.Open(nil, n, record, nil)
		if err != nil {
			t.Fatalf("record %d: %v", seq, err)
		}
		b = bytes.TrimRight(b, "\x00")
		plaintext = append(plaintext, b[:len(b)-1]...)
	}
	return string(plaintext)
}
