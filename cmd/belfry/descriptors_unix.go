//go:build unix

package main

import (
	"math"
	"syscall"
)

// descriptors is how many files may be open at a time. Go has raised it as far
// as the system lets it.
func descriptors() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return math.MaxInt
	}
	return int(min(uint64(limit.Cur), math.MaxInt))
}
