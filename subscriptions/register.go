package subscriptions

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/internal/id"
	"go.etcd.io/bbolt"
)

// A Registration is what a browser that registered is told.
type Registration struct {
	Subscription belfry.Subscription
	Secret       belfry.DeviceSecret // drawn for a new row, else the one it was proved with
	Created      bool
}

// Register stores what a browser sent. A new endpoint makes a row with an id
// and a secret of its own.
//
// A known endpoint is brought up to date if its secret comes with it: keys and
// expiry are replaced, and so is all else that is set in sub (channels that are
// nil are not set; an empty list leaves all channels). Without the secret it is
// a conflict, since endpoints leak and knowing one proves nothing (SEC-13).
func (s *Store) Register(ctx context.Context, sub belfry.Subscription, secret *belfry.DeviceSecret) (Registration, error) {
	sub, err := checked(sub)
	if err != nil {
		return Registration{}, err
	}
	now, newID, newSecret := s.time(), id.New(), belfry.NewDeviceSecret()
	var done Registration
	err = s.write(ctx, func(t tables) error {
		done = Registration{}
		old, err := t.byHash(sub.Endpoint)
		if errors.Is(err, belfry.ErrNotFound) {
			done = Registration{Subscription: sub, Secret: newSecret, Created: true}
			row := &done.Subscription
			row.ID, row.Secret, row.Imported = newID, newSecret.Hash(), false
			row.Created, row.Seen = now, now
			return s.admit(t, row)
		}
		// Nobody can prove that a damaged row is theirs; a conflict makes the
		// browser subscribe anew, which heals it.
		if err != nil || secret == nil || !old.Secret.Fits(*secret) {
			return taken()
		}
		row := refreshed(old, sub)
		row.Seen = now
		if err := cmp.Or(t.checkDevices(&old, &row), inVain(old, row)); err != nil {
			return err
		}
		done = Registration{Subscription: row, Secret: *secret}
		return t.save(&old, &row)
	})
	if err != nil {
		return Registration{}, wrap("register", err)
	}
	if done.Created {
		s.catchUp()
	}
	return done, nil
}

// admit saves a new row if there is room for it.
func (s *Store) admit(t tables, row *belfry.Subscription) error {
	if t.tally(tallyBrowser) >= s.maxRows {
		return &belfry.Error{Kind: belfry.ErrFull, Code: "full",
			Text: fmt.Sprintf("this server keeps at most %d subscriptions", s.maxRows)}
	}
	if err := t.checkDevices(nil, row); err != nil {
		return err
	}
	if err := s.room(t); err != nil {
		return err
	}
	return t.add(row)
}

// room asks for room once a transaction, which a thousand may share.
func (s *Store) room(t tables) error {
	if tx := t.rows.Tx(); tx != s.asked.tx {
		s.asked.tx, s.asked.full = tx, t.room()
	}
	return s.asked.full
}

// checkDevices refuses a browser that would be one too many for its user.
func (t tables) checkDevices(old, now *belfry.Subscription) error {
	if now.User == "" || now.Imported || old != nil && old.User == now.User {
		return nil
	}
	if t.tally(tallyDevices+now.User) >= maxDevices {
		return &belfry.Error{Kind: belfry.ErrFull, Code: "too-many-devices", Where: "user",
			Text: fmt.Sprintf("this user has %d devices already", maxDevices),
			Hint: "unregister one that is no longer used"}
	}
	return nil
}

// refreshed is old with what is set in with.
func refreshed(old, with belfry.Subscription) belfry.Subscription {
	row := old
	row.P256dh, row.Auth, row.Expires = with.P256dh, with.Auth, with.Expires
	if with.User != "" {
		row.Channels = inherited(old, with.User)
	}
	if with.Channels != nil {
		row.Channels = with.Channels
	}
	for _, text := range []struct {
		at  *string
		new string
	}{{&row.KeyID, with.KeyID}, {&row.User, with.User}, {&row.Locale, with.Locale}, {&row.TimeZone, with.TimeZone}, {&row.Origin, with.Origin}} {
		if text.new != "" {
			*text.at = text.new
		}
	}
	return row
}

// inherited is the channels that a browser keeps when somebody else uses it: none
// that were opened for the one before.
func inherited(old belfry.Subscription, user string) []string {
	if old.User == "" || old.User == user {
		return old.Channels
	}
	return slices.DeleteFunc(slices.Clone(old.Channels), func(name string) bool { return strings.HasPrefix(name, belfry.PrivatePrefix) })
}

// checked returns sub in the form in which it is kept. It stands guard over
// what the buckets rely on, whoever calls.
func checked(sub belfry.Subscription) (belfry.Subscription, error) {
	if sub.Endpoint.Reveal() == "" {
		return sub, belfry.Invalid("length", "endpoint", "is missing")
	}
	if err := belfry.CheckUser(sub.User); err != nil {
		return sub, err
	}
	var err error
	if sub.Channels, err = belfry.CheckChannels(sub.Channels); err != nil {
		return sub, err
	}
	for _, t := range []*time.Time{&sub.Expires, &sub.Created, &sub.Seen} {
		*t = t.UTC().Truncate(time.Millisecond)
	}
	return sub, nil
}

// Authorize reports whether secret is that of the device. An unknown id and a
// wrong secret are one and the same error, so that an answer does not tell
// which ids exist (SEC-12, SEC-14).
func (s *Store) Authorize(ctx context.Context, id string, secret belfry.DeviceSecret) error {
	_, err := s.Identify(ctx, id, secret)
	return err
}

// Identify is Authorize for who needs the device's row as well.
func (s *Store) Identify(ctx context.Context, id string, secret belfry.DeviceSecret) (row belfry.Subscription, err error) {
	err = s.read(ctx, func(t tables) (err error) {
		row, err = t.find(t.byID, []byte(id))
		return err
	})
	fits := row.Secret.Fits(secret) // for an unknown id too: the zero hash fits nothing, and takes as long
	switch {
	case err == nil && fits:
		return row, nil
	case err == nil, errors.Is(err, belfry.ErrNotFound), errors.Is(err, belfry.ErrCorrupt):
		return belfry.Subscription{}, &belfry.Error{Kind: belfry.ErrDenied, Code: "unauthorised", Text: "the device is unknown or its secret is wrong"}
	}
	return belfry.Subscription{}, wrap("authorize", err)
}

// Get returns the row with this id.
func (s *Store) Get(ctx context.Context, id string) (belfry.Subscription, error) {
	var row belfry.Subscription
	err := s.read(ctx, func(t tables) (err error) {
		row, err = t.find(t.byID, []byte(id))
		return notFound(err)
	})
	return row, wrap("get", err)
}

// ByEndpoint returns the row with this endpoint.
func (s *Store) ByEndpoint(ctx context.Context, e belfry.Endpoint) (belfry.Subscription, error) {
	var row belfry.Subscription
	err := s.read(ctx, func(t tables) (err error) {
		row, err = t.byHash(e)
		return notFound(err)
	})
	return row, wrap("by endpoint", err)
}

// A Change is what Update does to a row. What is nil stays as it is, but for
// private channels where the user changes.
type Change struct {
	Subscription *belfry.Subscription // endpoint, keys and expiry as PushSubscription.Check gives them; the rest of it is not looked at
	KeyID        *string
	Channels     *[]string
	Locale       *string
	TimeZone     *string
	User         *string
	Seen         *time.Time
}

// Update changes a row and returns it as it is then. Its id, its place in the
// order and its secret stay, also with a new endpoint; an endpoint that is
// another row's is a conflict (SEC-13).
func (s *Store) Update(ctx context.Context, id string, c Change) (belfry.Subscription, error) {
	var row belfry.Subscription
	err := s.write(ctx, func(t tables) error {
		old, err := t.find(t.byID, []byte(id))
		if err != nil {
			return notFound(err)
		}
		if row, err = checked(c.apply(old)); err != nil {
			return err
		}
		if row.Endpoint != old.Endpoint {
			if _, err := t.byHash(row.Endpoint); !errors.Is(err, belfry.ErrNotFound) {
				return taken()
			}
		}
		if err := t.checkDevices(&old, &row); err != nil {
			return err
		}
		if c.Subscription != nil {
			if err := inVain(old, row); err != nil {
				return err
			}
		}
		return t.save(&old, &row)
	})
	if err != nil {
		return belfry.Subscription{}, wrap("update", err)
	}
	return row, nil
}

func (c Change) apply(row belfry.Subscription) belfry.Subscription {
	if p := c.Subscription; p != nil {
		row.Endpoint, row.P256dh, row.Auth, row.Expires = p.Endpoint, p.P256dh, p.Auth, p.Expires
	}
	if c.User != nil {
		row.Channels = inherited(row, *c.User)
	}
	set(&row.KeyID, c.KeyID)
	set(&row.Channels, c.Channels)
	set(&row.Locale, c.Locale)
	set(&row.TimeZone, c.TimeZone)
	set(&row.User, c.User)
	set(&row.Seen, c.Seen)
	return row
}

func set[T any](at, to *T) {
	if to != nil {
		*at = *to
	}
}

// Remove forgets the row with this id. Whoever leaves gets what is held back on
// a full disk (REL-09).
func (s *Store) Remove(ctx context.Context, id string) error {
	err := s.remove(ctx, id)
	if !errors.Is(err, belfry.ErrFull) {
		return wrap("remove", err)
	}
	s.leaving.Lock() // or all who share a transaction would give up a piece each, for one
	defer s.leaving.Unlock()
	for {
		err := s.remove(ctx, id)
		if !errors.Is(err, belfry.ErrFull) || !s.db.MakeRoom() {
			return wrap("remove", err)
		}
	}
}

func (s *Store) remove(ctx context.Context, id string) error {
	return s.write(ctx, func(t tables) error {
		row, err := t.find(t.byID, []byte(id))
		if err != nil {
			return notFound(err)
		}
		return t.save(&row, nil)
	})
}

// Forget removes rows whose endpoints a push service calls gone, in the
// transaction of another, and says how many it found. One that is not there any
// more is no error, since a visitor may have left meanwhile; one that has a new
// endpoint stays, since nobody said that this is gone.
func (s *Store) Forget(tx *bbolt.Tx, gone []belfry.Subscription) (removed int, err error) {
	t := openTables(tx)
	for _, g := range gone {
		row, err := t.find(t.byID, []byte(g.ID))
		switch {
		case err == nil && row.Endpoint != g.Endpoint:
			continue
		case errors.Is(err, belfry.ErrNotFound):
			continue
		case errors.Is(err, belfry.ErrCorrupt):
			continue // what is derived from it is not known; a rebuild clears it away
		case err != nil:
			return removed, wrap("forget", err)
		}
		if err := t.save(&row, nil); err != nil {
			return removed, wrap("forget", err)
		}
		removed++
	}
	return removed, nil
}

// Remember writes what push services have let us know of rows, in the transaction
// of another. One that is not as it was then any more is left alone: it was said
// of another endpoint or key.
func (s *Store) Remember(tx *bbolt.Tx, learnt []belfry.Subscription) error {
	t := openTables(tx)
	for _, l := range learnt {
		old, err := t.find(t.byID, []byte(l.ID))
		if errors.Is(err, belfry.ErrNotFound) || errors.Is(err, belfry.ErrCorrupt) || err == nil && !samePlace(old, l) {
			continue
		}
		if err != nil {
			return wrap("remember", err)
		}
		row := old
		row.Memory = l.Memory
		if err := t.save(&old, &row); err != nil {
			return wrap("remember", err)
		}
	}
	return nil
}

// samePlace reports whether what was learnt of a holds for b: it belongs to the
// browser's subscription, and to the key that we sign with.
func samePlace(a, b belfry.Subscription) bool {
	return a.Endpoint == b.Endpoint && a.P256dh == b.P256dh && a.Auth == b.Auth && a.KeyID == b.KeyID
}

// inVain refuses a browser that comes with the subscription that its push service
// says was made with another key: told so, the kit subscribes anew (WP-64).
func inVain(old, now belfry.Subscription) error {
	if !old.Memory.WrongKey || !samePlace(old, now) {
		return nil
	}
	return &belfry.Error{Kind: belfry.ErrConflict, Code: "wrong-key", Where: "subscription",
		Text: "was made with another key, its push service says, and cannot be rung",
		Hint: "unsubscribe in the browser and subscribe anew"}
}

func taken() error {
	return &belfry.Error{Kind: belfry.ErrConflict, Code: "known-endpoint", Where: "subscription.endpoint",
		Text: "is registered already, and the secret of its device did not come with it",
		Hint: "unsubscribe in the browser and subscribe anew"}
}

// notFound gives the bare kind a sentence.
func notFound(err error) error {
	if errors.Is(err, belfry.ErrNotFound) {
		return &belfry.Error{Kind: belfry.ErrNotFound, Code: "not-found", Text: "no such subscription"}
	}
	return err
}

// wrap says where an error comes from, except one that is written for people.
func wrap(what string, err error) error {
	var own *belfry.Error
	if err == nil || errors.As(err, &own) {
		return err
	}
	return fmt.Errorf("subscriptions: %s: %w", what, err)
}
