package live

import (
	"net"
	"time"
)

// A kept connection is one that was taken over from net/http: without its
// goroutine and its buffers, an idle page costs a kilobyte or two.
type kept struct {
	net.Conn
	fd   int    // the socket, until the connection is closed
	head []byte // goes out before everything
	key  uint64 // by which a hang-up is noticed
}

// maxUnread bounds what the system holds for a page that does not read, in octets.
// Without it that would grow to megabytes (REL-12).
const maxUnread = 64 << 10

// open prepares to write without waiting, and reports whether that can be.
func (k *kept) open() bool {
	tcp, ok := k.Conn.(*net.TCPConn)
	if !ok {
		return false
	}
	tcp.SetWriteBuffer(maxUnread)
	raw, err := tcp.SyscallConn()
	if err != nil || !writesAtOnce {
		return false
	}
	return raw.Control(func(fd uintptr) { k.fd = int(fd) }) == nil
}

// Write is the Carrier's: it may wait for a page, but not for long.
func (k *kept) Write(frames ...[]byte) error {
	all := make(net.Buffers, 0, 1+len(frames))
	if k.head != nil {
		all, k.head = append(all, k.head), nil
	}
	all = append(all, frames...)
	if err := k.SetWriteDeadline(time.Now().Add(writeWithin)); err != nil {
		return err
	}
	_, err := all.WriteTo(k.Conn)
	return err
}
