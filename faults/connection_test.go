//go:build faults

package faults

import (
	"context"
	"fmt"
	"os"
	"regexp"
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
	calmFiles, calmRoutines := s.descriptors(), s.goroutines()
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
	s.run()
	b := s.send("news")
	if want := (broadcasts.Counts{Targets: rows, Accepted: rows}); b.Counts != want {
		t.Errorf("it ends with %+v", b.Counts)
	}
	lost, twice, unclear := rows, 0, 0
	for _, p := range services {
		entries := p.ledger()
		had := count(entries, b.ID)
		lost -= len(had.accepted)
		twice += again(had.tried)
		for _, r := range entries {
			// The whole message came, and no answer left.
			if r.Fault == string(pushtest.ResetUnclear) || r.Reason == "hung-up" {
				unclear++
			}
		}
	}
	if lost != 0 || twice > unclear {
		t.Errorf("%d lost; %d tried twice, and %d times nobody could know", lost, twice, unclear)
	}
	files := s.descriptors()
	for began := time.Now(); files > calmFiles+5 && time.Since(began) < 20*time.Second; files = s.descriptors() {
		<-time.After(100 * time.Millisecond)
	}
	routines := s.goroutines()
	if files > calmFiles+5 || routines > calmRoutines+10 {
		t.Errorf("%d descriptors and %d goroutines are left, after an undisturbed broadcast %d and %d", files, routines, calmFiles, calmRoutines)
	}
	s.audit().agree(t, b)
	t.Logf("REL-07: %d sends over HTTP/2 and HTTP/1.1 with %d faults: %d lost, %d tried twice and %d of which nobody could know; descriptors %d (undisturbed %d), goroutines %d (%d)",
		rows, broken, lost, twice, unclear, files, calmFiles, routines, calmRoutines)
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
