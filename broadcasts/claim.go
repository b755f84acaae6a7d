package broadcasts

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"go.etcd.io/bbolt"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/internal/boltfile"
)

// KeepClaims is how long a client that had no answer may ask again (REL-16).
const KeepClaims = 24 * time.Hour

const (
	// maxKey bounds an idempotency key, in octets. It is what others take.
	maxKey = 255

	// sweep is how many claims one launch removes that stand no longer: more than
	// it adds, so that they come to an end, and few enough that it does not wait.
	sweep = 16
)

// A Key is an idempotency key: whoever had no answer to a launch asks again with
// the same one. It is the SHA-256 of its caller and text, so that no caller
// meets the broadcasts of another by guessing.
type Key [sha256.Size]byte

// NewKey returns the key that caller writes as text, or says what is wrong with it.
func NewKey(caller, text string) (*Key, error) {
	ok := 0 < len(text) && len(text) <= maxKey
	for _, c := range []byte(text) {
		ok = ok && '!' <= c && c <= '~'
	}
	if !ok {
		return nil, belfry.Invalid("idempotency-key", "", fmt.Sprintf("must be 1 to %d visible characters of ASCII", maxKey))
	}
	k := Key(sha256.Sum256([]byte(caller + "\x00" + text)))
	return &k, nil
}

// A Claim says which broadcast is meant by a key: the one that was first
// launched with it, for KeepClaims.
type Claim struct {
	Key   Key
	Asked [sha256.Size]byte // SHA-256 of what was asked for
}

// claim is the one that r makes, or nil without a key.
func (r Request) claim() (*Claim, error) {
	if r.Key == nil {
		return nil, nil
	}
	// Without what is not set, or a version that knows more would take it for something else.
	asked, err := json.Marshal(r, json.OmitZeroStructFields(true))
	return &Claim{*r.Key, sha256.Sum256(asked)}, err
}

// A Claimed is a claim as a journal keeps it, with the broadcast that it made.
type Claimed struct {
	ID    string    `json:"id"`
	Asked []byte    `json:"asked"`
	At    time.Time `json:"at"`
}

// NewClaimed is what a journal keeps of a claim that makes b.
func NewClaimed(c Claim, b Broadcast) Claimed { return Claimed{b.ID, c.Asked[:], b.Created} }

// Stands reports whether the claim holds at a time. One from the future does:
// the clock was put back since.
func (c Claimed) Stands(now time.Time) bool { return now.Sub(c.At) < KeepClaims }

// Answers reports whether the broadcast is the one that by asks for, now. It is
// an error when the key was used for another.
func (c Claimed) Answers(by Claim, now time.Time) (bool, error) {
	switch {
	case !c.Stands(now):
		return false, nil
	case !bytes.Equal(c.Asked, by.Asked[:]):
		return false, &belfry.Error{Kind: belfry.ErrConflict, Code: "idempotency-key-reused", Where: "Idempotency-Key",
			Text: "was used for another broadcast, " + c.ID, Hint: "use a key for one broadcast only, such as a new UUID"}
	}
	return true, nil
}

// claimant returns the broadcast that c has made, if it has.
func claimant(tx *bbolt.Tx, c Claim, now time.Time) (b Broadcast, there bool, err error) {
	value := tx.Bucket(bucketClaims).Get(c.Key[:])
	if value == nil {
		return b, false, nil
	}
	var was Claimed
	if boltfile.Unseal(value, &was) != nil {
		return b, false, damaged("with this Idempotency-Key")
	}
	if there, err = was.Answers(c, now); there {
		b, err = read(tx, []byte(was.ID))
	}
	return b, there, err
}

// putClaim writes down that c has made b.
func putClaim(tx *bbolt.Tx, c Claim, b Broadcast) error {
	value, err := boltfile.Seal(NewClaimed(c, b))
	if err != nil {
		return err
	}
	return errors.Join(tx.Bucket(bucketClaims).Put(c.Key[:], value), tx.Bucket(bucketClaimed).Put([]byte(b.ID), c.Key[:]))
}

// sweepClaims removes some of the claims that stand no longer, the oldest first.
func sweepClaims(tx *bbolt.Tx, now time.Time) error {
	claims, order := tx.Bucket(bucketClaims), tx.Bucket(bucketClaimed).Cursor()
	for range sweep {
		id, key := order.First()
		if id == nil {
			return nil
		}
		var c Claimed
		current := boltfile.Unseal(claims.Get(key), &c) == nil && c.ID == string(id) // else the key was used again since
		if current && c.Stands(now) {
			return nil
		}
		if current {
			if err := claims.Delete(key); err != nil {
				return err
			}
		}
		if err := order.Delete(); err != nil {
			return err
		}
	}
	return nil
}
