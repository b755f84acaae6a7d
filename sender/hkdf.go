package sender

import "crypto/sha256"

// crypto/hkdf makes forty objects for one message, which the garbage collector
// has to find again. All that RFC 8291 asks of it is five HMACs of short texts
// under short keys, and those need no more than the stack.

const (
	blockSize = 64                                  // of SHA-256, in octets
	longest   = len("WebPush: info\x00") + 2*65 + 1 // of the texts, in octets; a longer one costs an object
)

// extract is HKDF-Extract with SHA-256 (RFC 5869 §2.2).
func extract(salt, ikm []byte) [sha256.Size]byte { return mac(salt, ikm) }

// expand is HKDF-Expand with SHA-256 (RFC 5869 §2.3) to one block of it, which
// is as much as is ever needed here.
func expand(prk [sha256.Size]byte, info []byte) [sha256.Size]byte {
	var text [longest]byte
	return mac(prk[:], append(append(text[:0], info...), 1))
}

// mac is HMAC-SHA-256 (RFC 2104 §2) under a key of at most blockSize octets.
func mac(key, text []byte) [sha256.Size]byte {
	var inner [blockSize + longest]byte
	var outer [blockSize + sha256.Size]byte
	copy(inner[:blockSize], key)
	copy(outer[:blockSize], key)
	for i := range blockSize {
		inner[i] ^= 0x36
		outer[i] ^= 0x5c
	}
	sum := sha256.Sum256(append(inner[:blockSize], text...))
	copy(outer[blockSize:], sum[:])
	return sha256.Sum256(outer[:])
}
