// Package sender delivers one encrypted message to one subscription.
//
// It speaks RFC 8030, 8188, 8291 and 8292. It keeps no state between calls but
// open connections, never retries, and never touches a store: it reports a
// [belfry.Outcome] and lets the caller decide.
//
// The endpoint is hostile input and a secret. Its host is held against the
// allow-list again before each request, its address at the moment of dialling,
// and neither it nor any key or token stands in an outcome.
package sender

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/internal/h2"
)

// A Signer vouches for us to a push service. audience is the push service's
// origin, keyID the VAPID key that the subscription was made with (RFC 8292).
// A key that it does not have is a *[belfry.Error] with Code "unknown-key".
type Signer interface {
	Authorization(audience, keyID string) (string, error)
}

// Config says who signs, whom we may speak to and how. Signer is required.
type Config struct {
	// Signer makes the Authorization of each request.
	Signer Signer

	// Hosts are the push services that we speak to. The zero value is the
	// built-in list.
	Hosts belfry.PushHosts

	// Engine seals and posts: "native", the default, or "webpush-go".
	Engine string

	// RootCAs vouch for push services. Defaults to the system's.
	RootCAs *x509.CertPool

	// Resolver finds addresses. Defaults to the system's.
	Resolver *net.Resolver

	// Transport carries the requests. Then RootCAs and Resolver are not used, and
	// checking addresses is its business. It finds where to in the URL's Scheme,
	// Host and RequestURI, and nothing else; and if it has requests wait for one
	// another and does not call the hooks of httptrace, that wait is part of their
	// time. Defaults to what [NewTransport] makes.
	Transport http.RoundTripper
}

const (
	// timeLimit is for one attempt in all: address, TLS, request and answer.
	// FCM asks for ten seconds or more (PS-06); more would let a silent push
	// service hold our places (REL-17).
	timeLimit = 10 * time.Second

	// queueLimit is how long an attempt waits for one of the few connections to its
	// push service. At a slow one that speaks HTTP/1.1, all who are in flight may
	// have to wait for one another.
	queueLimit = 2 * time.Minute

	maxAnswer = 4 << 10  // octets of an answer's body that we look at (WP-71)
	maxDrain  = 16 << 10 // and that we read on, so that the connection can be used again
)

var limits = h2.Limits{Service: timeLimit, Queue: queueLimit}

// A Sender makes attempts, many at a time if asked to.
type Sender struct {
	signer Signer
	hosts  belfry.PushHosts
	engine engine
	via    http.RoundTripper
	close  func()
}

// New returns a Sender, or says what is wrong with cfg.
func New(cfg Config) (*Sender, error) {
	if cfg.Signer == nil {
		return nil, belfry.Invalid("signer", "sender", "needs a Signer")
	}
	e, err := newEngine(cfg.Engine)
	if err != nil {
		return nil, err
	}
	s := &Sender{signer: cfg.Signer, hosts: cfg.Hosts, engine: e}
	if cfg.Transport != nil {
		s.via, s.close = h2.Patient(cfg.Transport, limits), func() {}
	} else {
		t := NewTransport(cfg)
		s.via, s.close = t, t.CloseIdleConnections
	}
	return s, nil
}

// Close closes the connections that no attempt uses. An injected Transport is left alone.
func (s *Sender) Close() { s.close() }

// An engine seals a letter for its browser and posts it through a courier.
type engine interface {
	post(ctx context.Context, via *courier, l *letter) (*http.Response, error)
}

func newEngine(name string) (engine, error) {
	switch name {
	case "", "native":
		return newNative(), nil
	case "webpush-go":
		return newWebpushGo()
	}
	return nil, &belfry.Error{Kind: belfry.ErrInvalid, Code: "engine", Where: "--engine",
		Text: fmt.Sprintf("%q is not an engine", name), Hint: "choose native or webpush-go"}
}

// Send makes one attempt: msg to the browser behind sub. It takes at most
// ten seconds, not counting the wait for a connection that others use, or until
// ctx is done.
func (s *Sender) Send(ctx context.Context, sub belfry.Subscription, msg belfry.PushMessage) belfry.Outcome {
	// The row may be older than the list, or not have come through our door (SEC-02).
	endpoint, to, err := s.hosts.Target(sub.Endpoint)
	if err != nil {
		return failed(belfry.Blocked, err)
	}
	if ctx.Err() != nil {
		return unanswered(ctx, endpoint.Host(), ctx.Err(), nil)
	}
	l, err := newLetter(endpoint, to, sub, msg)
	if err != nil {
		return failed(belfry.Refused, err)
	}
	authorization, err := s.signer.Authorization(endpoint.Origin(), sub.KeyID)
	if err != nil {
		return unsigned(err)
	}

	via := &courier{via: s.via, url: l.url, authorization: authorization}
	secrets := func() []string { return l.secrets(authorization) }
	resp, err := s.engine.post(ctx, via, l)
	switch {
	case err != nil && !via.sent:
		// What an engine says of keys is not for showing; ours is the whole truth of it.
		return failed(belfry.Refused, belfry.Invalid("seal", "message", "cannot be sealed with the keys of this subscription"))
	case err != nil:
		return unanswered(ctx, endpoint.Host(), err, secrets)
	}
	now := time.Now() // over HTTP/1.1 before the body, which may take its time
	return judge(answer{
		status: resp.StatusCode, header: resp.Header, body: read(resp), now: now,
		asked: time.Duration(l.ttl) * time.Second, secrets: secrets,
	})
}

// A courier carries one sealed request. Both engines post through it, so that
// neither decides where a request goes or who it says we are.
type courier struct {
	via           http.RoundTripper
	url           *url.URL
	authorization string
	sent          bool // the engine got as far as posting
}

// Do implements the client that webpush-go asks for.
func (c *courier) Do(req *http.Request) (*http.Response, error) {
	c.sent = true
	req.URL, req.Host = c.url, c.url.Host
	req.Header.Set("Authorization", c.authorization)
	req.Header["User-Agent"] = nil // a push service has no use for it; net/http would send its own
	return c.via.RoundTrip(req)
}

// read returns the beginning of an answer's body, or nothing where the message
// was taken: the judge has no use for more words then. What is longer than we
// want to read is cut off, over HTTP/1.1 with its connection (SEC-08); a body that breaks off
// says what it said, since the status stands.
func read(resp *http.Response) (said []byte) {
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		said, _ = io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	}
	if resp.Body != http.NoBody { // most accepted ones have none
		io.CopyN(io.Discard, resp.Body, maxDrain)
	}
	return said
}

// failed is the outcome of an attempt that ended before the request.
func failed(v belfry.Verdict, err error) belfry.Outcome {
	return belfry.Outcome{Verdict: v, Reason: err.Error(), Err: fmt.Errorf("sender: %w", err)}
}

// unsigned judges a signer's refusal. A key that we do not have is the
// subscription's trouble (WP-64), anything else ours.
func unsigned(err error) belfry.Outcome {
	if e, ok := errors.AsType[*belfry.Error](err); ok && e.Code == "unknown-key" {
		return failed(belfry.WrongKey, err)
	}
	return failed(belfry.OurFault, err)
}
