//go:build !windows

package boltfile

import (
	"errors"
	"math"
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

// diskLeft is how much the disk under path has left for us.
func diskLeft(path string) int64 {
	var disk syscall.Statfs_t
	if syscall.Statfs(path, &disk) != nil || disk.Bavail > math.MaxInt64/uint64(disk.Bsize) {
		return math.MaxInt64
	}
	return int64(disk.Bavail) * int64(disk.Bsize)
}

// noSpace lists what a disk says that has no room left for us.
var noSpace = []error{syscall.ENOSPC, syscall.EDQUOT}

// release gives up the lock and the file. Closing is not enough: a memory map
// that is left behind keeps the lock with it.
func release(f *os.File) {
	syscall.Flock(int(f.Fd()), syscall.LOCK_UN)
	f.Close()
}
