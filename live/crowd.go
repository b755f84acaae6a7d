package live

import (
	"errors"
	"net"
	"runtime"
	"runtime/debug"
	"slices"
	"time"
)

const (
	// mostInLine is how many pages may wait to be let in. Who comes then waits with
	// all that its request takes.
	mostInLine = 16_384
	// longInLine is when a page in line lets others go first no longer: after two
	// seconds without a word the page kit tries another way, which costs more.
	longInLine = 1500 * time.Millisecond
)

// An arrival is a page that waits in line to be let in.
type arrival struct {
	conn *conn
	at   time.Duration // since the hub began
}

// usher lets pages in that wait in line. To begin with a page costs as much as to
// take its request; so after each one the usher stands back behind whatever else
// there is to do. In a crowd, who wants less, to know whether the server is alive
// say, would else wait for all of it (REL-11).
func (h *Hub) usher() {
	for {
		select {
		case a := <-h.line:
			if err := h.letIn(a.conn, "", atOnce{a.conn}); err != nil {
				h.Log.Debug("a stream broke", "err", err)
			}
			if h.now()-a.at < longInLine {
				runtime.Gosched()
			}
		case <-h.stop:
			return
		}
	}
}

var errFull = errors.New("live: the page has yet to read what it asked for before")

// An atOnce writes to a page for which an usher must not wait, nor those behind it:
// what does not leave at once ends it. One that has read what it was sent before
// has room for a hello, and for most of what may be published meanwhile; else it
// comes back with the cursor of its hello.
type atOnce struct{ *conn }

func (o atOnce) Write(frames ...[]byte) error {
	all := slices.Concat(o.kept.head, slices.Concat(frames...))
	o.kept.head = nil
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.over {
		return net.ErrClosed
	}
	n, err := o.kept.try(all)
	if err == nil && n < len(all) {
		err = errFull
	}
	return err
}

// A crowd notices when many have come in and the last of them is here.
type crowd struct {
	before  uint64 // how many had ever come when it was asked last
	cleared uint64 // and when it said so last
}

// isIn reports it once for each crowd, asked every tick. came is how many ever came,
// held how many are here now. A tenth of these is a crowd, or a hundredth where
// nobody follows at all: whom the system's queue had no room for comes seconds after
// the others. Streams end at maxAge and come back one by one; for these it is about
// once a minute.
func (c *crowd) isIn(came uint64, held int) bool {
	many := max(1000, uint64(held)/10)
	follow := came - c.before
	c.before = came
	if follow == 0 {
		many /= 10
	} else if follow >= many/10 {
		return false
	}
	if came-c.cleared < many {
		return false
	}
	c.cleared = came
	return true
}

// clear gives back what a crowd has left behind. The goroutine, the buffers and the
// request of a connection that is taken over are several times what is kept of it;
// they would stay for good where nothing happens that makes more garbage.
func (h *Hub) clear() {
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	var c crowd
	for {
		select {
		case <-tick.C:
			if c.isIn(h.took.Load(), h.quota.count()) {
				runtime.GC() // what is in a sync.Pool, of net/http and gin, outlasts one collection
				debug.FreeOSMemory()
			}
		case <-h.stop:
			return
		}
	}
}
