package pushtest

import (
	"crypto/ecdh"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/belfry-push/belfry"
)

// A Rule makes one subscription as strict as a push service of its kind.
type Rule string

const (
	// Constrained is a phone behind a bridge: the body in base64url and 75 octets
	// of JSON around it must fit 4096, so 3015 octets of body is the most (PS-12).
	Constrained Rule = "constrained"

	// NoTTLZero answers TTL: 0 as Microsoft does, with 400 and the reason in a
	// header field (PS-31).
	NoTTLZero Rule = "no-ttl-zero"
)

// A subscription is one push resource.
type subscription struct {
	token     string
	key       string // the applicationServerKey it was made with; empty admits every key
	rules     []Rule
	ended     bool
	script    script
	anyPlayed int // how far it is in the script for all
	anyOf     int // and in which one

	private *ecdh.PrivateKey // nil where a browser made it: then only that browser can read
	auth    belfry.AuthSecret
	away    bool // a minted one's device is offline

	browser *browser // nil for minted ones
	channel channel
	waiting []*message
}

func newToken() string {
	b := make([]byte, 24)
	rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}

const (
	ownPath    = "/wpush/v2/" // in front of the token in endpoints of Firefox and of minted subscriptions
	googlePath = "/fcm/send/" // and in those of Chromium
)

func (sub *subscription) path() string {
	if sub.channel.app != "" {
		return googlePath + sub.token
	}
	return ownPath + sub.token
}

// endpoint is where to post to. Chromium makes the endpoint itself, and so it
// names Google's host.
func (s *Service) endpoint(sub *subscription) belfry.Endpoint {
	if sub.channel.app != "" {
		return belfry.StoredEndpoint("https://" + googleHosts[0] + sub.path())
	}
	return belfry.StoredEndpoint(s.url + sub.path())
}

// token is the endpoint's last part; empty when it is not at this service.
func (s *Service) token(e belfry.Endpoint) string {
	for _, host := range googleHosts {
		if token, ok := strings.CutPrefix(e.Reveal(), "https://"+host+googlePath); ok {
			return token
		}
	}
	token, ok := strings.CutPrefix(e.Reveal(), s.url+ownPath)
	if !ok {
		return ""
	}
	return token
}

// Subscribe mints a subscription of which the service holds the private key, as
// a browser would. Messages to it must be signed with applicationServerKey (65
// octets in base64url); with an empty one, any key will do.
func (s *Service) Subscribe(applicationServerKey string, rules ...Rule) belfry.Subscription {
	subs, err := s.mint(1, applicationServerKey, rules)
	if err != nil {
		panic("pushtest: Subscribe: " + err.Error())
	}
	return subs[0].shown(s)
}

// mint makes n subscriptions. The keys are drawn before the lock is taken.
func (s *Service) mint(n int, applicationServerKey string, rules []Rule) ([]*subscription, error) {
	key, err := normalised(applicationServerKey)
	if err != nil {
		return nil, err
	}
	for _, r := range rules {
		if r != Constrained && r != NoTTLZero {
			return nil, belfry.Invalid("rule", "rule", fmt.Sprintf("%+q is not a rule", string(r)))
		}
	}
	minted := make([]*subscription, n)
	for i := range minted {
		private, err := ecdh.P256().GenerateKey(rand.Reader)
		if err != nil {
			return nil, err
		}
		minted[i] = &subscription{token: newToken(), key: key, rules: rules, private: private}
		rand.Read(minted[i].auth[:])
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sub := range minted {
		s.add(sub)
	}
	s.ledger.touch()
	if err := s.save(); err != nil {
		return nil, err
	}
	return minted, nil
}

// normalised is the key without padding, as it stands in k; Firefox pads it.
func normalised(applicationServerKey string) (string, error) {
	if applicationServerKey == "" {
		return "", nil
	}
	key, err := belfry.ParsePublicKey(applicationServerKey)
	if err != nil {
		return "", belfry.Invalid("key", "applicationServerKey", "is not an uncompressed P-256 point in base64url")
	}
	return key.Reveal(), nil
}

// shown is the subscription in the words of the house.
func (sub *subscription) shown(s *Service) belfry.Subscription {
	return belfry.Subscription{
		Endpoint: s.endpoint(sub),
		P256dh:   belfry.PublicKey(sub.private.PublicKey().Bytes()),
		Auth:     sub.auth,
		KeyID:    keyID(sub.key),
	}
}

// keyID is the house's name for a VAPID key: the first 8 octets of its SHA-256
// in hexadecimal.
func keyID(key string) string {
	if key == "" {
		return ""
	}
	point, _ := base64.RawURLEncoding.DecodeString(key)
	sum := sha256.Sum256(point)
	return hex.EncodeToString(sum[:8])
}

// End ends a subscription: from now on it answers 410, as when a browser
// unsubscribed.
func (s *Service) End(e belfry.Endpoint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end(s.mustKnow("End", e))
	s.ledger.touch()
	if err := s.save(); err != nil {
		panic(err)
	}
}

// add and end keep count. The caller holds the lock.
func (s *Service) add(sub *subscription) {
	s.subs[sub.token] = sub
	if !sub.ended {
		s.live++
	}
}

func (s *Service) end(sub *subscription) {
	if !sub.ended {
		s.live--
	}
	sub.ended, sub.waiting = true, nil
}

// mustKnow finds a subscription that a test speaks about; to be silent about a
// wrong one would let the test pass for the wrong reason.
func (s *Service) mustKnow(call string, e belfry.Endpoint) *subscription {
	sub := s.subs[s.token(e)]
	if sub == nil {
		panic(fmt.Sprintf("pushtest: %s: %s is not an endpoint of this service", call, e))
	}
	return sub
}
