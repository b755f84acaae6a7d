package sender

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"

	"github.com/belfry-push/belfry"
)

// NewTransport returns what carries the requests where cfg has no Client, for
// who wants to put something around it: one transport for all push services,
// HTTP/2 where they speak it, as they all do, and no proxy from the environment
// (SEC-05), which would see who is rung and dial for us where no address is
// checked.
func NewTransport(cfg Config) *http.Transport {
	d := dialer{hosts: cfg.Hosts, resolver: cfg.Resolver, check: public}
	return &http.Transport{
		DialContext: d.dial,
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

// A dialer connects to push services. The name was checked before the request;
// the address is checked here, at the moment of connecting, so that no second
// look-up can change it in between (SEC-03).
type dialer struct {
	hosts    belfry.PushHosts
	resolver *net.Resolver
	check    control // for every host that no operator opened
}

// A control is a net.Dialer.Control: it sees the address that is about to be
// connected to, and stops it with an error.
type control = func(network, address string, c syscall.RawConn) error

func (d dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	address, check := d.route(address)
	nd := net.Dialer{Timeout: timeLimit, Resolver: d.resolver, Control: check}
	conn, err := nd.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return gather(conn), nil
}

// route says what to dial for host:port, and which addresses of it will do.
// Only the very host that an operator opened may be anywhere.
func (d dialer) route(address string) (string, control) {
	host, port, _ := net.SplitHostPort(address)
	opened, ok := d.hosts.Opened(host, port)
	switch {
	case !ok:
		return address, d.check
	case opened.Dial != "":
		return opened.Dial, loopback
	case opened.Scheme == "http":
		return address, loopback
	}
	return address, nil
}

var errAddress = errors.New("not an address that we connect to")

// public is a control that lets through addresses of the public internet.
func public(_, address string, _ syscall.RawConn) error {
	if addr, err := netip.ParseAddrPort(address); err != nil || !isPublic(addr.Addr()) {
		return errAddress
	}
	return nil
}

// loopback is a control for plain http, which must not leave this machine.
func loopback(_, address string, _ syscall.RawConn) error {
	if addr, err := netip.ParseAddrPort(address); err != nil || !addr.Addr().IsLoopback() {
		return errAddress
	}
	return nil
}

// globalUnicast is all of IPv6 that is given out; loopback, link-local, unique
// local, site-local, multicast, IPv4-mapped and -compatible, and NAT64 lie outside.
var globalUnicast = netip.MustParsePrefix("2000::/3")

// notPublic are the blocks of the IANA special-purpose registries that are not
// of the public internet, or lead back into IPv4.
var notPublic = prefixes(
	"0.0.0.0/8",       // this network
	"10.0.0.0/8",      // private
	"100.64.0.0/10",   // carrier-grade NAT
	"127.0.0.0/8",     // loopback
	"169.254.0.0/16",  // link-local; clouds keep their metadata there
	"172.16.0.0/12",   // private
	"192.0.0.0/24",    // IETF protocol assignments
	"192.0.2.0/24",    // documentation
	"192.88.99.0/24",  // 6to4 relays
	"192.168.0.0/16",  // private
	"198.18.0.0/15",   // benchmarking
	"198.51.100.0/24", // documentation
	"203.0.113.0/24",  // documentation
	"224.0.0.0/4",     // multicast
	"240.0.0.0/4",     // reserved, and broadcast
	"2001::/23",       // IETF protocol assignments, Teredo among them
	"2001:db8::/32",   // documentation
	"2002::/16",       // 6to4
	"3fff::/20",       // documentation
)

func prefixes(blocks ...string) []netip.Prefix {
	all := make([]netip.Prefix, len(blocks))
	for i, b := range blocks {
		all[i] = netip.MustParsePrefix(b)
	}
	return all
}

// isPublic refuses whatever it does not know to be public. An IPv6 address with
// a zone is in no prefix, and so never is.
func isPublic(addr netip.Addr) bool {
	if addr.Is6() && !globalUnicast.Contains(addr) {
		return false
	}
	for _, p := range notPublic {
		if p.Contains(addr) {
			return false
		}
	}
	return addr.IsValid()
}
