package live

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"net/netip"
	"sync"
	"time"
)

// An ID names a connection, by 128 random bits: only who was told it can post to
// the connection.
type ID [16]byte

func newID() (id ID) {
	rand.Read(id[:])
	return id
}

func (id ID) String() string { return hex.EncodeToString(id[:]) }

func parseID(text string) (id ID, ok bool) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(id) {
		return id, false
	}
	return ID(b), true
}

// A Carrier writes to a connection that a goroutine waits on.
type Carrier interface {
	// Write sends frames, all of them and at once, or fails within a few seconds.
	Write(frames ...[]byte) error
}

// A conn is one page that listens. What waits for it are frames that others
// have too, so a page that keeps up costs next to nothing.
type conn struct {
	id     ID
	shard  *shard
	format Format
	from   netip.Prefix
	user   string
	kept   *kept // without a goroutine of its own; else nil
	waiter bool  // a poll: it wants to know that there is something, and reads it itself

	// Guarded by shard.mu once the connection was introduced, but for upTo, which
	// is its own until it hears.
	hears   bool // it is given what its groups hear
	groups  []group
	upTo    uint64        // it has, or will get, what it hears up to here
	ping    time.Duration // when it is told how far the log is; since the hub began
	end     time.Duration // when it is sent away
	why     Reason        // and why
	until   time.Duration // when the proof of its user expires
	notice  time.Duration // when it is told so
	device  string
	visible bool          // as it said last
	seen    time.Duration // until when somebody looks at it, as far as we know
	left    bool          // it has given back its place

	mu      sync.Mutex // guards what follows
	rest    []byte     // of a frame that has left in part
	waiting [][]byte
	octets  int           // in waiting
	busy    bool          // a goroutine writes what waits
	over    bool          // nothing more may be offered
	said    Reason        // why it is sent away, once it is
	wake    chan struct{} // tells that goroutine; nil where it is started when needed
}

// serve serves the connection on the goroutine that calls.
func (c *conn) serve(ctx context.Context, cursor string, to Carrier) error {
	defer c.shard.drop(c)
	c.wake, c.busy = make(chan struct{}, 1), true
	if err := c.begin(cursor, to); err != nil {
		return err
	}
	for {
		select {
		case <-c.wake:
		case <-ctx.Done():
			return nil
		}
		if goesOn, err := c.flush(to); !goesOn {
			return err
		}
	}
}

// begin says hello, brings the page up to the head of the log and lets it hear
// what follows.
func (c *conn) begin(cursor string, to Carrier) error {
	log := c.shard.hub.log
	b, err := log.bounds()
	if err != nil {
		return err
	}
	from, gap := b.place(cursor)
	at := b.cursor(from)
	wait := comeBack()
	first := [][]byte{c.format.control(control{name: "hello", cursor: at, retry: wait, members: hello{Conn: c.id.String(), Cursor: at,
		Recovered: cursor != "" && gap == "", Earliest: b.cursor(b.floor), Ping: int(pingEvery.Seconds()), Retry: wait}})}
	if gap != "" {
		first = append(first, c.reset(at, newReset(gap, cursor, b)))
	}
	c.shard.introduce(c)
	if err := to.Write(first...); err != nil {
		return err
	}
	c.upTo = from
	if err := c.catchUp(to); err != nil {
		return err
	}
	if c.format == SSE {
		time.AfterFunc(nudgeAfter, c.nudge)
	}
	return nil
}

// reset is the frame that says so to a page that goes on from a cursor.
func (c *conn) reset(from string, r reset) []byte {
	return c.format.control(control{name: "reset", cursor: from, members: r})
}

// catchUp replays the log until the page has all that the shard has given out.
func (c *conn) catchUp(to Carrier) error {
	for {
		groups, proven := c.shard.heard(c)
		switch {
		case !proven:
			return c.farewell(to)
		case c.attach():
			return nil
		}
		s, err := c.shard.hub.log.read(c.upTo, groups, perPage)
		if err == nil {
			err = c.replay(to, s, groups)
		}
		if err != nil {
			return err
		}
	}
}

// replay writes a stretch that was read for groups. Where the page hears others by
// now it is read again: what was published since to one of these would be behind
// the stretch, and never come.
func (c *conn) replay(to Carrier, s stretch, groups []group) error {
	if !c.shard.hearsStill(c, groups) {
		return nil
	}
	var frames [][]byte
	if s.lost != "" {
		from := s.cursor(max(c.upTo, s.floor))
		frames = append(frames, c.reset(from, newReset(s.lost, s.cursor(c.upTo), s.bounds)))
	}
	for _, e := range s.events {
		frames = append(frames, e.form(c.format, c.shard.hub.log.epoch))
	}
	if len(frames) > 0 {
		if err := to.Write(frames...); err != nil {
			return err
		}
	}
	c.upTo = s.upTo
	return nil
}

func (c *conn) attach() bool { return c.shard.add(c) }

// nudge writes something that no page sees.
func (c *conn) nudge() {
	if c.offer([]byte(":\n\n")) {
		c.shard.drop(c)
	}
}

// offer gives the connection a frame to write and never waits. It reports whether
// the page turns out to be gone.
func (c *conn) offer(frame []byte) (gone bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.over && c.put(frame)
}

// put writes a frame or lets it wait.
func (c *conn) put(frame []byte) (gone bool) {
	if c.kept != nil && !c.busy {
		n, err := c.kept.try(frame)
		if err != nil {
			c.over = true
			return true
		}
		if n == len(frame) {
			return false
		}
		c.rest, c.busy = frame[n:], true
		go c.catchBreath()
		return false
	}
	if c.waiter {
		c.signal()
		return false
	}
	c.waiting, c.octets = append(c.waiting, frame), c.octets+len(frame)
	if c.octets > maxWaiting || len(c.waiting) > maxFrames {
		c.cut()
	}
	c.signal()
	return false
}

// cut sends a page away that reads too slowly: what waits is dropped, since it
// has its cursor and the log has the rest.
func (c *conn) cut() {
	c.shard.hub.slow.Add(1)
	c.waiting, c.over, c.said = [][]byte{c.format.control(goodbye(Slow))}, true, Slow
}

func (c *conn) signal() {
	select {
	case c.wake <- struct{}{}:
	default: // nil, or it knows
	}
}

// finish says goodbye, behind all that waits. It reports whether the page can be
// forgotten at once.
func (c *conn) finish(r Reason) (gone bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return false
	}
	gone = c.put(c.format.control(goodbye(r)))
	if !c.over { // else it was the last straw for a slow one
		c.over, c.said = true, r
	}
	return gone || c.kept != nil && !c.busy
}

// reason is why the page was sent away, or empty.
func (c *conn) reason() Reason {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.said
}

// catchBreath writes what waits for a kept connection, until nothing does.
func (c *conn) catchBreath() {
	if goesOn, _ := c.flush(c.kept); !goesOn {
		c.shard.drop(c)
	}
}

// flush writes what waits. It reports whether more may come.
func (c *conn) flush(to Carrier) (goesOn bool, err error) {
	for {
		frames, over := c.take()
		if len(frames) == 0 {
			return !over, nil
		}
		if err := to.Write(frames...); err != nil {
			return false, err
		}
	}
}

// take takes what waits, the rest of a frame first. Where nothing does, a kept
// connection needs its goroutine no longer.
func (c *conn) take() (frames [][]byte, over bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.rest != nil {
		frames = append(frames, c.rest)
	}
	frames = append(frames, c.waiting...)
	c.rest, c.waiting, c.octets = nil, nil, 0
	if len(frames) == 0 && c.kept != nil && !c.over {
		c.busy = false
	}
	return frames, c.over
}

// close ends a connection that nobody else would.
func (c *conn) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	c.signal()
	if c.kept != nil {
		c.kept.Close()
	}
}
