//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/internal/boltfile"
	"github.com/belfry-push/belfry/subscriptions"
)

// readRows opens the store by itself and reads all rows in pages, as a
// broadcast to everybody does.
func (r *result) readRows(ctx context.Context, database string) error {
	info, err := os.Stat(database)
	if err != nil {
		return err
	}
	r.octets = info.Size()
	for range 5 {
		began := time.Now()
		file, err := boltfile.OpenExisting(database)
		if err != nil {
			return err
		}
		store, err := subscriptions.New(file, subscriptions.Config{})
		r.opened = append(r.opened, time.Since(began))
		if err == nil {
			err = r.readAll(ctx, store)
		}
		file.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// page is how many rows a broadcast asks for at once.
const page = 256

func (r *result) readAll(ctx context.Context, store *subscriptions.Store) error {
	began, seen := time.Now(), 0
	for at, done := belfry.Position(0), false; !done; {
		rows, next, last, err := store.Page(ctx, belfry.Audience{All: true}, at, subscriptions.End, page)
		if err != nil {
			return err
		}
		seen += len(rows)
		at, done = next, last
	}
	r.read = append(r.read, time.Since(began))
	if want := r.rows + registering; seen != want {
		return fmt.Errorf("%d rows were read, not %d", seen, want)
	}
	return nil
}
