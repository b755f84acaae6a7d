package main

import (
	"archive/tar"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"

	"github.com/belfry-push/belfry/internal/boltfile"
	"github.com/belfry-push/belfry/internal/config"
)

// archive writes what a server is made of: the database as it is at this moment,
// while everybody goes on writing, and then the keys, so that no row can be in
// it whose key is not, and the secrets of callbacks and of user tokens.
func archive(file *boltfile.File, paths config.Paths, w io.Writer) error {
	out := tar.NewWriter(w)
	err := file.View(func(tx *bbolt.Tx) error {
		if err := out.WriteHeader(member(paths.Database, tx.Size())); err != nil {
			return err
		}
		_, err := tx.WriteTo(out)
		return err
	})
	if err != nil {
		return fmt.Errorf("backup of the database: %w", err)
	}
	for _, path := range []string{paths.Keys, paths.Webhook, paths.User} {
		b, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("backup of the keys: %w", err)
		}
		if err := out.WriteHeader(member(path, int64(len(b)))); err != nil {
			return err
		}
		if _, err := out.Write(b); err != nil {
			return err
		}
	}
	return out.Close()
}

func member(path string, size int64) *tar.Header {
	return &tar.Header{Name: filepath.Base(path), Size: size, Mode: 0o600, ModTime: time.Now(), Format: tar.FormatPAX}
}
