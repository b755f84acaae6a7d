//go:build linux

// Command live measures how pages listen: the real binary in a process of its
// own, with thousands of connections that wait, and events that all of them
// hear. Beside it, in the same run and before the same pages, stand what one
// would write with net/http alone, a handler that waits for its channel, and bare
// writes to the same sockets, which is the floor.
//
// Run it from the root: go run ./bench/live. It needs Linux's /proc and epoll.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"time"
)

func main() {
	pages := flag.Int("pages", 10_000, "how many pages listen")
	events := flag.Int("events", 20, "how many events all of them hear")
	be := flag.String("be", "", "be the plain handler or the bare writes (for the program itself)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	run := func() error { return measure(ctx, *pages, *events) }
	switch *be {
	case "plain":
		run = func() error { return servePlain(ctx) }
	case "bare":
		run = func() error { return serveBare(ctx) }
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "live:", err)
		os.Exit(1)
	}
}

// mayOpen refuses more pages than there may be descriptors for, of which the server
// keeps up to a half for all else.
func mayOpen(pages int) error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	if needed := uint64(min(pages+5000, 2*pages+200)); limit.Cur < needed {
		return fmt.Errorf("%d pages need %d file descriptors and the limit is %d: raise it (ulimit -Hn) or ask for fewer -pages", pages, needed, limit.Cur)
	}
	return nil
}

// measure lets the three stand for election, one after the other.
func measure(ctx context.Context, pages, events int) error {
	if err := mayOpen(pages); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "belfry-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "belfry")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", binary, "github.com/belfry-push/belfry/cmd/belfry").CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w: %s", err, out)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	fmt.Printf("%d CPUs, %d pages, %d events\n\n%-10s %14s %18s %12s %12s\n", runtime.NumCPU(), pages, events,
		"", "KB a page", "CPU µs an event", "p50 ms", "p99 ms")
	var cpu []float64
	for _, c := range []contender{
		{"bare", []string{self, "-be", "bare"}, publishPlain},
		{"net/http", []string{self, "-be", "plain"}, publishPlain},
		{"belfry", []string{binary, "serve", "--data", filepath.Join(dir, "data"), "--listen", "127.0.0.1:0", "--live-limit", "off"}, publisher(filepath.Join(dir, "data"))},
	} {
		r, err := c.try(ctx, pages, events)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		cpu = append(cpu, r.cpu)
		fmt.Printf("%-10s %14.2f %18.2f %12.0f %12.0f\n", c.name, r.memory, r.cpu, ms(r.late, 0.50), ms(r.late, 0.99))
	}
	fmt.Printf("\nbelfry takes %.2f of the CPU that net/http takes\n", cpu[2]/cpu[1])
	return nil
}

// ms is a quantile in milliseconds.
func ms(all []time.Duration, q float64) float64 {
	slices.Sort(all)
	return float64(all[int(q*float64(len(all)-1))].Microseconds()) / 1000
}

// A result is what a contender needed.
type result struct {
	memory float64         // KB of its own for each page that waits
	cpu    float64         // µs of its own for each event and page
	late   []time.Duration // from the call that publishes to the page
}
