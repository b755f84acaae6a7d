package outbound

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/internal/outbound/outboundtest"
)

// A push service's name that leads to one of these would let whoever owns the
// name post into our network, or to the cloud's metadata (SEC-03).
func TestIsPublic(t *testing.T) {
	tests := []struct {
		want  bool
		addrs string
	}{
		{true, "8.8.8.8 1.1.1.1 142.250.74.74 17.253.144.10 100.63.255.255 100.128.0.0 172.15.255.255 172.32.0.0"},
		{true, "192.0.1.1 192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0 223.255.255.255 126.255.255.255 128.0.0.0"},
		{true, "2a00:1450:4001:82a::200a 2606:4700::1111 2620:149:a44::1 2001:4860:4860::8888 2001:200::1 2003::1"},
		{false, "127.0.0.1 127.255.255.254 0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 172.16.0.1 172.31.255.255 192.168.1.1"},
		{false, "169.254.169.254 169.254.0.1 100.64.0.1 100.127.255.255 192.0.0.8 192.0.0.170 198.18.0.1 198.19.255.255"},
		{false, "192.0.2.1 198.51.100.7 203.0.113.9 192.88.99.1 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255"},
		{false, "::1 :: fe80::1 fe80::1%eth0 2606:4700::1111%eth0 febf::1 fec0::1 fc00::1 fd12:3456::1 ff02::1 ::ffff:8.8.8.8 ::ffff:127.0.0.1 ::127.0.0.1"},
		{false, "64:ff9b::808:808 64:ff9b:1::1 2002:7f00:1:: 2002::1 2001::1 2001:0:53aa::1 2001:db8::1 3fff::1 100::1 2001:10::1 5f00::1"},
	}
	for _, tt := range tests {
		for _, addr := range strings.Fields(tt.addrs) {
			if got := isPublic(netip.MustParseAddr(addr)); got != tt.want {
				t.Errorf("%s: %v, want %v", addr, got, tt.want)
			}
		}
	}
	if isPublic(netip.Addr{}) {
		t.Error("no address at all is public")
	}
}

// A name that was public when it was first looked up and is this machine at the
// next is DNS rebinding: what was checked is not what is connected to, unless
// the check is made on the connection itself (SEC-03).
func TestRebinding(t *testing.T) {
	var mu sync.Mutex
	var seen []string
	stopped := errors.New("no packet leaves a test")
	d := Dialer{Opened: belfry.PushHosts{}.Opened, Resolver: outboundtest.Names("142.250.74.74", "127.0.0.1"), check: func(network, address string, c syscall.RawConn) error {
		mu.Lock()
		defer mu.Unlock()
		err := public(network, address, c)
		if seen = append(seen, address+" "+map[bool]string{true: "let through", false: "refused"}[err == nil]); err == nil {
			err = stopped
		}
		return err
	}}
	_, first := d.DialContext(t.Context(), "tcp", "fcm.googleapis.com:443")
	_, second := d.DialContext(t.Context(), "tcp", "fcm.googleapis.com:443")
	want := []string{"142.250.74.74:443 let through", "127.0.0.1:443 refused"}
	if !slices.Equal(seen, want) {
		t.Errorf("connections %q, want %q", seen, want)
	}
	if Cause(first) != "it cannot be reached" || Cause(second) != "its address is not public" {
		t.Errorf("errors %v, %v", first, second)
	}
}

// Plain http is for this machine alone, whatever a name server says that
// localhost is.
func TestPlainHTTPStaysHome(t *testing.T) {
	hosts, err := belfry.NewPushHosts([]string{"http://localhost:8090"})
	if err != nil {
		t.Fatal(err)
	}
	to, check := Dialer{Opened: hosts.Opened}.route("localhost:8090")
	if to != "localhost:8090" || check("tcp4", "127.0.0.1:8090", nil) != nil || check("tcp4", "10.0.0.1:8090", nil) != ErrAddress {
		t.Errorf("dials %s, and not only this machine", to)
	}
}
