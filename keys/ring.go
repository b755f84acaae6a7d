// Package keys is the VAPID key ring: it makes, keeps, imports and rotates the
// key pairs that say who rings (RFC 8292), and signs the tokens that push
// services ask for. Beside it are the secrets that callbacks and user tokens are
// signed with.
//
// The keys live in one file of their own, never in the database, so that a copy
// of the database rings nobody (SEC-21). A key that left the ring would take
// every subscription made with it along, so none ever does: a new key retires
// the current one, and both go on signing (WP-49, WP-50). When it is safe to
// make a first key, and which key a subscription was made with, is for others
// to know.
package keys

import (
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/belfry-push/belfry"
)

// Info is what everybody may know of a key.
type Info struct {
	ID        string    `json:"id"`        // the first 8 octets of the key's SHA-256, in hexadecimal
	PublicKey string    `json:"publicKey"` // what a browser needs to subscribe (applicationServerKey)
	Current   bool      `json:"current"`   // new subscriptions are made with it
	Created   time.Time `json:"created"`   // when it came into this ring
}

// A Ring is the key ring in one file. Its methods may be called concurrently.
// A change is on disk before it is believed; one that fails leaves file and ring
// as they were.
//
// It expects to be the file's only writer, as the database's lock sees to, and
// refuses to write over a key that it has not read. The keys are behind a
// pointer, so that no way of printing a Ring reaches them (SEC-22).
type Ring struct {
	path   string
	change sync.Mutex             // held from reading the ring to swapping it
	set    atomic.Pointer[keySet] // never nil; a set is never written to
}

// A keySet is what is on the ring at one moment.
type keySet struct {
	current string // id
	keys    []key  // in the order in which they came
}

type key struct {
	id      string
	pair    Pair
	created time.Time
	retired time.Time // zero while it is current
}

// Open reads the ring at path. A missing file is an error that wraps
// fs.ErrNotExist: making a key in its place would cut off whoever subscribed
// with the lost one (WP-51), so that choice is the caller's.
func Open(path string) (*Ring, error) {
	// A change renames a new file over the old one; a link must not be
	// what it replaces.
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	set, err := read(path)
	if err != nil {
		return nil, err
	}
	return newRing(path, set), nil
}

// Create makes a ring with one new key at path, where no file may be.
func Create(path string) (*Ring, error) {
	pair, err := newPair()
	if err != nil {
		return nil, err
	}
	return CreateFrom(path, pair)
}

// CreateFrom makes a ring with p as its one key at path, where no file may be.
func CreateFrom(path string, p Pair) (*Ring, error) {
	set, _, err := (&keySet{}).with(p, true)
	if err != nil {
		return nil, err
	}
	if err := writeNew(path, set); err != nil {
		return nil, err
	}
	return newRing(path, set), nil
}

func newRing(path string, set *keySet) *Ring {
	r := &Ring{path: path}
	r.set.Store(set)
	return r
}

// Current is the key that new subscriptions are made with.
func (r *Ring) Current() Info {
	set := r.set.Load()
	k, _ := set.find("")
	return set.info(k)
}

// List is every key on the ring, in the order in which they came.
func (r *Ring) List() []Info {
	set := r.set.Load()
	all := make([]Info, 0, len(set.keys))
	for _, k := range set.keys {
		all = append(all, set.info(k))
	}
	return all
}

// Rotate makes a new key current. The one before goes on signing for the
// subscriptions that were made with it.
func (r *Ring) Rotate() (Info, error) {
	pair, err := newPair()
	if err != nil {
		return Info{}, err
	}
	return r.Import(pair, true)
}

// Import adds p to the ring, as the current key or as a retired one that signs
// for imported subscriptions. A key that is already there is not added twice; it
// becomes current when that is asked for, and is not retired when it is not.
func (r *Ring) Import(p Pair, current bool) (Info, error) {
	r.change.Lock()
	defer r.change.Unlock()
	set, changed, err := r.set.Load().with(p, current)
	if err != nil {
		return Info{}, err
	}
	if changed {
		if err := overwrite(r.path, set); err != nil {
			return Info{}, err
		}
		r.set.Store(set)
	}
	k, err := set.find(p.id())
	return set.info(k), err
}

// Export gives out the key pair named id, or the current one when id is empty.
func (r *Ring) Export(id string) (Pair, error) {
	k, err := r.set.Load().find(id)
	return k.pair, err
}

// find returns the key named id, or the current one when id is empty.
func (s *keySet) find(id string) (key, error) {
	if id == "" {
		id = s.current
	}
	for _, k := range s.keys {
		if k.id == id {
			return k, nil
		}
	}
	return key{}, &belfry.Error{Kind: belfry.ErrNotFound, Code: "unknown-key", Where: "key " + safe(id),
		Text: "is not on the key ring", Hint: "list the keys with 'belfry keys show'; bring one back with 'belfry keys import'"}
}

func (s *keySet) info(k key) Info {
	return Info{ID: k.id, PublicKey: k.pair.public, Current: k.id == s.current, Created: k.created}
}

// with returns a set that holds p too, and whether that is a change.
func (s *keySet) with(p Pair, current bool) (*keySet, bool, error) {
	if p.private == nil {
		return nil, false, refusePair("holds no private key")
	}
	now := time.Now().UTC().Truncate(time.Millisecond)
	id := p.id()
	next := &keySet{s.current, slices.Clone(s.keys)}
	known := slices.ContainsFunc(s.keys, func(k key) bool { return k.id == id })
	if known && (!current || id == s.current) {
		return s, false, nil
	}
	if !known {
		next.keys = append(next.keys, key{id: id, pair: p, created: now, retired: now})
	}
	if current {
		next.current = id
	}
	for i := range next.keys {
		k := &next.keys[i]
		switch {
		case k.id == next.current:
			k.retired = time.Time{}
		case k.id == s.current:
			k.retired = now
		}
	}
	return next, true, nil
}

// safe is id as it may stand in an error: a caller may have taken it from a
// request, and it may be anything.
func safe(id string) string {
	if len(id) > 24 {
		id = id[:24] + "…"
	}
	return fmt.Sprintf("%+q", id)
}
