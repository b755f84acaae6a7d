package sender

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/belfry-push/belfry"
	"golang.org/x/net/dns/dnsmessage"
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

// names is a resolver that answers look-ups of any name with the next of addrs,
// the last one for ever, over a pipe in the framing of DNS over TCP.
func names(t testing.TB, addrs ...string) *net.Resolver {
	var mu sync.Mutex
	next := func() netip.Addr {
		mu.Lock()
		defer mu.Unlock()
		addr := netip.MustParseAddr(addrs[0])
		if len(addrs) > 1 {
			addrs = addrs[1:]
		}
		return addr
	}
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go answerName(theirs, next)
		return ours, nil
	}}
}

func answerName(conn net.Conn, next func() netip.Addr) {
	defer conn.Close()
	head := make([]byte, 2)
	if _, err := io.ReadFull(conn, head); err != nil {
		return
	}
	query := make([]byte, binary.BigEndian.Uint16(head))
	if _, err := io.ReadFull(conn, query); err != nil {
		return
	}
	var m dnsmessage.Message
	if m.Unpack(query) != nil || len(m.Questions) == 0 {
		return
	}
	m.Response, m.Authoritative, m.Additionals = true, true, nil
	if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
		m.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 0},
			Body:   &dnsmessage.AResource{A: next().As4()},
		}}
	}
	packed, _ := m.Pack()
	conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(packed))), packed...))
}

// vouch is a signer that needs no key.
type vouch struct{}

func (vouch) Authorization(audience, keyID string) (string, error) { return "vapid t=t, k=k", nil }

// A name that was public when it was first looked up and is this machine at the
// next is DNS rebinding: what was checked is not what is connected to, unless
// the check is made on the connection itself (SEC-03).
func TestRebinding(t *testing.T) {
	var mu sync.Mutex
	var seen []string
	stopped := errors.New("no packet leaves a test")
	d := dialer{resolver: names(t, "142.250.74.74", "127.0.0.1"), check: func(network, address string, c syscall.RawConn) error {
		mu.Lock()
		defer mu.Unlock()
		err := public(network, address, c)
		if seen = append(seen, address+" "+map[bool]string{true: "let through", false: "refused"}[err == nil]); err == nil {
			err = stopped
		}
		return err
	}}
	s, err := New(Config{Signer: vouch{}, Client: &http.Client{Transport: &http.Transport{DialContext: d.dial}}})
	if err != nil {
		t.Fatal(err)
	}
	_, _, sub := example(t)
	sub.Endpoint = belfry.StoredEndpoint("https://fcm.googleapis.com/fcm/send/abc")
	first := s.Send(t.Context(), sub, belfry.PushMessage{})
	second := s.Send(t.Context(), sub, belfry.PushMessage{})
	want := []string{"142.250.74.74:443 let through", "127.0.0.1:443 refused"}
	if !slices.Equal(seen, want) {
		t.Errorf("connections %q, want %q", seen, want)
	}
	if first.Reason != "it cannot be reached" || second.Verdict != belfry.Later || second.Reason != "its address is not public" {
		t.Errorf("outcomes %+v, %+v", first, second)
	}
}

// --push-host opens one host. A subscription must not be able to use it to get
// at that host's other ports, its siblings, or another name that leads there.
func TestOpenedHost(t *testing.T) {
	hits := map[string]int{}
	service := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hits[r.Host]++
		w.WriteHeader(http.StatusCreated)
	}))
	service.StartTLS()
	defer service.Close()
	_, port, _ := net.SplitHostPort(service.Listener.Addr().String())
	// httptest's certificate is for example.com and 127.0.0.1.
	tests := []struct {
		name, open, endpoint string
		verdict              belfry.Verdict
		reason               string
	}{
		{"opened, found at a private address", "example.com:" + port, "https://example.com:" + port + "/p", belfry.Accepted, ""},
		{"opened, dialled elsewhere", "example.com=127.0.0.1:" + port, "https://example.com/p", belfry.Accepted, ""},
		{"opened by address", "127.0.0.1:" + port, "https://127.0.0.1:" + port + "/p", belfry.Accepted, ""},
		{"its other port", "example.com:" + port, "https://example.com:1/p", belfry.Blocked, "endpoint: must use port 443"},
		{"its sibling", "example.com:" + port, "https://www.example.com/p", belfry.Blocked, "endpoint: is not at a push service that this server speaks to"},
		{"a push service led there", "example.com=127.0.0.1:" + port, "https://web.push.apple.com/p", belfry.Later, "its address is not public"},
		{"plain http", "example.com:" + port, "http://example.com:" + port + "/p", belfry.Blocked, "endpoint: must begin with https://"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			clear(hits)
			hosts, err := belfry.NewPushHosts([]string{tt.open})
			if err != nil {
				t.Fatal(err)
			}
			s, err := New(Config{Signer: vouch{}, Hosts: hosts, Resolver: names(t, "127.0.0.1"),
				RootCAs: service.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			_, _, sub := example(t)
			sub.Endpoint = belfry.StoredEndpoint(tt.endpoint)
			got := s.Send(t.Context(), sub, belfry.PushMessage{})
			if got.Verdict != tt.verdict || got.Reason != tt.reason {
				t.Errorf("%+v, want %v %q", got, tt.verdict, tt.reason)
			}
			if accepted := tt.verdict == belfry.Accepted; (len(hits) > 0) != accepted {
				t.Errorf("requests arrived: %v", hits)
			}
		})
	}
}

// Plain http is for this machine alone, whatever a name server says that
// localhost is.
func TestPlainHTTPStaysHome(t *testing.T) {
	hosts, err := belfry.NewPushHosts([]string{"http://localhost:8090"})
	if err != nil {
		t.Fatal(err)
	}
	to, check := dialer{hosts: hosts, check: public}.route("localhost:8090")
	if to != "localhost:8090" || check("tcp4", "127.0.0.1:8090", nil) != nil || check("tcp4", "10.0.0.1:8090", nil) != errAddress {
		t.Errorf("dials %s, and not only this machine", to)
	}
}
