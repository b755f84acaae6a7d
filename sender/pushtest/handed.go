package pushtest

import (
	"context"
	"net"
	"sync"
)

// A handedListener accepts connections that are handed to it. They may never
// have left the process: net.Pipe blocks on channels alone, which is what lets
// time pass in a synctest bubble.
type handedListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newHandedListener() *handedListener {
	return &handedListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

// hand waits until the connection is accepted.
func (l *handedListener) hand(ctx context.Context, c net.Conn) error {
	select {
	case l.conns <- c:
		return nil
	case <-l.done:
		return net.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *handedListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *handedListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *handedListener) Addr() net.Addr { return handedAddr{} }

// dial has the signature of [net/http.Transport]'s dialers; there is one place to reach.
func (l *handedListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	if err := l.hand(ctx, theirs); err != nil {
		return nil, err
	}
	return ours, nil
}

type handedAddr struct{}

func (handedAddr) Network() string { return "pipe" }
func (handedAddr) String() string  { return "pipe" }
