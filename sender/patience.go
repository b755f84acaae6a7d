package sender

import (
	"context"
	"net/http/httptrace"
	"sync"
	"time"
)

// queueLimit is how long an attempt waits for one of the few connections to its
// push service. At a slow one that speaks HTTP/1.1, all who are in flight may
// have to wait for one another.
const queueLimit = 2 * time.Minute

// A patience ends when an attempt has taken timeLimit, in all: address,
// connection, TLS, request and answer. Only the wait for a connection that
// others are using does not count: an attempt that had spent its time in a queue
// would break off a request that is under way, and its message would be sent
// twice.
type patience struct {
	cancel context.CancelCauseFunc

	mu            sync.Mutex // guards the rest
	timer         *time.Timer
	until         time.Time
	queued, begun bool
}

// withPatience returns a context that ends with an attempt's patience; its cause
// is context.DeadlineExceeded then. A RoundTripper that knows nothing of
// httptrace has timeLimit from the start.
func withPatience(ctx context.Context) (limited context.Context, stop func()) {
	limited, cancel := context.WithCancelCause(ctx)
	p := &patience{cancel: cancel, until: time.Now().Add(timeLimit)}
	p.mu.Lock()
	p.timer = time.AfterFunc(timeLimit, p.look)
	p.mu.Unlock()
	limited = httptrace.WithClientTrace(limited, &httptrace.ClientTrace{
		GetConn:      func(string) { p.queue() },
		DNSStart:     func(httptrace.DNSStartInfo) { p.begin() },
		ConnectStart: func(string, string) { p.begin() },
		GotConn:      func(httptrace.GotConnInfo) { p.begin() },
	})
	return limited, func() {
		p.end()
		cancel(nil)
	}
}

// queue begins the wait. A request that HTTP/2 replays does not begin it anew.
func (p *patience) queue() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.queued && !p.begun {
		p.queued, p.until = true, time.Now().Add(queueLimit)
	}
}

func (p *patience) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.begun {
		p.begun, p.until = true, time.Now().Add(timeLimit)
	}
}

// end leaves no timer behind, nor one that look is about to set again.
func (p *patience) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.until = time.Time{}
	p.timer.Stop()
}

// look ends the patience, or looks again later. It looks every timeLimit, so that
// it is never late; most attempts are over before, and have set one timer, not three.
func (p *patience) look() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if left := time.Until(p.until); left > 0 {
		p.timer.Reset(min(left, timeLimit))
		return
	}
	p.cancel(context.DeadlineExceeded)
}

// ranOut returns what ended an attempt: the cause, where its patience did.
// net/http may say no more than that its context was cancelled.
func ranOut(limited context.Context, err error) error {
	if context.Cause(limited) == context.DeadlineExceeded {
		return context.DeadlineExceeded
	}
	return err
}
