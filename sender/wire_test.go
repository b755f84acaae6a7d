package sender_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/sender"
	"github.com/belfry-push/belfry/sender/pushtest"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// certificate makes a certificate for name, signed by ca or, without one, by itself.
func certificate(t *testing.T, name string, until time.Time, ca *tls.Certificate) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		DNSNames: []string{name}, NotBefore: time.Now().AddDate(0, 0, -7), NotAfter: until,
		IsCA: name == "ca", BasicConstraintsValid: true}
	parent, signKey := template, key
	if ca != nil {
		parent, signKey = ca.Leaf, ca.PrivateKey.(*ecdsa.PrivateKey)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signKey)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// eavesdrop accepts TLS connections with cfg and returns its address, and how
// many octets of requests it read from them once they are closed.
func eavesdrop(t *testing.T, cfg *tls.Config) (address string, octets func() int64) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	var read atomic.Int64
	var open sync.WaitGroup
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			open.Go(func() {
				defer conn.Close()
				n, _ := tls.Server(conn, cfg).Read(make([]byte, 4096))
				read.Add(int64(n))
			})
		}
	}()
	return listener.Addr().String(), func() int64 { open.Wait(); return read.Load() }
}

// Whoever answers in a push service's place must not get one octet of a
// request: the token in it could be replayed for hours. The message waits for
// the real one (WP-01, REL-06, SEC-07).
func TestBrokenTLS(t *testing.T) {
	const host = "push.example.com"
	year := time.Now().AddDate(1, 0, 0)
	ca := certificate(t, "ca", year, nil)
	good := certificate(t, host, year, ca)
	roots := x509.NewCertPool()
	roots.AddCert(ca.Leaf)
	with := func(c *tls.Certificate) *tls.Config { return &tls.Config{Certificates: []tls.Certificate{*c}} }
	old := with(good)
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	twelve := with(good)
	twelve.MaxVersion = tls.VersionTLS12
	tests := []struct {
		name, reason string
		cfg          *tls.Config
		leaves       bool
	}{
		{"good", "the connection broke", with(good), true}, // shows that the eavesdropper hears what there is
		{"TLS 1.2", "the connection broke", twelve, true},
		{"TLS 1.1", "no secure connection came about", old, false},
		{"expired", "its certificate has expired or is not valid yet", with(certificate(t, host, time.Now().Add(-time.Hour), ca)), false},
		{"self-signed", "its certificate is not trusted", with(certificate(t, host, year, nil)), false},
		{"wrong host", "its certificate is for another host", with(certificate(t, "other.example.com", year, ca)), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			address, octets := eavesdrop(t, tt.cfg)
			hosts, err := belfry.NewPushHosts([]string{host + "=" + address})
			if err != nil {
				t.Fatal(err)
			}
			s, err := sender.New(sender.Config{Signer: newSigner(t), Hosts: hosts, RootCAs: roots})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			sub, _ := browser(t, "https://"+host+"/p")
			o := s.Send(t.Context(), sub, belfry.PushMessage{Payload: []byte("hi")})
			if o.Verdict != belfry.Later || o.Reason != tt.reason || o.Err == nil || o.Status != 0 {
				t.Errorf("%+v, want later, %q", o, tt.reason)
			}
			if n := octets(); (n > 0) != tt.leaves {
				t.Errorf("%d octets left", n)
			}
		})
	}
}

// A push service has no reason to send us elsewhere. One that does is asking us
// to knock on a door of its choosing, our cloud's metadata for example (SEC-04).
func TestRedirect(t *testing.T) {
	var visits atomic.Int64
	canary := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { visits.Add(1) }))
	defer canary.Close()
	eachEngine(t, func(t *testing.T, engine string) {
		service, sign := pushtest.NewService(t), newSigner(t)
		given, err := sender.New(sender.Config{Signer: sign, Engine: engine, Hosts: service.Hosts(), Transport: service.Client().Transport})
		if err != nil {
			t.Fatal(err)
		}
		sub := service.Subscribe(sign.public())
		for _, s := range []*sender.Sender{start(t, engine, service, sign), given} {
			for _, status := range []int{300, 301, 302, 303, 304, 307, 308} {
				for _, location := range []string{canary.URL, service.URL() + "/wpush/v2/x", "/", "", "http://[::1", "https://%zz/"} {
					service.Answer(sub.Endpoint, pushtest.Answer{Status: status, Header: http.Header{"Location": {location}}})
					before := len(service.Received())
					o := s.Send(t.Context(), sub, belfry.PushMessage{Payload: []byte("hi")})
					if o.Verdict != belfry.Refused || o.Status != status || len(service.Received()) != before+1 {
						t.Errorf("%d to %q: %+v, %d requests", status, location, o, len(service.Received())-before)
					}
				}
			}
		}
	})
	if n := visits.Load(); n != 0 {
		t.Errorf("the canary was visited %d times", n)
	}
}

// A proxy that the environment names, perhaps for another program, would learn
// who is rung, and connect for us where no address is checked (SEC-05).
func TestProxyFromEnvironment(t *testing.T) {
	const child = "BELFRY_TEST_PROXY"
	if os.Getenv(child) != "" {
		// By name: Go never uses a proxy for a loopback address.
		service, sign := pushtest.NewService(t, pushtest.Config{URL: "https://updates.push.services.mozilla.com"}), newSigner(t)
		o := start(t, "", service, sign).Send(t.Context(), service.Subscribe(sign.public()), belfry.PushMessage{Payload: []byte("hi")})
		if o.Verdict != belfry.Accepted {
			t.Errorf("%+v", o)
		}
		return
	}
	var visits atomic.Int64
	canary := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { visits.Add(1) }))
	defer canary.Close()
	// net/http reads the environment once, so it takes a process of its own.
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestProxyFromEnvironment$")
	cmd.Env = append(os.Environ(), child+"=1", "HTTPS_PROXY="+canary.URL, "HTTP_PROXY="+canary.URL, "ALL_PROXY="+canary.URL, "NO_PROXY=")
	out, err := cmd.CombinedOutput()
	if n := visits.Load(); err != nil || n != 0 {
		t.Errorf("the canary was visited %d times; %v\n%s", n, err, out)
	}
}

// A host that answers without end must not fill our memory: what it could get
// rid of before we hung up is all that we ever held of it (SEC-08).
func TestEndlessAnswer(t *testing.T) {
	for _, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
		var written atomic.Int64
		stopped := make(chan struct{})
		service, _ := serve(t, proto, func(w http.ResponseWriter, r *http.Request) {
			defer close(stopped)
			if r.Proto != proto {
				t.Errorf("asked over %s", r.Proto)
			}
			w.WriteHeader(http.StatusForbidden)
			for chunk := bytes.Repeat([]byte("x"), 1024); ; {
				n, err := w.Write(chunk)
				written.Add(int64(n))
				if err != nil {
					return
				}
			}
		})
		s := startAt(t, service)
		sub, _ := browser(t, service.URL+"/p")
		o := s.Send(t.Context(), sub, belfry.PushMessage{Payload: []byte("hi")})
		if o.Verdict != belfry.OurFault || len(o.Reason) > 200 {
			t.Errorf("%s: %+v", proto, o)
		}
		<-stopped
		// Over HTTP/1.1 the kernel's socket buffers take their share; ours is none of it.
		if n, most := written.Load(), int64(map[string]int{"HTTP/1.1": 8 << 20, "HTTP/2.0": 64 << 10}[proto]); n > most {
			t.Errorf("%s: the host got rid of %d octets", proto, n)
		}
	}
}

// A header without end is never an answer, whichever way it is spun out (SEC-08).
func TestEndlessHeader(t *testing.T) {
	field := strings.Repeat("x", 1000)
	tests := []struct {
		name, proto string
		answer      func(w http.ResponseWriter, r *http.Request)
	}{
		{"fields", "HTTP/1.1", func(w http.ResponseWriter, r *http.Request) {
			conn, _, _ := http.NewResponseController(w).Hijack()
			defer conn.Close()
			io.WriteString(conn, "HTTP/1.1 201 Created\r\n")
			for {
				if _, err := io.WriteString(conn, "X-Endless: "+field+"\r\n"); err != nil {
					return
				}
			}
		}},
		{"interim answers", "HTTP/2.0", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Endless", field)
			for r.Context().Err() == nil {
				w.WriteHeader(http.StatusEarlyHints)
			}
		}},
		{"one large field", "HTTP/2.0", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Large", strings.Repeat(field, 30))
			w.WriteHeader(http.StatusCreated)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			service, _ := serve(t, tt.proto, tt.answer)
			s := startAt(t, service)
			sub, _ := browser(t, service.URL+"/p")
			began := time.Now()
			o := s.Send(t.Context(), sub, belfry.PushMessage{Payload: []byte("hi")})
			if took := time.Since(began); o.Verdict != belfry.Later || o.Reason != "the connection broke" || took > 5*time.Second {
				t.Errorf("%+v after %v", o, took)
			}
		})
	}
}

// serve starts an HTTPS server that ends with the test, and counts the
// connections to it.
func serve(t *testing.T, proto string, handler http.HandlerFunc) (*httptest.Server, *atomic.Int64) {
	t.Helper()
	var connections atomic.Int64
	service := httptest.NewUnstartedServer(handler)
	service.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	service.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	service.EnableHTTP2 = proto == "HTTP/2.0"
	service.StartTLS()
	t.Cleanup(service.Close)
	return service, &connections
}

// startAt returns a sender that reaches service.
func startAt(t *testing.T, service *httptest.Server) *sender.Sender {
	t.Helper()
	hosts, err := belfry.NewPushHosts([]string{service.Listener.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(service.Certificate())
	s, err := sender.New(sender.Config{Signer: newSigner(t), Hosts: hosts, RootCAs: roots})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// Over HTTP/2 a push service may refuse a stream unread, when it drains or is
// full. The transport then sends the request once more by itself, body and all,
// which it can only if the body can be had a second time.
func TestRefusedStreamIsSentAgain(t *testing.T) {
	eachEngine(t, func(t *testing.T, engine string) {
		ca := certificate(t, "ca", time.Now().AddDate(1, 0, 0), nil)
		cert := certificate(t, "push.example.com", time.Now().AddDate(1, 0, 0), ca)
		listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{*cert}, NextProtos: []string{"h2"}})
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		judged := make(chan struct{})
		var bodies [][]byte
		var served sync.WaitGroup
		served.Go(func() {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			bodies = refuseFirst(conn)
			<-judged
		})
		hosts, err := belfry.NewPushHosts([]string{"push.example.com=" + listener.Addr().String()})
		if err != nil {
			t.Fatal(err)
		}
		roots := x509.NewCertPool()
		roots.AddCert(ca.Leaf)
		s, err := sender.New(sender.Config{Signer: newSigner(t), Engine: engine, Hosts: hosts, RootCAs: roots})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		sub, key := browser(t, "https://push.example.com/p")
		o := s.Send(t.Context(), sub, belfry.PushMessage{Payload: []byte("hi")})
		close(judged)
		listener.Close()
		served.Wait()
		if o.Verdict != belfry.Accepted || len(bodies) != 2 || !bytes.Equal(bodies[0], bodies[1]) {
			t.Fatalf("%+v after %d requests", o, len(bodies))
		}
		if got, err := pushtest.Open(bodies[1], key, sub.Auth); err != nil || string(got) != "hi" {
			t.Errorf("the second opens as %q, %v", got, err)
		}
	})
}

// refuseFirst speaks HTTP/2 as far as it takes to refuse the first stream and
// accept the second, and returns the bodies of both.
func refuseFirst(conn net.Conn) (bodies [][]byte) {
	io.ReadFull(conn, make([]byte, len(http2.ClientPreface)))
	f := http2.NewFramer(conn, conn)
	f.WriteSettings()
	var body []byte
	for len(bodies) < 2 {
		frame, err := f.ReadFrame()
		if err != nil {
			return bodies
		}
		switch frame := frame.(type) {
		case *http2.SettingsFrame:
			if !frame.IsAck() {
				f.WriteSettingsAck()
			}
		case *http2.DataFrame:
			body = append(body, frame.Data()...)
			if !frame.StreamEnded() {
				continue
			}
			if bodies = append(bodies, body); len(bodies) == 1 {
				body = nil
				f.WriteRSTStream(frame.StreamID, http2.ErrCodeRefusedStream)
				continue
			}
			var header bytes.Buffer
			hpack.NewEncoder(&header).WriteField(hpack.HeaderField{Name: ":status", Value: "201"})
			f.WriteHeaders(http2.HeadersFrameParam{StreamID: frame.StreamID, BlockFragment: header.Bytes(), EndHeaders: true, EndStream: true})
		}
	}
	return bodies
}

// One connection carries all, and an answer that was not read to its end would
// cost a new one each time.
func TestConnectionIsUsedAgain(t *testing.T) {
	// HTTP/1.1, where an unread answer blocks the connection.
	service, connections := serve(t, "HTTP/1.1", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		io.WriteString(w, strings.Repeat("x", 9000))
	})
	s := startAt(t, service)
	sub, _ := browser(t, service.URL+"/p")
	for range 20 {
		if o := s.Send(t.Context(), sub, belfry.PushMessage{Payload: []byte("hi")}); o.Verdict != belfry.OurFault {
			t.Fatalf("%+v", o)
		}
	}
	if n := connections.Load(); n > 2 { // the first of which only learns that there is no HTTP/2
		t.Errorf("%d connections for 20 messages", n)
	}
}

// A broadcast begins with many attempts at once. Each dialling for itself would
// be a storm of handshakes at the push service, and slow.
func TestColdStart(t *testing.T) {
	service, connections := serve(t, "HTTP/2.0", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusCreated)
	})
	s := startAt(t, service)
	sub, _ := browser(t, service.URL+"/p")
	var all sync.WaitGroup
	for range 200 {
		all.Go(func() {
			if o := s.Send(t.Context(), sub, belfry.PushMessage{Payload: []byte("hi")}); o.Verdict != belfry.Accepted {
				t.Errorf("%+v", o)
			}
		})
	}
	all.Wait()
	if n := connections.Load(); n > 48 {
		t.Errorf("%d connections for 200 messages", n)
	}
}
