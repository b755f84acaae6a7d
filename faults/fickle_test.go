//go:build faults

package faults

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/belfry-push/belfry/sender/pushtest"
)

const (
	goodbyes = 100 // streams after which a connection takes no more (GOAWAY)
	refusals = 20  // one stream of so many is refused unread (RST_STREAM, REFUSED_STREAM)
)

// A fickle push service speaks HTTP/2 frame by frame, so as to do what net/http's
// own server never does. Behind it is one that does all else.
type fickle struct {
	*pushtest.Service
	t        *testing.T
	listener net.Listener
	config   *tls.Config
	serving  sync.WaitGroup

	mu      sync.Mutex // guards what follows
	conns   map[net.Conn]bool
	calm    bool // no faults
	silence int  // streams from one connection that falls silent to the next
	streams int  // since the calm was over
	refused int
	goaways int
	fell    int // connections that fell silent
	unclear int // requests that came whole and whose answer did not leave, or was not waited for
}

// startFickle starts one whose certificate a signs.
func startFickle(t *testing.T, a *authority, silence int) *fickle {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fickle{t: t, listener: l, config: a.certify(t, "127.0.0.1", time.Now().Add(time.Hour)), conns: map[net.Conn]bool{}, calm: true, silence: silence}
	if f.Service, err = pushtest.Start(pushtest.Config{TLS: true, URL: "https://" + l.Addr().String()}); err != nil {
		t.Fatal(err)
	}
	f.serving.Go(f.accept)
	t.Cleanup(func() {
		l.Close()
		f.mu.Lock()
		for conn := range f.conns {
			conn.Close()
		}
		f.mu.Unlock()
		f.serving.Wait()
		f.Service.Close()
	})
	return f
}

// mint is pushService.mint.
func (f *fickle) mint(n int, key string) [][]byte {
	f.t.Helper()
	asked := httptest.NewRequest(http.MethodPost, fmt.Sprintf("https://127.0.0.1/pushtest/subscriptions?count=%d&applicationServerKey=%s", n, key), nil)
	answer := httptest.NewRecorder()
	f.ServeHTTP(answer, asked)
	if answer.Code >= 300 {
		f.t.Fatalf("the push service answers %d: %s", answer.Code, answer.Body)
	}
	return bytes.Split(bytes.TrimSpace(answer.Body.Bytes()), []byte("\n"))
}

func (f *fickle) accept() {
	for {
		conn, err := f.listener.Accept()
		if err != nil {
			return
		}
		f.mu.Lock()
		f.conns[conn] = true
		f.mu.Unlock()
		f.serving.Go(func() {
			defer func() {
				conn.Close()
				f.mu.Lock()
				delete(f.conns, conn)
				f.mu.Unlock()
			}()
			f.speak(tls.Server(conn, f.config))
		})
	}
}

// A fickleConn is one connection of a fickle push service.
type fickleConn struct {
	*fickle
	conn     net.Conn
	opened   int // streams
	open     map[uint32]*stream
	answered sync.WaitGroup

	mu     sync.Mutex // guards what follows, and writing
	frames *http2.Framer
	header bytes.Buffer
	fields *hpack.Encoder
	silent bool
}

// A stream is a request on its way in.
type stream struct {
	id      uint32
	path    string
	header  http.Header
	body    bytes.Buffer
	whole   bool // all of it came
	unclear bool // and that is counted as not answered
}

// speak serves one connection until its client has closed it, or for as long as
// anybody waits once it was said that no more is taken.
func (f *fickle) speak(conn net.Conn) {
	in := bufio.NewReader(conn)
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(in, preface); err != nil || string(preface) != http2.ClientPreface {
		return
	}
	c := &fickleConn{fickle: f, conn: conn, open: map[uint32]*stream{}, frames: http2.NewFramer(conn, in)}
	c.frames.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.fields = hpack.NewEncoder(&c.header)
	c.write(func() error { return c.frames.WriteSettings() })
	for c.read() {
	}
	c.answered.Wait()
}

// write writes, unless the connection has fallen silent, and reports whether it did.
func (c *fickleConn) write(frames func() error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.silent && frames() == nil
}

// read takes one frame, and reports false at the end of the connection.
func (c *fickleConn) read() bool {
	frame, err := c.frames.ReadFrame()
	if err != nil {
		return false
	}
	switch frame := frame.(type) {
	case *http2.SettingsFrame:
		if !frame.IsAck() {
			c.write(c.frames.WriteSettingsAck)
		}
	case *http2.PingFrame:
		if !frame.IsAck() {
			c.write(func() error { return c.frames.WritePing(true, frame.Data) })
		}
	case *http2.MetaHeadersFrame:
		c.begin(frame)
	case *http2.DataFrame:
		c.take(frame)
	case *http2.RSTStreamFrame:
		c.forgive(c.open[frame.StreamID])
	}
	return true
}

// begin takes the header of a request, or not.
func (c *fickleConn) begin(frame *http2.MetaHeadersFrame) {
	if c.opened >= goodbyes { // behind the last one that is taken
		return
	}
	c.opened++
	id := frame.StreamID
	if c.fate(c.opened) {
		c.write(func() error { return c.frames.WriteRSTStream(id, http2.ErrCodeRefusedStream) })
	} else {
		s := &stream{id: id, path: frame.PseudoValue("path"), header: http.Header{}}
		for _, field := range frame.RegularFields() {
			s.header.Add(field.Name, field.Value)
		}
		c.open[id] = s
	}
	if c.opened == goodbyes && c.write(func() error { return c.frames.WriteGoAway(id, http2.ErrCodeNo, nil) }) {
		c.fickle.mu.Lock()
		c.goaways++
		c.fickle.mu.Unlock()
	}
}

// fate decides what becomes of a stream that is the nth of its connection: it is
// refused, or its connection falls silent, or nothing.
func (c *fickleConn) fate(n int) (refused bool) {
	f := c.fickle
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.calm {
		return false
	}
	f.streams++
	if f.streams%f.silence == 0 {
		c.mu.Lock()
		c.silent = true
		c.mu.Unlock()
		f.fell++
	}
	if f.streams%refusals != 0 {
		return false
	}
	f.refused++
	return true
}

// take takes a piece of a request's body, and answers at its end.
func (c *fickleConn) take(frame *http2.DataFrame) {
	id, size := frame.StreamID, uint32(frame.Length)
	if size > 0 {
		c.write(func() error { return c.frames.WriteWindowUpdate(0, size) })
	}
	s := c.open[id]
	if s == nil {
		return
	}
	s.body.Write(frame.Data())
	if !frame.StreamEnded() {
		c.write(func() error { return c.frames.WriteWindowUpdate(id, size) })
		return
	}
	s.whole = true
	c.answered.Go(func() {
		time.Sleep(20 * time.Millisecond) // so that others are on their way meanwhile
		c.answer(s)
	})
}

// answer lets the push service have a request and sends what it says, if it can.
func (c *fickleConn) answer(s *stream) {
	asked := httptest.NewRequest(http.MethodPost, c.URL()+s.path, &s.body)
	asked.Header = s.header
	asked.Proto, asked.ProtoMajor, asked.ProtoMinor = "HTTP/2.0", 2, 0
	answer := httptest.NewRecorder()
	c.ServeHTTP(answer, asked)
	sent := c.write(func() error {
		c.header.Reset()
		c.fields.WriteField(hpack.HeaderField{Name: ":status", Value: fmt.Sprint(answer.Code)})
		for name, values := range answer.Header() {
			for _, value := range values {
				c.fields.WriteField(hpack.HeaderField{Name: strings.ToLower(name), Value: value})
			}
		}
		body := answer.Body.Bytes()
		err := c.frames.WriteHeaders(http2.HeadersFrameParam{StreamID: s.id, BlockFragment: c.header.Bytes(), EndHeaders: true, EndStream: len(body) == 0})
		if err == nil && len(body) > 0 {
			err = c.frames.WriteData(s.id, true, body)
		}
		return err
	})
	if !sent {
		c.forgive(s)
	}
}

// forgive counts a request that came whole as one of which its sender cannot know.
func (c *fickleConn) forgive(s *stream) {
	c.fickle.mu.Lock()
	defer c.fickle.mu.Unlock()
	if s != nil && s.whole && !s.unclear {
		s.unclear = true
		c.unclear++
	}
}
