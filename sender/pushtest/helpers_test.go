package pushtest_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/belfry-push/belfry"
)

var b64 = base64.RawURLEncoding

// A site is an application server as small as can be: one VAPID key, no cache.
type site struct {
	key *ecdsa.PrivateKey
	now func() time.Time
}

func newSite(t testing.TB) *site {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &site{key: key, now: time.Now}
}

// publicKey is the applicationServerKey.
func (s *site) publicKey() string {
	point, err := s.key.PublicKey.Bytes()
	if err != nil {
		panic(err)
	}
	return b64.EncodeToString(point)
}

// sign makes the Authorization field for any claims and header.
func (s *site) sign(header string, claims any) string {
	text, err := json.Marshal(claims)
	if err != nil {
		panic(err)
	}
	unsigned := b64.EncodeToString([]byte(header)) + "." + b64.EncodeToString(text)
	digest := sha256.Sum256([]byte(unsigned))
	r, ss, err := ecdsa.Sign(rand.Reader, s.key, digest[:])
	if err != nil {
		panic(err)
	}
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	ss.FillBytes(signature[32:])
	return "vapid t=" + unsigned + "." + b64.EncodeToString(signature) + ", k=" + s.publicKey()
}

const es256 = `{"typ":"JWT","alg":"ES256"}`

func (s *site) authorization(audience string) string {
	return s.sign(es256, map[string]any{"aud": audience, "exp": s.now().Add(12 * time.Hour).Unix(), "sub": "mailto:ops@example.com"})
}

// request is a request for delivery that no push service has a reason to refuse.
func (s *site) request(t testing.TB, sub belfry.Subscription, text string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "POST", sub.Endpoint.Reveal(), bytes.NewReader(seal(t, sub, []byte(text), 0, 4096)))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", s.authorization(sub.Endpoint.Origin()))
	r.Header.Set("TTL", "60")
	r.Header.Set("Urgency", "normal")
	r.Header.Set("Content-Encoding", "aes128gcm")
	return r
}

// seal encrypts as RFC 8291 says, without any care for speed.
func seal(t testing.TB, sub belfry.Subscription, text []byte, pad int, recordSize uint32) []byte {
	t.Helper()
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return sealWith(t, sub, key, text, pad, recordSize)
}

func sealWith(t testing.TB, sub belfry.Subscription, key *ecdh.PrivateKey, text []byte, pad int, recordSize uint32) []byte {
	t.Helper()
	check := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	browser, err := ecdh.P256().NewPublicKey(sub.P256dh[:])
	check(err)
	shared, err := key.ECDH(browser)
	check(err)
	ours := key.PublicKey().Bytes()
	ikm, err := hkdf.Key(sha256.New, shared, sub.Auth[:], "WebPush: info\x00"+string(browser.Bytes())+string(ours), 32)
	check(err)
	salt := make([]byte, 16)
	rand.Read(salt)
	contentKey, err := hkdf.Key(sha256.New, ikm, salt, "Content-Encoding: aes128gcm\x00", 16)
	check(err)
	nonce, err := hkdf.Key(sha256.New, ikm, salt, "Content-Encoding: nonce\x00", 12)
	check(err)
	block, err := aes.NewCipher(contentKey)
	check(err)
	gcm, err := cipher.NewGCM(block)
	check(err)
	body := append(binary.BigEndian.AppendUint32(salt, recordSize), 65)
	body = append(body, ours...)
	plain := append(append(bytes.Clone(text), 2), make([]byte, pad)...)
	return gcm.Seal(body, nonce, plain, nil)
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	proto  string
	Code   int
	Errno  int
	Error  string

	Message string
	More    string `json:"more_info"`
}

func do(t testing.TB, c *http.Client, r *http.Request) answer {
	t.Helper()
	res, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := answer{status: res.StatusCode, header: res.Header, proto: res.Proto}
	if res.Header.Get("Content-Type") == "application/json" {
		if err := json.Unmarshal(body, &a); err != nil {
			t.Fatalf("answer %q: %v", body, err)
		}
	}
	return a
}
