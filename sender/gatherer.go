package sender

import (
	"net"
	"sync"
)

// mostGathered is how many octets wait at most for those before them. At a peer
// that does not read, writing blocks then as it does on any connection.
const mostGathered = 64 << 10

// A gatherer is a connection on which what is written while a write is under
// way gathers, and leaves in one piece. net/http flushes header and body of each
// HTTP/2 request by themselves; with many messages on one connection that was
// two system calls for each, and is one for a dozen.
//
// So a write is done before its octets have left, and what goes wrong is told to
// the next one, or to who reads. That is no news to a caller: octets that the
// operating system has taken have not arrived either. What is still gathered
// when the connection is closed is lost.
type gatherer struct {
	net.Conn
	mu            sync.Mutex // guards the rest
	room          sync.Cond  // told when gathered has been emptied, or err is set
	gathered, out []byte     // out is under way while leaving is true
	leaving       bool
	err           error // of the write that failed; none after it will do
}

func gather(conn net.Conn) net.Conn {
	g := &gatherer{Conn: conn}
	g.room.L = &g.mu
	return g
}

func (g *gatherer) Write(b []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for len(g.gathered) >= mostGathered && g.err == nil {
		g.room.Wait()
	}
	if g.err != nil {
		return 0, g.err
	}
	g.gathered = append(g.gathered, b...)
	if !g.leaving {
		g.leaving = true
		go g.leave()
	}
	return len(b), nil
}

// leave writes until nothing is left.
func (g *gatherer) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for len(g.gathered) > 0 && g.err == nil {
		g.out, g.gathered = g.gathered, g.out[:0]
		g.room.Broadcast()
		g.mu.Unlock()
		_, err := g.Conn.Write(g.out)
		g.mu.Lock()
		g.err = err
	}
	g.leaving = false
	g.room.Broadcast()
}
