package sender

import (
	"context"
	"net/http/httptrace"
	"time"
)

// queueLimit is how long an attempt waits for one of the few connections to its
// push service. At a slow one that speaks HTTP/1.1, all who are in flight may
// have to wait for one another.
const queueLimit = 2 * time.Minute

// patience returns a context that ends when a push service has kept an attempt
// waiting for longer than timeLimit. The wait for a connection does not count:
// an attempt that had spent it in a queue would break off a request that is
// under way, and its message would be sent twice. A RoundTripper that knows
// nothing of httptrace has timeLimit in all.
//
// When patience ends, the context's cause is context.DeadlineExceeded.
func patience(ctx context.Context) (limited context.Context, stop func()) {
	limited, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(timeLimit, func() { cancel(context.DeadlineExceeded) })
	limited = httptrace.WithClientTrace(limited, &httptrace.ClientTrace{
		GetConn: func(string) { timer.Reset(queueLimit) },
		GotConn: func(httptrace.GotConnInfo) { timer.Reset(timeLimit) },
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
