package live

import (
	"os"
	"sync"
	"syscall"
)

// hangups notices when pages go whose connections nobody reads.
type hangups struct {
	file *os.File // of the epoll instance, so that waiting for it holds no thread
	raw  syscall.RawConn

	mu    sync.Mutex // guards what follows
	last  uint64
	conns map[uint64]*conn
}

func watchHangups(stop <-chan struct{}) (*hangups, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := syscall.SetNonblock(fd, true); err != nil { // else os.File would not wait by the runtime's poller
		syscall.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	h := &hangups{file: os.NewFile(uintptr(fd), "hangups"), conns: map[uint64]*conn{}}
	if h.raw, err = h.file.SyscallConn(); err != nil {
		h.file.Close()
		return nil, err
	}
	go h.work()
	go func() {
		<-stop
		h.file.Close()
	}()
	return h, nil
}

// work drops whoever has hung up, until the file is closed.
func (h *hangups) work() {
	events := make([]syscall.EpollEvent, 256)
	for {
		n := 0
		err := h.raw.Read(func(fd uintptr) bool {
			n, _ = syscall.EpollWait(int(fd), events, 0)
			return n > 0
		})
		if err != nil {
			return
		}
		for _, e := range events[:n] {
			if c := h.find(uint64(uint32(e.Fd)) | uint64(uint32(e.Pad))<<32); c != nil {
				c.shard.drop(c)
			}
		}
	}
}

func (h *hangups) find(key uint64) *conn {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.conns[key]
}

// watch looks after a kept connection. One that hung up before is noticed as well.
func (h *hangups) watch(c *conn) {
	if h == nil {
		return
	}
	c.shard.mu.Lock() // so that it is not dropped in between, and its key kept for ever
	defer c.shard.mu.Unlock()
	if c.left {
		return
	}
	h.mu.Lock()
	h.last++
	c.kept.key = h.last
	h.conns[c.kept.key] = c
	h.mu.Unlock()
	e := syscall.EpollEvent{Events: syscall.EPOLLRDHUP | syscall.EPOLLONESHOT, Fd: int32(uint32(c.kept.key)), Pad: int32(uint32(c.kept.key >> 32))}
	h.raw.Control(func(epoll uintptr) {
		// One that cannot be watched is noticed by the next ping.
		_ = syscall.EpollCtl(int(epoll), syscall.EPOLL_CTL_ADD, c.kept.fd, &e)
	})
}

// forget lets go of a connection; the system does so when it is closed.
func (h *hangups) forget(c *conn) {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.conns, c.kept.key)
}
