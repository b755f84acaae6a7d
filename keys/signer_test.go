package keys_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/internal/vectors"
	"github.com/belfry-push/belfry/keys"
)

const (
	subject  = "mailto:push@example.com"
	audience = "https://push.example.net"
)

func newRing(t testing.TB) *keys.Ring {
	t.Helper()
	ring, err := keys.Create(filepath.Join(t.TempDir(), "vapid.json"))
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

func authorize(t testing.TB, s *keys.Signer, audience, keyID string) string {
	t.Helper()
	header, err := s.Authorization(audience, keyID)
	if err != nil {
		t.Fatal(err)
	}
	return header
}

// A header is what a push service reads in an Authorization header.
type header struct {
	jwt, k string
	head   string // the token's parts, decoded
	claims map[string]any
}

// wp47 is the header's whole form: 64 octets of signature, a 65-octet key that
// begins with 4, all unpadded (WP-40, WP-47).
var wp47 = regexp.MustCompile(`^vapid t=(([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]{86}), k=(B[A-Za-z0-9_-]{86})$`)

func readHeader(t testing.TB, text string) header {
	t.Helper()
	part := wp47.FindStringSubmatch(text)
	if part == nil {
		t.Fatal("not a vapid header")
	}
	head, err := b64.DecodeString(part[2])
	if err != nil {
		t.Fatal(err)
	}
	body, err := b64.DecodeString(part[3])
	if err != nil {
		t.Fatal(err)
	}
	h := header{jwt: part[1], k: part[4], head: string(head)}
	if err := json.Unmarshal(body, &h.claims); err != nil {
		t.Fatal(err)
	}
	return h
}

// verify checks the signature as a push service does, with nothing of ours.
func (h header) verify() bool {
	point, err := b64.DecodeString(h.k)
	if err != nil {
		return false
	}
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		return false
	}
	dot := strings.LastIndexByte(h.jwt, '.')
	sig, err := b64.DecodeString(h.jwt[dot+1:])
	if err != nil || len(sig) != 64 {
		return false
	}
	hash := sha256.Sum256([]byte(h.jwt[:dot]))
	return ecdsa.Verify(key, hash[:], new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:]))
}

func (h header) expires() time.Time { return time.Unix(int64(h.claims["exp"].(float64)), 0) }

// The RFC's own example is what the verifier of these tests is measured with;
// then ours must say the same (RFC 8292 §2.4).
func TestAuthorizationIsTheExampleOfTheRFC(t *testing.T) {
	var example struct {
		Authorization, K string
		HeaderJSON       string    `json:"header_json"`
		ClaimsJSON       string    `json:"claims_json"`
		Expires          time.Time `json:"expires"`
	}
	vectors.Load(t, "rfc8292-example", &example)
	theirs := readHeader(t, example.Authorization)
	if !theirs.verify() || theirs.k != example.K {
		t.Fatal("the example does not verify")
	}
	altered := theirs
	altered.jwt = strings.Replace(theirs.jwt, ".eyJhdWQi", ".eyJhdWQj", 1)
	if altered.jwt == theirs.jwt || altered.verify() {
		t.Fatal("an altered example verifies")
	}

	clock := func() time.Time { return example.Expires.Add(-12 * time.Hour) }
	ring := newRing(t)
	ours := readHeader(t, authorize(t, keys.NewSigner(ring, subject, clock), audience, ""))
	if !ours.verify() || ours.k != ring.Current().PublicKey {
		t.Error("the signature is not the current key's")
	}
	if !sameJSON(t, ours.head, example.HeaderJSON) {
		t.Errorf("header is %s", ours.head)
	}
	claims, _ := json.Marshal(ours.claims)
	if !sameJSON(t, string(claims), example.ClaimsJSON) {
		t.Errorf("claims are %s, not %s", claims, example.ClaimsJSON)
	}
}

func sameJSON(t *testing.T, a, b string) bool {
	t.Helper()
	var x, y map[string]any
	if err := errors.Join(json.Unmarshal([]byte(a), &x), json.Unmarshal([]byte(b), &y)); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(x) == fmt.Sprint(y)
}

// Autopush refuses an exp that is not an integer number, Apple a sub that is
// empty, and a subject that grew a second mailto: (WP-42, LIB-02).
func TestClaimsAreExact(t *testing.T) {
	for _, subject := range []string{"mailto:ops@example.com", "https://example.com/contact?a=b&c=d", ""} {
		now := time.Unix(1_800_000_000, 999_999_999)
		text := authorize(t, keys.NewSigner(newRing(t), subject, func() time.Time { return now }), audience, "")
		body, _ := b64.DecodeString(strings.Split(text, ".")[1])
		var raw map[string]json.RawMessage
		if err := json.Unmarshal(body, &raw); err != nil {
			t.Fatal(err)
		}
		if got := string(raw["exp"]); got != "1800043200" {
			t.Errorf("exp is %s", got)
		}
		if got := string(raw["aud"]); got != `"`+audience+`"` {
			t.Errorf("aud is %s", got)
		}
		sub, there := readHeader(t, text).claims["sub"]
		if there != (subject != "") || there && sub != subject {
			t.Errorf("sub is %v for subject %q", sub, subject)
		}
		if want := 3; subject == "" && len(raw) != want-1 || subject != "" && len(raw) != want {
			t.Errorf("claims are %s: extra ones only make tokens longer", body)
		}
	}
}

// Long tokens are refused by some (RFC 8292 §2.2, WP-46): the longest subject
// that we accept must fit with the longest names of push services.
func TestTokensAreSmall(t *testing.T) {
	longest := "https://example.com/" + strings.Repeat("a", 80)
	if err := keys.CheckSubject(longest); err != nil {
		t.Fatal(err)
	}
	if keys.CheckSubject(longest+"a") == nil {
		t.Fatal("that was not the longest subject")
	}
	signer := keys.NewSigner(newRing(t), longest, nil)
	for _, audience := range []string{"https://fcm.googleapis.com", "https://updates.push.services.mozilla.com",
		"https://web.push.apple.com", "https://wns2-par02p.notify.windows.com",
		"https://an-even-longer-region-than-seen-so-far.notify.windows.com"} {
		if n := len(readHeader(t, authorize(t, signer, audience, "")).jwt); n >= 400 {
			t.Errorf("token for %s is %d octets", audience, n)
		}
	}
}

// A wrong clock must not silence a server: within −6 h and +12 h every push
// service still takes every token, however old it is in our cache (WP-43).
func TestTokensSurviveAWrongClock(t *testing.T) {
	start := time.Unix(1_800_000_000, 500_000_000)
	refused := func(skew time.Duration) bool {
		theirs := start
		signer := keys.NewSigner(newRing(t), subject, func() time.Time { return theirs.Add(skew) })
		for ; theirs.Before(start.Add(13 * time.Hour)); theirs = theirs.Add(5*time.Minute - time.Nanosecond) {
			exp := readHeader(t, authorize(t, signer, audience, "")).expires()
			if !theirs.Before(exp) || exp.After(theirs.Add(24*time.Hour)) {
				return true
			}
		}
		return false
	}
	for skew := -6 * time.Hour; skew <= 12*time.Hour; skew += 30 * time.Minute {
		if refused(skew) {
			t.Errorf("refused with our clock at %v", skew)
		}
	}
	// The bounds are real: beyond them this test must see refusals.
	for _, skew := range []time.Duration{-6*time.Hour - 10*time.Minute, 12*time.Hour + 10*time.Minute} {
		if !refused(skew) {
			t.Errorf("taken with our clock at %v: is the judge of this test too mild?", skew)
		}
	}
}

// Apple asks not to renew more than once an hour, and a signature per message
// would be a third of the work of sending it (WP-44).
func TestTokensAreReused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		signer := keys.NewSigner(newRing(t), subject, nil)
		origins := []string{"https://fcm.googleapis.com", "https://updates.push.services.mozilla.com", "https://web.push.apple.com"}
		signatures := map[string]bool{}
		const sends = 10_000
		for i := range sends {
			signatures[authorize(t, signer, origins[i%len(origins)], "")] = true
			time.Sleep(5 * time.Hour / sends)
		}
		if len(signatures) != len(origins) {
			t.Errorf("%d signatures for %d push services", len(signatures), len(origins))
		}
		for text := range signatures {
			if h := readHeader(t, text); !h.verify() || !time.Now().Before(h.expires()) {
				t.Errorf("token for %v does not hold", h.claims["aud"])
			}
		}
	})
}

// A token that is renewed too late is refused in the middle of a broadcast.
func TestTokensAreRenewedAtHalfLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		signer := keys.NewSigner(newRing(t), subject, nil)
		first := authorize(t, signer, audience, "")
		time.Sleep(6*time.Hour - time.Second)
		if authorize(t, signer, audience, "") != first {
			t.Error("renewed before 6 h")
		}
		time.Sleep(time.Second)
		if authorize(t, signer, audience, "") == first {
			t.Error("not renewed at 6 h")
		}
	})
}

// An operator who mends a clock that was a day ahead must not wait a day until
// push services take the tokens again (REL-08).
func TestTokensOfAWrongClockDoNotOutliveIt(t *testing.T) {
	now := time.Unix(1_800_000_000, 0).Add(20 * time.Hour)
	signer := keys.NewSigner(newRing(t), subject, func() time.Time { return now })
	wrong := authorize(t, signer, audience, "")
	now = now.Add(-30 * time.Second)
	if authorize(t, signer, audience, "") != wrong {
		t.Error("signed again for a small step")
	}
	now = time.Unix(1_800_000_000, 0)
	if right := readHeader(t, authorize(t, signer, audience, "")); right.expires().After(now.Add(24 * time.Hour)) {
		t.Error("still hands out a token of the wrong clock")
	}
}

// A broadcast begins with hundreds of sends at once to one push service.
func TestConcurrentFirstUseSignsOnce(t *testing.T) {
	ring := newRing(t)
	for range 300 {
		signer := keys.NewSigner(ring, subject, nil)
		var group sync.WaitGroup
		got := make([]string, 16)
		start := make(chan struct{})
		for i := range got {
			group.Go(func() {
				<-start
				got[i], _ = signer.Authorization(audience, "")
			})
		}
		close(start)
		group.Wait()
		for _, text := range got {
			if text == "" || text != got[0] {
				t.Fatal("more than one signature")
			}
		}
	}
}

// A subscription can be rung with the key it was made with and no other: the
// wrong one is refused, and after a rotation that is most of them (WP-49, WP-50).
func TestEachSubscriptionIsSignedForWithItsOwnKey(t *testing.T) {
	ring := newRing(t)
	signer := keys.NewSigner(ring, subject, nil)
	old := ring.Current()
	before := authorize(t, signer, audience, "")
	fresh, err := ring.Rotate()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ keyID, want string }{
		{"", fresh.PublicKey}, {fresh.ID, fresh.PublicKey}, {old.ID, old.PublicKey},
	} {
		h := readHeader(t, authorize(t, signer, audience, tt.keyID))
		if h.k != tt.want || !h.verify() {
			t.Errorf("key %q signs with another", tt.keyID)
		}
	}
	if authorize(t, signer, audience, old.ID) != before {
		t.Error("rotation signed anew for the old key")
	}
}

func TestAuthorizationWithAnUnknownKey(t *testing.T) {
	signer := keys.NewSigner(newRing(t), subject, nil)
	for _, id := range []string{"nobody", strings.Repeat("x", 10_000), "a\r\nb"} {
		header, err := signer.Authorization(audience, id)
		var told *belfry.Error
		if header != "" || !errors.As(err, &told) || !errors.Is(err, belfry.ErrNotFound) || told.Code != "unknown-key" {
			t.Fatalf("got %q, %v", header, err)
		}
		if len(err.Error()) > 200 || strings.ContainsAny(err.Error(), "\r\n") {
			t.Errorf("error repeats what it was given: %.300q", err)
		}
	}
}

// Anybody can subscribe at a made-up host under a wildcard. That must neither
// fill the memory nor push the real push services out of the cache.
func TestInventedHostsDoNotFillTheCache(t *testing.T) {
	signer := keys.NewSigner(newRing(t), subject, nil)
	invented := func(i int) string { return fmt.Sprintf("https://h%d.notify.windows.com", i) }
	first, real := authorize(t, signer, invented(0), ""), authorize(t, signer, audience, "")
	for i := range 1100 {
		authorize(t, signer, invented(i+1), "")
		if authorize(t, signer, audience, "") != real {
			t.Fatalf("the token in use was dropped after %d hosts", i+1)
		}
	}
	if authorize(t, signer, invented(0), "") == first {
		t.Error("every host ever seen is kept")
	}
}

func BenchmarkAuthorization(b *testing.B) {
	signer := keys.NewSigner(newRing(b), subject, nil)
	b.ReportAllocs()
	for b.Loop() {
		authorize(b, signer, audience, "")
	}
}
