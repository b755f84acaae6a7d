package rig

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"
)

// Sink is the role of a push service that takes every message and looks at none.
const Sink = "sink"

// Seen is what a sink has seen until now.
type Seen struct {
	Octets   int64     // TLS and HTTP/2 included
	Requests int64     // all of them
	First    time.Time // when the first request came since it was asked last; zero without one
}

// A RunningSink is the sink's process as another one sees it.
type RunningSink struct {
	Address string
	in      io.WriteCloser
	out     *bufio.Reader
	wait    func() error
}

// StartSink makes a certificate in house and starts a sink with it.
func StartSink(house string) (*RunningSink, error) {
	if err := writeCertificate(house); err != nil {
		return nil, err
	}
	cmd := Again(Sink, house)
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &RunningSink{in: in, out: bufio.NewReader(out), wait: cmd.Wait}
	line, err := s.out.ReadString('\n')
	s.Address = strings.TrimSpace(line)
	return s, err
}

// Look asks the sink what it has seen.
func (s *RunningSink) Look() (seen Seen, err error) {
	fmt.Fprintln(s.in)
	line, err := s.out.ReadBytes('\n')
	if err != nil {
		return seen, err
	}
	return seen, json.Unmarshal(line, &seen)
}

// Stop ends the sink.
func (s *RunningSink) Stop() {
	s.in.Close()
	s.wait()
}

// ServeSink is the sink: 201 over HTTP/2. It prints its address, then for each
// line that it reads what it has seen, and ends with its input.
func ServeSink(house string) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	var octets, requests, first atomic.Int64
	// Clients dial more often than they need, and give up what is left over: no news.
	server := &http.Server{ErrorLog: log.New(io.Discard, "", 0), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		if first.Load() == 0 {
			first.CompareAndSwap(0, time.Now().UnixNano())
		}
		io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusCreated)
	})}
	go server.ServeTLS(counted{listener, &octets}, Certificate(house), key(house))
	fmt.Println(listener.Addr())
	out := json.NewEncoder(os.Stdout)
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		seen := Seen{Octets: octets.Load(), Requests: requests.Load()}
		if at := first.Swap(0); at != 0 {
			seen.First = time.Unix(0, at)
		}
		if err := out.Encode(seen); err != nil {
			return err
		}
	}
	return server.Close()
}

// counted is a listener that counts what comes over its connections.
type counted struct {
	net.Listener
	octets *atomic.Int64
}

func (l counted) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	return countedConn{conn, l.octets}, err
}

type countedConn struct {
	net.Conn
	octets *atomic.Int64
}

func (c countedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.octets.Add(int64(n))
	return n, err
}
