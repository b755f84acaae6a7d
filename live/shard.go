package live

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/belfry-push/belfry"
)

// A shard is a part of the connections.
type shard struct {
	hub   *Hub
	queue chan []*entry
	hurry chan struct{} // closed when the hub drains

	mu     sync.Mutex   // guards what follows, and of each connection what it says
	at     uint64       // the last event that was given out here
	conns  map[ID]*conn // from its hello on, so that a page can give orders at once
	groups map[group][]*conn
}

func newShard(h *Hub) *shard {
	return &shard{hub: h, queue: make(chan []*entry, 16), hurry: make(chan struct{}), conns: map[ID]*conn{}, groups: map[group][]*conn{}}
}

const (
	tickEvery  = time.Second
	drainEvery = 20 * time.Millisecond // while the hub drains, so that nobody leaves in a crowd
)

// work gives out events and looks at the clock, for all connections of the shard.
func (s *shard) work() {
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	hurry := s.hurry
	for {
		select {
		case events := <-s.queue:
			s.give(events)
		case <-tick.C:
			s.tick()
		case <-hurry:
			hurry = nil
			tick.Reset(drainEvery)
			s.tick()
		case <-s.hub.stop:
			return
		}
	}
}

// give hands events to everybody who hears them, in order.
func (s *shard) give(events []*entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range events {
		for _, g := range e.groups {
			for _, c := range slices.Backward(s.groups[g]) { // one that turns out to be gone is replaced by the last
				if c.upTo < e.seq {
					c.upTo = e.seq
					s.hand(c, e.form(c.format, s.hub.log.epoch))
				}
			}
		}
		s.at = max(s.at, e.seq)
	}
}

// hand gives a connection what it is to write, and forgets one that is gone.
func (s *shard) hand(c *conn, frame []byte) {
	if c.offer(frame) {
		s.remove(c)
	}
}

// tick tells those that have heard nothing for a while how far the log is, and
// sends away those whose time has come. Whatever went before is with them or
// waits for them, so that they can go on from there.
func (s *shard) tick() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.hub.now()
	var ping [formats][]byte
	for _, c := range s.conns {
		switch {
		case !c.hears:
		case c.expired(now):
			if c.finish(Auth) {
				s.remove(c)
			}
		case now >= c.end:
			if c.finish(c.why) {
				s.remove(c)
			}
		case now >= c.notice:
			c.notice = never
			s.hand(c, c.format.control(control{name: "auth", members: expiring{int((c.until - now + time.Second/2) / time.Second)}}))
		case now >= c.ping:
			if ping[c.format] == nil {
				ping[c.format] = c.format.control(control{name: "ping", cursor: cursorAt(s.hub.log.epoch, s.at)})
			}
			c.ping = now + about(pingEvery)
			s.hand(c, ping[c.format])
		}
	}
}

// about is d ± 20 %.
func about(d time.Duration) time.Duration { return d*4/5 + rand.N(d*2/5) }

func (h *Hub) now() time.Duration { return time.Since(h.began) }

// introduce makes a connection known that does not hear anything yet.
func (s *shard) introduce(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[c.id] = c
}

// heard is what a connection is to hear, and whether its user still may.
func (s *shard) heard(c *conn) (all []group, proven bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(c.groups), !c.expired(s.hub.now())
}

// hearsStill reports whether that is what it is to hear.
func (s *shard) hearsStill(c *conn, groups []group) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Equal(c.groups, groups)
}

// add lets a connection that has everything up to c.upTo hear what follows. It
// reports false where more has been given out already.
func (s *shard) add(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.left { // it was abandoned before it began
		return true
	}
	if c.upTo < s.at {
		return false
	}
	now := s.hub.now()
	c.ping, c.end, c.why = now+about(pingEvery), now+maxAge*4/5+rand.N(maxAge/5), MaxAge
	if c.waiter {
		c.ping, c.end = never, never
	}
	if s.hub.draining.Load() { // it came in while the others were told
		c.end, c.why = now, Drain
	}
	s.conns[c.id], c.hears = c, true
	for _, g := range c.groups {
		s.groups[g] = append(s.groups[g], c)
	}
	return true
}

const never = time.Duration(1<<63 - 1)

// drop ends a connection and gives back its place, whether it was added or not.
func (s *shard) drop(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(c)
}

// remove is drop for whoever holds the lock.
func (s *shard) remove(c *conn) {
	s.take(c)
	if c.left {
		return
	}
	c.left = true
	if c.visible {
		s.hub.visible.Add(-1)
	}
	s.bind(c, "")
	if c.kept != nil {
		s.hub.hangup().forget(c)
	}
	c.close()
	s.hub.quota.give(c.from, c.user)
}

// detach lets a connection hear nothing more, and leaves it open.
func (s *shard) detach(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.take(c)
}

func (s *shard) take(c *conn) {
	delete(s.conns, c.id)
	if !c.hears {
		return
	}
	c.hears = false
	for _, g := range c.groups {
		s.leave(g, c)
	}
}

// leave takes a connection out of a group; the last takes its place.
func (s *shard) leave(g group, c *conn) {
	members := s.groups[g]
	i, last := slices.Index(members, c), len(members)-1
	if i < 0 {
		return
	}
	members[i], members[last] = members[last], nil
	if s.groups[g] = members[:last]; last == 0 {
		delete(s.groups, g)
	}
}

// obey does what a connection's holder wants.
func (s *shard) obey(id ID, o Order) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.conns[id]
	if c == nil || c.waiter {
		return noConnection()
	}
	besides := 1 // it hears everybody
	if c.user != "" {
		besides++
	}
	if len(c.groups)-besides+len(o.Subscribe) > belfry.MaxChannels {
		return belfry.Invalid("channels", "subscribe", fmt.Sprintf("at most %d channels, with those it has", belfry.MaxChannels))
	}
	if err := c.accepts(o); err != nil {
		return err
	}
	if o.Proof != nil {
		c.prove(o.Proof.Until)
	}
	for _, name := range o.Subscribe {
		if g := channelGroup(name); !slices.Contains(c.groups, g) {
			c.groups = append(c.groups, g)
			if c.hears {
				s.groups[g] = append(s.groups[g], c)
			}
		}
	}
	for _, name := range o.Unsubscribe {
		if g := channelGroup(name); slices.Contains(c.groups, g) {
			c.groups = slices.DeleteFunc(slices.Clone(c.groups), func(other group) bool { return other == g })
			s.leave(g, c)
		}
	}
	if o.Visible != nil {
		s.look(c, *o.Visible)
	}
	if o.Device != "" {
		s.bind(c, o.Device)
	}
	// A page that never registered acknowledges for nobody, and one that nobody
	// looks at has shown nothing.
	if c.device != "" && s.hub.now() < c.seen {
		s.hub.acknowledged.Add(uint64(s.hub.presence.acknowledge(c.device, o.Ack)))
	}
	return nil
}

// look notes whether somebody looks at a page, which counts for a while.
func (s *shard) look(c *conn, visible bool) {
	if visible != c.visible {
		s.hub.visible.Add(map[bool]int64{true: 1, false: -1}[visible])
	}
	c.visible, c.seen = visible, 0
	if visible {
		c.seen = s.hub.now() + visibleFor
	}
	if c.device != "" {
		s.hub.presence.look(c.device, c, c.seen)
	}
}

// bind makes a page one of a device's, or nobody's.
func (s *shard) bind(c *conn, device string) {
	if c.device != "" && c.device != device {
		s.hub.presence.leave(c.device, c)
	}
	if c.device = device; device != "" {
		s.hub.presence.look(device, c, c.seen)
	}
}

// drain sends everybody away, at moments spread over a window; who only waits
// for an answer gets it now.
func (s *shard) drain(window time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.hub.now()
	for _, c := range s.conns {
		c.end, c.why = now, Drain
		if !c.waiter && window > 0 {
			c.end += rand.N(window)
		}
	}
	close(s.hurry)
}

// abandon ends what is left.
func (s *shard) abandon() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		s.remove(c)
	}
}
