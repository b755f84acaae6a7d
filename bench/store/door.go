//go:build linux

package main

import (
	"fmt"
	"net/netip"
	"net/url"

	"golang.org/x/sys/unix"
)

// A door is connections to a server, of which one thread hears whose answer is there.
type door struct {
	conns []int // descriptors, by visitor; 0 means none yet
	poll  int
	ready []unix.EpollEvent
}

func newDoor(n int) (*door, error) {
	poll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	return &door{conns: make([]int, n), poll: poll, ready: make([]unix.EpollEvent, n)}, err
}

func addressOf(server string) (*unix.SockaddrInet4, error) {
	u, err := url.Parse(server)
	if err != nil {
		return nil, err
	}
	at, err := netip.ParseAddrPort(u.Host)
	if err != nil || !at.Addr().Is4() {
		return nil, fmt.Errorf("%s is no IPv4 address: %w", u.Host, err)
	}
	return &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}, nil
}

// connect lets visitor i in.
func (d *door) connect(i int, to *unix.SockaddrInet4) error {
	conn, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	d.conns[i] = conn
	if err := unix.Connect(conn, to); err != nil {
		return err
	}
	return unix.EpollCtl(d.poll, unix.EPOLL_CTL_ADD, conn, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(i)})
}

// wait waits until an answer is there, or several, and returns whose.
func (d *door) wait() (visitors []int, err error) {
	n, err := unix.EpollWait(d.poll, d.ready, int(patience.Milliseconds()))
	switch {
	case err == unix.EINTR:
		return nil, nil
	case err == nil && n == 0:
		return nil, fmt.Errorf("nobody was answered within %s", patience)
	}
	for _, e := range d.ready[:max(n, 0)] {
		visitors = append(visitors, int(e.Fd))
	}
	return visitors, err
}

func (d *door) close() {
	for _, conn := range d.conns {
		if conn != 0 {
			unix.Close(conn)
		}
	}
	unix.Close(d.poll)
}
