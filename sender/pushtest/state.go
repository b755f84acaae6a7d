package pushtest

import (
	"crypto/ecdh"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/belfry-push/belfry"
)

// stateFile is the one file of Config.Dir: browsers, subscriptions, and the
// messages that wait for them. The ledger and scripted answers are not kept.
const stateFile = "pushtest.json"

type (
	stateJSON struct {
		Authority     *authorityJSON     `json:"authority,omitempty"`
		Browsers      []string           `json:"browsers"` // names
		Subscriptions []subscriptionJSON `json:"subscriptions"`
		Arrivals      int                `json:"arrivals"`
	}
	subscriptionJSON struct {
		Token   string        `json:"token"`
		Key     string        `json:"key,omitempty"`
		Rules   []Rule        `json:"rules,omitempty"`
		Ended   bool          `json:"ended,omitempty"`
		Private []byte        `json:"private,omitempty"`
		Auth    []byte        `json:"auth,omitempty"`
		Away    bool          `json:"away,omitempty"`
		Browser string        `json:"browser,omitempty"`
		Channel string        `json:"channel,omitempty"`
		App     string        `json:"app,omitempty"`
		Waiting []messageJSON `json:"waiting,omitempty"`
	}
	messageJSON struct {
		ID      string    `json:"id"`
		Body    []byte    `json:"body"`
		Plain   []byte    `json:"plain,omitempty"`
		Topic   string    `json:"topic,omitempty"`
		Arrival int       `json:"arrival"`
		Expires time.Time `json:"expires"`
	}
)

// save writes the state down. It is called at each change of a subscription, so
// that those survive a kill; messages that came since are written by Close. The
// caller holds the lock.
func (s *Service) save() error {
	if s.dir == "" {
		return nil
	}
	state := stateJSON{Arrivals: s.arrivals}
	if s.authority != nil {
		var err error
		if state.Authority, err = s.authority.toJSON(); err != nil {
			return fmt.Errorf("pushtest: %w", err)
		}
	}
	for name := range s.browsers {
		state.Browsers = append(state.Browsers, name)
	}
	for _, sub := range s.subs {
		state.Subscriptions = append(state.Subscriptions, sub.toJSON(s.now()))
	}
	text, err := json.Marshal(state)
	if err != nil {
		return fmt.Errorf("pushtest: %w", err)
	}
	// A reader finds the old file or the new one, never half of it.
	name := filepath.Join(s.dir, stateFile)
	if err := os.WriteFile(name+".new", text, 0o600); err != nil {
		return fmt.Errorf("pushtest: %w", err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		return fmt.Errorf("pushtest: %w", err)
	}
	return nil
}

func (sub *subscription) toJSON(now time.Time) subscriptionJSON {
	j := subscriptionJSON{Token: sub.token, Key: sub.key, Rules: sub.rules, Ended: sub.ended, Away: sub.away, Channel: sub.channel.name, App: sub.channel.app}
	if sub.private != nil {
		j.Private, j.Auth = sub.private.Bytes(), sub.auth[:]
	}
	if sub.browser != nil {
		j.Browser = sub.browser.name
	}
	for _, m := range sub.unexpired(now) {
		j.Waiting = append(j.Waiting, messageJSON{m.id, m.body, m.plain, m.topic, m.arrival, m.expires})
	}
	return j
}

// load reads what save wrote; a directory without the file is a new one.
func (s *Service) load() error {
	if s.dir == "" {
		return nil
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return fmt.Errorf("pushtest: %w", err)
	}
	name := filepath.Join(s.dir, stateFile)
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("pushtest: %w", err)
	}
	var state stateJSON
	if err := json.Unmarshal(text, &state); err != nil {
		return unreadable(name)
	}
	s.arrivals = state.Arrivals
	if state.Authority != nil {
		if s.authority, err = state.Authority.authority(); err != nil {
			return unreadable(name)
		}
		if s.authority.cert.NotAfter.Before(s.now().AddDate(0, 1, 0)) {
			s.authority = nil // listen makes a new one
		}
	}
	for _, name := range state.Browsers {
		s.meet(name).fleeting = !strings.Contains(name, ":") // Chromium's are two numbers
	}
	for _, j := range state.Subscriptions {
		sub, err := j.subscription(s.browsers[j.Browser])
		if err != nil {
			return unreadable(name)
		}
		s.add(sub)
	}
	return nil
}

// unreadable never starts anew over a state that somebody may want back.
func unreadable(name string) error {
	return &belfry.Error{Kind: belfry.ErrNotUsable, Code: "pushtest-state", Where: name, Text: "is not a state of the push service",
		Hint: "delete it to begin with no subscriptions; browsers will subscribe anew"}
}

func (j subscriptionJSON) subscription(b *browser) (*subscription, error) {
	sub := &subscription{token: j.Token, key: j.Key, rules: j.Rules, ended: j.Ended, away: j.Away, browser: b, channel: channel{j.Channel, j.App}}
	switch {
	case b != nil:
		if !sub.ended {
			b.channels[sub.channel.name] = sub
		}
	case sub.ended && len(j.Private) == 0: // and its browser is forgotten since
	case j.Browser != "" || len(j.Auth) != len(sub.auth):
		return nil, errors.New("neither a browser's nor a minted subscription")
	default:
		var err error
		if sub.private, err = ecdh.P256().NewPrivateKey(j.Private); err != nil {
			return nil, err
		}
		sub.auth = belfry.AuthSecret(j.Auth)
	}
	for _, m := range j.Waiting {
		sub.waiting = append(sub.waiting, &message{id: m.ID, sub: sub, body: m.Body, plain: m.Plain, topic: m.Topic,
			arrival: m.Arrival, expires: m.Expires})
	}
	return sub, nil
}
