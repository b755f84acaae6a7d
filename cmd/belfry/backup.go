package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/spf13/cobra"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/internal/boltfile"
	"github.com/belfry-push/belfry/internal/config"
	"github.com/belfry-push/belfry/keys"
	"github.com/belfry-push/belfry/live"
)

func (a *app) backupCommand() *cobra.Command {
	return &cobra.Command{Use: "backup DIR", Short: "Copy database and keys from the running server", Args: args(cobra.ExactArgs(1)),
		Long: `Copy database and keys from the running server to DIR, which must not exist or be
empty. The copy is of one moment; visitors notice nothing.

To go back to it: belfry serve --data DIR

Whoever has DIR can ring every browser in it: keep it as you keep a password.`,
		RunE: func(c *cobra.Command, given []string) error { return a.backup(c.Context(), given[0]) }}
}

// A saved is one file of a backup.
type saved struct {
	Name string `json:"name"`
	Size int64  `json:"size"`
}

// backup unpacks what the server sends beside dir, and gives it its name once it
// is whole and on the disk: a backup that is there is one that can be started.
func (a *app) backup(ctx context.Context, dir string) (err error) {
	cl, err := a.ownersClient("a backup holds private keys")
	if err != nil {
		return err
	}
	if dir, err = room(dir); err != nil {
		return err
	}
	resp, err := cl.send(ctx, http.MethodPost, "/api/v1/backup", nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	temp, err := os.MkdirTemp(filepath.Dir(dir), filepath.Base(dir)+".partial-*") // 0700
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp) // does nothing once it has its name
	files, err := unpack(resp.Body, temp)
	if err != nil {
		return cutOff("the backup", err)
	}
	if err := checkBackup(temp); err != nil {
		return fmt.Errorf("the backup is of no use: %w", err)
	}
	if err := publish(temp, dir); err != nil {
		return err
	}
	if a.json {
		return a.printJSON(map[string]any{"dir": dir, "files": files})
	}
	for _, f := range files {
		fmt.Fprintf(a.out, "%s: %d octets\n", filepath.Join(dir, f.Name), f.Size)
	}
	return nil
}

// room returns the directory's real path if a backup may be put there, and
// makes what is above it.
func room(dir string) (string, error) {
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	dir = filepath.Clean(dir)
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return dir, os.MkdirAll(filepath.Dir(dir), 0o700)
	}
	if err == nil && !info.IsDir() {
		return "", &belfry.Error{Kind: belfry.ErrConflict, Code: "file-exists", Where: dir, Text: "is not a directory"}
	}
	there, err := os.ReadDir(dir)
	switch {
	case err != nil:
		return "", err
	case len(there) > 0:
		return "", &belfry.Error{Kind: belfry.ErrConflict, Code: "file-exists", Where: dir, Text: "is not empty",
			Hint: "name a directory that is not there; each backup has its own"}
	}
	return dir, nil
}

// unpack writes the files of a backup to dir. Names come from outside, so only
// those are taken that a backup has, each once.
func unpack(stream io.Reader, dir string) (files []saved, err error) {
	paths, err := config.PathsIn(dir)
	if err != nil {
		return nil, err
	}
	wanted := []string{filepath.Base(paths.Database), filepath.Base(paths.Keys), filepath.Base(paths.Webhook), filepath.Base(paths.User)}
	for in := tar.NewReader(stream); ; {
		h, err := in.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		known := slices.Index(wanted, h.Name)
		if known < 0 || h.Typeflag != tar.TypeReg {
			return nil, fmt.Errorf("the server sent %+q, which is no part of a backup", short(h.Name, 80))
		}
		wanted = slices.Delete(wanted, known, known+1)
		if err := writeDurably(filepath.Join(dir, h.Name), in); err != nil {
			return nil, err
		}
		files = append(files, saved{h.Name, h.Size})
	}
	// The archive's end is not the answer's: only that says that all went well.
	if _, err := io.Copy(io.Discard, stream); err != nil {
		return nil, err
	}
	if len(wanted) > 0 {
		return nil, fmt.Errorf("the server sent no %s", wanted[0])
	}
	return files, nil
}

func writeDurably(path string, from io.Reader) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, from)
	return errors.Join(err, f.Sync(), f.Close())
}

// checkBackup opens what was saved as serve would, and makes its log of events
// another one: what a backup that is started again publishes has numbers that the
// original has given to others (REL-15).
func checkBackup(dir string) error {
	paths, err := config.PathsIn(dir)
	if err != nil {
		return err
	}
	if _, err := keys.Open(paths.Keys); err != nil {
		return err
	}
	if _, _, err := keys.OpenWebhook(paths.Webhook); err != nil {
		return err
	}
	if _, _, err := keys.OpenUserKey(paths.User); err != nil {
		return err
	}
	file, err := boltfile.OpenExisting(paths.Database)
	if err != nil {
		return err
	}
	return errors.Join(live.Renew(file), file.Close())
}

// publish gives temp the name dir, for good.
func publish(temp, dir string) error {
	if err := syncDir(temp); err != nil {
		return err
	}
	// Where it is there and empty; somebody who filled it meanwhile is heard.
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(temp, dir); err != nil {
		return err
	}
	return syncDir(filepath.Dir(dir))
}

// syncDir makes the names in dir outlast a power cut.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // a directory cannot be flushed there
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
