package rig

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Memory is what a process holds, in octets. Pages of the file that are mapped
// are the system's cache: it takes them back when it needs them.
type Memory struct{ Own, Mapped int64 }

// MemoryOf reads what Linux says of a process; elsewhere there is nothing to read.
func MemoryOf(pid int) (m Memory) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return m
	}
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		n, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		switch name {
		case "RssAnon":
			m.Own = n << 10
		case "RssFile":
			m.Mapped = n << 10
		}
	}
	return m
}

// CPUOf is how long a process has kept a CPU busy, which its neighbours change
// little; how long it took tells more of them.
func CPUOf(pid int) time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])) // behind the name, from the third on
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * time.Second / 100 // USER_HZ of proc(5)
}

// WatchMemory looks at a process every 20 ms until what it returns is called,
// which says the most that was seen of each and what is there at the end.
func WatchMemory(pid int) func() (peak, end Memory) {
	done, most := make(chan struct{}), make(chan Memory)
	go func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		var peak Memory
		for {
			now := MemoryOf(pid)
			peak = Memory{max(peak.Own, now.Own), max(peak.Mapped, now.Mapped)}
			select {
			case <-done:
				most <- peak
				return
			case <-tick.C:
			}
		}
	}()
	return func() (peak, end Memory) {
		close(done)
		return <-most, MemoryOf(pid)
	}
}

// Load is how busy the machine is besides.
func Load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if errors.Is(err, os.ErrNotExist) {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(text))[:3], " ")
}
