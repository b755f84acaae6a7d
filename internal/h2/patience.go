package h2

import (
	"context"
	"io"
	"net/http"
	"net/http/httptrace"
	"sync"
	"time"
)

// Limits are how long one request may take.
type Limits struct {
	// Service is for all that a server does: address, connection, TLS, request and
	// answer.
	Service time.Duration

	// Queue is for the wait for one of the few connections that others are using.
	// It comes on top: a request that had spent its time in a queue would be broken
	// off when it is under way, and its message would be sent twice.
	Queue time.Duration
}

// Patient limits the requests that via carries, if it calls the hooks of httptrace
// as net/http does. One that knows nothing of those has the time for an answer
// from the start. A request that runs out of time ends with
// [context.DeadlineExceeded], or its answer's body breaks off.
func Patient(via http.RoundTripper, limits Limits) http.RoundTripper { return patient{via, limits} }

type patient struct {
	via    http.RoundTripper
	limits Limits
}

func (t patient) RoundTrip(req *http.Request) (*http.Response, error) {
	return newPatience(t.limits).carry(t.via, req)
}

// A patience is how long one request may still take.
type patience struct {
	limits Limits

	mu            sync.Mutex // guards the rest
	until         time.Time
	queued, begun bool
	timer         *time.Timer // nil unless carried by others
	cancel        context.CancelCauseFunc
}

func newPatience(limits Limits) *patience {
	return &patience{limits: limits, until: time.Now().Add(limits.Service)}
}

// queue begins the wait for a connection. A request that is sent again does not
// begin it anew.
func (p *patience) queue() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.queued && !p.begun {
		p.queued, p.until = true, time.Now().Add(p.limits.Queue)
	}
}

func (p *patience) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.begun {
		p.begun, p.until = true, time.Now().Add(p.limits.Service)
	}
}

// left is how long it lasts as things are.
func (p *patience) left() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Until(p.until)
}

// carry has others carry a request, for as long as the patience lasts.
func (p *patience) carry(via http.RoundTripper, req *http.Request) (*http.Response, error) {
	ctx := p.limit(req.Context())
	resp, err := via.RoundTrip(req.WithContext(ctx))
	if err != nil {
		p.end()
		if context.Cause(ctx) == context.DeadlineExceeded {
			return nil, context.DeadlineExceeded // net/http may say no more than that its context was cancelled
		}
		return nil, err
	}
	resp.Body = &limited{resp.Body, p}
	return resp, nil
}

// limited is an answer's body, until which the patience has to last.
type limited struct {
	io.ReadCloser
	patience *patience
}

func (b *limited) Close() error {
	defer b.patience.end()
	return b.ReadCloser.Close()
}

// limit returns a context that ends with the patience; its cause is
// context.DeadlineExceeded then.
func (p *patience) limit(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancelCause(ctx)
	p.mu.Lock()
	p.cancel = cancel
	p.timer = time.AfterFunc(min(time.Until(p.until), p.limits.Service), p.look)
	p.mu.Unlock()
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn:      func(string) { p.queue() },
		DNSStart:     func(httptrace.DNSStartInfo) { p.begin() },
		ConnectStart: func(string, string) { p.begin() },
		GotConn:      func(httptrace.GotConnInfo) { p.begin() },
	})
}

// look ends the patience, or looks again later. It looks at least as often as service
// may take, so that it is never late.
func (p *patience) look() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if left := time.Until(p.until); left > 0 {
		p.timer.Reset(min(left, p.limits.Service))
		return
	}
	p.cancel(context.DeadlineExceeded)
}

// end leaves no timer behind, nor one that look is about to set again.
func (p *patience) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.until = time.Time{}
	p.timer.Stop()
	p.cancel(nil)
}
