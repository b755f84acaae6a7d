package pushtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// vapidForm is the one form of RFC 8292 §3 that every push service takes (WP-47).
var vapidForm = regexp.MustCompile(`^vapid t=([A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+), k=([A-Za-z0-9_-]+)$`)

// vapid is an Authorization header field, taken apart.
type vapid struct {
	token string
	key   string // k as sent: base64url, unpadded
}

// parseVAPID reads the Authorization header field.
func parseVAPID(h http.Header) (vapid, *refusal) {
	fields := h.Values("Authorization")
	switch {
	case len(fields) == 0:
		return vapid{}, unauthorised("Missing VAPID public key", "vapid-missing", "the Authorization header field is missing")
	case len(fields) > 1:
		return vapid{}, unauthorised("Invalid Authentication", "vapid-form", "more than one Authorization header field")
	}
	m := vapidForm.FindStringSubmatch(fields[0])
	if m == nil {
		return vapid{}, unauthorised("Invalid Authentication", "vapid-form",
			`Authorization must be exactly "vapid t=<token>, k=<key>", both base64url without padding (RFC 8292 §3)`)
	}
	return vapid{token: m[1], key: m[2]}, nil
}

// claims are what a token says.
type claims struct {
	audience string
	expires  int64
	subject  *string
}

// check verifies the token against its own key and this service: signature,
// audience, expiry, subject (WP-40..45, WP-53).
func (v vapid) check(origin string, now time.Time, cache *tokenCache) *refusal {
	c, bad := cache.verify(v)
	if bad != nil {
		return bad
	}
	expires := time.Unix(c.expires, 0)
	switch {
	case c.audience != origin:
		return unauthorised("Invalid VAPID audience", "vapid-aud",
			fmt.Sprintf("aud is %+q, and the origin of this push service is %s", c.audience, origin))
	case !expires.After(now):
		return unauthorised("ExpiredSignature", "vapid-expired", fmt.Sprintf("exp passed %s ago", now.Sub(expires).Truncate(time.Second)))
	case expires.After(now.Add(24 * time.Hour)):
		// No grace at all, as autopush (PS-16).
		return unauthorised("The VAPID token expiration is too long", "vapid-exp",
			fmt.Sprintf("exp is %s ahead, and 24h is the most (RFC 8292 §2)", expires.Sub(now).Truncate(time.Second)))
	case c.subject != nil && !contactable(*c.subject):
		return unauthorised("Invalid VAPID subject", "vapid-sub", fmt.Sprintf("sub %+q is neither a mailto: nor an https: URI", *c.subject))
	}
	return nil
}

// contactable is Apple's rule, the strictest: a mailto: or https: URI without
// spaces, angle brackets or a doubled mailto: (PS-22, LIB-02).
func contactable(subject string) bool {
	rest, mail := strings.CutPrefix(subject, "mailto:")
	if !mail {
		var web bool
		if rest, web = strings.CutPrefix(subject, "https://"); !web {
			return false
		}
	}
	return rest != "" && !strings.ContainsAny(rest, " <>") && !strings.HasPrefix(rest, "mailto:")
}

// A tokenCache remembers tokens whose signature held: senders use one token for
// thousands of messages (WP-44). What a token claims is judged each time.
type tokenCache struct {
	mu    sync.Mutex // guards known
	known map[vapid]claims
}

// maxTokens bounds the cache; a sender needs one token per key and push service.
const maxTokens = 256

func (t *tokenCache) verify(v vapid) (claims, *refusal) {
	t.mu.Lock()
	c, ok := t.known[v]
	t.mu.Unlock()
	if ok {
		return c, nil
	}
	c, bad := v.verify()
	if bad != nil {
		return claims{}, bad
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.known == nil || len(t.known) >= maxTokens {
		t.known = map[vapid]claims{}
	}
	t.known[v] = c
	return c, nil
}

// verify checks the signature and reads the claims.
func (v vapid) verify() (claims, *refusal) {
	point, err := base64.RawURLEncoding.Strict().DecodeString(v.key)
	if err != nil {
		return claims{}, unauthorised("Invalid VAPID public key", "vapid-key", "k is not base64url")
	}
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		return claims{}, unauthorised("Invalid VAPID public key", "vapid-key", "k is not an uncompressed P-256 point of 65 octets")
	}
	parts := strings.Split(v.token, ".")
	var decoded [3][]byte
	for i, part := range parts {
		if decoded[i], err = base64.RawURLEncoding.Strict().DecodeString(part); err != nil {
			return claims{}, unauthorised("InvalidToken", "vapid-form", "the token is not base64url")
		}
	}
	var header struct{ Typ, Alg string }
	if json.Unmarshal(decoded[0], &header) != nil || header.Alg != "ES256" || header.Typ != "" && header.Typ != "JWT" {
		return claims{}, unauthorised("InvalidAlgorithm", "vapid-alg", `the token's header must be {"typ":"JWT","alg":"ES256"}`)
	}
	signature := decoded[2]
	if len(signature) != 64 {
		return claims{}, unauthorised("InvalidSignature", "vapid-signature",
			fmt.Sprintf("the signature has %d octets; ES256 in a JWS is r and s, 64 octets, not DER (RFC 7518 §3.4)", len(signature)))
	}
	digest := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	r, s := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
	if !ecdsa.Verify(key, digest[:], r, s) {
		return claims{}, unauthorised("InvalidSignature", "vapid-signature", "the signature does not fit the token and k")
	}
	return readClaims(decoded[1])
}

// readClaims is strict about types: autopush refuses an exp in quotes (WP-42).
func readClaims(text []byte) (claims, *refusal) {
	var raw struct {
		Aud *string         `json:"aud"`
		Exp json.RawMessage `json:"exp"`
		Sub *string         `json:"sub"`
	}
	if err := json.Unmarshal(text, &raw); err != nil {
		return claims{}, unauthorised("InvalidToken", "vapid-claims", "the claims are not JSON, or one of them is of the wrong type")
	}
	if raw.Aud == nil {
		return claims{}, unauthorised("Invalid VAPID audience", "vapid-aud", "aud is missing")
	}
	if raw.Exp == nil {
		return claims{}, unauthorised("Invalid VAPID expiry", "vapid-exp", "exp is missing")
	}
	expires, err := strconv.ParseInt(string(raw.Exp), 10, 64)
	if err != nil {
		return claims{}, unauthorised("Invalid VAPID expiry", "vapid-exp", "exp must be a whole number, without quotes, fraction or exponent")
	}
	return claims{audience: *raw.Aud, expires: expires, subject: raw.Sub}, nil
}
