package h2

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// A peer is the server's end of one connection. Each test says frame by frame
// what it does.
type peer struct {
	*http2.Framer
	conn net.Conn
	t    *testing.T
}

// dialled is a Transport whose connections are pipes to scripts, the first to the
// first and all that follow to the last.
func dialled(t *testing.T, scripts ...func(*peer)) *Transport {
	t.Helper()
	cert, roots := certificate(t)
	var mu sync.Mutex
	var all sync.WaitGroup
	made := 0
	transport := New(Config{
		Dial: func(context.Context, string, string) (net.Conn, error) {
			mu.Lock()
			script := scripts[min(made, len(scripts)-1)]
			made++
			mu.Unlock()
			if script == nil {
				return nil, errors.New("nobody is there")
			}
			ours, theirs := net.Pipe()
			all.Go(func() {
				conn := tls.Server(theirs, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2"}})
				defer theirs.Close()
				preface := make([]byte, len(http2.ClientPreface))
				if _, err := io.ReadFull(conn, preface); err != nil || string(preface) != http2.ClientPreface {
					return
				}
				p := &peer{Framer: http2.NewFramer(conn, conn), conn: conn, t: t}
				p.ReadMetaHeaders = hpack.NewDecoder(tableSize, nil)
				script(p)
			})
			return ours, nil
		},
		TLS: &tls.Config{RootCAs: roots}, Connections: 3, Answer: 4096, Header: 16 << 10,
		Limits: Limits{Service: time.Hour, Queue: time.Hour}, Dialling: 10 * time.Second, Idle: 90 * time.Second, Quiet: 15 * time.Second, Lost: 5 * time.Second,
	})
	t.Cleanup(func() { transport.CloseIdleConnections(); all.Wait() })
	return transport
}

func certificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"push.example"},
		NotBefore: time.Now().AddDate(-1, 0, 0), NotAfter: time.Now().AddDate(1, 0, 0), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, roots
}

// A got is a request as the peer has it.
type got struct {
	id     uint32
	path   string
	body   string
	fields []hpack.HeaderField
}

// apart is p for a goroutine that writes besides the one that reads.
func (p *peer) apart() *peer {
	return &peer{Framer: http2.NewFramer(p.conn, nil), conn: p.conn, t: p.t}
}

// greet says the first word, and gets ours.
func (p *peer) greet(settings ...http2.Setting) { p.WriteSettings(settings...) }

// next reads up to the end of the next request, or until the connection ends: nil
// then. Of all other frames it tells other, which may be nil.
func (p *peer) next(other func(http2.Frame)) *got {
	open := map[uint32]*got{}
	for {
		frame, err := p.ReadFrame()
		if err != nil {
			return nil
		}
		var ended *got
		switch f := frame.(type) {
		case *http2.MetaHeadersFrame:
			g := &got{id: f.StreamID, path: f.PseudoValue("path"), fields: f.Fields}
			open[g.id] = g
			if f.StreamEnded() {
				ended = g
			}
		case *http2.DataFrame:
			g := open[f.StreamID]
			g.body += string(f.Data())
			if f.StreamEnded() {
				ended = g
			}
		case *http2.SettingsFrame:
			if !f.IsAck() {
				p.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if !f.IsAck() && other == nil {
				p.WritePing(true, f.Data)
			}
		}
		if other != nil {
			other(frame)
		}
		if ended != nil {
			return ended
		}
	}
}

// head writes the head of an answer.
func (p *peer) head(id uint32, end bool, fields ...string) {
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	for i := 0; i < len(fields); i += 2 {
		e.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: end})
}

func (p *peer) answer(g *got, status int) { p.head(g.id, true, ":status", strconv.Itoa(status)) }

// accept answers all that comes with 201, and notes it.
func accept(seen *[]got) func(*peer) {
	return func(p *peer) {
		p.greet()
		for g := p.next(nil); g != nil; g = p.next(nil) {
			if seen != nil {
				*seen = append(*seen, *g)
			}
			p.answer(g, 201)
		}
	}
}

// post sends body to path and returns the answer's status, its body and what went wrong.
func post(ctx context.Context, t http.RoundTripper, path, body string) (int, string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://push.example"+path, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("TTL", "60")
	req.Header.Set("Authorization", "vapid t=token, k=key")
	resp, err := t.RoundTrip(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}
