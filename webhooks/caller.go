// Package webhooks calls the receivers that want to know how a broadcast ended.
//
// It makes one try at a time and says what came of it: when there is another,
// and what an answer means, is for the caller to decide. The URL is hostile
// input and a secret, as endpoints are: it is checked again before each call, its
// address at the moment of dialling, and it stands in no error.
package webhooks

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/internal/outbound"
)

// A Signer signs a call, so that its receiver knows that it is ours.
type Signer interface {
	Sign(id string, at time.Time, body []byte) string
}

// Config says who signs and whom we may call. Signer is required.
type Config struct {
	Signer Signer

	// Hosts are the receivers that may be in our own network. Default: none.
	Hosts belfry.CallbackHosts

	// RootCAs vouch for receivers. Default: the system's.
	RootCAs *x509.CertPool

	// Resolver finds addresses. Default: the system's.
	Resolver *net.Resolver
}

const (
	// timeLimit is for one call in all. It is what push services get, too: a
	// receiver has only to take down what it is told.
	timeLimit = 10 * time.Second

	maxHeader = 16 << 10 // octets of an answer's header
	maxAnswer = 4 << 10  // and of its body, of which we only want the end
)

// A Caller calls receivers, many at a time if asked to.
type Caller struct {
	signer    Signer
	hosts     belfry.CallbackHosts
	transport *http.Transport
}

// New returns a Caller, or says what is missing. It asks no proxy from the
// environment: that would dial for us where no address is checked (SEC-05).
func New(cfg Config) (*Caller, error) {
	if cfg.Signer == nil {
		return nil, errors.New("webhooks: Config needs Signer")
	}
	d := outbound.Dialer{Opened: cfg.Hosts.Opened, Resolver: cfg.Resolver, Timeout: timeLimit}
	return &Caller{cfg.Signer, cfg.Hosts, &http.Transport{
		DialContext:            d.DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: cfg.RootCAs}, // SEC-07
		ForceAttemptHTTP2:      true,
		DisableCompression:     true, // we ask for no coding, and no answer can unfold
		MaxIdleConns:           16,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: maxHeader,
		HTTP2:                  &http.HTTP2Config{MaxReceiveBufferPerStream: maxAnswer}, // else 4 MiB of an endless answer
	}}, nil
}

// Close closes the connections that no call uses.
func (c *Caller) Close() { c.transport.CloseIdleConnections() }

// Call posts body to a receiver, with id as what it knows a repetition by, and
// returns the status that it answers, or why there was no answer.
func (c *Caller) Call(ctx context.Context, to belfry.Callback, id string, body []byte) (status int, err error) {
	// An operator may have closed a host since (SEC-02).
	if to, err = c.hosts.Callback(to.Reveal()); err != nil {
		return 0, fmt.Errorf("webhooks: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, timeLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to.Reveal(), bytes.NewReader(body))
	if err != nil {
		return 0, fmt.Errorf("webhooks: %s: no request can be made of it", to) // the cause holds the URL
	}
	now := time.Now()
	req.Header = http.Header{
		"Content-Type":      {"application/json"},
		"User-Agent":        {"belfry"},
		"Webhook-Id":        {id},
		"Webhook-Timestamp": {strconv.FormatInt(now.Unix(), 10)},
		"Webhook-Signature": {c.signer.Sign(id, now, body)},
	}
	// A transport follows no redirect (SEC-04), unlike a client.
	resp, err := c.transport.RoundTrip(req)
	if err != nil {
		// What the receiver sent may be in it, and that may repeat the URL.
		return 0, fmt.Errorf("webhooks: %s: %s", to, outbound.Cause(err))
	}
	defer resp.Body.Close()
	io.CopyN(io.Discard, resp.Body, maxAnswer) // so that the connection can be used again; what is longer is cut off
	return resp.StatusCode, nil
}
