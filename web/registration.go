package web

import (
	"cmp"
	"context"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/keys"
	"github.com/belfry-push/belfry/subscriptions"
)

// maxRegistration bounds a browser's body, in octets (SEC-41). An endpoint may
// take 2048 of them, channels 100 × 67.
const maxRegistration = 8 << 10

// config tells a page which key to subscribe with and which receipts to send. It
// must be the key that we sign with, so it is never cached (WP-55).
func (s *Server) config(c *gin.Context) error {
	c.Header("Cache-Control", "no-store")
	key := s.Keys.Current()
	c.JSON(http.StatusOK, gin.H{"vapidPublicKey": key.PublicKey, "keyId": key.ID, "receipts": append([]string{}, s.ReceiptKinds...)})
	return nil
}

// A registration is what a page may say of itself. A member that is nil was not given.
type registration struct {
	Subscription *pushSubscription `json:"subscription"`
	KeyID        *string           `json:"keyId"`
	Channels     *[]string         `json:"channels"`
	Locale       *string           `json:"locale"`
	TimeZone     *string           `json:"timeZone"`
	User         jsontext.Value    `json:"user"` // null, once nobody is signed in any more; who somebody is stands in a token
}

// A pushSubscription is one as browsers write it. They may add members of their
// own to it, now or in ten years; those are passed over.
type pushSubscription struct{ belfry.PushSubscription }

func (p *pushSubscription) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	return json.UnmarshalDecode(d, &p.PushSubscription, json.RejectUnknownMembers(false))
}

// registered is the answer. Secret is there once, for a row that is new.
type registered struct {
	ID       string   `json:"id"`
	Secret   string   `json:"secret,omitempty"`
	Channels []string `json:"channels"`
}

// registeredAs is the answer about row, without a secret. Pages rely on a list
// of channels, also when there are none.
func registeredAs(row belfry.Subscription) registered {
	return registered{ID: row.ID, Channels: append([]string{}, row.Channels...)}
}

// somebody is whom a registration is for: who its token names, or nil. What they may
// not hear they cannot register for either.
func (s *Server) somebody(c *gin.Context, r registration) (u *keys.User, err error) {
	if r.User != nil && r.User.Kind() != 'n' {
		return nil, &belfry.Error{Kind: belfry.ErrInvalid, Code: "user", Where: "user", Text: "can only be null here, which says that nobody is signed in",
			Hint: "send a user token in " + userHeader}
	}
	if token := c.GetHeader(userHeader); token != "" {
		if u, err = s.proven(token); err != nil {
			return nil, err
		}
	}
	if r.Channels == nil {
		return u, nil
	}
	return u, mayHear(u, *r.Channels)
}

// register stores a browser's subscription, or brings a known one up to date
// for whoever holds its secret.
func (s *Server) register(c *gin.Context) error {
	if err := s.limited(c, s.limiter); err != nil {
		return err
	}
	r, err := decode[registration](c.Request.Body, maxRegistration)
	if err != nil {
		return err
	}
	if r.Subscription == nil {
		return belfry.Invalid("subscription", "subscription", "is missing")
	}
	if r.User != nil {
		return belfry.Invalid("user", "user", "is said of a device that is known, with PUT; who somebody is stands in "+userHeader)
	}
	change, err := s.check(r)
	if err != nil {
		return err
	}
	u, err := s.somebody(c, r)
	if err != nil {
		return err
	}
	secret, err := deviceSecret(c)
	if err != nil {
		return err
	}
	row := *change.Subscription
	row.Origin = c.GetHeader("Origin")
	switch {
	case change.KeyID != nil:
		row.KeyID = *change.KeyID
	case secret != nil:
		row.KeyID = s.keyOf(c.Request.Context(), row.Endpoint)
	default: // it is new, or will be refused
		row.KeyID = s.Keys.Current().ID
	}
	if change.Channels != nil {
		row.Channels = *change.Channels
	}
	if change.Locale != nil {
		row.Locale = *change.Locale
	}
	if change.TimeZone != nil {
		row.TimeZone = *change.TimeZone
	}
	if u != nil {
		row.User = u.ID
	}
	got, err := s.Subscriptions.Register(c.Request.Context(), row, secret)
	if err != nil {
		return err
	}
	answer := registeredAs(got.Subscription)
	if !got.Created {
		c.JSON(http.StatusOK, answer)
		return nil
	}
	answer.Secret = got.Secret.Reveal()
	c.JSON(http.StatusCreated, answer)
	return nil
}

// change lets a device say what is new about itself.
func (s *Server) change(c *gin.Context) error {
	if err := s.limited(c, s.limiter); err != nil {
		return err
	}
	if err := s.authorise(c); err != nil {
		return err
	}
	r, err := decode[registration](c.Request.Body, maxRegistration)
	if err != nil {
		return err
	}
	change, err := s.check(r)
	if err != nil {
		return err
	}
	if change.Subscription != nil && change.KeyID == nil {
		id := s.keyOf(c.Request.Context(), change.Subscription.Endpoint)
		change.KeyID = &id
	}
	u, err := s.somebody(c, r)
	if err != nil {
		return err
	}
	if u != nil {
		change.User = &u.ID
	} else if r.User != nil {
		change.User = new(string)
	}
	now := time.Now().UTC()
	change.Seen = &now
	row, err := s.Subscriptions.Update(c.Request.Context(), c.Param("id"), change)
	if err != nil {
		return deniedIfGone(err)
	}
	c.JSON(http.StatusOK, registeredAs(row))
	return nil
}

// unregister forgets a device.
func (s *Server) unregister(c *gin.Context) error {
	if err := s.authorise(c); err != nil {
		return err
	}
	if err := s.Subscriptions.Remove(c.Request.Context(), c.Param("id")); err != nil {
		return deniedIfGone(err)
	}
	c.Status(http.StatusNoContent)
	return nil
}

// check turns what a page said into a change that may be stored.
func (s *Server) check(r registration) (change subscriptions.Change, err error) {
	if r.Subscription != nil {
		row, err := r.Subscription.Check(s.Hosts)
		if err != nil {
			return change, belfry.At("subscription", err)
		}
		change.Subscription = &row
	}
	if r.Channels != nil {
		names, err := belfry.CheckChannels(*r.Channels)
		if err != nil {
			return change, err
		}
		change.Channels = &names
	}
	if r.KeyID != nil {
		if err := s.knownKey(*r.KeyID); err != nil {
			return change, err
		}
	}
	for _, check := range []struct {
		value *string
		rule  func(string) error
	}{{r.Locale, belfry.CheckLocale}, {r.TimeZone, belfry.CheckTimeZone}} {
		if check.value != nil {
			if err := check.rule(*check.value); err != nil {
				return change, err
			}
		}
	}
	change.KeyID, change.Locale, change.TimeZone = r.KeyID, r.Locale, r.TimeZone
	return change, nil
}

// keyOf says which key a subscription that does not say so was made with. An
// endpoint belongs to one key for as long as it lives, so one that is known
// keeps its own, whatever is current by now; a new one was made with the key
// that /v1/config names.
func (s *Server) keyOf(ctx context.Context, e belfry.Endpoint) string {
	if known, err := s.Subscriptions.ByEndpoint(ctx, e); err == nil && known.KeyID != "" {
		return known.KeyID
	}
	return s.Keys.Current().ID
}

func (s *Server) knownKey(id string) error {
	for _, k := range s.Keys.List() {
		if k.ID == id {
			return nil
		}
	}
	return &belfry.Error{Kind: belfry.ErrConflict, Code: "unknown-key", Where: "keyId", Text: "is not a key of this server",
		Hint: "in a browser, unsubscribe and subscribe with the key that /v1/config names; `belfry keys show` lists the server's"}
}

// limited takes one from the caller's share (SEC-42).
func (s *Server) limited(c *gin.Context, l *limiter) error {
	// gin does not know the zone of a link-local address, and finds none then.
	wait, err := l.allow(cmp.Or(c.ClientIP(), c.RemoteIP()))
	if wait > 0 {
		c.Header("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
	}
	return err
}

// authorise checks the device secret. An id that is unknown and a secret that
// does not fit are answered alike (SEC-14).
func (s *Server) authorise(c *gin.Context) error {
	secret, err := deviceSecret(c)
	if err != nil || secret == nil {
		return denied()
	}
	return s.Subscriptions.Authorize(c.Request.Context(), c.Param("id"), *secret)
}

func denied() error {
	return &belfry.Error{Kind: belfry.ErrDenied, Code: "unauthorised", Text: "the device secret does not fit this id"}
}

// deniedIfGone answers a row that vanished since its secret was checked like
// one that was never there.
func deniedIfGone(err error) error {
	if p := asProblem(err); p.Status == http.StatusNotFound {
		return denied()
	}
	return err
}

// deviceSecret reads Authorization: Device <secret>, or returns nil without one.
func deviceSecret(c *gin.Context) (*belfry.DeviceSecret, error) {
	scheme, value, _ := strings.Cut(c.GetHeader("Authorization"), " ")
	if scheme == "" {
		return nil, nil
	}
	if !strings.EqualFold(scheme, "Device") {
		return nil, denied()
	}
	secret, err := belfry.ParseDeviceSecret(strings.TrimSpace(value))
	if err != nil {
		return nil, denied()
	}
	return &secret, nil
}
