//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// inFlight is how many messages are under way at a time: as many as a broadcast
// sends to one push service.
const inFlight = 128

// A result is what one message of a turn has cost.
type result struct {
	CPU         float64 // microseconds of the whole process, user and system
	PerSecond   float64
	Allocations float64
	Octets      float64 // on the wire
}

// contend takes a turn as the contender named role and prints the result.
func contend(role, house, profile string) error {
	i := slices.IndexFunc(contenders, func(c contender) bool { return c.role == role })
	if i < 0 {
		return fmt.Errorf("no contender is named %s", role)
	}
	subs, err := readSubscriptions(house)
	if err != nil {
		return err
	}
	do, err := contenders[i].prepare(house, subs)
	if err != nil {
		return err
	}
	// The first message opens the connection; what a broadcast costs are the others.
	if err := do(0); err != nil {
		return err
	}
	if profile != "" {
		file, err := os.Create(filepath.Join(profile, role+".pprof"))
		if err != nil {
			return err
		}
		defer file.Close()
		pprof.StartCPUProfile(file)
		defer pprof.StopCPUProfile()
	}
	r, err := measure(len(subs), do)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

// measure does n messages, inFlight at a time.
func measure(n int, do job) (result, error) {
	var next, failed atomic.Int64
	var first error // of those that failed
	var once sync.Once
	runtime.GC() // what preparing left behind is none of the turn's business
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	used, began := cpu(), time.Now()
	var all sync.WaitGroup
	for range inFlight {
		all.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				if err := do(int(i)); err != nil {
					failed.Add(1)
					once.Do(func() { first = err })
				}
			}
		})
	}
	all.Wait()
	took, used := time.Since(began), cpu()-used
	runtime.ReadMemStats(&after)
	if first != nil {
		return result{}, fmt.Errorf("%d of %d messages failed, one with: %w", failed.Load(), n, first)
	}
	return result{
		CPU:         float64(used.Nanoseconds()) / 1e3 / float64(n),
		PerSecond:   float64(n) / took.Seconds(),
		Allocations: float64(after.Mallocs-before.Mallocs) / float64(n),
	}, nil
}

// cpu is the time that this process has had of the processors, in all its threads.
func cpu() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		panic(err) // only for an unknown first argument
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
