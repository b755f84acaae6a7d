//go:build faults

package faults

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"github.com/belfry-push/belfry/broadcasts"
	"github.com/belfry-push/belfry/sender/pushtest"
)

// ownNetwork names, to the test that runs in a network of its own, the workshop
// of the one that started it.
const ownNetwork = "BELFRY_FAULTS_WORKSHOP"

// Push services whose names cannot be found, or lead nowhere, are asked again
// while there is time, cost no subscriber, and get their messages soon after
// their names are right; one that can be reached by IPv4 alone is reached
// (REL-21, REL-27).
//
// The program asks the name servers of /etc/resolv.conf at port 53. So all of it
// runs once more in namespaces where that file and that port are the test's own,
// which takes no rights on this machine.
func TestNames(t *testing.T) {
	if os.Getenv(ownNetwork) != "" {
		testNames(t)
		return
	}
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	servers := filepath.Join(temp(t), "resolv.conf")
	if err := os.WriteFile(servers, []byte("nameserver 127.0.0.1\noptions timeout:1 attempts:2\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, "unshare", "--map-root-user", "--mount", "--net", "sh", "-c", `mount --bind "$0" /etc/resolv.conf && exec "$@"`,
		servers, os.Args[0], "-test.run=^TestNames$", "-test.v", fmt.Sprintf("-full=%v", *full))
	// Some systems' nsswitch.conf would make it ask others than name servers.
	cmd.Env = append(os.Environ(), ownNetwork+"="+workshop, "GODEBUG=netdns=go")
	out, err := cmd.CombinedOutput()
	figure := regexp.MustCompile(`REL-21: .*`).Find(out)
	if err != nil || figure == nil {
		t.Fatalf("in a network of its own: %v\n%s", err, out)
	}
	t.Logf("%s", figure)
}

func testNames(t *testing.T) {
	each, lasts := size(15, 200), time.Duration(size(2, 40))*time.Second
	ctx, cancel := context.WithTimeout(t.Context(), within*3/4) // sooner than the other, to say what is wrong
	defer cancel()
	raiseLoopback(t)
	names := serveNames(t)
	holes := blackHole(t)

	// What is wrong with a name, and where its push service is.
	unreachable := netip.MustParseAddr("2001:db8::1") // this network has no IPv6 beyond itself
	wrong := map[string]func() reply{
		"nxdomain": func() reply { return reply{code: dnsmessage.RCodeNameError} },
		"servfail": func() reply { return reply{code: dnsmessage.RCodeServerFailure} },
		"timeout":  func() reply { return reply{silent: true} },
		"only-v6":  func() reply { return reply{v6: unreachable} },
	}
	var all []string
	services, addresses := map[string]*pushtest.Service{}, map[string]netip.Addr{}
	started := time.Now()
	for i, name := range []string{"nxdomain", "servfail", "timeout", "only-v6", "flapping", "black-hole"} {
		host, address := name+".test", netip.AddrFrom4([4]byte{127, 0, 0, byte(i + 2)})
		service, err := pushtest.Start(pushtest.Config{TLS: true, Listen: address.String() + ":443", URL: "https://" + host})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { service.Close() })
		services[host], addresses[host] = service, address
		all = append(all, host)
		switch name {
		case "flapping": // every other second, it is not found
			names.set(host, func() reply {
				if time.Since(started)/time.Second%2 == 0 {
					return reply{code: dnsmessage.RCodeServerFailure}
				}
				return reply{v4: address}
			})
		case "black-hole":
			names.set(host, func() reply { return reply{v4: address, v6: holes} })
		default:
			names.set(host, wrong[name])
		}
	}

	var ca []byte
	s := newServer(ctx, t)
	for _, host := range all {
		ca = append(ca, services[host].CA()...)
		s.flags = append(s.flags, "--push-host", host)
	}
	s.trust(ca)
	s.run()
	var lines [][]byte
	for _, host := range all {
		p := &pushService{t: t, url: "https://" + addresses[host].String()}
		lines = append(lines, p.mint(each, s.key())...)
	}
	s.load(lines, "news")
	launched := time.Now()
	id := s.launch("news", 3600)
	bad := all[:4]
	var b broadcasts.Broadcast
	state := func(host string) broadcasts.Host {
		return b.Hosts[slices.IndexFunc(b.Hosts, func(h broadcasts.Host) bool { return h.Host == host })]
	}
	for settled := false; !settled; {
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("it does not come to rest: %+v", b.Hosts)
		}
		if b = s.show(id); len(b.Hosts) < len(all) {
			continue
		}
		settled = true
		for _, host := range all {
			failing := slices.Contains(bad, host) && strings.HasSuffix(state(host).Reason, "is asked once a second")
			settled = settled && (failing || state(host).Accepted == each)
		}
	}
	reached := first(t, services["black-hole.test"]).Sub(launched)
	if *full && reached > 4*time.Second { // one address after the other, half of ten seconds would go to the first
		t.Errorf("it took %s to find that IPv4 works", reached)
	}
	<-time.After(lasts)
	b = s.show(id)
	rows := each * len(all)
	if want := (broadcasts.Counts{Targets: rows, Accepted: 2 * each, Pending: 4 * each}); b.Counts != want || s.registered() != rows {
		t.Errorf("while names cannot be found, %+v, and %d are left of %d", b.Counts, s.registered(), rows)
	}
	var reasons []string
	for _, host := range bad {
		reasons = append(reasons, strings.TrimSuffix(host, ".test")+": "+state(host).Reason)
	}
	asked, wronged := names.asked(), time.Since(launched)

	right := time.Now()
	for _, host := range bad {
		address := addresses[host]
		names.set(host, func() reply { return reply{v4: address} })
	}
	b = s.finish(id)
	slowest := time.Duration(0)
	for _, host := range bad {
		slowest = max(slowest, first(t, services[host]).Sub(right))
	}
	if b.Counts != (broadcasts.Counts{Targets: rows, Accepted: rows}) || s.registered() != rows || slowest > size(2*time.Minute, 30*time.Second) {
		t.Errorf("it ends with %+v, and %d are left of %d; names were believed to be wrong for %s", b.Counts, s.registered(), rows, slowest)
	}
	s.stop()
	s.audit().agree(t, b)
	t.Logf("REL-21: %s; where IPv6 is a black hole, IPv4 is taken within %d ms, and the one whose name is found every other second has all its %d; after %.0f s and %d questions the names are right, and within %d ms all are sent to: %d of %d accepted, %d of %d subscriptions left",
		strings.Join(reasons, "; "), reached.Milliseconds(), each, wronged.Seconds(), asked, slowest.Milliseconds(), b.Counts.Accepted, rows, rows, rows)
}

// first is when the first message came.
func first(t *testing.T, s *pushtest.Service) time.Time {
	t.Helper()
	received := s.Received()
	if len(received) == 0 {
		t.Fatalf("nothing came to %s", s.URL())
	}
	return received[0].Time
}

// raiseLoopback brings a new network to life, which has this one interface.
func raiseLoopback(t *testing.T) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err == nil {
		lo.SetUint16(unix.IFF_UP | unix.IFF_LOOPBACK | unix.IFF_RUNNING)
		err = unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo)
	}
	if err != nil {
		t.Fatalf("the loopback interface: %v", err)
	}
}

// blackHole is an IPv6 address at whose port 443 connections neither come about
// nor fail: a listener whose queue is full.
func blackHole(t *testing.T) netip.Addr {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET6, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatalf("a socket of IPv6: %v", err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	hole := netip.IPv6Loopback()
	if err := syscall.Bind(fd, &syscall.SockaddrInet6{Port: 443, Addr: hole.As16()}); err != nil {
		t.Fatalf("an address of IPv6: %v", err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	for range 64 {
		conn, err := net.DialTimeout("tcp", netip.AddrPortFrom(hole, 443).String(), 500*time.Millisecond)
		if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
			return hole
		}
		if err != nil {
			t.Fatalf("it refuses instead: %v", err)
		}
		t.Cleanup(func() { conn.Close() })
	}
	t.Fatal("its queue is never full")
	return hole
}

// A reply is what a name server says of a name: addresses, none of them where
// both are zero, a fault, or nothing.
type reply struct {
	v4, v6 netip.Addr
	code   dnsmessage.RCode
	silent bool
}

// A nameServer answers at port 53 of 127.0.0.1.
type nameServer struct {
	mu      sync.Mutex // guards what follows
	replies map[string]func() reply
	queries int
}

func serveNames(t *testing.T) *nameServer {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:53")
	if err != nil {
		t.Fatal(err)
	}
	n := &nameServer{replies: map[string]func() reply{}}
	done := make(chan struct{})
	t.Cleanup(func() { conn.Close(); <-done })
	go func() {
		defer close(done)
		query := make([]byte, 1500)
		for {
			size, from, err := conn.ReadFrom(query)
			if err != nil {
				return
			}
			if answer := n.answer(query[:size]); answer != nil {
				conn.WriteTo(answer, from)
			}
		}
	}()
	return n
}

func (n *nameServer) set(host string, is func() reply) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.replies[host+"."] = is
}

// asked is how many questions came.
func (n *nameServer) asked() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.queries
}

// answer makes the answer to a question, or nothing.
func (n *nameServer) answer(query []byte) []byte {
	var m dnsmessage.Message
	if m.Unpack(query) != nil || len(m.Questions) != 1 {
		return nil
	}
	q := m.Questions[0]
	n.mu.Lock()
	n.queries++
	is := n.replies[strings.ToLower(q.Name.String())]
	n.mu.Unlock()
	r := reply{code: dnsmessage.RCodeNameError}
	if is != nil {
		r = is()
	}
	if r.silent {
		return nil
	}
	m.Response, m.RecursionAvailable, m.RCode, m.Additionals = true, true, r.code, nil
	header := dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 600}
	switch {
	case q.Type == dnsmessage.TypeA && r.v4.IsValid():
		m.Answers = []dnsmessage.Resource{{Header: header, Body: &dnsmessage.AResource{A: r.v4.As4()}}}
	case q.Type == dnsmessage.TypeAAAA && r.v6.IsValid():
		m.Answers = []dnsmessage.Resource{{Header: header, Body: &dnsmessage.AAAAResource{AAAA: r.v6.As16()}}}
	}
	packed, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return packed
}
