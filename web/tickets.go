package web

import (
	"container/list"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"sync"
	"time"

	"github.com/belfry-push/belfry/keys"
	"github.com/belfry-push/belfry/live"
)

const (
	// ticketLife is how long a ticket waits to be used. It travels in a URL, which
	// proxies write down: by the time that somebody reads it there it is no good (SEC-47).
	ticketLife = 30 * time.Second
	// maxTickets bounds the memory that they cost: a thousand pages may come in each
	// second of half a minute.
	maxTickets = 30_000
	// maxOfUser bounds those of one user, whose pages may all come back at once.
	maxOfUser = 20
)

// tickets are those that nobody has used. They live in memory only: a restart
// costs a page one more call.
type tickets struct {
	mu    sync.Mutex // guards what follows
	known map[ticketHash]ticket
	users map[string]int
	queue list.List // of ticketHash, the oldest first
}

// A ticketHash is the SHA-256 of a ticket. Looking it up takes the same time
// whatever a guess has in common with a ticket (SEC-28).
type ticketHash [sha256.Size]byte

type ticket struct {
	user    keys.User
	expires time.Time
	place   *list.Element // in the queue
}

func newTickets() *tickets {
	return &tickets{known: map[ticketHash]ticket{}, users: map[string]int{}}
}

func hashTicket(text string) ticketHash { return sha256.Sum256([]byte(text)) }

// issue draws a ticket for u.
func (t *tickets) issue(u keys.User) (text string, expires time.Time, err error) {
	var random [32]byte
	rand.Read(random[:])
	text, expires = base64.RawURLEncoding.EncodeToString(random[:]), time.Now().Add(ticketLife)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sweep()
	switch {
	case len(t.known) >= maxTickets:
		return "", expires, live.ErrCrowded
	case t.users[u.ID] >= maxOfUser:
		return "", expires, live.ErrTooMany
	}
	h := hashTicket(text)
	t.known[h] = ticket{u, expires, t.queue.PushBack(h)}
	t.users[u.ID]++
	return text, expires, nil
}

// use takes a ticket out of use and says whose it was, or nil for one that is not
// known, any more or ever.
func (t *tickets) use(text string) *keys.User {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := hashTicket(text)
	known, ok := t.known[h]
	if !ok {
		return nil
	}
	t.forget(h, known)
	if now := time.Now(); !now.Before(known.expires) || !now.Before(known.user.Expires) {
		return nil
	}
	return &known.user
}

// sweep forgets what has expired.
func (t *tickets) sweep() {
	for now, oldest := time.Now(), t.queue.Front(); oldest != nil; oldest = t.queue.Front() {
		h := oldest.Value.(ticketHash)
		known := t.known[h]
		if now.Before(known.expires) {
			return
		}
		t.forget(h, known)
	}
}

func (t *tickets) forget(h ticketHash, known ticket) {
	delete(t.known, h)
	t.queue.Remove(known.place)
	if t.users[known.user.ID]--; t.users[known.user.ID] <= 0 {
		delete(t.users, known.user.ID)
	}
}
