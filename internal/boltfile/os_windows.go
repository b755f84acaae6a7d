package boltfile

import (
	"math"
	"os"
	"syscall"
)

// syncDir does nothing: Windows has no handle on a directory to flush, and NTFS
// keeps its names in a journal.
func syncDir(string) error { return nil }

// noSpace lists what a disk says that has no room left for us:
// ERROR_HANDLE_DISK_FULL and ERROR_DISK_FULL.
var noSpace = []error{syscall.Errno(39), syscall.Errno(112)}

// release gives up the file, and with it the lock.
func release(f *os.File) { f.Close() }

// diskLeft is not asked here: a disk that is full is met when it is written to.
func diskLeft(string) int64 { return math.MaxInt64 }
