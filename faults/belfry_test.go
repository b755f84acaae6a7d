//go:build faults

package faults

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

var full = flag.Bool("full", false, "as many rows, kills and images as docs/reliability.md names, which takes minutes")

// size is how much of something a test takes, or may take: the small form runs
// with the race detector on machines that nobody knows, so that its limits of
// time are for what hangs, and what docs/reliability.md promises is held against
// the full one.
func size[T int | time.Duration](small, whole T) T {
	if *full {
		return whole
	}
	return small
}

// within is how long anything here may take: far more than it does.
const within = 4 * time.Minute

// workshop holds the program that all tests of this run share.
var workshop string

func TestMain(m *testing.M) {
	flag.Parse()
	if url := os.Getenv(healthOf); url != "" {
		if err := askHealth(url); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if workshop = os.Getenv(ownNetwork); workshop != "" { // where all is made already
		os.Exit(m.Run())
	}
	var err error
	if workshop, err = os.MkdirTemp("", "belfry-faults"); err != nil {
		panic(err)
	}
	// Before any test begins to count the time: on a new machine it takes minutes.
	if err := build(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.RemoveAll(workshop)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(workshop)
	os.Exit(code)
}

// build makes the program from this source: with the race detector in it,
// which shows in its exit code, but as it is released where figures are wanted.
func build() error {
	args := []string{"build", "-buildvcs=false", "-o", workshop}
	if !*full {
		args = append(args, "-race")
	}
	out, err := exec.Command("go", append(args, "../cmd/belfry")...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
}

// belfry is the program with args, without the settings of whoever runs the test.
func belfry(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(filepath.Join(workshop, "belfry"), args...)
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "BELFRY_") })
	// The race detector would otherwise wait a second at the end of each command.
	cmd.Env = append(cmd.Env, "GORACE=atexit_sleep_ms=0 exitcode=66")
	return cmd
}

// A result is what one run of the program did.
type result struct {
	code     int
	out, err string
	took     time.Duration
}

// run runs the program to its end, which comes by itself or by ctx; then the
// code is -1.
func run(ctx context.Context, t *testing.T, cmd *exec.Cmd) result {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	began := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer context.AfterFunc(ctx, func() { cmd.Process.Kill() })()
	var ended *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &ended) {
		t.Fatal(err)
	}
	return result{cmd.ProcessState.ExitCode(), out.String(), errs.String(), time.Since(began)}
}

// temp is a directory with a short name: the path of a socket in it may not be long.
func temp(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(workshop, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
