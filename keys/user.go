package keys

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/belfry-push/belfry"
)

// The file user.key holds the secret that a site's backend signs user tokens
// with: userPrefix and 32 random octets in base64url. The text itself is the key
// of the HMAC, since that is how libraries take a string.

const (
	userPrefix = "belfry_user_" // so that a scanner for leaked secrets can know it
	userOctets = 32             // what HS256 asks for (RFC 7518 §3.2)

	// maxUserToken bounds a token, in octets: it travels in a header, and proxies
	// take 8 KiB of those.
	maxUserToken = 4 << 10
	// maxUserLife is how far ahead a token may expire, so that rights are looked at
	// again (SEC-11, SEC-47).
	maxUserLife = 10 * time.Minute
	// userSkew is how far ahead of ours the clock may be that set nbf.
	userSkew = time.Minute
)

// A UserKey checks who a user is, as their site says it. The secret is behind a
// pointer, so that no way of printing a UserKey reaches it (SEC-22).
type UserKey struct{ secret *string }

// OpenUserKey reads the secret at path. A missing one is made, and said to be:
// it can be replaced, the site's backend only has to learn the new one.
func OpenUserKey(path string) (k *UserKey, made bool, err error) {
	path, text, made, err := openText(path, newUserKey)
	if err != nil {
		return nil, false, err
	}
	random, prefixed := strings.CutPrefix(text, userPrefix)
	secret, err := base64.RawURLEncoding.Strict().DecodeString(random)
	if err != nil || !prefixed || len(secret) != userOctets {
		return nil, false, unusable(path, "does not hold "+userPrefix+" and 32 octets of base64url", "restore it from a backup, or remove it: a new secret is made then, which your site must sign user tokens with")
	}
	return &UserKey{&text}, made, nil
}

func newUserKey() string {
	secret := make([]byte, userOctets)
	rand.Read(secret)
	return userPrefix + base64.RawURLEncoding.EncodeToString(secret)
}

// Reveal returns the secret as the site's backend takes it.
func (k *UserKey) Reveal() string { return *k.secret }

// A User is who somebody has proved to be.
type User struct {
	ID       string
	Channels []string  // the private ones that the proof opens
	Expires  time.Time // when the proof does
}

// Opens reports whether u may hear a channel. Nobody, which is nil, may hear
// those that are not private.
func (u *User) Opens(channel string) bool {
	return !strings.HasPrefix(channel, belfry.PrivatePrefix) || u != nil && slices.Contains(u.Channels, channel)
}

// userClaims is what a token says. Members that it does not know are passed over
// (RFC 7519 §4).
type userClaims struct {
	jwt.RegisteredClaims
	Channels []string `json:"channels"`
}

// Check reads a user token: a JSON Web Token (RFC 7519) that the site signed with
// this key by HS256, and by nothing else, for one of audience, the addresses of
// this server. What it says is looked at once its signature fits.
func (k *UserKey) Check(token string, audience []string, now time.Time) (User, error) {
	if len(token) > maxUserToken {
		return User{}, refuseUser(fmt.Sprintf("is over %d octets", maxUserToken), "name fewer channels in it")
	}
	if strings.ContainsAny(token, "\r\n") {
		return User{}, refuseUser("is not a JSON Web Token", "") // Go's base64 would skip them
	}
	var c userClaims
	parser := jwt.NewParser(jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}), jwt.WithStrictDecoding(), jwt.WithoutClaimsValidation())
	parsed, err := parser.ParseWithClaims(token, &c, func(*jwt.Token) (any, error) { return []byte(*k.secret), nil })
	switch {
	case errors.Is(err, jwt.ErrTokenMalformed):
		return User{}, refuseUser("is not a JSON Web Token", "")
	case err != nil:
		return User{}, refuseUser("is not signed with this server's key by HS256", "sign it with the text that `belfry keys user` prints")
	case parsed.Header["crit"] != nil: // extensions that must be understood (RFC 7515 §4.1.11)
		return User{}, refuseUser("asks for an extension that this server does not know", "sign it without crit")
	}
	return c.user(audience, now)
}

// user is who the claims are about, if they hold here and now.
func (c *userClaims) user(audience []string, now time.Time) (User, error) {
	if len(audience) == 0 {
		return User{}, refuseUser("cannot be for this server, which does not know its address", "start the server with --public-url")
	}
	if !slices.ContainsFunc(audience, func(a string) bool { return slices.Contains(c.Audience, a) }) {
		return User{}, refuseUser("is not for this server", "its aud must be "+strings.Join(audience, " or "))
	}
	switch expires := c.ExpiresAt; {
	case expires == nil:
		return User{}, refuseUser("has no exp", "let it expire within 10 minutes")
	case !now.Before(expires.Time):
		return User{}, refuseUser("has expired", "ask the site for a new one")
	case expires.Sub(now) > maxUserLife:
		return User{}, refuseUser("expires more than 10 minutes ahead", "5 minutes leave room for clocks that differ")
	case c.NotBefore != nil && c.NotBefore.Sub(now) > userSkew:
		return User{}, refuseUser("is not valid yet", "compare the clocks of site and server")
	}
	if c.Subject == "" {
		return User{}, refuseUser("has no sub", "name the user in it")
	}
	if belfry.CheckUser(c.Subject) != nil {
		return User{}, refuseUser("has a sub that is not a user name", "a user is at most 128 octets of printable text")
	}
	channels, err := belfry.CheckChannels(c.Channels)
	if err != nil {
		return User{}, refuseUser("opens what cannot be opened: "+err.Error(), "")
	}
	return User{c.Subject, channels, c.ExpiresAt.Time}, nil
}

// refuseUser never quotes the token.
func refuseUser(text, hint string) error {
	return &belfry.Error{Kind: belfry.ErrDenied, Code: "user-token", Text: "the user token " + text, Hint: hint}
}
