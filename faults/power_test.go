//go:build faults

package faults

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/belfry-push/belfry/broadcasts"
	"github.com/belfry-push/belfry/sender/pushtest"
)

// A promise is what somebody was told, and from when on it must hold.
type promise struct {
	at    time.Time
	path  string           // of the operators' API
	there int              // the status that it answers with
	state broadcasts.State // of a broadcast, where that was what was asked for
}

// What a server has acknowledged is in the file wherever in its work it is
// killed, at every single step (REL-02), and whatever of its last writes comes to
// the disk when the power fails (REL-03). The steps are those that strace sees a
// server under load take.
func TestEveryStep(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*within)
	defer cancel()
	push := startPushService(ctx, t, "--tls")
	s := newServer(ctx, t, push)
	s.run()
	s.join(push, 300, "news")
	s.stop()
	database := filepath.Join(s.data, "belfry.db")
	base, err := os.ReadFile(database)
	if err != nil {
		t.Fatal(err)
	}
	push.answer("", answer{DelayMS: 20})
	trace := filepath.Join(temp(t), "trace")
	s.start(straceOf(database, trace)...)
	s.ready()
	promises := s.promise(push, size(3, 8))
	s.stopUnder()
	r := record(t, base, trace)
	sent := push.ledger()
	push.answer("")

	kills := steps(len(r.ops), size(6, len(r.ops)+1))
	missingKilled := s.tryImages(kills, r, r.killed, promises, sent)
	var cuts []int
	for range size(6, 200) {
		cuts = append(cuts, rand.N(len(r.ops)+1))
	}
	missingCut := s.tryImages(cuts, r, r.cut, promises, sent)
	t.Logf("REL-02: a kill after each of %d of %d steps on the file: %d acknowledged things missing, of %d", len(kills), len(r.ops)+1, missingKilled, len(promises))
	t.Logf("REL-03: %d images of a power cut, with writes missing and torn: %d acknowledged things missing, of %d", len(cuts), missingCut, len(promises))
}

// steps are n numbers from 0 to last, evenly.
func steps(last, n int) (all []int) {
	n = min(n, last+1)
	for i := range n {
		all = append(all, i*last/max(n-1, 1))
	}
	return all
}

// stopUnder stops the server itself, which its sidecar names.
func (s *server) stopUnder() {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join(s.data, "belfry.pid"))
	if err != nil {
		s.t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Sscan(string(text), &pid); err != nil {
		s.t.Fatal(err)
	}
	s.api.CloseIdleConnections()
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		s.t.Fatal(err)
	}
	if code := s.life.End(s.ctx, s.t); code != 0 {
		s.t.Fatalf("belfry serve ended with %d", code)
	}
}

// promise lets the server acknowledge broadcasts, registrations and removals
// while it sends, and returns what it has.
func (s *server) promise(push *pushService, rounds int) (all []promise) {
	s.t.Helper()
	keep := func(p promise) {
		p.at = time.Now()
		all = append(all, p)
	}
	ids := s.ids()
	for i, line := range push.mint(rounds, s.key()) {
		keep(promise{path: "/api/v1/broadcasts/" + s.launch("news", 3600), there: http.StatusOK})
		var row map[string]any
		if err := json.Unmarshal(line, &row); err != nil {
			s.t.Fatal(err)
		}
		var got struct{ ID string }
		s.call(http.StatusCreated, http.MethodPost, "/api/v1/subscriptions", row, &got)
		keep(promise{path: "/api/v1/subscriptions/" + got.ID, there: http.StatusOK})
		s.call(http.StatusNoContent, http.MethodDelete, "/api/v1/subscriptions/"+ids[i], nil, nil)
		keep(promise{path: "/api/v1/subscriptions/" + ids[i], there: http.StatusNotFound})
		if i%2 == 1 {
			id := s.launch("news", 3600)
			if status, _ := s.ask(http.MethodPost, "/api/v1/broadcasts/"+id+"/pause", nil); status == http.StatusOK { // else it was done first
				keep(promise{path: "/api/v1/broadcasts/" + id, there: http.StatusOK, state: broadcasts.Paused})
			}
		}
	}
	s.finish(filepath.Base(all[0].path))
	return all
}

// tryImages starts a server on the image of each step, and returns how much of
// what was promised they lack.
func (s *server) tryImages(at []int, r recording, image func(int) []byte, promises []promise, sent []pushtest.Received) (missing int) {
	s.t.Helper()
	for _, n := range at {
		tr := s.try(image(n))
		missing += tr.onImage(n, r.before(n), promises, sent)
		tr.end()
	}
	return missing
}

// onImage starts the server on an image of n steps that was left at a moment.
func (tr *trial) onImage(n int, left time.Time, promises []promise, sent []pushtest.Received) (missing int) {
	t := tr.t
	t.Helper()
	for id, b := range tr.audit().broadcasts {
		had := map[string]bool{}
		for _, r := range sent {
			if r.Accepted() && !r.Time.After(left) && strings.Contains(string(r.Plaintext), id) {
				had[r.Token] = true
			}
		}
		if b.Counts.Accepted > len(had) {
			t.Errorf("step %d: the file says that %d were accepted, and %d were", n, b.Counts.Accepted, len(had))
		}
	}
	tr.start()
	if !tr.isReady() {
		t.Errorf("step %d: the server does not start: %s", n, tr.said)
		return 0
	}
	for _, p := range promises {
		if !p.at.Before(left) {
			continue
		}
		status, body := tr.ask(http.MethodGet, p.path, nil)
		if status != p.there {
			missing++
			t.Errorf("step %d: %s answers %d, and was promised to answer %d", n, p.path, status, p.there)
		}
		if strings.Contains(p.path, "broadcasts") && status == http.StatusOK {
			var b broadcasts.Broadcast
			if err := json.Unmarshal(body, &b); err != nil {
				t.Error(err)
			}
			mustAddUp(t, "the API", b.ID, b.Counts)
			if p.state != "" && b.State != p.state {
				missing++
				t.Errorf("step %d: a broadcast is %s, and was promised to be %s", n, b.State, p.state)
			}
		}
	}
	return missing
}
