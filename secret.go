package belfry

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// A secret type shows itself only through Reveal. Its String, every fmt verb,
// its slog value and its JSON form are the same harmless text, so that a log
// line or an error cannot leak it by accident (SEC-20, SEC-22). fmt reads
// unexported struct fields behind a type's back: keep secrets in exported ones.

const hidden = "[secret]"

// b64 is the encoding of every binary value in Web Push: URL-safe, unpadded.
var b64 = base64.RawURLEncoding

// decodeB64 reads base64url with or without padding. The alphabet is checked
// first, because Go's decoder skips CR and LF.
func decodeB64(s string) ([]byte, bool) {
	s = strings.TrimRight(s, "=")
	for i := range len(s) {
		c := s[i]
		if !('A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
			return nil, false
		}
	}
	b, err := b64.DecodeString(s)
	return b, err == nil
}

// decodeKey reads a key of a subscription, which may stand in plain base64 too:
// pages that wrote theirs with btoa() are many, and other senders read it.
func decodeKey(s string) ([]byte, bool) { return decodeB64(urlSafe.Replace(s)) }

var urlSafe = strings.NewReplacer("+", "-", "/", "_")

// An AuthSecret is a subscription's authentication secret: 16 octets that
// browser and application server share (RFC 8291 §3.2).
type AuthSecret [16]byte

// ParseAuthSecret reads base64url or base64, padded or not.
func ParseAuthSecret(s string) (AuthSecret, error) {
	b, ok := decodeKey(s)
	if !ok || len(b) != len(AuthSecret{}) {
		return AuthSecret{}, Invalid("auth", "auth", "must be 16 octets of base64url (RFC 8291 §3.2)")
	}
	return AuthSecret(b), nil
}

// Reveal returns the secret in base64url, for an export that was asked for.
func (s AuthSecret) Reveal() string             { return b64.EncodeToString(s[:]) }
func (AuthSecret) String() string               { return hidden }
func (AuthSecret) Format(w fmt.State, _ rune)   { io.WriteString(w, hidden) }
func (AuthSecret) LogValue() slog.Value         { return slog.StringValue(hidden) }
func (AuthSecret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// A DeviceSecret proves that a caller is the browser that registered a
// subscription: 32 random octets, shown once, kept as a [SecretHash] (SEC-12).
type DeviceSecret [32]byte

// NewDeviceSecret draws a secret.
func NewDeviceSecret() (s DeviceSecret) {
	rand.Read(s[:])
	return s
}

// ParseDeviceSecret reads what Reveal wrote.
func ParseDeviceSecret(s string) (DeviceSecret, error) {
	b, ok := decodeB64(s)
	if !ok || len(b) != len(DeviceSecret{}) {
		return DeviceSecret{}, &Error{Kind: ErrDenied, Code: "unauthorised", Text: "the device secret is not 32 octets of base64url"}
	}
	return DeviceSecret(b), nil
}

// Reveal returns the secret in base64url, for the browser that just registered.
func (s DeviceSecret) Reveal() string             { return b64.EncodeToString(s[:]) }
func (s DeviceSecret) Hash() SecretHash           { return sha256.Sum256(s[:]) }
func (DeviceSecret) String() string               { return hidden }
func (DeviceSecret) Format(w fmt.State, _ rune)   { io.WriteString(w, hidden) }
func (DeviceSecret) LogValue() slog.Value         { return slog.StringValue(hidden) }
func (DeviceSecret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// A SecretHash is the SHA-256 of a secret with 256 bits of entropy, which needs
// no slow hash. The zero value fits nothing.
type SecretHash [32]byte

// Fits reports whether s is the secret behind the hash, in constant time.
func (h SecretHash) Fits(s DeviceSecret) bool {
	got := s.Hash()
	return subtle.ConstantTimeCompare(h[:], got[:]) == 1
}
