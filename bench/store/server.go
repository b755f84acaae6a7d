package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// A server is `belfry serve` in a process of its own.
type server struct {
	dir   string
	url   string
	ready time.Duration // from its start until it listens
	cmd   *exec.Cmd
}

// serve starts a server on the data directory name, which is made if need be.
func (b bench) serve(name string) (*server, error) {
	s := &server{dir: filepath.Join(b.dir, name)}
	// One address may register ten times a minute, and all our visitors have one.
	s.cmd = exec.CommandContext(b.ctx, b.binary, "serve", "--data", s.dir, "--listen", "127.0.0.1:0", "--register-limit", "off")
	told, err := s.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	var all strings.Builder
	for lines := bufio.NewScanner(told); lines.Scan(); all.WriteString(lines.Text() + "\n") {
		url, listening := strings.CutPrefix(lines.Text(), "belfry: listening on ")
		if listening {
			s.url, s.ready = url, time.Since(began)
			go func() {
				for lines.Scan() { // what is not read would block it in the end
				}
			}()
			return s, nil
		}
	}
	return nil, fmt.Errorf("belfry serve: %w: %s", s.cmd.Wait(), &all)
}

func (s *server) pid() int         { return s.cmd.Process.Pid }
func (s *server) database() string { return filepath.Join(s.dir, "belfry.db") }

// stop ends the server as an operator would. Stopping twice is stopping once.
func (s *server) stop() error {
	if s == nil || s.cmd.ProcessState != nil {
		return nil
	}
	if err := s.cmd.Process.Signal(os.Interrupt); err != nil {
		return err
	}
	return s.cmd.Wait()
}

// memory is what a process holds, in octets. Pages of the file that are mapped
// are the system's cache: it takes them back when it needs them.
type memory struct{ own, mapped int64 }

// memoryOf reads what Linux says of a process; elsewhere there is nothing to read.
func memoryOf(pid int) (m memory) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return m
	}
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		n, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		switch name {
		case "RssAnon":
			m.own = n << 10
		case "RssFile":
			m.mapped = n << 10
		}
	}
	return m
}

// cpuOf is how long a process has kept a CPU busy, which its neighbours change
// little; how long it took tells more of them.
func cpuOf(pid int) time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])) // behind the name, from the third on
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * time.Second / 100 // USER_HZ of proc(5)
}

// watchMemory looks at a process every 20 ms until what it returns is called,
// which says the most that was seen of each and what is there at the end.
func watchMemory(pid int) func() (peak, end memory) {
	done, most := make(chan struct{}), make(chan memory)
	go func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		var peak memory
		for {
			now := memoryOf(pid)
			peak = memory{max(peak.own, now.own), max(peak.mapped, now.mapped)}
			select {
			case <-done:
				most <- peak
				return
			case <-tick.C:
			}
		}
	}()
	return func() (peak, end memory) {
		close(done)
		return <-most, memoryOf(pid)
	}
}

// load is how busy the machine is besides.
func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if errors.Is(err, os.ErrNotExist) {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(text))[:3], " ")
}
