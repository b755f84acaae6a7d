//go:build linux

// Command store measures the store at size: the real binary in a process of its
// own, filled by a real import, registered with by a crowd of visitors, and read
// as broadcasts read it. It does all of it twice, with a tenth of the rows and
// with all, so that what grows with the size shows as a ratio of one run.
//
// Run it from the root: go run ./bench/store
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"time"

	"github.com/belfry-push/belfry/bench/rig"
)

func main() {
	rows := flag.Int("rows", 1_000_000, "how many rows the store holds at the end")
	dir := flag.String("dir", "", "where the store is made, on the disk to measure (default the system's temporary directory)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *rows, *dir); err != nil {
		fmt.Fprintln(os.Stderr, "store:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, rows int, under string) error {
	if rows < 10*visitors {
		return fmt.Errorf("-rows must be at least %d", 10*visitors)
	}
	dir, err := os.MkdirTemp(under, "belfry-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := bench{ctx: ctx, dir: dir}
	if b.binary, err = rig.Build(ctx, dir); err != nil {
		return err
	}
	fmt.Printf("%d CPUs, load %s\n", runtime.NumCPU(), rig.Load())
	began := time.Now()
	b.file = filepath.Join(dir, "rows.ndjson")
	if err := rig.WriteBrowsers(b.file, rig.FCM, rows); err != nil {
		return err
	}
	fmt.Printf("made %d rows, each with a key pair and an endpoint of its own, in %.1f s\n\n", rows, time.Since(began).Seconds())

	empty, err := b.crowds(0)
	if err != nil {
		return err
	}
	small, err := b.measure(rows / 10)
	if err != nil {
		return err
	}
	large, err := b.measure(rows)
	if err != nil {
		return err
	}
	print(small, large, empty)
	return nil
}

// A bench is what all measurements share.
type bench struct {
	ctx    context.Context
	dir    string
	binary rig.Binary
	file   string // to import from
}

// serve starts a server on the data directory name. One address may register ten
// times a minute, and all our visitors have one.
func (b bench) serve(name string) (*rig.Server, error) {
	return b.binary.Serve(b.ctx, filepath.Join(b.dir, name), "--register-limit", "off")
}

// A result is what was seen of a store with so many rows.
type result struct {
	rows   int           // imported
	took   time.Duration // the import, as whoever typed it sees it
	busy   time.Duration // the server's CPU time for it
	peak   rig.Memory    // of the server while it imports
	end    rig.Memory    // and after it
	octets int64         // of the file
	crowds crowds
	ready  []time.Duration // from the start of the server to its first word
	opened []time.Duration // the store alone
	read   []time.Duration // all rows
}

// measure fills a store and looks at it from all sides.
func (b bench) measure(rows int) (r result, err error) {
	r = result{rows: rows}
	s, err := b.serve(fmt.Sprint(rows))
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, s.Stop()) }()
	if err := r.importRows(b, s); err != nil {
		return r, err
	}
	if r.crowds, err = register(s.URL); err != nil {
		return r, err
	}
	for range 5 {
		if err := s.Stop(); err != nil {
			return r, err
		}
		if s, err = b.serve(fmt.Sprint(rows)); err != nil {
			return r, err
		}
		r.ready = append(r.ready, s.Ready)
	}
	if err := s.Stop(); err != nil {
		return r, err
	}
	return r, r.readRows(b.ctx, s.Database())
}

// importRows runs the command that an operator would.
func (r *result) importRows(b bench, s *rig.Server) error {
	file := filepath.Join(b.dir, "import.ndjson")
	if err := rig.Head(b.file, file, r.rows); err != nil {
		return err
	}
	defer os.Remove(file)
	watch, idle := rig.WatchMemory(s.PID()), rig.CPUOf(s.PID())
	began := time.Now()
	err := s.Import(b.ctx, file, r.rows)
	r.took = time.Since(began)
	r.peak, r.end = watch()
	r.busy = rig.CPUOf(s.PID()) - idle
	return err
}

// crowds registers visitors with an empty store.
func (b bench) crowds(int) (c crowds, err error) {
	s, err := b.serve("empty")
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, s.Stop()) }()
	return register(s.URL)
}
