//go:build unix

package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A Process is a program that runs beside the test and says on its output when
// it is ready. It has a process group of its own, so that a browser's children
// end with it whatever happens.
type Process struct {
	Name  string
	cmd   *exec.Cmd
	said  *transcript
	ended chan struct{} // closed once it has been waited for
}

// Start runs cmd until the test ends. The first match of ready in its output
// says that it is ready.
func Start(t *testing.T, name string, cmd *exec.Cmd, ready string) *Process {
	t.Helper()
	p := &Process{Name: name, cmd: cmd, ended: make(chan struct{}),
		said: &transcript{ready: regexp.MustCompile(ready), found: make(chan struct{})}}
	cmd.Stdout, cmd.Stderr = p.said, p.said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// A grandchild that outlives its parent would keep the output open, and Wait waiting.
	cmd.WaitDelay = 2 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatalf("%s does not start: %v", name, err)
	}
	go func() {
		defer close(p.ended)
		cmd.Wait() // how it ended stands in cmd.ProcessState
	}()
	t.Cleanup(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-p.ended
		if t.Failed() {
			t.Logf("%s said:\n%s", name, p.said)
		}
	})
	return p
}

// Ready waits until the process is ready and returns the submatches that say so.
func (p *Process) Ready(ctx context.Context, t *testing.T) []string {
	t.Helper()
	match, err := p.await(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return match
}

func (p *Process) await(ctx context.Context) (match []string, err error) {
	select {
	case <-p.said.found:
		return p.said.match, nil
	case <-p.ended:
		return nil, fmt.Errorf("%s ended before it was ready: %v", p.Name, p.cmd.ProcessState)
	case <-ctx.Done():
		return nil, fmt.Errorf("%s is not ready in time", p.Name)
	}
}

// StartReady is Start and Ready for a program that is not ours, such as a browser:
// one that crashes while it starts is started once more.
func StartReady(ctx context.Context, t *testing.T, name string, cmd func() *exec.Cmd, ready string) (*Process, []string) {
	t.Helper()
	p := Start(t, name, cmd(), ready)
	match, err := p.await(ctx)
	if err != nil && p.crashed() {
		t.Logf("%v; once more", err)
		p = Start(t, name, cmd(), ready)
		match, err = p.await(ctx)
	}
	if err != nil {
		t.Fatal(err)
	}
	return p, match
}

// crashed reports whether a signal has ended the process.
func (p *Process) crashed() bool {
	select {
	case <-p.ended:
		return p.cmd.ProcessState != nil && p.cmd.ProcessState.Sys().(syscall.WaitStatus).Signaled()
	default:
		return false
	}
}

// End asks the process to end, by sig where one is given, and waits until it
// did. It returns the exit code.
func (p *Process) End(ctx context.Context, t *testing.T, sig ...os.Signal) int {
	t.Helper()
	for _, s := range sig {
		if err := p.cmd.Process.Signal(s); errors.Is(err, os.ErrProcessDone) {
			<-p.ended
			t.Fatalf("%s ended before it was asked to: %v", p.Name, p.cmd.ProcessState)
		} else if err != nil {
			t.Fatalf("%s: %v", p.Name, err)
		}
	}
	select {
	case <-p.ended:
	case <-ctx.Done():
		t.Fatalf("%s does not end in time", p.Name)
	}
	return p.cmd.ProcessState.ExitCode()
}

// Ended is closed once the process has ended.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// PID is the number under which the system knows the process.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Said is all that the process wrote so far.
func (p *Process) Said() string { return p.said.String() }

// A transcript keeps what a process said and finds the line that was waited for.
type transcript struct {
	mu    sync.Mutex // guards text
	text  []byte
	ready *regexp.Regexp
	match []string      // what was found; it stays as it is once found is closed
	found chan struct{} // closed when the line has come
}

func (s *transcript) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text = append(s.text, p...)
	if s.match == nil {
		if s.match = s.ready.FindStringSubmatch(string(s.text)); s.match != nil {
			close(s.found)
		}
	}
	return len(p), nil
}

func (s *transcript) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(s.text)
}
