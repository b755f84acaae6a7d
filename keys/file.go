package keys

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/belfry-push/belfry"
)

// The key file, vapid.json. Version 1.
//
//	{"version": 1, "current": "<id>", "keys": [
//	  {"id", "publicKey", "privateKey", "created", "retired"?}]}
//
// Both halves of a key are base64url, unpadded; times are RFC 3339 in UTC.
// "retired" is there while the key is not current. Members that this version
// does not know are refused, since the next change would drop them.
type file struct {
	Version int       `json:"version"`
	Current string    `json:"current"`
	Keys    []fileKey `json:"keys"`
}

type fileKey struct {
	ID         string    `json:"id"`
	PublicKey  string    `json:"publicKey"`
	PrivateKey string    `json:"privateKey"`
	Created    time.Time `json:"created"`
	Retired    time.Time `json:"retired,omitzero"`
}

const (
	fileVersion = 1
	maxFile     = 1 << 20 // thousands of keys; more is some other file
)

// read reads the ring at path and checks that nobody else can (SEC-21). No
// error quotes what the file holds.
func read(path string) (*keySet, error) {
	b, err := readPrivate(path)
	if err != nil {
		return nil, err
	}
	return decode(path, b)
}

// openText reads the text of a private file behind whatever links lead to it, whose
// name it returns. Where there is none it is made, with a fresh text.
func openText(path string, fresh func() string) (real, text string, made bool, err error) {
	if real, err = filepath.EvalSymlinks(path); err != nil {
		real = path
	}
	b, err := readPrivate(real)
	if errors.Is(err, fs.ErrNotExist) {
		text = fresh()
		err = write(real, []byte(text+"\n"), func(temp string) error { return os.Rename(temp, real) })
		return real, text, err == nil, err
	}
	return real, strings.TrimSpace(string(b)), false, err
}

// readPrivate reads the beginning of a file that nobody else can read.
func readPrivate(path string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrPermission) {
		return nil, unusable(path, "cannot be read by this user", "run belfry as the user who owns it")
	}
	if err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil, unusable(path, "is not a file", "")
	}
	if err := checkPrivate(path, info); err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("keys: read %s: %w", path, err)
	}
	return b, nil
}

func decode(path string, b []byte) (*keySet, error) {
	var written file
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if len(b) > maxFile || dec.Decode(&written) != nil || dec.Decode(new(any)) != io.EOF {
		return nil, unusable(path, "is not a key ring",
			"restore it from a backup; a pair of another program is added with 'belfry keys import FILE'")
	}
	if written.Version != fileVersion {
		return nil, unusable(path, fmt.Sprintf("has version %d, and this belfry reads version %d", written.Version, fileVersion),
			"run the belfry that wrote it, or a newer one")
	}
	set := &keySet{current: written.Current}
	for i, k := range written.Keys {
		pair, err := decodePair(k.PublicKey, k.PrivateKey)
		var wrong *belfry.Error
		if errors.As(err, &wrong) {
			return nil, unusable(path, fmt.Sprintf("key %d: %s", i+1, wrong.Text), restore)
		}
		if _, err := set.find(k.ID); k.ID != pair.id() || err == nil {
			return nil, unusable(path, fmt.Sprintf("key %d does not have its own id, or is there twice", i+1), restore)
		}
		set.keys = append(set.keys, key{k.ID, pair, k.Created, k.Retired})
	}
	if _, err := set.find(set.current); err != nil {
		return nil, unusable(path, "names a current key that it does not hold", restore)
	}
	return set, nil
}

const restore = "restore the file from a backup; a new key would cut off whoever subscribed with a lost one"

func encode(set *keySet) ([]byte, error) {
	out := file{Version: fileVersion, Current: set.current}
	for _, k := range set.keys {
		out.Keys = append(out.Keys, fileKey{k.id, k.pair.public, k.pair.scalar(), k.created, k.retired})
	}
	b, err := json.MarshalIndent(out, "", "  ")
	return append(b, '\n'), err
}

// writeNew writes set to path, where no file may be.
func writeNew(path string, set *keySet) error {
	taken := &belfry.Error{Kind: belfry.ErrConflict, Code: "keys-exist", Where: path,
		Text: "is there already, and its keys are what browsers subscribed with",
		Hint: "add a key with 'belfry keys import', or make a new current one with 'belfry keys rotate'"}
	b, err := encode(set)
	if err != nil {
		return err
	}
	return write(path, b, func(temp string) error {
		// A link, unlike a rename, fails where a file is.
		err := os.Link(temp, path)
		if errors.Is(err, fs.ErrExist) {
			return taken
		}
		if err == nil {
			return os.Remove(temp)
		}
		// Not every file system has links.
		if _, err := os.Lstat(path); err == nil {
			return taken
		}
		return os.Rename(temp, path)
	})
}

// overwrite puts set in the place of the file at path. It reads the file once
// more before: a key that was put there by hand must not be lost.
func overwrite(path string, set *keySet) error {
	there, err := read(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err == nil {
		for _, k := range there.keys {
			if _, err := set.find(k.id); err != nil {
				return &belfry.Error{Kind: belfry.ErrConflict, Code: "keys-changed", Where: path,
					Text: "holds a key that this server has not read", Hint: "restart the server, then try again"}
			}
		}
	}
	b, err := encode(set)
	if err != nil {
		return err
	}
	return write(path, b, func(temp string) error { return os.Rename(temp, path) })
}

// write brings b to disk beside path, then has place put it there. Whatever
// happens on the way, path holds all of the old file or all of the new one.
func write(path string, b []byte, place func(temp string) error) (err error) {
	defer func() {
		var known *belfry.Error
		if err != nil && !errors.As(err, &known) {
			err = fmt.Errorf("keys: write %s: %w", path, err)
		}
	}()
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = place(f.Name())
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	return err
}

func unusable(path, text, hint string) error {
	return &belfry.Error{Kind: belfry.ErrNotUsable, Code: "key-file", Where: path, Text: text, Hint: hint}
}
