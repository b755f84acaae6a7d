package pushtest_test

import (
	"bytes"
	"cmp"
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
	r, err := http.NewRequestWithContext(t.Context(), "POST", sub.Endpoint.Reveal(), bytes.NewReader(seal(t, sub, []byte(text))))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", s.authorization(sub.Endpoint.Origin()))
	r.Header.Set("TTL", "60")
	r.Header.Set("Urgency", "normal")
	r.Header.Set("Content-Encoding", "aes128gcm")
	return r
}

// A sealing encrypts as RFC 8291 says, without any care for speed. What is left
// out is drawn at random; the record size is 4096.
type sealing struct {
	key        *ecdh.PrivateKey
	salt       []byte
	pad        int
	recordSize uint32
}

func seal(t testing.TB, sub belfry.Subscription, text []byte) []byte {
	t.Helper()
	return sealing{}.seal(t, sub, text)
}

func (s sealing) seal(t testing.TB, sub belfry.Subscription, text []byte) []byte {
	t.Helper()
	must := func(b []byte, err error) []byte {
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if s.key == nil {
		var err error
		if s.key, err = ecdh.P256().GenerateKey(rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	if s.salt == nil {
		s.salt = make([]byte, 16)
		rand.Read(s.salt)
	}
	browser, err := ecdh.P256().NewPublicKey(sub.P256dh[:])
	if err != nil {
		t.Fatal(err)
	}
	shared := must(s.key.ECDH(browser))
	ours := s.key.PublicKey().Bytes()
	ikm := must(hkdf.Key(sha256.New, shared, sub.Auth[:], "WebPush: info\x00"+string(browser.Bytes())+string(ours), 32))
	block, err := aes.NewCipher(must(hkdf.Key(sha256.New, ikm, s.salt, "Content-Encoding: aes128gcm\x00", 16)))
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	body := append(binary.BigEndian.AppendUint32(bytes.Clone(s.salt), cmp.Or(s.recordSize, 4096)), 65)
	body = append(body, ours...)
	plain := append(append(bytes.Clone(text), 2), make([]byte, s.pad)...)
	return gcm.Seal(body, must(hkdf.Key(sha256.New, ikm, s.salt, "Content-Encoding: nonce\x00", 12)), plain, nil)
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
