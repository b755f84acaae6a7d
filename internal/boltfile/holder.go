package boltfile

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// sidecar is the file beside the database where its holder writes who it is:
// belfry.pid for belfry.db, holding the process id and the host's name. The
// lock itself is bbolt's; the sidecar only gives it a name.
func sidecar(path string) string {
	return strings.TrimSuffix(path, filepath.Ext(path)) + ".pid"
}

// sign writes who we are. A disk too full for it does not keep the server from
// starting, since people must be able to unsubscribe; but then the name of the
// holder before us must not stay.
func (f *File) sign() {
	os.Remove(f.pid)
	host, _ := os.Hostname()
	os.WriteFile(f.pid, fmt.Appendf(nil, "%d %s\n", os.Getpid(), host), 0o600)
}

// holder says who holds the database, as a part of a sentence, or nothing when
// that is not known for sure. The sidecar may be one that a killed process left
// behind, while the holder of today has not signed yet: so a process is named
// only if it is alive. One on another host (or in another container) cannot be
// asked, and is named with the host.
func holder(path string) string {
	b, err := os.ReadFile(sidecar(path))
	if err != nil {
		return ""
	}
	var pid int
	var host string
	if n, _ := fmt.Sscanf(string(b), "%d %s\n", &pid, &host); n != 2 || pid <= 0 {
		return ""
	}
	if here, _ := os.Hostname(); host != here {
		return fmt.Sprintf(" (process %d on %s)", pid, host)
	}
	if !alive(pid) {
		return ""
	}
	return fmt.Sprintf(" (process %d)", pid)
}

func alive(pid int) bool {
	p, err := os.FindProcess(pid)
	if err != nil {
		return false
	}
	defer p.Release()
	if runtime.GOOS == "windows" {
		return true // FindProcess has opened it
	}
	err = p.Signal(syscall.Signal(0))
	return err == nil || errors.Is(err, os.ErrPermission)
}
