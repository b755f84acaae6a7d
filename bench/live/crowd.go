//go:build linux

package main

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A crowd is pages that listen, as cheap as they can be, since the server is
// measured on the same cores: one thread waits for all of them, and reads once
// what has come for one.
type crowd struct {
	epoll int
	pages []int // their sockets
	heard chan []time.Time
}

// gather opens pages, each of which has its hello.
func gather(url string, n int) (*crowd, error) {
	to, err := netip.ParseAddrPort(strings.TrimPrefix(url, "http://"))
	if err != nil {
		return nil, err
	}
	epoll, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	c := &crowd{epoll: epoll, heard: make(chan []time.Time)}
	var mu sync.Mutex // guards c.pages and err
	var all sync.WaitGroup
	const hands = 16
	for i := range hands {
		all.Go(func() {
			for range (n + i) / hands { // which is n, in sum
				page, e := c.open(to)
				mu.Lock()
				if e != nil {
					err = fmt.Errorf("a page got no hello: %w", e)
				} else {
					c.pages = append(c.pages, page)
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	go c.listen()
	return c, err
}

// open opens a page and waits for its hello.
func (c *crowd) open(to netip.AddrPort) (page int, err error) {
	if page, err = syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0); err != nil {
		return 0, os.NewSyscallError("socket", err)
	}
	err = syscall.Connect(page, &syscall.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()})
	if err == nil {
		_, err = syscall.Write(page, fmt.Appendf(nil, "GET /v1/events?channel=news HTTP/1.1\r\nHost: %s\r\n\r\n", to))
	}
	var b [2048]byte
	for n, more := 0, 0; err == nil; n += more {
		if hello := bytes.Index(b[:n], []byte("event: hello")); hello >= 0 && bytes.Contains(b[hello:n], []byte("\n\n")) {
			err = syscall.EpollCtl(c.epoll, syscall.EPOLL_CTL_ADD, page, &syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(page)})
			if err == nil {
				return page, nil
			}
			break
		}
		if more, err = syscall.Read(page, b[n:]); err == nil && more == 0 {
			err = net.ErrClosed
		}
	}
	syscall.Close(page)
	return 0, err
}

// listen tells when pages hear a message, in no order, until the crowd is gone.
func (c *crowd) listen() {
	events := make([]syscall.EpollEvent, 512)
	var b [4096]byte
	for {
		n, err := syscall.EpollWait(c.epoll, events, -1)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return
		}
		var heard []time.Time
		for _, e := range events[:n] {
			more, err := syscall.Read(int(e.Fd), b[:])
			if err != nil || more <= 0 {
				syscall.EpollCtl(c.epoll, syscall.EPOLL_CTL_DEL, int(e.Fd), nil) // it will be missed
				continue
			}
			for range bytes.Count(b[:more], []byte(`data: {"id"`)) {
				heard = append(heard, time.Now())
			}
		}
		if heard != nil {
			c.heard <- heard
		}
	}
}

// hear waits until every page has heard one message, and says when each did.
func (c *crowd) hear() (all []time.Time, err error) {
	late := time.After(30 * time.Second)
	for len(all) < len(c.pages) {
		select {
		case some := <-c.heard:
			all = append(all, some...)
		case <-late:
			return nil, fmt.Errorf("%d of %d pages missed an event", len(c.pages)-len(all), len(c.pages))
		}
	}
	return all, nil
}

// disperse closes all pages. The thread that waits for them ends with the program.
func (c *crowd) disperse() {
	for _, page := range c.pages {
		syscall.Close(page)
	}
}
