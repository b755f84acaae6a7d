package live

import (
	"runtime"
	"runtime/debug"
	"time"
)

// mostInLine is how many pages may wait to be let in, for a pointer each. Who comes
// then waits with all that its request takes.
const mostInLine = 16_384

// usher lets pages in that wait in line. To begin with a page costs as much as to
// take its request; so after each one the usher stands back behind whatever else
// there is to do. In a crowd, who wants less, to know whether the server is alive
// say, would else wait for all of it (REL-11).
func (h *Hub) usher() {
	for {
		select {
		case c := <-h.line:
			if err := h.letIn(c, ""); err != nil {
				h.Log.Debug("a stream broke", "err", err)
			}
			runtime.Gosched()
		case <-h.stop:
			return
		}
	}
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
