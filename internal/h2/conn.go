package h2

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	usualPlaces = 100    // until a server says how many requests it takes at a time, and where it does not (RFC 9113 §6.5.2)
	mostPlaces  = 250    // whatever it says: what waits to leave is in memory
	usualWindow = 65_535 // octets that a server takes at first (RFC 9113 §6.9.2)
	mostWindow  = 1<<31 - 1
	usualFrame  = 16_384  // RFC 9113 §6.5.2
	tableSize   = 4096    // of header fields that both ends remember
	mostInterim = 8       // answers before the answer: a header without end is none (SEC-08)
	mostWaiting = 4 << 20 // octets that may wait to leave: bodies are far less, but a server may ask for answers without end
)

var (
	errParting = errors.New("h2: the connection takes no more requests")
	errSilent  = errors.New("h2: the server does not answer any more")
	errBlocked = errors.New("h2: the server does not read")
	errGoing   = errors.New("h2: the server ended the connection")
)

// A conn is one HTTP/2 connection.
type conn struct {
	server  *server
	cfg     *Config
	conn    net.Conn
	frames  *http2.Framer // read by the reading goroutine alone, written to under mu
	ready   chan struct{} // closed after the server's first word
	gone    chan struct{} // closed once over is set
	greeted bool          // the same, for the reading goroutine
	heard   atomic.Int64  // when something was heard last, in nanoseconds since birth
	birth   time.Time
	watch   *time.Timer

	taken, places int // requests; guarded by the server's mu

	mu      sync.Mutex // guards the rest. Never hold it while taking the server's
	streams map[uint32]*stream
	next    uint32
	held    []*stream // whose bodies wait for a window
	window  int64     // octets that the server takes on this connection
	initial int64     // and on a new stream
	frame   int       // octets of a frame that it takes at most
	credit  uint32    // octets of answers that we have taken and not yet allowed anew
	fields  bytes.Buffer
	encoder *hpack.Encoder
	waiting []byte        // to leave
	spare   []byte        // the buffer that left last
	leaving bool          // a goroutine writes
	asked   bool          // whether it is alive, since heard
	idle    time.Duration // since birth, when the last stream ended
	spoke   time.Duration // since birth, when something was heard last that was no answer to a ping
	last    error         // why it takes no more requests
	over    error         // why it is closed
}

// newConn greets the server and waits for its answer: the settings that say how
// many requests it takes (RFC 9113 §3.4). It closes over if that fails.
func newConn(ctx context.Context, s *server, over net.Conn) (*conn, error) {
	c := &conn{server: s, cfg: s.cfg, conn: over, ready: make(chan struct{}), gone: make(chan struct{}), birth: time.Now(), places: usualPlaces,
		streams: map[uint32]*stream{}, next: 1, window: usualWindow, initial: usualWindow, frame: usualFrame}
	c.encoder = hpack.NewEncoder(&c.fields)
	c.frames = http2.NewFramer((*outbox)(c), bufio.NewReader(over))
	c.frames.SetReuseFrames()
	c.frames.SetMaxReadFrameSize(usualFrame) // RFC 9113 §4.2
	c.frames.ReadMetaHeaders = hpack.NewDecoder(tableSize, nil)
	c.frames.MaxHeaderListSize = uint32(s.cfg.Header)
	c.mu.Lock()
	c.waiting = append(c.waiting, http2.ClientPreface...)
	c.frames.WriteSettings(
		http2.Setting{ID: http2.SettingEnablePush, Val: 0},
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(s.cfg.Answer)},
		http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: uint32(s.cfg.Header)})
	c.watch = time.AfterFunc(s.cfg.Quiet, c.look)
	c.mu.Unlock()
	go c.read()
	select {
	case <-c.ready:
		return c, nil
	case <-c.gone:
		return nil, c.over
	case <-ctx.Done():
		c.fail(ctx.Err())
		return nil, ctx.Err()
	}
}

// An outbox is a conn as its framer writes to it: under mu. What is written while
// a write is under way leaves in one piece with what comes after it.
type outbox conn

func (o *outbox) Write(b []byte) (int, error) {
	c := (*conn)(o)
	if len(c.waiting)+len(b) > mostWaiting {
		// From here on both ends would think differently of what has been said.
		c.retire(errBlocked)
		go c.fail(errBlocked)
		return 0, errBlocked
	}
	c.waiting = append(c.waiting, b...)
	if !c.leaving {
		c.leaving = true
		go c.leave()
	}
	return len(b), nil
}

// leave writes until nothing is left to write.
func (c *conn) leave() {
	runtime.Gosched() // so that what others are about to write comes along
	c.mu.Lock()
	for len(c.waiting) > 0 && c.over == nil {
		out := c.waiting
		c.waiting, c.spare = c.spare[:0], nil
		c.mu.Unlock()
		c.conn.SetWriteDeadline(time.Now().Add(c.cfg.Lost))
		_, err := c.conn.Write(out)
		c.conn.SetWriteDeadline(time.Time{}) // or an answer of TLS to what it reads would meet one that has passed
		if err != nil {
			c.fail(err)
		}
		c.mu.Lock()
		c.spare = out
	}
	c.leaving = false
	c.mu.Unlock()
}

// A complaint is why a server ended a connection that it had something against.
type complaint http2.ErrCode

func (c complaint) Error() string { return fmt.Sprintf("%v: %v", errGoing, http2.ErrCode(c)) }
func (c complaint) Unwrap() error { return errGoing }

// open begins a stream with a request. It is errParting where the connection takes
// none any more and another may, and not where the server complained: to make one
// connection after the other would be worse.
func (c *conn) open(req *http.Request, body []byte) (*stream, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if complained, ok := c.last.(complaint); ok {
		return nil, complained
	}
	if c.last != nil {
		return nil, errParting
	}
	if err := c.encode(req, len(body)); err != nil {
		return nil, err
	}
	st := &stream{id: c.next, rest: body, window: c.initial, begun: time.Since(c.birth), done: make(chan struct{})}
	c.next += 2
	c.streams[st.id] = st
	c.frames.WriteHeaders(http2.HeadersFrameParam{StreamID: st.id, BlockFragment: c.fields.Bytes(), EndHeaders: true, EndStream: len(body) == 0})
	if !c.push(st) {
		c.held = append(c.held, st)
	}
	if c.next > mostWindow-2 { // ids are used up (RFC 9113 §5.1.1)
		c.retire(errGoing)
	}
	return st, nil
}

// push writes as much of a body as the windows let pass, and reports whether
// that was all of it.
func (c *conn) push(st *stream) bool {
	for len(st.rest) > 0 {
		n := min(int64(len(st.rest)), c.window, st.window, int64(c.frame))
		if n <= 0 {
			return false
		}
		if c.frames.WriteData(st.id, int(n) == len(st.rest), st.rest[:n]) != nil {
			return true // the connection is at its end, and this stream with it: the outbox sees to that
		}
		st.rest = st.rest[n:]
		st.window -= n
		c.window -= n
	}
	return true
}

// pushHeld goes on with bodies that waited for a window, in their order.
func (c *conn) pushHeld() {
	held := c.held
	c.held = c.held[:0]
	for _, st := range held {
		if !c.push(st) {
			c.held = append(c.held, st)
		}
	}
	clear(held[len(c.held):])
}

// abandon ends a stream that nobody waits for any more. A connection on which
// nothing was answered for long takes no more: it may still answer pings, and
// would be given all that comes, since it always has a place.
func (c *conn) abandon(st *stream, why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if st.over() {
		return
	}
	c.frames.WriteRSTStream(st.id, http2.ErrCodeCancel)
	if c.spoke <= st.begun && time.Since(c.birth)-st.begun >= c.cfg.Lost {
		c.retire(errSilent)
	}
	c.end(st, why)
}

// end takes a stream off the connection and lets its request know.
func (c *conn) end(st *stream, why error) {
	st.err = why
	if len(st.rest) > 0 {
		st.rest = nil
		if at := slices.Index(c.held, st); at >= 0 {
			c.held = slices.Delete(c.held, at, at+1)
		}
	}
	delete(c.streams, st.id)
	close(st.done)
	if len(c.streams) > 0 {
		return
	}
	c.idle = time.Since(c.birth)
	if c.last != nil {
		go c.fail(c.last)
	}
}

// retire lets no more requests on this connection. It is closed with its last stream.
func (c *conn) retire(why error) {
	if c.last != nil {
		return
	}
	c.last = why
	if len(c.streams) == 0 {
		go c.fail(why)
	}
	go c.server.drop(c)
}

// parting is why it takes no more requests; nil while it does.
func (c *conn) parting() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}

// fail closes the connection. All its requests are lost, begun or not: nobody knows.
func (c *conn) fail(why error) {
	c.mu.Lock()
	if c.over != nil {
		c.mu.Unlock()
		return
	}
	c.over = why
	if c.last == nil {
		c.last = why
	}
	for _, st := range c.streams {
		st.err = why
		close(st.done)
	}
	clear(c.streams)
	c.held, c.waiting = nil, nil
	close(c.gone)
	c.watch.Stop()
	c.mu.Unlock()
	c.conn.Close()
	c.server.drop(c)
}

// look closes a connection that nobody has used for long, and asks one whether
// it is alive that has said nothing: a server that vanished without a word would
// take all the time of every request until the operating system notices.
func (c *conn) look() {
	if c.closeIfIdle(c.cfg.Idle) {
		return
	}
	c.mu.Lock()
	quiet := time.Since(c.birth) - time.Duration(c.heard.Load())
	next := c.cfg.Quiet - quiet
	if next > 0 {
		c.asked = false
	} else if next += c.cfg.Lost; !c.asked {
		c.asked = true
		c.frames.WritePing(false, [8]byte{})
		next = c.cfg.Lost
	}
	if next > 0 && c.over == nil {
		c.watch.Reset(next)
	}
	c.mu.Unlock()
	if next <= 0 {
		c.fail(errSilent)
	}
}

// closeIfIdle closes a connection that nobody has used for so long.
func (c *conn) closeIfIdle(long time.Duration) bool {
	c.mu.Lock()
	idle := len(c.streams) == 0 && time.Since(c.birth)-c.idle >= long
	if idle && c.last == nil {
		c.last = errGoing // from here on nobody else gets in
	}
	c.mu.Unlock()
	if idle {
		c.fail(errGoing)
	}
	return idle
}

// read reads frames until the connection ends.
func (c *conn) read() {
	for {
		frame, err := c.frames.ReadFrame()
		c.heard.Store(int64(time.Since(c.birth)))
		if broken, ok := errors.AsType[http2.StreamError](err); ok {
			err = c.takeBroken(broken)
		} else if err == nil {
			err = c.take(frame)
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = errGoing
			}
			c.fail(err)
			return
		}
	}
}
