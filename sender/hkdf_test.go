package sender

import (
	"bytes"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	mathrand "math/rand/v2"
	"testing"
)

// Ours must be the HKDF of everybody else: a key derived differently is a
// message that no browser opens.
func TestHKDF(t *testing.T) {
	random := func(most int) []byte {
		b := make([]byte, mathrand.IntN(most+1))
		rand.Read(b)
		return b
	}
	for range 10_000 {
		salt, ikm, info := random(blockSize), random(longest), random(longest)
		prk := extract(salt, ikm)
		if want, err := hkdf.Extract(sha256.New, ikm, salt); err != nil || !bytes.Equal(prk[:], want) {
			t.Fatalf("extract(%x, %x) = %x, want %x, %v", salt, ikm, prk, want, err)
		}
		key := expand(prk, info)
		if want, err := hkdf.Expand(sha256.New, prk[:], string(info), len(key)); err != nil || !bytes.Equal(key[:], want) {
			t.Fatalf("expand(%x, %x) = %x, want %x, %v", prk, info, key, want, err)
		}
	}
}
