//go:build unix

package live

import "syscall"

const writesAtOnce = true

// try writes as much of b as can leave without waiting. It asks the system at
// once: the way through package net took a tenth of an event's CPU time. Whoever
// calls sees to it that the connection is not closed meanwhile.
func (k *kept) try(b []byte) (n int, err error) {
	for {
		switch n, err = syscall.Write(k.fd, b); err {
		case syscall.EINTR:
		case syscall.EAGAIN:
			return 0, nil
		default:
			return max(n, 0), err
		}
	}
}
