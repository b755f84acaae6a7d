//go:build faults

package faults

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// A trial is a server on a file that something has happened to, with the key
// and the flags of the server that it was.
type trial struct {
	*server
	file, keys []byte
	cmd        *exec.Cmd
	said       *output
	ended      chan struct{} // closed once the server has ended
}

// patience is how long a server may take to be ready, to refuse or to end before
// it counts as hung.
const patience = time.Minute

// try lays a file down for a server of its own.
func (s *server) try(file []byte) *trial {
	s.t.Helper()
	dir, err := os.MkdirTemp(workshop, "")
	if err != nil {
		s.t.Fatal(err)
	}
	tr := &trial{server: &server{t: s.t, ctx: s.ctx, data: dir, flags: slices.Clone(s.flags)}, file: file}
	tr.flags[slices.Index(tr.flags, "--data")+1] = dir
	tr.api = over(dir)
	tr.api.Timeout = patience
	if tr.keys, err = os.ReadFile(filepath.Join(s.data, "vapid.json")); err != nil {
		s.t.Fatal(err)
	}
	for name, content := range map[string][]byte{"belfry.db": file, "vapid.json": tr.keys} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
	return tr
}

// start starts the server and returns once it is ready, has ended or counts as hung.
func (tr *trial) start() (took time.Duration) {
	tr.t.Helper()
	tr.cmd = belfry(tr.t, append([]string{"serve"}, tr.flags...)...)
	tr.said = &output{ready: make(chan struct{})}
	tr.cmd.Stdout, tr.cmd.Stderr = tr.said, tr.said
	tr.ended = make(chan struct{})
	began := time.Now()
	if err := tr.cmd.Start(); err != nil {
		tr.t.Fatal(err)
	}
	go func() {
		defer close(tr.ended)
		tr.cmd.Wait()
	}()
	select {
	case <-tr.said.ready:
	case <-tr.ended:
	case <-time.After(patience):
	}
	return time.Since(began)
}

// over reports whether the server has ended, or does so within wait.
func (tr *trial) over(wait time.Duration) bool {
	select {
	case <-tr.ended:
		return true
	default:
	}
	select {
	case <-tr.ended:
		return true
	case <-time.After(wait):
		return false
	}
}

// end ends the server and clears up. The key is as it was, whatever the file was.
func (tr *trial) end() {
	tr.t.Helper()
	tr.api.CloseIdleConnections()
	tr.cmd.Process.Kill()
	<-tr.ended
	if now, err := os.ReadFile(filepath.Join(tr.data, "vapid.json")); err != nil || !bytes.Equal(now, tr.keys) {
		tr.t.Errorf("the key file has changed: %v", err)
	}
	os.RemoveAll(tr.data)
}

// An output is what a server says, and when it is ready.
type output struct {
	mu    sync.Mutex // guards text and found
	text  bytes.Buffer
	found bool
	ready chan struct{}
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text.Write(b)
	if !o.found && bytes.Contains(o.text.Bytes(), []byte("belfry: listening on ")) {
		o.found = true
		close(o.ready)
	}
	return len(b), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// isReady reports whether the server came to serve.
func (tr *trial) isReady() bool {
	select {
	case <-tr.said.ready:
		return true
	default:
		return false
	}
}
