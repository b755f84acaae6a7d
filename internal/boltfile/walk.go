package boltfile

import (
	"bytes"
	"context"
	"fmt"
	"runtime/debug"
	"slices"

	"github.com/belfry-push/belfry"
	"go.etcd.io/bbolt"
)

// A Visit is shown a key and its value.
type Visit func(k, v []byte) error

// Walk visits every key of a bucket in order, step of them in each transaction:
// a long one would keep bbolt from using freed pages again. transact runs one,
// as View of a database does, and may run it again. open is told of each
// transaction and returns what visits its keys, which may remove them.
//
// bbolt trusts its pages: it answers damage with a panic, or goes astray. Here
// both are belfry.ErrCorrupt.
func Walk(ctx context.Context, transact func(func(*bbolt.Tx) error) error, bucket []byte, step int, open func(*bbolt.Tx) Visit) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = unwalkable(bucket, fmt.Sprint("bbolt says: ", r))
		}
	}()
	var last []byte
	for done := false; !done && err == nil; {
		if err := ctx.Err(); err != nil {
			return err
		}
		after := last
		err = transact(func(tx *bbolt.Tx) error {
			page, err := pageOf(tx, bucket, after, step)
			if err != nil {
				return err
			}
			visit := open(tx)
			for _, kv := range page {
				if err := visit(kv[0], kv[1]); err != nil {
					return err
				}
			}
			if done = len(page) < step; !done {
				last = slices.Clone(page[step-1][0])
			}
			return nil
		})
	}
	return err
}

// pageOf returns up to step keys behind after, and their values.
func pageOf(tx *bbolt.Tx, bucket, after []byte, step int) (page [][2][]byte, err error) {
	c := tx.Bucket(bucket).Cursor()
	k, v := c.Seek(after)
	if after != nil && bytes.Equal(k, after) {
		k, v = c.Next()
	}
	for before := after; k != nil && len(page) < step; k, v = c.Next() {
		if bytes.Compare(k, before) <= 0 { // going on from it would never end
			return nil, unwalkable(bucket, "its keys are not in order")
		}
		page, before = append(page, [2][]byte{k, v}), k
	}
	return page, nil
}

func unwalkable(bucket []byte, why string) error {
	return &belfry.Error{Kind: belfry.ErrCorrupt, Code: "database-damaged",
		Text: fmt.Sprintf("the pages of %s are damaged in the database: %s", bucket, why),
		Hint: "keep a copy of the file as it is, and restore it from a backup"}
}
