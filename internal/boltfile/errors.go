package boltfile

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/belfry-push/belfry"
	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"
)

var (
	errDamaged = errors.New("is damaged")
	errEmpty   = errors.New("is empty")
	errForeign = errors.New("is not a database of belfry")
)

// Room is an error where so little is left of the file's largest size, or of the
// disk, that no new rows may be added. What is held back is for those who leave:
// bbolt writes a changed page to a new place, so removing takes room too
// (REL-09). Pages that are free inside the file count: on a disk that others have
// filled, they are all there is.
func Room(tx *bbolt.Tx) error {
	db := tx.DB()
	stats := db.Stats()
	free := int64(stats.FreePageN+stats.PendingPageN) * int64(db.Info().PageSize)
	// bbolt grows the file by AllocSize more than it needs and counts that in.
	if db.MaxSize > 0 && int64(db.MaxSize)-int64(db.AllocSize)-tx.Size()+free < reserve {
		return Explain(bbolterrors.ErrMaxSizeReached)
	}
	if left := diskLeft(db.Path()); left < reserve-free {
		return diskFull()
	}
	return nil
}

func diskFull() error {
	return &belfry.Error{Kind: belfry.ErrFull, Code: "full", Text: "the disk under the database is full",
		Hint: "free some space; the server goes on by itself"}
}

// Explain says in the house's words that there is no room left, in the file or
// on the disk; other errors pass. What was accepted before is safe: bbolt gives
// up the transaction at hand and keeps the one before it.
func Explain(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, bbolterrors.ErrMaxSizeReached):
		return &belfry.Error{Kind: belfry.ErrFull, Code: "full", Text: "the database has reached its largest size",
			Hint: "remove subscriptions or broadcasts that are no longer needed"}
	case isNoSpace(err):
		return diskFull()
	}
	return err
}

// isNoSpace also reads the text, since bbolt keeps only that of an error it
// meets while the file grows.
func isNoSpace(err error) bool {
	for _, full := range noSpace {
		if errors.Is(err, full) || strings.Contains(err.Error(), full.Error()) {
			return true
		}
	}
	return false
}

// explainOpen says why the file at path could not be opened and what to do.
func explainOpen(path string, err error) error {
	refuse := func(code, text, hint string) error {
		return &belfry.Error{Kind: belfry.ErrNotUsable, Code: code, Where: path, Text: text, Hint: hint}
	}
	var own *belfry.Error
	switch {
	case errors.As(err, &own):
		own.Where = path
		return own
	case errors.Is(err, bbolterrors.ErrTimeout):
		return &belfry.Error{Kind: belfry.ErrConflict, Code: "already-running",
			Text: fmt.Sprintf("another belfry is already running on %s%s", filepath.Dir(path), holder(path)),
			Hint: "stop it first, or choose another directory with --data"}
	case errors.Is(err, fs.ErrNotExist):
		return refuse("database-missing", "is missing",
			"restore it from a backup; nothing was made in its place")
	case errors.Is(err, fs.ErrPermission):
		return refuse("database-permission", "may not be opened by this user",
			"run belfry as the user who owns the file")
	case errors.Is(err, errForeign):
		return refuse("database-foreign", errForeign.Error(), "choose another directory with --data")
	case errors.Is(err, errEmpty):
		return refuse("database-damaged", "is empty, which no database of belfry ever is",
			"restore it from a backup, or remove it to start with no subscriptions")
	}
	var system syscall.Errno
	if errors.As(err, &system) {
		return fmt.Errorf("boltfile: %s: %w", path, Explain(err))
	}
	return refuse("database-damaged", "is damaged or not a database of belfry",
		"keep a copy of the file as it is, and restore it from a backup")
}

func schemaError(n uint64) error {
	if n < Schema {
		return fmt.Errorf("%w: schema %d", errDamaged, n)
	}
	return &belfry.Error{Kind: belfry.ErrNotUsable, Code: "database-schema",
		Text: fmt.Sprintf("was written by a newer belfry (schema %d, and this one knows %d)", n, Schema),
		Hint: "start the newer belfry again, or restore a backup made before the upgrade"}
}
