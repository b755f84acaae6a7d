//go:build unix

package live

import "syscall"

const writesAtOnce = true

// try writes as much of b as can leave without waiting.
func (k *kept) try(b []byte) (n int, err error) {
	failed := k.raw.Write(func(fd uintptr) bool {
		for {
			n, err = syscall.Write(int(fd), b)
			if err != syscall.EINTR {
				return true
			}
		}
	})
	if failed != nil {
		return 0, failed
	}
	if err == syscall.EAGAIN {
		return 0, nil
	}
	return max(n, 0), err
}
