package keys

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
	lru "github.com/hashicorp/golang-lru/v2"
)

const (
	// lifetime of a token, half of what RFC 8292 §2 allows, renewed at half of
	// that: so our clock may be up to 6 h behind or 12 h ahead (WP-43).
	lifetime = 12 * time.Hour
	renewal  = lifetime / 2
	// stepBack is how far the clock may be set back before a token counts as
	// signed in the future: a wrong clock's tokens must not outlive its mending.
	stepBack = time.Minute
	// maxTokens bounds the cache, about half a kilobyte each. Push services
	// number a dozen, but whoever subscribes may invent hosts under a wildcard.
	maxTokens = 1024
)

// A Signer makes the Authorization header that push services ask for
// (RFC 8292 §3) and signs one token per push service and key for hours of
// sending (WP-44). Its methods may be called concurrently. Keys and tokens are
// behind pointers, so that no way of printing a Signer reaches them (SEC-22).
type Signer struct {
	ring    *Ring
	subject string
	now     func() time.Time
	tokens  *lru.Cache[tokenFor, *token]
}

type tokenFor struct{ audience, keyID string }

type token struct {
	mu      sync.Mutex // held while signing, so that concurrent first uses sign once; guards the rest
	header  string
	expires time.Time
}

// NewSigner returns a signer with the keys of ring. subject is how a push
// service reaches us, as [CheckSubject] accepts it; an empty one is left out of
// the token, which Apple refuses. now defaults to time.Now.
func NewSigner(ring *Ring, subject string, now func() time.Time) *Signer {
	if now == nil {
		now = time.Now
	}
	tokens, err := lru.New[tokenFor, *token](maxTokens)
	if err != nil {
		panic(err) // only for a size below one
	}
	return &Signer{ring: ring, subject: subject, now: now, tokens: tokens}
}

// Authorization returns the header's value for a request to audience, the
// origin of a push service, signed with the key named keyID, or with the
// current one when keyID is empty. It is a secret until it expires (WP-54).
func (s *Signer) Authorization(audience, keyID string) (string, error) {
	k, err := s.ring.set.Load().find(keyID)
	if err != nil {
		return "", err
	}
	t := s.token(tokenFor{audience, k.id})
	t.mu.Lock()
	defer t.mu.Unlock()
	now := s.now()
	if left := t.expires.Sub(now); left > renewal && left <= lifetime+stepBack {
		return t.header, nil
	}
	expires := now.Add(lifetime).Truncate(time.Second)
	claims := jwt.MapClaims{"aud": audience, "exp": expires.Unix()}
	if s.subject != "" {
		claims["sub"] = s.subject
	}
	signed, err := jwt.NewWithClaims(jwt.SigningMethodES256, claims).SignedString(k.pair.private)
	if err != nil {
		return "", fmt.Errorf("keys: sign for %s: %w", audience, err)
	}
	t.header, t.expires = "vapid t="+signed+", k="+k.pair.public, expires
	return t.header, nil
}

// token returns the one place where the token for f is kept.
func (s *Signer) token(f tokenFor) *token {
	if t, ok := s.tokens.Get(f); ok {
		return t
	}
	f.audience = strings.Clone(f.audience) // it may be a part of an endpoint, which would stay for as long
	fresh := &token{}
	if t, ok, _ := s.tokens.PeekOrAdd(f, fresh); ok {
		return t
	}
	return fresh
}
