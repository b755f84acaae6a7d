//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/belfry-push/belfry/internal/process"
	"github.com/belfry-push/belfry/sender/pushtest"
)

// A Program is the belfry program as a user has it: a file that one runs.
type Program struct{ path string }

// workshop holds the program that all tests of this run share.
var workshop string

func TestMain(m *testing.M) {
	var err error
	if workshop, err = os.MkdirTemp("", "belfry-e2e"); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(workshop)
	os.Exit(code)
}

// build makes the program from this source, once, with the race detector in it:
// a race shows in what serve says and in its exit code.
var build = sync.OnceValue(func() error {
	// A container often owns the source by another user than git expects, and
	// the tests do not ask for the version.
	out, err := exec.Command("go", "build", "-race", "-buildvcs=false", "-o", workshop, "../cmd/belfry").CombinedOutput()
	if err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
})

// Build returns the program. The first test that asks for it may wait minutes,
// where nothing was built before.
func Build(t *testing.T) Program {
	t.Helper()
	if err := build(); err != nil {
		t.Fatal(err)
	}
	return Program{filepath.Join(workshop, "belfry")}
}

// command is belfry with args, and without the settings of whoever runs the test.
func (p Program) command(args ...string) *exec.Cmd {
	cmd := exec.Command(p.path, args...)
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "BELFRY_") })
	// The race detector would otherwise wait a second at the end of each command.
	cmd.Env = append(cmd.Env, "GORACE=atexit_sleep_ms=0")
	return cmd
}

// A Server is belfry serve while it runs.
type Server struct {
	program Program
	data    string
	address string // host and port of its page
	process *process.Process
}

// Serve starts a server on the data directory, at a free port where address
// ends with :0. It speaks to push beside the real push services.
func (p Program) Serve(ctx context.Context, t *testing.T, data, address string, push *pushtest.Service, more ...string) *Server {
	t.Helper()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, push.CA(), 0o600); err != nil {
		t.Fatal(err)
	}
	flags := append([]string{"serve", "--data", data, "--listen", address, "--push-ca", ca, "--log-level", "debug"}, more...)
	for _, host := range push.PushHosts() {
		flags = append(flags, "--push-host", host)
	}
	cmd := p.command(flags...)
	running := process.Start(t, "belfry serve", cmd, `(?m)^belfry: listening on http://(127\.0\.0\.1:\d+)\n`)
	line := running.Ready(ctx, t)
	return &Server{program: p, data: data, address: line[1], process: running}
}

// Page is the demo page's URL under the name that browsers trust without TLS.
func (s *Server) Page() string {
	return "http://" + strings.Replace(s.address, "127.0.0.1", "localhost", 1) + "/"
}

// Stop ends the server as systemd would.
func (s *Server) Stop(ctx context.Context, t *testing.T) {
	t.Helper()
	if code := s.process.End(ctx, t, syscall.SIGTERM); code != 0 {
		t.Fatalf("belfry serve ended with %d after SIGTERM", code)
	}
}

// Ask runs one of the commands that talk to the running server, as the operator
// does in a second terminal, and reads the JSON that it prints.
func (s *Server) Ask(ctx context.Context, t *testing.T, result any, args ...string) {
	t.Helper()
	cmd := s.program.command(append(args, "--data", s.data, "--json")...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop := context.AfterFunc(ctx, func() { cmd.Process.Kill() })
	defer stop()
	if err := cmd.Wait(); err != nil {
		t.Fatalf("belfry %s: %v\n%s%s", strings.Join(args, " "), err, out.String(), errs.String())
	}
	if err := json.Unmarshal(out.Bytes(), result); err != nil {
		t.Fatalf("belfry %s: %v\n%s", strings.Join(args, " "), err, out.String())
	}
}

// Send rings whoever listens to the channel news, and demands that the push
// service accepts it for all of them, who are want.
func (s *Server) Send(ctx context.Context, t *testing.T, want int, title, body string, more ...string) {
	t.Helper()
	s.send(ctx, t, counts{Targets: want, Accepted: want}, title, body, more...)
}

// Spare sends to one who listens to the channel news, and demands that no push
// is needed for that.
func (s *Server) Spare(ctx context.Context, t *testing.T, title, body string) {
	t.Helper()
	s.send(ctx, t, counts{Targets: 1, Suppressed: 1}, title, body)
}

type counts struct{ Targets, Accepted, Suppressed int }

func (s *Server) send(ctx context.Context, t *testing.T, want counts, title, body string, more ...string) {
	t.Helper()
	var sent struct {
		State  string `json:"state"`
		Counts counts
	}
	s.Ask(ctx, t, &sent, append([]string{"send", "--channel", "news", "--title", title, "--body", body, "--url", "/?from=" + title}, more...)...)
	if sent.State != "done" || sent.Counts != want {
		t.Fatalf("belfry send %s: %+v, want %+v", title, sent, want)
	}
}

// Looked waits until a page of a registered browser has told the server that
// somebody looks at it.
func (s *Server) Looked(ctx context.Context, t *testing.T) {
	t.Helper()
	socket := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(s.data, "belfry.sock"))
	}}}
	for every := time.NewTicker(20 * time.Millisecond); ; <-every.C {
		req, err := http.NewRequestWithContext(ctx, "GET", "http://belfry/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := socket.Do(req)
		if err != nil {
			t.Fatalf("nobody looks: %v", err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "\nbelfry_live_visible 1\n") {
			return
		}
	}
}

// Registered is how many browsers are in the store.
func (s *Server) Registered(ctx context.Context, t *testing.T) int {
	t.Helper()
	var got struct{ Count *int }
	s.Ask(ctx, t, &got, "subscriptions", "count")
	if got.Count == nil {
		t.Fatal("belfry subscriptions count printed no count")
	}
	return *got.Count
}
