package sender

import (
	"crypto/tls"
	"time"

	"github.com/belfry-push/belfry/internal/h2"
	"github.com/belfry-push/belfry/internal/outbound"
)

// NewTransport returns what carries the requests where cfg has no Transport, for
// who has other requests for push services: one transport for all of them,
// HTTP/2 where they speak it, as they all do, and no proxy from the environment
// (SEC-05), which would see who is rung and dial for us where no address is
// checked.
func NewTransport(cfg Config) *h2.Transport {
	d := outbound.Dialer{Opened: cfg.Hosts.Opened, Resolver: cfg.Resolver, Timeout: timeLimit}
	return h2.New(h2.Config{
		Dial: d.DialContext,
		TLS: &tls.Config{
			MinVersion:         tls.VersionTLS12, // WP-01, SEC-07
			RootCAs:            cfg.RootCAs,
			ClientSessionCache: tls.NewLRUClientSessionCache(64),
		},
		Connections: 16,
		Answer:      maxAnswer,
		Header:      16 << 10, // SEC-08
		Limits:      limits,
		Dialling:    timeLimit,
		Idle:        90 * time.Second,
		// A peer that vanished without a word would else take every attempt's
		// ten seconds until the operating system notices (REL-07).
		Quiet: 15 * time.Second,
		Lost:  5 * time.Second,
	})
}
