//go:build faults

package faults

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A page listens to a channel as an open page does, by EventSource.
type page struct {
	net.Conn
	in        *bufio.Reader
	cursor    string        // where it would go on
	retry     time.Duration // how long the server wants it to stay away
	recovered bool          // the server says that it gets all behind the cursor that it came with
}

// A told is an event that a page hears.
type told struct{ name, data string }

// listen opens a page and waits for its hello.
func (s *server) listen(cursor string) (*page, error) { return s.listenOver(net.Dialer{}, cursor) }

// deaf opens a page with little room for what it does not read. The system is told
// before it connects: a window that is taken back later drops what is under way,
// which then comes again after half a minute.
func (s *server) deaf(int) (*page, error) {
	small := func(_, _ string, c syscall.RawConn) error {
		var set error
		err := c.Control(func(fd uintptr) { set = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096) })
		return errors.Join(err, set)
	}
	return s.listenOver(net.Dialer{Control: small}, "")
}

func (s *server) listenOver(d net.Dialer, cursor string) (*page, error) {
	host := strings.TrimPrefix(s.url, "http://")
	d.Timeout, d.KeepAlive = within, -1 // a browser is cheaper than net makes a connection
	conn, err := d.Dial("tcp", host)
	if err != nil {
		return nil, err
	}
	p := &page{Conn: conn, in: bufio.NewReaderSize(conn, 1024)}
	conn.SetDeadline(time.Now().Add(within))
	fmt.Fprintf(conn, "GET /v1/events?channel=news HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\nLast-Event-ID: %s\r\n\r\n", host, cursor)
	status, err := p.in.ReadString('\n')
	if err == nil && !strings.HasPrefix(status, "HTTP/1.1 200 ") {
		err = fmt.Errorf("it is answered %q", status)
	}
	for line := ""; err == nil && line != "\r\n"; {
		line, err = p.in.ReadString('\n')
	}
	var e told
	if err == nil {
		e, err = p.next()
	}
	var hello struct{ Recovered bool }
	if err == nil && e.name == "hello" {
		err = json.Unmarshal([]byte(e.data), &hello)
	} else if err == nil {
		err = fmt.Errorf("it is told %+v first", e)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	p.recovered = hello.Recovered
	return p, nil
}

// next is the next event, or an error at the end of the stream.
func (p *page) next() (e told, err error) {
	p.SetReadDeadline(time.Now().Add(within))
	cursor := p.cursor // of an event that is cut off, nothing counts
	for {
		line, err := p.in.ReadString('\n')
		if err != nil {
			return e, err
		}
		field, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch field {
		case "event":
			e.name = value
		case "data":
			e.data = value
		case "id":
			cursor = value
		case "retry":
			ms, _ := strconv.Atoi(value)
			p.retry = time.Duration(ms) * time.Millisecond
		case "":
			if e.data != "" {
				p.cursor = cursor
				return e, nil
			}
		}
	}
}

// message is the id of the next message. Nothing but pings may come before it.
func (p *page) message() (string, error) {
	for {
		e, err := p.next()
		if err != nil {
			return "", err
		}
		var m struct{ ID string }
		if e.name == "ping" {
			continue
		}
		if e.name != "" || json.Unmarshal([]byte(e.data), &m) != nil || m.ID == "" {
			return "", fmt.Errorf("it is told %+v", e)
		}
		return m.ID, nil
	}
}

// say says something to the pages alone, and returns the message's id.
func (s *server) say(body string) string {
	s.t.Helper()
	var b struct{ ID string }
	s.call(http.StatusAccepted, http.MethodPost, "/api/v1/broadcasts", map[string]any{"message": map[string]any{"title": "The bell rings", "body": body},
		"audience": map[string]any{"channels": []string{"news"}}, "push": "never"}, &b)
	return b.ID
}

// gather has n pages open in one moment, and returns them with the time until the
// last of them had its hello.
func (s *server) gather(n int, open func(i int) (*page, error)) ([]*page, time.Duration) {
	s.t.Helper()
	pages := make([]*page, n)
	s.t.Cleanup(func() { disband(pages) })
	began := time.Now()
	each(s.t, n, func(i int) (err error) {
		pages[i], err = open(i)
		return err
	})
	return pages, time.Since(began)
}

func disband(pages []*page) {
	for _, p := range pages {
		if p != nil {
			p.Close()
		}
	}
}

// each does work for n pages at once, which may fail for none.
func each(t *testing.T, n int, work func(i int) error) {
	t.Helper()
	var all sync.WaitGroup
	errs := make([]error, n)
	for i := range n {
		all.Go(func() { errs[i] = work(i) })
	}
	all.Wait()
	wrong := slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	if len(wrong) > 0 {
		t.Fatalf("%d of %d pages: %v", len(wrong), n, wrong[0])
	}
}

// comeIn opens a page that was never here.
func (s *server) comeIn(int) (*page, error) { return s.listen("") }

// mayOpen demands that a process here may have so many files open: each page is
// one, in the server and in the test.
func mayOpen(t *testing.T, files int) {
	t.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if limit.Max < uint64(files) {
		t.Fatalf("this needs %d open files, and the system allows %d: raise the limit, such as with `ulimit -n %d`", files, limit.Max, files)
	}
}

// mustSpread demands that waits are 1 to 12 s and as good as evenly spread, so
// that who goes in one moment does not come back in one (BR-64, REL-11).
func mustSpread(t *testing.T, waits []time.Duration) {
	t.Helper()
	var seconds [11]int
	for _, w := range waits {
		if w < time.Second || w >= 12*time.Second {
			t.Fatalf("a page is told to stay away for %v", w)
		}
		seconds[w/time.Second-1]++
	}
	for i, n := range seconds {
		if fair := len(waits) / len(seconds); n < fair/6 || n > 3*fair { // by chance once in a thousand million runs
			t.Errorf("%d of %d are told to come back after %d s", n, len(waits), i+1)
		}
	}
}

// quantile is the time that so much of all is below.
func quantile(all []time.Duration, q float64) time.Duration {
	if len(all) == 0 {
		return 0
	}
	all = slices.Sorted(slices.Values(all))
	return all[int(q*float64(len(all)-1))]
}
