//go:build !windows

package boltfile

import (
	"errors"
	"os"
	"syscall"
)

// syncDir makes the names in dir durable: fsync of a file says nothing about them.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// noSpace lists what a disk says that has no room left for us.
var noSpace = []error{syscall.ENOSPC, syscall.EDQUOT}

// release gives up the lock and the file. Closing is not enough: a memory map
// that is left behind keeps the lock with it.
func release(f *os.File) {
	syscall.Flock(int(f.Fd()), syscall.LOCK_UN)
	f.Close()
}
