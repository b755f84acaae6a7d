package live

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/belfry-push/belfry"
)

const (
	// ackWithin is how long a page that somebody looks at has to acknowledge a
	// message before its device is rung for it. What is urgent does not wait.
	ackWithin = 3 * time.Second
	// visibleFor is how long a page's word counts that somebody looks at it. It
	// gives it anew once a minute; a page that was stopped cannot take it back.
	visibleFor = 90 * time.Second

	// What was acknowledged is kept for as long as the log keeps an event by
	// default, of so many messages and so often at most: under 20 MB. What is
	// forgotten costs a push that nobody needed.
	ackedFor    = 24 * time.Hour
	maxMessages = 256
	maxAcked    = 200_000
)

// A presence knows which devices have a page open that somebody looks at, and
// which of them acknowledged what was published lately. It is in memory alone
// and fails open: whom it does not know is rung.
type presence struct {
	known atomic.Int64 // pages of devices, and acknowledgements; where there are none nobody needs to look further

	mu       sync.RWMutex // guards what follows
	pages    map[string][]look
	messages map[string]*published
	lately   []string // keys of messages, the oldest first
	acked    int      // in all messages
}

// A look is a page of a device, and until when somebody looks at it as far as we
// know: since the hub began, and 0 where nobody does.
type look struct {
	page  *conn
	until time.Duration
}

// A published message is one that pages were told, and who has it.
type published struct {
	at    time.Duration // since the hub began
	hold  time.Duration // who may still acknowledge it does so until then
	acked map[string]bool
}

// publish notes that pages are told messages now.
func (p *presence) publish(events []*entry, now time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range events {
		if p.messages[e.message] != nil { // it is told again, which is no news of it
			continue
		}
		m := &published{at: now, hold: now}
		if !e.urgent {
			m.hold += ackWithin
		}
		p.messages[e.message] = m
		p.lately = append(p.lately, e.message)
	}
	for len(p.lately) > 0 && (len(p.lately) > maxMessages || now-p.messages[p.lately[0]].at > ackedFor) {
		p.forget()
	}
}

// forget forgets the oldest message.
func (p *presence) forget() {
	n := len(p.messages[p.lately[0]].acked)
	delete(p.messages, p.lately[0])
	p.lately = p.lately[1:]
	p.acked -= n
	p.known.Add(int64(-n))
}

// look notes until when somebody looks at a page of a device.
func (p *presence) look(device string, page *conn, until time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := p.pages[device]
	if i := slices.IndexFunc(all, func(l look) bool { return l.page == page }); i >= 0 {
		all[i].until = until
		return
	}
	p.pages[device] = append(all, look{page, until})
	p.known.Add(1)
}

// leave notes that a device has a page no more.
func (p *presence) leave(device string, page *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := p.pages[device]
	left := slices.DeleteFunc(all, func(l look) bool { return l.page == page })
	p.known.Add(int64(len(left) - len(all)))
	if p.pages[device] = left; len(left) == 0 {
		delete(p.pages, device)
	}
}

// acknowledge notes what a device has. What was not published lately is nothing
// that anybody asks for: so one device cannot crowd out the others. It returns how
// many were noted.
func (p *presence) acknowledge(device string, messages []string) (noted int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, id := range messages {
		m := p.messages[id]
		if m == nil || m.acked[device] {
			continue
		}
		for p.acked >= maxAcked && p.lately[0] != id {
			p.forget()
		}
		if p.acked < maxAcked {
			if m.acked == nil {
				m.acked = map[string]bool{}
			}
			m.acked[device] = true
			p.acked++
			p.known.Add(1)
			noted++
		}
	}
	return noted
}

// Reached says how far a message has come to a device by its pages. It is asked
// before each attempt of a broadcast, and costs next to nothing while no page of
// a device is open.
func (h *Hub) Reached(device, message string) (r belfry.Reach) {
	p := &h.presence
	if p.known.Load() == 0 {
		return r
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	m, now := p.messages[message], h.now()
	switch {
	case m == nil || now-m.at > ackedFor:
	case m.acked[device]:
		r.Spared = true
	case now < m.hold && slices.ContainsFunc(p.pages[device], func(l look) bool { return now < l.until }):
		r.Hold = h.began.Add(m.hold)
	}
	return r
}
