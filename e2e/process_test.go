//go:build e2e

package e2e

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"regexp"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A process is a program that runs beside the test and says on its output when
// it is ready. It has a process group of its own, so that a browser's children
// end with it whatever happens.
type process struct {
	name  string
	cmd   *exec.Cmd
	said  *transcript
	ended chan struct{} // closed once it has been waited for
}

// start runs cmd until the test ends, and returns the line of its output that
// says it is ready: the submatches of ready.
func start(ctx context.Context, t *testing.T, name string, cmd *exec.Cmd, ready string) (*process, []string) {
	t.Helper()
	p := &process{name: name, cmd: cmd, ended: make(chan struct{}),
		said: &transcript{ready: regexp.MustCompile(ready), found: make(chan []string, 1)}}
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
	select {
	case match := <-p.said.found:
		return p, match
	case <-p.ended:
		t.Fatalf("%s ended before it was ready: %v", name, cmd.ProcessState)
	case <-ctx.Done():
		t.Fatalf("%s is not ready in time", name)
	}
	return nil, nil
}

// end asks the process to end, by sig where one is given, and waits until it
// did. It returns the exit code.
func (p *process) end(ctx context.Context, t *testing.T, sig ...os.Signal) int {
	t.Helper()
	for _, s := range sig {
		if err := p.cmd.Process.Signal(s); errors.Is(err, os.ErrProcessDone) {
			<-p.ended
			t.Fatalf("%s ended before it was asked to: %v", p.name, p.cmd.ProcessState)
		} else if err != nil {
			t.Fatalf("%s: %v", p.name, err)
		}
	}
	select {
	case <-p.ended:
	case <-ctx.Done():
		t.Fatalf("%s does not end in time", p.name)
	}
	return p.cmd.ProcessState.ExitCode()
}

// A transcript keeps what a process said and finds the line that was waited for.
type transcript struct {
	mu    sync.Mutex // guards text and ready
	text  []byte
	ready *regexp.Regexp // nil once it was found
	found chan []string
}

func (s *transcript) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text = append(s.text, p...)
	if s.ready != nil {
		if match := s.ready.FindStringSubmatch(string(s.text)); match != nil {
			s.found <- match
			s.ready = nil
		}
	}
	return len(p), nil
}

func (s *transcript) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(s.text)
}
