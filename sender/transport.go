package sender

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"time"

	"github.com/belfry-push/belfry/internal/outbound"
)

// NewTransport returns what carries the requests where cfg has no Client, for
// who wants to put something around it: one transport for all push services,
// HTTP/2 where they speak it, as they all do, and no proxy from the environment
// (SEC-05), which would see who is rung and dial for us where no address is
// checked.
func NewTransport(cfg Config) *http.Transport {
	d := outbound.Dialer{Opened: cfg.Hosts.Opened, Resolver: cfg.Resolver, Timeout: timeLimit}
	return &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := d.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return gather(conn), nil
		},
		TLSClientConfig: &tls.Config{
			MinVersion:         tls.VersionTLS12, // WP-01, SEC-07
			RootCAs:            cfg.RootCAs,
			ClientSessionCache: tls.NewLRUClientSessionCache(64),
		},
		ForceAttemptHTTP2:   true,
		DisableCompression:  true, // we ask for no coding, and no answer can unfold
		TLSHandshakeTimeout: timeLimit,
		// A broadcast that begins with 256 attempts would else dial 430 times, since
		// nobody waits for the first HTTP/2 connection. Measured, 2,560 messages took
		// 2.9 s and take 0.8, and on a busy machine handshakes no longer time out.
		MaxConnsPerHost:        16,
		MaxIdleConns:           256,
		MaxIdleConnsPerHost:    16, // all of them, for hosts that speak HTTP/1.1
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: 16 << 10, // SEC-08
		// A peer that vanished without a word would else take every attempt's
		// ten seconds until the operating system notices (REL-07).
		HTTP2: &http.HTTP2Config{
			SendPingTimeout:           15 * time.Second,
			PingTimeout:               5 * time.Second,
			MaxReceiveBufferPerStream: maxAnswer + maxDrain, // else 4 MiB of an endless answer (SEC-08)
		},
	}
}

// bounded returns c following no redirect (SEC-04) and without a time limit of
// its own: each attempt has ours.
func bounded(c http.Client) *http.Client {
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	c.Timeout = 0
	if c.Transport == nil {
		c.Transport = http.DefaultTransport
	}
	c.Transport = noLocation{c.Transport}
	return &c
}

// noLocation takes the Location out of answers. net/http parses it before it
// asks whether to follow, and one that does not parse would turn a refusal into
// a lost answer that is tried again. Of an accepted message it is the capability
// to cancel it, which we do not keep (WP-15).
type noLocation struct{ http.RoundTripper }

func (t noLocation) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.RoundTripper.RoundTrip(req)
	if resp != nil {
		resp.Header.Del("Location")
	}
	return resp, err
}
