package keys_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/keys"
)

var b64 = base64.RawURLEncoding

func fixture(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func parse(t *testing.T, data []byte) keys.Pair {
	t.Helper()
	p, err := keys.ParsePair(data)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// written is a pair as the web-push npm package prints it.
type written struct {
	PublicKey  string `json:"publicKey"`
	PrivateKey string `json:"privateKey"`
}

func jsonPair(public, private string) []byte {
	b, _ := json.Marshal(written{public, private})
	return b
}

// Operators come from other senders with the keys that their visitors
// subscribed with: a key that cannot be brought along costs them all of them.
func TestParsePairReadsWhatOthersWrote(t *testing.T) {
	var npm written
	if err := json.Unmarshal(fixture(t, "web-push.json"), &npm); err != nil {
		t.Fatal(err)
	}
	// The private key 7, of which an old generator writes one octet.
	seven, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), append(make([]byte, 31), 7))
	if err != nil {
		t.Fatal(err)
	}
	sevenPublic, _ := seven.PublicKey.Bytes()

	tests := []struct {
		name    string
		data    []byte
		private string // base64url
	}{
		{"web-push on npm", fixture(t, "web-push.json"), npm.PrivateKey},
		{"padded base64url", jsonPair(npm.PublicKey+"=", npm.PrivateKey+"="), npm.PrivateKey},
		{"leading zeros lost", jsonPair(b64.EncodeToString(sevenPublic), "Bw"), b64.EncodeToString(append(make([]byte, 31), 7))},
		{"openssl ecparam -genkey", fixture(t, "openssl-ec.pem"), "zoLrCzXtw2dt8F5pg0YCfzfa0EK2O081Bd86dQDWlr0"},
		{"openssl genpkey", fixture(t, "openssl-pkcs8.pem"), "IShUNMXtU9do1EZJLE5eDYjfukvp4RcxrdnJrs2EM9s"},
		{"text before the PEM", append([]byte("# made in 2019\n"), fixture(t, "openssl-pkcs8.pem")...), "IShUNMXtU9do1EZJLE5eDYjfukvp4RcxrdnJrs2EM9s"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := parse(t, tt.data)
			var got written
			if err := json.Unmarshal(p.JSON(), &got); err != nil {
				t.Fatal(err)
			}
			want, _ := b64.DecodeString(tt.private)
			private, _ := b64.DecodeString(got.PrivateKey)
			if !bytes.Equal(private, want) {
				t.Errorf("private key came out changed")
			}
			key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), private)
			if err != nil {
				t.Fatal(err)
			}
			public, _ := key.PublicKey.Bytes()
			if got.PublicKey != b64.EncodeToString(public) {
				t.Errorf("public key %s is not the private key's", got.PublicKey)
			}
		})
	}
}

// What we write, OpenSSL and web-push must read, or nobody can leave us.
func TestPairIsWrittenForOthers(t *testing.T) {
	npm := fixture(t, "web-push.json")
	p := parse(t, npm)
	if got := p.JSON(); string(got) != strings.TrimSpace(string(npm)) {
		t.Errorf("JSON is %d octets, not web-push's own form", len(got))
	}
	block, rest := pem.Decode(p.PEM())
	if block == nil || block.Type != "PRIVATE KEY" || len(rest) > 0 {
		t.Fatal("PEM is not one PRIVATE KEY block")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	var want written
	json.Unmarshal(npm, &want)
	if d, err := key.(*ecdsa.PrivateKey).Bytes(); err != nil || b64.EncodeToString(d) != want.PrivateKey {
		t.Error("PEM holds another key")
	}
	if again := parse(t, p.PEM()); string(again.JSON()) != string(p.JSON()) {
		t.Error("PEM read back is another pair")
	}
}

// A wrong pair that is let in signs tokens which every push service refuses,
// and browsers subscribe to a key that nobody holds.
func TestParsePairRefuses(t *testing.T) {
	var npm written
	json.Unmarshal(fixture(t, "web-push.json"), &npm)
	other := keyPair(t)
	otherPublic, _ := other.PublicKey.Bytes()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	rsaDER, _ := x509.MarshalPKCS8PrivateKey(rsaKey)
	order := elliptic.P256().Params().N.Bytes()

	tests := []struct {
		name, want string
		data       []byte
	}{
		{"nothing", "must be", nil},
		{"not JSON", "must be", []byte("BDbDDqLl8THudTEOm9Y")},
		{"a list", "must be", []byte("[]")},
		{"two pairs", "must be", bytes.Repeat(fixture(t, "web-push.json"), 2)},
		{"unknown member", "must be", []byte(`{"publicKey":"` + npm.PublicKey + `","privateKey":"` + npm.PrivateKey + `","x":1}`)},
		{"another key's public half", "does not belong", jsonPair(b64.EncodeToString(otherPublic), npm.PrivateKey)},
		{"no public half", "does not belong", jsonPair("", npm.PrivateKey)},
		{"no private half", "32 octets", jsonPair(npm.PublicKey, "")},
		{"33 octets", "32 octets", jsonPair(npm.PublicKey, b64.EncodeToString(make([]byte, 33)))},
		{"not base64url", "32 octets", jsonPair(npm.PublicKey, "+"+npm.PrivateKey[1:])},
		{"zero", "not a number", jsonPair(npm.PublicKey, b64.EncodeToString(make([]byte, 32)))},
		{"the curve's order", "not a number", jsonPair(npm.PublicKey, b64.EncodeToString(order))},
		{"P-384", "P-256", fixture(t, "p384.pem")},
		{"Ed25519", "P-256", fixture(t, "ed25519.pem")},
		{"RSA", "P-256", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: rsaDER})},
		{"passphrase", "passphrase", fixture(t, "encrypted.pem")},
		{"old passphrase", "passphrase", bytes.Replace(fixture(t, "openssl-ec.pem"), []byte("EC PRIVATE KEY-----\n"),
			[]byte("EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\n"), 1)},
		{"public key only", "no private key", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: otherPublic})},
		{"damaged PKCS #8", "not a PKCS #8", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: rsaDER[:40]})},
		{"damaged SEC 1", "not an EC", pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: rsaDER[:40]})},
		{"SEC 1 with another public half", "does not belong", withPublic(t, fixture(t, "openssl-ec.pem"), otherPublic)},
		{"PKCS #8 with another public half", "does not belong", withPublic(t, fixture(t, "openssl-pkcs8.pem"), otherPublic)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, err := keys.ParsePair(tt.data)
			var told *belfry.Error
			if !errors.As(err, &told) || !errors.Is(err, belfry.ErrInvalid) || told.Code != "key-pair" || told.Hint == "" {
				t.Fatalf("got %v, %v", p, err)
			}
			if !strings.Contains(told.Text, tt.want) {
				t.Errorf("%q does not say %q", told.Text, tt.want)
			}
			if strings.Contains(err.Error()+told.Hint, npm.PrivateKey[1:]) {
				t.Error("the error quotes the private key")
			}
		})
	}
}

func keyPair(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// withPublic puts public in the place of the one that a PEM key carries.
func withPublic(t *testing.T, text, public []byte) []byte {
	t.Helper()
	block, rest := pem.Decode(text)
	if block.Type == "EC PARAMETERS" {
		block, _ = pem.Decode(rest)
	}
	if len(block.Bytes) < 65 || block.Bytes[len(block.Bytes)-65] != 4 {
		t.Fatal("the public key is not at the end")
	}
	copy(block.Bytes[len(block.Bytes)-65:], public)
	return pem.EncodeToMemory(block)
}
