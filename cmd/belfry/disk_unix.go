//go:build linux || darwin

package main

import (
	"math"
	"syscall"
)

// free is how many octets the disk under dir has left for us.
func free(dir string) uint64 {
	var disk syscall.Statfs_t
	if syscall.Statfs(dir, &disk) != nil {
		return math.MaxUint64 // what is not known is no reason to warn
	}
	return disk.Bavail * uint64(disk.Bsize)
}
