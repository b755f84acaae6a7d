package belfry

import (
	"crypto/ecdh"
	"fmt"
	"io"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// A PublicKey is a browser's P-256 key (p256dh), 65 octets uncompressed
// (RFC 8291 §3.1). It helps to recognise a person, so it is kept out of logs.
type PublicKey [65]byte

// ParsePublicKey reads base64url or base64, padded or not, and checks that the
// point is on the curve, uncompressed and not infinity (RFC 8291 §7).
func ParsePublicKey(s string) (PublicKey, error) {
	b, ok := decodeKey(s)
	if !ok || len(b) != len(PublicKey{}) || b[0] != 4 {
		return PublicKey{}, Invalid("p256dh", "p256dh", "must be an uncompressed P-256 point, 65 octets of base64url (RFC 8291 §3.1)")
	}
	if _, err := ecdh.P256().NewPublicKey(b); err != nil {
		return PublicKey{}, Invalid("p256dh", "p256dh", "is not a point on P-256")
	}
	return PublicKey(b), nil
}

// Reveal returns the key in base64url, for an export that was asked for.
func (k PublicKey) Reveal() string             { return b64.EncodeToString(k[:]) }
func (PublicKey) String() string               { return hidden }
func (PublicKey) Format(w fmt.State, _ rune)   { io.WriteString(w, hidden) }
func (PublicKey) LogValue() slog.Value         { return slog.StringValue(hidden) }
func (PublicKey) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// A Position is a place in the order in which a store keeps its rows. Only the
// store that gave it out knows what it means; everybody else passes it back.
type Position uint64

// A Subscription is one browser's PushSubscription and what we know of it.
type Subscription struct {
	Seq      Position   // its place in order of creation; 0 until it is stored
	ID       string     // public id, a ULID in lower case; survives a new endpoint
	Endpoint Endpoint   // where to post
	P256dh   PublicKey  // whom to seal for
	Auth     AuthSecret // shared with the browser
	KeyID    string     // the VAPID key it was made with (RFC 8292 §4.2)
	Secret   SecretHash // of the device secret; zero for a row that no browser registered here

	Channels []string // sorted, each once
	User     string   // the site's own name for the person; may be empty
	Locale   string   // BCP 47; may be empty
	TimeZone string   // IANA; may be empty
	Origin   string   // the site that registered it; empty means the server's own

	Expires  time.Time // the browser's expirationTime; zero means none
	Created  time.Time
	Seen     time.Time // when its browser was last heard of
	Imported bool      // came from a file, not from a browser

	Memory Memory // what push services have let us know of it
}

// Host is the push service's host, safe to log.
func (s Subscription) Host() string { return s.Endpoint.Host() }

// A subscription prints as its id and endpoint. It does so itself, because fmt
// asks nobody's leave where a verb does not fit a pointer: it would print what
// Endpoint and keys are made of.
func (s Subscription) String() string             { return "subscription " + s.ID + " " + s.Endpoint.String() }
func (s Subscription) Format(w fmt.State, _ rune) { io.WriteString(w, s.String()) }
func (s Subscription) LogValue() slog.Value       { return slog.StringValue(s.String()) }

// A PushSubscription is what PushSubscription.toJSON() gives in a browser.
type PushSubscription struct {
	Endpoint       string   `json:"endpoint"`
	ExpirationTime *float64 `json:"expirationTime"` // milliseconds since 1970, or null
	Keys           struct {
		P256dh string `json:"p256dh"`
		Auth   string `json:"auth"`
	} `json:"keys"`
}

// What a browser sent prints as nothing of it: it is the secrets in plain text.
func (PushSubscription) Format(w fmt.State, _ rune) { io.WriteString(w, hidden) }
func (PushSubscription) LogValue() slog.Value       { return slog.StringValue(hidden) }

// Check turns what a browser sent into a Subscription that may be stored: the
// endpoint is at a push service in hosts, the keys can encrypt.
func (p PushSubscription) Check(hosts PushHosts) (Subscription, error) {
	var s Subscription
	var err error
	if s.Endpoint, err = hosts.Endpoint(p.Endpoint); err != nil {
		return Subscription{}, err
	}
	if s.P256dh, err = ParsePublicKey(p.Keys.P256dh); err != nil {
		return Subscription{}, At("keys", err)
	}
	if s.Auth, err = ParseAuthSecret(p.Keys.Auth); err != nil {
		return Subscription{}, At("keys", err)
	}
	if p.ExpirationTime != nil {
		// 253402300799999 is the last millisecond of the year 9999; more would not be a date.
		if ms := *p.ExpirationTime; ms < 0 || ms > 253402300799999 {
			return Subscription{}, Invalid("expiration-time", "expirationTime", "must be milliseconds since 1970 or null")
		}
		s.Expires = time.UnixMilli(int64(*p.ExpirationTime)).UTC()
	}
	return s, nil
}

// PrivatePrefix begins the names of channels that need a proof of who the user is.
const PrivatePrefix = "private-"

// MaxChannels is how many channels one subscription or one audience may name.
const MaxChannels = 100

var channelName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)

// CheckChannels returns names sorted and each once, or says which one is wrong.
// Who may hear a private one is not its question.
func CheckChannels(names []string) ([]string, error) {
	if len(names) > MaxChannels {
		return nil, Invalid("channels", "channels", fmt.Sprintf("at most %d channels, not %d", MaxChannels, len(names)))
	}
	for _, name := range names {
		if !channelName.MatchString(name) {
			return nil, &Error{Kind: ErrInvalid, Code: "channel", Where: "channels",
				Text: fmt.Sprintf("%s is not a channel name", quote(name)),
				Hint: "a channel is 1 to 64 of a-z, 0-9, dot, underscore and hyphen, beginning with a letter or digit"}
		}
	}
	names = slices.Clone(names)
	slices.Sort(names)
	return slices.Compact(names), nil
}

var (
	languageTag = regexp.MustCompile(`^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,8}$`)
	zoneName    = regexp.MustCompile(`^[A-Za-z0-9_+-]{1,32}(/[A-Za-z0-9_+-]{1,32}){0,3}$`)
)

// CheckLocale reports whether s has the form of a BCP 47 tag, or is empty.
func CheckLocale(s string) error {
	if s != "" && !languageTag.MatchString(s) {
		return Invalid("locale", "locale", fmt.Sprintf("%s is not a language tag such as en or pt-BR", quote(s)))
	}
	return nil
}

// CheckTimeZone reports whether s has the form of an IANA zone, or is empty.
func CheckTimeZone(s string) error {
	if s != "" && !zoneName.MatchString(s) {
		return Invalid("time-zone", "timeZone", fmt.Sprintf("%s is not a time zone such as Europe/Vienna", quote(s)))
	}
	return nil
}

// CheckUser reports whether s can name a user: at most 128 octets of printable UTF-8, or empty.
func CheckUser(s string) error {
	if len(s) > 128 || !printable(s) {
		return Invalid("user", "user", "must be at most 128 octets of printable text")
	}
	return nil
}

// printable reports whether s is UTF-8 without control characters, so that it
// can stand in a log, a header or a terminal (SEC-48).
func printable(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return r < ' ' || 0x7f <= r && r < 0xa0 }) < 0
}

// quote shows hostile text in an error: escaped, and cut where it is long.
func quote(s string) string {
	if len(s) > 80 {
		s = s[:80] + "…"
	}
	return fmt.Sprintf("%+q", s)
}
