package keys

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/belfry-push/belfry"
)

// b64 is the encoding of keys in Web Push: URL-safe, unpadded.
var b64 = base64.RawURLEncoding

// A Pair is a VAPID key pair, P-256 (RFC 8292 §2). Whoever holds it can ring
// every browser that subscribed with it, so it prints as its id alone
// (SEC-20); JSON and PEM are the ways to get at the private key.
//
// It signs and does nothing else: there is no way from here to an ECDH key
// (WP-31). The private key stays behind a pointer, since fmt reads the
// unexported fields of a struct that holds a Pair without asking it.
type Pair struct {
	private *ecdsa.PrivateKey
	public  string // 65 octets, uncompressed, in base64url
}

// newPair draws a key pair.
func newPair() (Pair, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, fmt.Errorf("keys: make a key pair: %w", err)
	}
	return pairOf(private)
}

func pairOf(private *ecdsa.PrivateKey) (Pair, error) {
	if private.Curve != elliptic.P256() {
		return Pair{}, refusePair("must be a P-256 key (prime256v1), the only kind that Web Push knows")
	}
	public, err := private.PublicKey.Bytes()
	if err != nil {
		return Pair{}, refusePair("holds no point on P-256")
	}
	return Pair{private, b64.EncodeToString(public)}, nil
}

// ParsePair reads a key pair as the web-push npm package prints it, or PEM:
// PKCS #8, or the "EC PRIVATE KEY" that OpenSSL writes. A public key that does
// not belong to the private one is refused: browsers that subscribed with the
// one could never be reached with the other.
func ParsePair(data []byte) (Pair, error) {
	if bytes.Contains(data, []byte("-----BEGIN ")) {
		return parsePEM(data)
	}
	var written struct {
		PublicKey  string `json:"publicKey"`
		PrivateKey string `json:"privateKey"`
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	// encoding/json may quote its input in an error, and the input is a secret.
	if dec.Decode(&written) != nil || dec.Decode(new(any)) != io.EOF {
		return Pair{}, refusePair(`must be {"publicKey": …, "privateKey": …} or PEM`)
	}
	return decodePair(written.PublicKey, written.PrivateKey)
}

// decodePair reads both halves from base64url, padded or not, and holds the one
// against the other. A private key shorter than 32 octets has lost its leading
// zeros, as old generators wrote one key in 256; the public key proves it whole.
func decodePair(public, private string) (Pair, error) {
	d, err := b64.DecodeString(strings.TrimRight(private, "="))
	if err != nil || len(d) == 0 || len(d) > 32 {
		return Pair{}, refusePair("the private key must be 32 octets of base64url")
	}
	scalar := make([]byte, 32)
	copy(scalar[32-len(d):], d)
	parsed, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), scalar)
	if err != nil {
		return Pair{}, refusePair("the private key is not a number that P-256 allows")
	}
	pair, err := pairOf(parsed)
	if err != nil {
		return Pair{}, err
	}
	if strings.TrimRight(public, "=") != pair.public {
		return Pair{}, refusePair("the public key does not belong to the private key")
	}
	return pair, nil
}

func parsePEM(data []byte) (Pair, error) {
	for {
		var block *pem.Block
		block, data = pem.Decode(data)
		if block == nil {
			return Pair{}, refusePair("holds no private key")
		}
		switch block.Type {
		case "PRIVATE KEY":
			return parsePKCS8(block.Bytes)
		case "EC PRIVATE KEY":
			if block.Headers["DEK-Info"] != "" {
				return Pair{}, refuseEncrypted()
			}
			return parseSEC1(block.Bytes)
		case "ENCRYPTED PRIVATE KEY":
			return Pair{}, refuseEncrypted()
		}
	}
}

func parsePKCS8(der []byte) (Pair, error) {
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return Pair{}, refusePair("is not a PKCS #8 private key")
	}
	private, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return Pair{}, refusePair("must be a P-256 key (prime256v1), the only kind that Web Push knows")
	}
	var envelope struct {
		Version    int
		Algorithm  pkix.AlgorithmIdentifier
		PrivateKey []byte
	}
	if _, err := asn1.Unmarshal(der, &envelope); err != nil {
		return Pair{}, refusePair("is not a PKCS #8 private key")
	}
	return matchSEC1(envelope.PrivateKey, private)
}

func parseSEC1(der []byte) (Pair, error) {
	private, err := x509.ParseECPrivateKey(der)
	if err != nil {
		return Pair{}, refusePair("is not an EC private key")
	}
	return matchSEC1(der, private)
}

// matchSEC1 holds private against the public key that its own encoding carries
// (RFC 5915 §3), which crypto/x509 skips.
func matchSEC1(der []byte, private *ecdsa.PrivateKey) (Pair, error) {
	var written struct {
		Version    int
		PrivateKey []byte
		Curve      asn1.ObjectIdentifier `asn1:"optional,explicit,tag:0"`
		PublicKey  asn1.BitString        `asn1:"optional,explicit,tag:1"`
	}
	if _, err := asn1.Unmarshal(der, &written); err != nil {
		return Pair{}, refusePair("is not an EC private key")
	}
	pair, err := pairOf(private)
	if err != nil {
		return Pair{}, err
	}
	if public := written.PublicKey.Bytes; len(public) > 0 && b64.EncodeToString(public) != pair.public {
		return Pair{}, refusePair("the public key does not belong to the private key")
	}
	return pair, nil
}

func refusePair(text string) error {
	return &belfry.Error{Kind: belfry.ErrInvalid, Code: "key-pair", Where: "key pair", Text: text,
		Hint: "give what 'web-push generate-vapid-keys --json' or 'openssl ecparam -name prime256v1 -genkey' prints"}
}

func refuseEncrypted() error {
	return &belfry.Error{Kind: belfry.ErrInvalid, Code: "key-pair", Where: "key pair", Text: "is encrypted with a passphrase",
		Hint: "decrypt it first: openssl pkey -in FILE"}
}

// id is the key's name: the beginning of its hash, so that the same key has the
// same name wherever it is imported. It is in hexadecimal because it is typed on
// command lines, where base64url may begin like a flag.
func (p Pair) id() string {
	public, _ := b64.DecodeString(p.public)
	hash := sha256.Sum256(public)
	return hex.EncodeToString(hash[:8])
}

// JSON is the pair as the web-push npm package prints it, private key and all.
func (p Pair) JSON() []byte {
	if p.private == nil {
		return nil
	}
	return fmt.Appendf(nil, `{"publicKey":%q,"privateKey":%q}`, p.public, p.scalar())
}

// PEM is the private key in PKCS #8, as OpenSSL and other libraries read it.
func (p Pair) PEM() []byte {
	if p.private == nil {
		return nil
	}
	der, err := x509.MarshalPKCS8PrivateKey(p.private)
	if err != nil {
		return nil // only for curves that pairOf refused
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// scalar is the private key, 32 octets in base64url.
func (p Pair) scalar() string {
	d, err := p.private.Bytes()
	if err != nil {
		return "" // only for curves that pairOf refused
	}
	return b64.EncodeToString(d)
}

func (p Pair) String() string {
	if p.private == nil {
		return "[no key pair]"
	}
	return "[key pair " + p.id() + "]"
}
func (p Pair) Format(w fmt.State, _ rune)   { io.WriteString(w, p.String()) }
func (p Pair) LogValue() slog.Value         { return slog.StringValue(p.String()) }
func (p Pair) MarshalText() ([]byte, error) { return []byte(p.String()), nil }
