//go:build faults

package faults

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/belfry-push/belfry/broadcasts"
	"github.com/belfry-push/belfry/sender/pushtest"
)

// Connections that break before, behind and inside an answer, over HTTP/1.1 with
// TCP resets and over HTTP/2 with reset streams and GOAWAY: everybody gets the
// message, those of whom nobody can know perhaps twice, and what the server
// opened for it is closed again (REL-07, REL-27).
func TestBrokenConnections(t *testing.T) {
	rows := size(1000, 10_000)
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	services := []*pushService{startPushService(ctx, t, "--tls"), startPushService(ctx, t)}
	s := newServer(ctx, t, services...)
	s.run()
	var lines [2][][]byte
	for i, p := range services {
		lines[i] = s.join(p, rows/2, "news")
	}
	// What an undisturbed broadcast leaves open is the base line.
	s.send("news")
	calmFiles, calmRoutines, calmLost := s.descriptors(), s.metric("go_goroutines"), s.unanswered()
	for _, p := range services {
		p.ask("DELETE", "/pushtest/ledger", nil)
	}

	kinds := []pushtest.Fault{pushtest.Reset, pushtest.ResetUnclear, pushtest.CutAnswer, pushtest.Close}
	broken := 0
	for i, p := range services {
		for n := 0; n < len(lines[i]); n += 10 {
			p.answer(endpointOf(t, lines[i][n]), answer{Fault: kinds[broken%len(kinds)]}, answer{})
			broken++
		}
	}
	b := s.send("news")
	if want := (broadcasts.Counts{Targets: rows, Accepted: rows}); b.Counts != want {
		t.Errorf("it ends with %+v", b.Counts)
	}
	// Of an attempt without an answer nobody knows whether it was one, unless the
	// push service did not read the message.
	lost, twice, unclear := rows, 0, s.unanswered()-calmLost
	for _, p := range services {
		entries := p.ledger()
		had := count(entries, b.ID)
		lost -= len(had.accepted)
		twice += again(had.tried)
		for _, r := range entries {
			if r.Fault == string(pushtest.Reset) {
				unclear--
			}
		}
	}
	if lost != 0 || twice > unclear {
		t.Errorf("%d lost; %d tried twice, and %d times nobody could know", lost, twice, unclear)
	}
	files, routines := s.settleDown(calmFiles, calmRoutines)
	s.stop()
	s.audit().agree(t, b)
	t.Logf("REL-07: %d sends over HTTP/2 and HTTP/1.1 with %d faults: %d lost, %d tried twice and %d of which nobody could know; descriptors %d (undisturbed %d), goroutines %d (%d)",
		rows, broken, lost, twice, unclear, files, calmFiles, routines, calmRoutines)
}

// Connections that take no more after a hundred messages, refuse some unread, or
// fall silent in the middle and stay open: everybody gets the message, nobody
// twice but those of whom nobody can know, and what was opened is closed (REL-07,
// REL-27).
func TestFickleConnections(t *testing.T) {
	t.Parallel()
	rows := size(500, 10_000)
	ctx, cancel := context.WithTimeout(t.Context(), 2*within)
	defer cancel()
	a := newAuthority(t)
	f := startFickle(t, a, size(450, 2500))
	s := newServer(ctx, t)
	s.trust(a.pem())
	s.flags = append(s.flags, "--push-host", f.listener.Addr().String())
	s.run()
	s.load(f.mint(rows, s.key()), "news")
	calm := s.send("news")
	if want := (broadcasts.Counts{Targets: rows, Accepted: rows}); calm.Counts != want {
		t.Fatalf("undisturbed, it ends with %+v", calm.Counts)
	}
	files, routines := s.descriptors(), s.metric("go_goroutines")

	f.mu.Lock()
	f.calm = false
	f.goaways = 0
	f.mu.Unlock()
	b := s.send("news")
	if want := (broadcasts.Counts{Targets: rows, Accepted: rows}); b.Counts != want {
		t.Errorf("it ends with %+v", b.Counts)
	}
	had := count(f.Received(), b.ID)
	lost, twice := rows-len(had.accepted), again(had.tried)
	f.mu.Lock()
	refused, goaways, fell, unclear := f.refused, f.goaways, f.fell, f.unclear
	f.mu.Unlock()
	if lost != 0 || twice > unclear {
		t.Errorf("%d lost; %d tried twice, and %d times nobody could know", lost, twice, unclear)
	}
	if refused == 0 || goaways == 0 || fell == 0 {
		t.Errorf("%d refused, %d times GOAWAY, %d silent: that is no test", refused, goaways, fell)
	}
	filesLeft, routinesLeft := s.settleDown(files, routines)
	s.stop()
	s.audit().agree(t, b)
	t.Logf("REL-07: %d sends over HTTP/2 with %d GOAWAYs, %d streams refused and %d connections that fell silent: %d lost, %d tried twice and %d of which nobody could know; descriptors %d (undisturbed %d), goroutines %d (%d)",
		rows, goaways, refused, fell, lost, twice, unclear, filesLeft, files, routinesLeft, routines)
}

// settleDown waits until the server has no more open than it had after an
// undisturbed broadcast, give or take five, and demands that.
func (s *server) settleDown(files, routines int) (filesLeft, routinesLeft int) {
	s.t.Helper()
	filesLeft = s.descriptorsWithin(files + 5)
	for began := time.Now(); ; <-time.After(100 * time.Millisecond) {
		if routinesLeft = s.metric("go_goroutines"); routinesLeft <= routines+5 || time.Since(began) > patience {
			break
		}
	}
	if filesLeft > files+5 || routinesLeft > routines+5 {
		s.t.Errorf("%d descriptors and %d goroutines are left, after an undisturbed broadcast %d and %d", filesLeft, routinesLeft, files, routines)
	}
	return filesLeft, routinesLeft
}

// unanswered is how many attempts of this life had no answer, where no push
// service says to come back.
func (s *server) unanswered() int {
	s.t.Helper()
	return s.metric(`belfry_attempts_total{push_service="[^"]*",verdict="later"}`)
}

// metric is the sum of the server's metrics of that name, a regular expression.
func (s *server) metric(name string) (sum int) {
	s.t.Helper()
	status, all := s.ask(http.MethodGet, "/metrics", nil)
	if status != http.StatusOK {
		s.t.Fatalf("/metrics is answered %d", status)
	}
	for _, line := range regexp.MustCompile(`(?m)^`+name+` (.+)$`).FindAllSubmatch(all, -1) {
		n, err := strconv.ParseFloat(string(line[1]), 64)
		if err != nil {
			s.t.Fatal(err)
		}
		sum += int(n)
	}
	return sum
}

// descriptorsWithin is how many there are, once they are no more than most or a
// connection that nobody needs would be closed.
func (s *server) descriptorsWithin(most int) int {
	s.t.Helper()
	n := s.descriptors()
	for began := time.Now(); n > most && time.Since(began) < patience; n = s.descriptors() {
		<-time.After(100 * time.Millisecond)
	}
	return n
}

// descriptors is how many files and sockets the server has open.
func (s *server) descriptors() int {
	s.t.Helper()
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.life.PID()))
	if err != nil {
		s.t.Fatal(err)
	}
	return len(open)
}

var routine = regexp.MustCompile(`(?m)^goroutine \d+ `)

// goroutines ends the server by SIGQUIT, which makes every Go program say what
// all its goroutines do, and returns how many there were.
func (s *server) goroutines() int {
	s.t.Helper()
	s.api.CloseIdleConnections()
	before := len(s.life.Said())
	s.life.End(s.ctx, s.t, syscall.SIGQUIT)
	return len(routine.FindAllString(s.life.Said()[before:], -1))
}
