package pushtest

import (
	"net/http"
	"slices"
	"time"

	"github.com/belfry-push/belfry"
)

// A message is one that was accepted and has not yet been acknowledged.
type message struct {
	id      string // the version that a browser acknowledges
	sub     *subscription
	body    []byte
	plain   []byte // nil where only a browser can read it, or where there is none
	topic   string
	arrival int // its place among all that were accepted
	expires time.Time
}

// deliver hands an accepted message on, or keeps it for a device that is away.
// The caller holds the lock.
func (s *Service) deliver(m *message) {
	sub := m.sub
	s.arrivals++
	m.arrival = s.arrivals
	if m.topic != "" {
		// A new message replaces the one still waiting (RFC 8030 §5.4, WP-11).
		sub.waiting = slices.DeleteFunc(sub.waiting, func(old *message) bool { return old.topic == m.topic })
	}
	if sub.browser == nil && !sub.away {
		return // taken at once
	}
	// Now-or-never messages (TTL 0) are kept too: they are over before anybody
	// comes back for them (PS-14).
	sub.waiting = append(sub.waiting, m)
	if sub.browser != nil && sub.browser.wire != nil {
		sub.browser.wire.notify(m)
	}
}

// forget drops a message and reports whether it was there. The caller holds the lock.
func (sub *subscription) forget(id string) bool {
	before := len(sub.waiting)
	sub.waiting = slices.DeleteFunc(sub.waiting, func(m *message) bool { return m.id == id })
	return len(sub.waiting) < before
}

// withdraw is DELETE on the Location of an accepted message, which takes it back
// while it waits (autopush's way; RFC 8030 has none).
func (s *Service) withdraw(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sub := range s.subs {
		if sub.forget(r.PathValue("message")) {
			w.WriteHeader(http.StatusNoContent)
			return
		}
	}
	http.NotFound(w, r)
}

// unexpired drops what is no longer worth saying. The caller holds the lock.
func (sub *subscription) unexpired(now time.Time) []*message {
	sub.waiting = slices.DeleteFunc(sub.waiting, func(m *message) bool { return !m.expires.After(now) })
	return sub.waiting
}

// Leave takes the device of a minted subscription offline: messages wait, as
// long as their TTL allows, and a later one with the same Topic replaces an
// earlier.
func (s *Service) Leave(e belfry.Endpoint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mustKnow("Leave", e).away = true
}

// Return brings the device back and gives the plaintexts that waited for it, in
// order of arrival.
func (s *Service) Return(e belfry.Endpoint) [][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	sub := s.mustKnow("Return", e)
	var plain [][]byte
	for _, m := range sub.unexpired(s.now()) {
		plain = append(plain, m.plain)
	}
	sub.away, sub.waiting = false, nil
	return plain
}
