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

// patience returns a context that ends when an attempt has taken timeLimit, in
// all: address, connection, TLS, request and answer. Only the wait for a
// connection that others are using does not count: an attempt that had spent
// its time in a queue would break off a request that is under way, and its
// message would be sent twice. A RoundTripper that knows nothing of httptrace
// has timeLimit from the start.
//
// When patience ends, the context's cause is context.DeadlineExceeded.
func patience(ctx context.Context) (limited context.Context, stop func()) {
	limited, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(timeLimit, func() { cancel(context.DeadlineExceeded) })
	var once sync.Once
	begin := func() { once.Do(func() { timer.Reset(timeLimit) }) }
	var queued sync.Once // a request that HTTP/2 replays does not begin anew
	limited = httptrace.WithClientTrace(limited, &httptrace.ClientTrace{
		GetConn:      func(string) { queued.Do(func() { timer.Reset(queueLimit) }) },
		DNSStart:     func(httptrace.DNSStartInfo) { begin() },
		ConnectStart: func(string, string) { begin() },
		GotConn:      func(httptrace.GotConnInfo) { begin() },
	})
	return limited, func() {
		timer.Stop()
		cancel(nil)
	}
}

// ranOut returns what ended an attempt: the cause, where its patience did.
// net/http may say no more than that its context was cancelled.
func ranOut(limited context.Context, err error) error {
	if context.Cause(limited) == context.DeadlineExceeded {
		return context.DeadlineExceeded
	}
	return err
}
