//go:build linux

// Broadcasts measures a broadcast from end to end: `belfry send` launches it, the
// real server reads its rows, seals, posts, and writes down with an fsync what
// became of each, to a sink in another process over HTTPS and HTTP/2. Beside it,
// in turns, webpush-go sends to the same browsers from a plain loop that writes
// down nothing.
//
// Then the same with ten times as many rows, between two of the small ones: what
// grows with the audience shows as a ratio, and what the machine does meanwhile
// as how far those two are apart. At last the server is killed in the middle of it.
//
// It needs /proc, and takes certificates to trust from SSL_CERT_FILE as
// bench/sending does. Run it from the root: go run ./bench/broadcasts
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

	"github.com/belfry-push/belfry/bench/rig"
)

func main() {
	var c course
	flag.IntVar(&c.rounds, "rounds", 3, "how often each contender takes its turn")
	flag.IntVar(&c.few, "few", 100_000, "subscribers of a turn")
	flag.IntVar(&c.many, "many", 1_000_000, "subscribers of the large broadcast; 0 leaves it out")
	dir := flag.String("dir", "", "where the data directories are made, on the disk to measure (default the system's temporary directory)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	switch role, house := rig.Role(); role {
	case "":
		err = c.run(ctx, *dir)
	case rig.Sink:
		err = rig.ServeSink(house)
	case direct:
		err = sendDirectly(house)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "broadcasts:", err)
		os.Exit(1)
	}
}

// A course is all that is measured in a run, and what it is measured with.
type course struct {
	rounds, few, many int

	house  string // the folder for all of it
	binary rig.Binary
	sink   *rig.RunningSink
}

func (c *course) run(ctx context.Context, under string) (err error) {
	if c.rounds < 1 || c.few < 1 || c.many < 0 {
		return errors.New("-rounds and -few must be at least 1, and -many not negative")
	}
	if c.house, err = os.MkdirTemp(under, "belfry-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(c.house)
	if c.binary, err = rig.Build(ctx, c.house); err != nil {
		return err
	}
	if c.sink, err = rig.StartSink(c.house); err != nil {
		return err
	}
	defer c.sink.Stop()
	if err := c.makeBrowsers(); err != nil {
		return err
	}
	fmt.Printf("Broadcasts: %d browsers, %d rounds, %d messages in flight, %s, %d processors, load %s\n\n",
		c.few, c.rounds, rig.InFlight, runtime.Version(), runtime.NumCPU(), rig.Load())
	small, err := c.filled(ctx, fewFile, c.few)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, small.Stop()) }()
	turns, err := c.takeTurns(ctx, small)
	if err != nil {
		return err
	}
	if err := turns.print(os.Stdout); err != nil || c.many == 0 {
		return err
	}
	l, err := c.measureLarge(ctx, small)
	if err != nil {
		return err
	}
	return l.print(os.Stdout)
}

// manyFile and fewFile hold all browsers, and those that turns are about.
const (
	manyFile = "many.ndjson"
	fewFile  = "few.ndjson"
)

func (c *course) makeBrowsers() error {
	many, few := filepath.Join(c.house, manyFile), filepath.Join(c.house, fewFile)
	if err := rig.WriteBrowsers(many, "https://"+c.sink.Address, max(c.many, c.few)); err != nil {
		return err
	}
	return rig.Head(many, few, c.few)
}

// filled starts a server with the rows of a file.
func (c *course) filled(ctx context.Context, file string, rows int) (*rig.Server, error) {
	s, err := c.serve(ctx, file+".data")
	if err != nil {
		return nil, err
	}
	if err := s.Import(ctx, filepath.Join(c.house, file), rows); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

func (c *course) serve(ctx context.Context, data string) (*rig.Server, error) {
	return c.binary.Serve(ctx, filepath.Join(c.house, data), "--push-host", c.sink.Address, "--push-ca", rig.Certificate(c.house))
}
