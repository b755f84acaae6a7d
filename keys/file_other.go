//go:build !unix

package keys

import "io/fs"

// checkPrivate has nothing to go by here: mode bits mean nothing on Windows,
// where a file inherits the access list of its folder.
func checkPrivate(string, fs.FileInfo) error { return nil }

// syncDir has nothing to do here: a folder cannot be flushed on Windows.
func syncDir(string) error { return nil }
