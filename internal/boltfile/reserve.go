package boltfile

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// A spare is room that others cannot take: belfry.reserve beside belfry.db,
// written in full. Once they have filled the disk to the last octet, it is given
// up piece by piece, so that people can leave all the same (REL-09); and it is
// taken again when there is room.
type spare struct {
	path string
	mu   sync.Mutex // guards the rest
	size int64
	next time.Time // when it is tried again to fill it up
}

// piece is how much of it is given up at a time, for those who leave within one
// transaction: what all others write then can use up only the rest.
const piece = 256 << 10

// retake is how long nobody tries again to fill it up: a quota that is used up is
// none of the disk's, and each try would write megabytes for nothing.
const retake = time.Minute

func spareOf(path string) *spare {
	s := &spare{path: strings.TrimSuffix(path, filepath.Ext(path)) + ".reserve"}
	if info, err := os.Stat(s.path); err == nil {
		s.size = info.Size()
	}
	s.take()
	return s
}

// take fills it up, where the disk has room for that and as much again.
func (s *spare) take() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.size >= reserve || time.Now().Before(s.next) || diskLeft(filepath.Dir(s.path)) < 2*reserve {
		return
	}
	content := make([]byte, reserve)
	rand.Read(content) // some file systems would write no noughts
	if os.WriteFile(s.path, content, 0o600) == nil {
		s.size = reserve
		return
	}
	s.next = time.Now().Add(retake)
	if os.Remove(s.path) == nil {
		s.size = 0
	}
}

// give gives up a piece, and reports whether there was one.
func (s *spare) give() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	left := max(s.size-piece, 0)
	if s.size == 0 || os.Truncate(s.path, left) != nil {
		return false
	}
	s.size = left
	return true
}

// MakeRoom gives up some of what is held for those who leave, and reports whether
// there was any. It is for them alone, once the disk has refused them.
func (f *File) MakeRoom() bool { return f.spare.give() }
