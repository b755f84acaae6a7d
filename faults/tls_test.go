//go:build faults

package faults

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// An impostor is a listener that is not the push service it is taken for. It
// counts who came and what they gave away.
type impostor struct {
	net.Listener
	came   atomic.Int32 // connections
	leaked atomic.Int32 // octets behind the handshake
}

// pretend listens and shows config to whoever comes; with none it never says a word.
func pretend(t *testing.T, config *tls.Config) *impostor {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	i := &impostor{Listener: l}
	var open sync.WaitGroup
	open.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			i.came.Add(1)
			t.Cleanup(func() { conn.Close() })
			if config != nil {
				open.Go(func() { i.read(tls.Server(conn, config)) })
			}
		}
	})
	t.Cleanup(func() { l.Close() })
	return i
}

func (i *impostor) read(conn *tls.Conn) {
	defer conn.Close()
	buf := make([]byte, 1024)
	for {
		n, err := conn.Read(buf)
		i.leaked.Add(int32(n))
		if err != nil {
			return
		}
	}
}

// An authority signs certificates for 127.0.0.1.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{}
	a.cert = &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "faults"}, NotBefore: time.Now().Add(-48 * time.Hour),
		NotAfter: time.Now().Add(48 * time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	a.key = newKey(t)
	der, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return a
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

// certify signs a certificate for address that ends then.
func (a *authority) certify(t *testing.T, address string, end time.Time) *tls.Config {
	t.Helper()
	key := newKey(t)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: a.cert.NotBefore, NotAfter: end,
		IPAddresses: []net.IP{net.ParseIP(address)}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}},
		a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, NextProtos: []string{"h2"}}
}

// Whoever cannot prove to be the push service gets not an octet of a message, is
// asked again while there is time, and costs no subscriber; the real one is not
// kept waiting (REL-06, REL-27).
func TestImpostors(t *testing.T) {
	t.Parallel()
	rows := size(10, 100)
	ttl := size(20, 13) // seconds: a handshake that hangs takes ten, and then there is time for another
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	known, unknown := newAuthority(t), newAuthority(t)
	tomorrow := time.Now().Add(24 * time.Hour)
	old := known.certify(t, "127.0.0.1", tomorrow)
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	impostors := map[string]*impostor{
		"expired":      pretend(t, known.certify(t, "127.0.0.1", time.Now().Add(-time.Hour))),
		"wrong host":   pretend(t, known.certify(t, "127.0.0.2", tomorrow)),
		"unknown CA":   pretend(t, unknown.certify(t, "127.0.0.1", tomorrow)),
		"TLS 1.1":      pretend(t, old),
		"no handshake": pretend(t, nil),
	}
	push := startPushService(ctx, t, "--tls")
	s := newServer(ctx, t)
	s.trust(slices.Concat(push.ca, known.pem()))
	s.flags = append(s.flags, "--push-host", push.host())
	for _, i := range impostors {
		s.flags = append(s.flags, "--push-host", i.Addr().String())
	}
	s.run()
	s.join(push, rows, "news")
	for _, i := range impostors {
		lines := push.mint(rows, s.key())
		for n, line := range lines {
			lines[n] = bytes.Replace(line, []byte(push.host()), []byte(i.Addr().String()), 1)
		}
		s.load(lines, "news")
	}
	all := rows * (1 + len(impostors))

	b := s.finish(s.launch("news", ttl))
	if b.Counts.Accepted != rows || b.Counts.Accepted+b.Counts.Expired+b.Counts.Failed != all || len(count(push.ledger(), b.ID).accepted) != rows {
		t.Errorf("it ends with %+v", b.Counts)
	}
	leaked, fewest := 0, all
	var came []string
	for name, i := range impostors {
		leaked += int(i.leaked.Load())
		fewest = min(fewest, int(i.came.Load()))
		came = append(came, name)
		if i.leaked.Load() > 0 || i.came.Load() < 2 {
			t.Errorf("%s: %d connections, %d octets", name, i.came.Load(), i.leaked.Load())
		}
	}
	if n := s.registered(); n != all {
		t.Errorf("%d subscriptions are left of %d", n, all)
	}
	s.stop()
	s.audit().agree(t, b)
	slices.Sort(came)
	reasons, _ := json.Marshal(b.Failures)
	t.Logf("REL-06: %s: %d octets given away, %d connections at least to each, %d of %d subscriptions left; accepted %d of %d at the real one, expired %d, failed %d %s",
		strings.Join(came, ", "), leaked, fewest, all, all, b.Counts.Accepted, rows, b.Counts.Expired, b.Counts.Failed, reasons)
}
