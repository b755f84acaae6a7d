package rig

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// A Binary is the real program, built for a bench.
type Binary string

// Build builds the program in dir.
func Build(ctx context.Context, dir string) (Binary, error) {
	b := filepath.Join(dir, "belfry")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", b, "github.com/belfry-push/belfry/cmd/belfry").CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w: %s", err, out)
	}
	return Binary(b), nil
}

// A Server is `belfry serve` in a process of its own.
type Server struct {
	Dir    string // its data directory
	URL    string
	Ready  time.Duration // from its start until it listens
	binary Binary
	cmd    *exec.Cmd
}

// Serve starts a server on a data directory, which is made if need be.
func (b Binary) Serve(ctx context.Context, dir string, flags ...string) (*Server, error) {
	s := &Server{Dir: dir, binary: b}
	s.cmd = exec.CommandContext(ctx, string(b), append([]string{"serve", "--data", dir, "--listen", "127.0.0.1:0"}, flags...)...)
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
			s.URL, s.Ready = url, time.Since(began)
			go func() {
				for lines.Scan() { // what is not read would block it in the end
				}
			}()
			return s, nil
		}
	}
	return nil, fmt.Errorf("belfry serve: %w: %s", s.cmd.Wait(), &all)
}

// PID names the process.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// Database is its file.
func (s *Server) Database() string { return filepath.Join(s.Dir, "belfry.db") }

// Ask runs a command of the program against the server, as an operator would,
// and returns what it prints.
func (s *Server) Ask(ctx context.Context, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, string(s.binary), append(args, "--data", s.Dir)...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("belfry %s: %w: %s", args[0], err, out)
	}
	return string(out), nil
}

// Import reads n subscriptions from a file that holds no more.
func (s *Server) Import(ctx context.Context, file string, n int) error {
	out, err := s.Ask(ctx, "subscriptions", "import", file, "--channel", "news")
	if want := fmt.Sprintf("imported %d, updated 0, refused 0\n", n); err == nil && out != want {
		err = fmt.Errorf("import said %q, not %q", out, want)
	}
	return err
}

// Stop ends the server as an operator would. Stopping twice is stopping once.
func (s *Server) Stop() error {
	if s == nil || s.cmd.ProcessState != nil {
		return nil
	}
	if err := s.cmd.Process.Signal(os.Interrupt); err != nil {
		return err
	}
	return s.cmd.Wait()
}

// Kill ends the server as a power cut would.
func (s *Server) Kill() error {
	err := s.cmd.Process.Kill()
	s.cmd.Wait() // which says that it was killed
	return err
}
