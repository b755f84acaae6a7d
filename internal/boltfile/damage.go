package boltfile

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"runtime/debug"

	"go.etcd.io/bbolt"

	"github.com/belfry-push/belfry"
)

// View is bbolt's for a file that may be damaged. bbolt takes what stands on its
// pages as it is, and follows a wrong length out of the memory map: where that
// would end the process, it ends fn with belfry.ErrCorrupt.
func View(f *File, fn func(*bbolt.Tx) error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = crashed(r)
		}
	}()
	return f.DB.View(fn)
}

// Where things stand on bbolt's pages (bbolt/internal/common, version 2 of its format).
const (
	pageHead     = 16 // id, flags, count, overflow
	pageCount    = 10
	metaFreelist = pageHead + 32
	metaPages    = metaFreelist + 8
	metaTx       = metaPages + 8
	metaSum      = metaTx + 8 // FNV-1a of all behind the page's head
	metaEnd      = metaSum + 8
)

// reverted says whether one of the two meta pages is damaged. Each transaction
// writes the one that the last has not written, so the other is always of the
// transaction before, and bbolt takes it without a word (REL-15).
func reverted(db *bbolt.DB) (*belfry.Error, error) {
	file, err := os.Open(db.Path())
	if err != nil {
		return nil, err
	}
	defer file.Close()
	for at := range int64(2) {
		meta := make([]byte, metaEnd)
		if _, err := file.ReadAt(meta, at*int64(db.Info().PageSize)); err != nil {
			return nil, err
		}
		sum := fnv.New64a()
		sum.Write(meta[pageHead:metaSum])
		if sum.Sum64() != binary.NativeEndian.Uint64(meta[metaSum:]) {
			return &belfry.Error{Kind: belfry.ErrCorrupt, Code: "database-damaged", Where: db.Path(),
				Text: "had a damaged meta page when the server started, which uses the transaction before: what was written last may be missing",
				Hint: "look whether the last broadcasts and registrations are there, and whether the disk is failing"}, nil
		}
	}
	return nil, nil
}

// checkFreelist refuses a list of free pages that cannot be right. bbolt takes
// the list as it is and writes the next transaction to where it points: over rows
// that are in use, or far behind the end of the file. It finds most flipped bits,
// since the numbers on the list ascend and are all of other pages that there are.
func checkFreelist(tx *bbolt.Tx) error {
	file, err := os.Open(tx.DB().Path())
	if err != nil {
		return err
	}
	defer file.Close()
	size := int64(tx.DB().Info().PageSize)
	for at := range int64(2) {
		meta := make([]byte, metaEnd)
		if _, err := file.ReadAt(meta, at*size); err != nil {
			return err
		}
		if binary.NativeEndian.Uint64(meta[metaTx:]) == uint64(tx.ID()) {
			list, pages := binary.NativeEndian.Uint64(meta[metaFreelist:]), binary.NativeEndian.Uint64(meta[metaPages:])
			if list >= pages {
				break
			}
			return checkFree(bufio.NewReader(io.NewSectionReader(file, int64(list)*size, int64(pages-list)*size)), list, pages)
		}
	}
	return fmt.Errorf("%w: it has no list of free pages", errDamaged)
}

// checkFree checks the list that r begins with, on the page of that number.
func checkFree(r io.Reader, list, pages uint64) error {
	head := make([]byte, pageHead)
	if _, err := io.ReadFull(r, head); err != nil {
		return err
	}
	n := uint64(binary.NativeEndian.Uint16(head[pageCount:]))
	last := uint64(1) // the meta pages, 0 and 1, are never free
	number := make([]byte, 8)
	read := func() (uint64, error) {
		_, err := io.ReadFull(r, number)
		return binary.NativeEndian.Uint64(number), err
	}
	if n == 0xffff { // too many for the head: the first number is how many follow
		var err error
		if n, err = read(); err != nil {
			return err
		}
	}
	for range n {
		id, err := read()
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return err
		}
		if err != nil || id <= last || id >= pages || id == list {
			return fmt.Errorf("%w: its list of free pages is not one", errDamaged)
		}
		last = id
	}
	return nil
}
