//go:build unix

package keys

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// checkPrivate refuses a key file that somebody else can read or owns.
func checkPrivate(path string, info fs.FileInfo) error {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && int(stat.Uid) != os.Geteuid() {
		return unusable(path, fmt.Sprintf("belongs to user %d, and belfry runs as user %d", stat.Uid, os.Geteuid()),
			fmt.Sprintf("run belfry as the user who owns it, or: chown %d %s", os.Geteuid(), path))
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return unusable(path, fmt.Sprintf("can be read by others (mode %04o), and it holds private keys", mode), "chmod 600 "+path)
	}
	return nil
}

// syncDir makes a rename in dir outlast a power cut.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
