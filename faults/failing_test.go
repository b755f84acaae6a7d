//go:build faults

package faults

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// A disk that fails to flush what it was given ends the server, which says so:
// nobody knows then what is on the disk, and nothing may be acknowledged or
// written on top of it. What was acknowledged before is there (REL-09, REL-15).
func TestDiskFails(t *testing.T) {
	t.Parallel()
	cycles := size(2, 20)
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	push := startPushService(ctx, t, "--tls")
	s := newServer(ctx, t, push)
	s.run()
	s.join(push, 20, "news")
	key := s.key()
	s.stop()
	acknowledged, failed := 0, 0
	var promised []string
	for n := range cycles {
		// Each of the program's threads can flush so often, and then never again.
		s.start("strace", "--follow-forks", "--seccomp-bpf", "--quiet=all", "--signal=none", "--trace=fdatasync", "--trace-path="+filepath.Join(s.data, "belfry.db"),
			fmt.Sprintf("--inject=fdatasync:error=EIO:when=%d+", 2+n%4), "--output=/dev/null", "--")
		s.ready()
		for _, line := range push.mint(1000, key) {
			status, path := s.tryRegister(line)
			if status == http.StatusCreated {
				promised = append(promised, path)
				acknowledged++
				continue
			}
			failed++
			break
		}
		if code := s.life.End(ctx, t); code != 1 || !strings.Contains(s.life.Said(), "\nhint: ") || !strings.Contains(s.life.Said(), "could not be written") {
			t.Errorf("it ends with %d and says %s", code, s.life.Said())
		}
		s.api.CloseIdleConnections()
	}
	s.run()
	missing := 0
	for _, path := range promised {
		if status, _ := s.ask(http.MethodGet, path, nil); status != http.StatusOK {
			missing++
		}
	}
	s.stop()
	s.audit()
	if missing > 0 || failed != cycles {
		t.Errorf("%d of %d acknowledged registrations are missing, and %d of %d servers refused one", missing, acknowledged, failed, cycles)
	}
	t.Logf("REL-09: %d times a disk that fails to flush: the server refuses, says so and ends with 1; %d of %d acknowledged registrations are there", cycles, acknowledged-missing, acknowledged)
}

// tryRegister registers a line as an operator does, whatever comes of it, and
// returns where it then is.
func (s *server) tryRegister(line []byte) (status int, path string) {
	s.t.Helper()
	var got struct{ ID string }
	status = s.attempt(http.MethodPost, "/api/v1/subscriptions", rowOf(s.t, line, "later"), &got)
	return status, "/api/v1/subscriptions/" + got.ID
}
