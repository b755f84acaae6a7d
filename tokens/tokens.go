// Package tokens keeps the bearer tokens by which operators who are not on the
// machine may ring, and says what each of them may do.
//
// A token is shown once, when it is made; what is kept is its SHA-256, which
// needs no slow hash since the token is 256 random bits (SEC-15). What a role
// may call is web's to decide.
package tokens

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"go.etcd.io/bbolt"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/internal/boltfile"
	"github.com/belfry-push/belfry/internal/id"
)

// A Role is what a token is for.
type Role string

const (
	Publisher Role = "publisher" // launch and watch, for its channels
	Admin     Role = "admin"     // everything but private keys
)

// Info is what may be known of a token.
type Info struct {
	ID       string     `json:"id"`
	Name     string     `json:"name"`
	Role     Role       `json:"role"`
	Channels []string   `json:"channels"` // with Publisher: where it may ring
	Prefix   string     `json:"prefix"`   // how the token begins, so that one found somewhere can be recognised
	Created  time.Time  `json:"created"`
	Expires  *time.Time `json:"expires"` // nil means never
	Used     *time.Time `json:"used"`    // to within usedStep; nil means never
}

// A Token is a bearer token. It prints as its prefix.
type Token struct{ text string }

// Parse takes what stood behind "Bearer". Whether it is a token of ours is for
// [Store.Check] to say.
func Parse(text string) Token { return Token{text} }

// scheme begins every token, so that a scanner for leaked secrets can know ours.
const scheme = "belfry_"

func newToken() Token {
	var random [32]byte
	rand.Read(random[:])
	return Token{scheme + base64.RawURLEncoding.EncodeToString(random[:])}
}

// Reveal returns the token, for the one time that it is shown.
func (t Token) Reveal() string { return t.text }

// Prefix is the scheme and the first five characters: enough to tell tokens
// apart, and 226 bits short of one.
func (t Token) Prefix() string {
	if len(t.text) != len(scheme)+43 {
		return "[not a token]"
	}
	return t.text[:len(scheme)+5]
}
func (t Token) String() string               { return t.Prefix() + "…" }
func (t Token) Format(w fmt.State, _ rune)   { io.WriteString(w, t.String()) }
func (t Token) LogValue() slog.Value         { return slog.StringValue(t.String()) }
func (t Token) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// hash is the token's name in the store. Looking it up by hash takes the same
// time whatever a guess has in common with a token (SEC-28).
func (t Token) hash() []byte {
	sum := sha256.Sum256([]byte(t.text))
	return sum[:]
}

// Bucket of this package, in the house's one bbolt file. Schema 1.
//
//	tokens
//	    key    SHA-256 of the token
//	    value  version, CRC-32C, JSON of Info
var bucket = []byte("tokens")

// usedStep is how old the time of last use may grow before it is written again:
// one fsync a minute, not one a request.
const usedStep = time.Minute

// A Store keeps tokens.
type Store struct {
	db  *boltfile.File
	log *slog.Logger
}

// New makes the store's bucket in db where it is missing. log hears of records
// that are damaged.
func New(db *boltfile.File, log *slog.Logger) (*Store, error) {
	return &Store{db, log}, wrap("open", boltfile.MakeBuckets(db, bucket))
}

// maxName bounds a token's name, in octets.
const maxName = 100

// Make makes a token. Name, role, channels and lifetime are the caller's; a
// lifetime of 0 means that it never expires.
func (s *Store) Make(_ context.Context, name string, role Role, channels []string, lifetime time.Duration) (Info, Token, error) {
	channels, err := checked(name, role, channels, lifetime)
	if err != nil {
		return Info{}, Token{}, err
	}
	token, now := newToken(), time.Now().UTC().Truncate(time.Millisecond)
	info := Info{ID: id.New(), Name: name, Role: role, Channels: append([]string{}, channels...), Prefix: token.Prefix(), Created: now}
	if lifetime > 0 {
		expires := now.Add(lifetime)
		info.Expires = &expires
	}
	err = s.db.Update(func(tx *bbolt.Tx) error { return put(tx, token.hash(), info) })
	return info, token, wrap("make", err)
}

func checked(name string, role Role, channels []string, lifetime time.Duration) ([]string, error) {
	if strings.TrimSpace(name) == "" || len(name) > maxName || belfry.CheckUser(name) != nil {
		return nil, belfry.Invalid("name", "name", fmt.Sprintf("must be 1 to %d octets of printable text", maxName))
	}
	if lifetime < 0 {
		return nil, belfry.Invalid("expires", "expires", "must not lie in the past")
	}
	channels, err := belfry.CheckChannels(channels)
	if err != nil {
		return nil, err
	}
	switch {
	case role != Publisher && role != Admin:
		return nil, belfry.Invalid("role", "role", "must be publisher or admin")
	case role == Publisher && len(channels) == 0:
		return nil, &belfry.Error{Kind: belfry.ErrInvalid, Code: "channels", Where: "channels", Text: "a publisher needs at least one channel",
			Hint: "name the channels that it may ring"}
	case role == Admin && len(channels) > 0:
		return nil, belfry.Invalid("channels", "channels", "are for publishers; an admin may ring everybody")
	}
	return channels, nil
}

// Check returns what the token may do. One that is unknown, revoked or expired
// is belfry.ErrDenied, without saying which.
func (s *Store) Check(_ context.Context, t Token) (Info, error) {
	var info Info
	err := boltfile.View(s.db, func(tx *bbolt.Tx) (err error) {
		info, err = get(tx, t.hash())
		return err
	})
	now := time.Now().UTC().Truncate(time.Millisecond)
	if errors.Is(err, belfry.ErrNotFound) || err == nil && info.Expires != nil && !now.Before(*info.Expires) {
		return Info{}, &belfry.Error{Kind: belfry.ErrDenied, Code: "unauthorised", Text: "the token is not known here, or not any more",
			Hint: "make one on the server with `belfry tokens new`"}
	}
	if err == nil && (info.Used == nil || now.Sub(*info.Used) >= usedStep) {
		// Whether that can be written down decides nothing: on a full disk an
		// operator must still get in to make room.
		s.touch(t, now)
	}
	return info, wrap("check", err)
}

// touch writes down that the token was used, unless it was revoked meanwhile.
func (s *Store) touch(t Token, now time.Time) error {
	return s.db.Batch(func(tx *bbolt.Tx) error {
		info, err := get(tx, t.hash())
		if err != nil {
			return ignoreMissing(err)
		}
		info.Used = &now
		return put(tx, t.hash(), info)
	})
}

// List returns all tokens, the oldest first. One that is damaged, and lets nobody
// in, is passed over: it must not hide the others.
func (s *Store) List(context.Context) (list []Info, err error) {
	err = boltfile.View(s.db, func(tx *bbolt.Tx) error {
		return tx.Bucket(bucket).ForEach(func(hash, _ []byte) error {
			info, err := get(tx, hash)
			if errors.Is(err, belfry.ErrCorrupt) {
				s.log.Warn("token is damaged and passed over", "hash", fmt.Sprintf("%x", hash[:4]))
				return nil
			}
			list = append(list, info)
			return err
		})
	})
	slices.SortFunc(list, func(a, b Info) int { return strings.Compare(a.ID, b.ID) })
	return list, wrap("list", err)
}

// Revoke ends a token: the next call that carries it is refused.
func (s *Store) Revoke(_ context.Context, id string) error {
	return wrap("revoke", s.db.Update(func(tx *bbolt.Tx) error {
		c := tx.Bucket(bucket).Cursor()
		for hash, _ := c.First(); hash != nil; hash, _ = c.Next() {
			info, err := get(tx, hash)
			if err != nil && !errors.Is(err, belfry.ErrCorrupt) {
				return err
			}
			if err == nil && info.ID == id {
				return c.Delete()
			}
		}
		return notFound()
	}))
}

func put(tx *bbolt.Tx, hash []byte, info Info) error {
	record, err := boltfile.Seal(info)
	if err != nil {
		return err
	}
	return tx.Bucket(bucket).Put(hash, record)
}

func get(tx *bbolt.Tx, hash []byte) (info Info, err error) {
	record := tx.Bucket(bucket).Get(hash)
	if record == nil {
		return info, notFound()
	}
	return info, boltfile.Unseal(record, &info)
}

func notFound() error {
	return &belfry.Error{Kind: belfry.ErrNotFound, Code: "not-found", Text: "no such token"}
}

func ignoreMissing(err error) error {
	if errors.Is(err, belfry.ErrNotFound) {
		return nil
	}
	return err
}

// wrap names the room; what has words for people keeps them.
func wrap(doing string, err error) error {
	var told *belfry.Error
	if err = boltfile.Explain(err); err == nil || errors.As(err, &told) {
		return err
	}
	return fmt.Errorf("tokens: %s: %w", doing, err)
}
