// Package outbound connects to hosts that somebody else has named: push services,
// whose endpoints browsers choose, and receivers of callbacks. It decides which
// addresses we connect to, so that nobody can send us into our own network.
// Whether a name may be asked at all is for its callers to know.
package outbound

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/belfry-push/belfry"
)

// A Dialer connects to hosts that were checked by name before the request. The
// address is checked here, at the moment of connecting, so that no second
// look-up can change it in between (SEC-03).
type Dialer struct {
	// Opened finds what an operator opened by name. Required.
	Opened func(host, port string) (belfry.PushHost, bool)

	Resolver *net.Resolver // default: the system's
	Timeout  time.Duration // for name and connection

	check control // for every host that no operator opened; default: public
}

// A control is a net.Dialer.Control: it sees the address that is about to be
// connected to, and stops it with an error.
type control = func(network, address string, c syscall.RawConn) error

// DialContext is for http.Transport.
func (d Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	address, check := d.route(address)
	nd := net.Dialer{Timeout: d.Timeout, Resolver: d.Resolver, Control: check}
	return nd.DialContext(ctx, network, address)
}

// route says what to dial for host:port, and which addresses of it will do.
// Only the very host that an operator opened may be anywhere.
func (d Dialer) route(address string) (string, control) {
	host, port, _ := net.SplitHostPort(address)
	opened, ok := d.Opened(host, port)
	switch {
	case !ok && d.check != nil:
		return address, d.check
	case !ok:
		return address, public
	case opened.Dial != "":
		return opened.Dial, loopback
	case opened.Scheme == "http":
		return address, loopback
	}
	return address, nil
}

// ErrAddress says that a name led to an address that we do not connect to.
var ErrAddress = errors.New("not an address that we connect to")

// public is a control that lets through addresses of the public internet.
func public(_, address string, _ syscall.RawConn) error {
	if addr, err := netip.ParseAddrPort(address); err != nil || !isPublic(addr.Addr()) {
		return ErrAddress
	}
	return nil
}

// loopback is a control for plain http, which must not leave this machine.
func loopback(_, address string, _ syscall.RawConn) error {
	if addr, err := netip.ParseAddrPort(address); err != nil || !addr.Addr().IsLoopback() {
		return ErrAddress
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
