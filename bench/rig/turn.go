//go:build linux

package rig

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// InFlight is how many messages are under way at a time: as many as a broadcast
// sends to one push service.
const InFlight = 128

// A Result is what one message of a turn has cost.
type Result struct {
	CPU         float64 // microseconds of the whole process, user and system
	PerSecond   float64
	Allocations float64
	Octets      float64 // on the wire
}

// Turn does n messages, InFlight at a time, and prints the result for the
// process that asked for it. With profile it writes a CPU profile there.
func Turn(n int, do Job, profile string) error {
	// The first message opens the connection; what a broadcast costs are the others.
	if err := do(0); err != nil {
		return err
	}
	if profile != "" {
		file, err := os.Create(profile)
		if err != nil {
			return err
		}
		defer file.Close()
		pprof.StartCPUProfile(file)
		defer pprof.StopCPUProfile()
	}
	r, err := measure(n, do)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

// TakeTurn lets a process play a part that is a Turn, and returns its result.
func TakeTurn(role, house string, args ...string) (r Result, err error) {
	out, err := Again(role, house, args...).Output()
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal(out, &r)
}

func measure(n int, do Job) (Result, error) {
	var next, failed atomic.Int64
	var first error // of those that failed
	var once sync.Once
	runtime.GC() // what preparing left behind is none of the turn's business
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	used, began := cpu(), time.Now()
	var all sync.WaitGroup
	for range InFlight {
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
		return Result{}, fmt.Errorf("%d of %d messages failed, one with: %w", failed.Load(), n, first)
	}
	return Result{
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
