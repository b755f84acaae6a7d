package pushtest

import (
	"cmp"
	"slices"
	"time"
)

// A browser is one profile of a stock browser, known by a name that it was given
// and nobody else can guess: Firefox's uaid, or Chromium's id and token. It has
// one connection at a time.
type browser struct {
	name     string
	fleeting bool                     // it forgets its name while it has no subscription, as Firefox does
	channels map[string]*subscription // by name of the channel
	wire     wire                     // nil while it is away
}

// A wire is a browser's connection, in its maker's protocol. Its methods return
// at once, since they are called under the service's lock.
type wire interface {
	notify(*message)
	cut()
}

// A channel is one page's subscription, in the words of the browser that made it.
type channel struct {
	name string // Firefox's channelID, or Chromium's subtype
	app  string // the program's name for itself, where it is a Chromium; else empty
}

// meet makes the acquaintance of a browser. The caller holds the lock.
func (s *Service) meet(name string) *browser {
	b := &browser{name: name, channels: map[string]*subscription{}}
	s.browsers[name] = b
	return b
}

// arrive notes that a browser is connected, and sends it what it has missed. The
// caller holds the lock.
func (s *Service) arrive(b *browser, w wire) {
	if b.wire != nil {
		b.wire.cut() // a profile has one connection: the older one is dead or a copy
	} else {
		s.present++
	}
	b.wire = w
	for _, m := range b.waiting(s.now()) {
		w.notify(m)
	}
}

// waiting is what the browser has not acknowledged, in order of arrival. The
// caller holds the lock.
func (b *browser) waiting(now time.Time) []*message {
	var all []*message
	for _, sub := range b.channels {
		all = append(all, sub.unexpired(now)...)
	}
	slices.SortFunc(all, func(x, y *message) int { return cmp.Compare(x.arrival, y.arrival) })
	return all
}

// goodbye notes that a browser's connection ended.
func (s *Service) goodbye(b *browser, w wire) {
	s.mu.Lock()
	if b.wire == w {
		b.wire = nil
		s.present--
		if b.fleeting && len(b.channels) == 0 {
			delete(s.browsers, b.name)
		}
	}
	s.mu.Unlock()
	s.ledger.touch()
}

// subscribe makes a subscription, or gives the one again that the browser asked
// for before: it asks twice when an answer is late. What a restart would lose is
// an error: the browser must not be promised it.
func (s *Service) subscribe(b *browser, ch channel, key string) (*subscription, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.ledger.touch()
	sub := b.channels[ch.name]
	if sub != nil && sub.key == key {
		return sub, nil
	}
	if sub != nil {
		s.end(sub)
	}
	sub = &subscription{token: newToken(), key: key, browser: b, channel: ch}
	b.channels[ch.name] = sub
	s.add(sub)
	if err := s.save(); err != nil {
		s.end(sub)
		delete(b.channels, ch.name)
		return nil, err
	}
	return sub, nil
}

// unsubscribe ends a subscription, and notes the browser's reason in the ledger:
// later posts to it answer 410.
func (s *Service) unsubscribe(b *browser, name string, code int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	sub := b.channels[name]
	if sub == nil {
		return nil
	}
	s.end(sub)
	delete(b.channels, name)
	s.ledger.unregistered(code)
	return s.save()
}

// Forget loses all browsers, as a push service does that loses its data: their
// subscriptions end, and who is connected is cut off. When a Firefox is back, it
// gets a new uaid, and so drops its subscriptions and fires pushsubscriptionchange.
// A Chromium is not told: it believes in them until the page subscribes anew.
// Minted subscriptions stay.
func (s *Service) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, b := range s.browsers {
		for _, sub := range b.channels {
			s.end(sub)
		}
		clear(b.channels)
		delete(s.browsers, name)
		if b.wire != nil {
			b.wire.cut()
		}
	}
	s.ledger.touch()
	if err := s.save(); err != nil {
		panic(err)
	}
}

// acknowledged forgets a message that the browser has, whatever came of it
// there, and notes its word in the ledger.
func (s *Service) acknowledged(b *browser, version string, code int) {
	s.mu.Lock()
	for _, sub := range b.channels {
		sub.forget(version)
	}
	s.mu.Unlock()
	s.ledger.ack(version, code)
}
