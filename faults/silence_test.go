//go:build faults

package faults

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/belfry-push/belfry/broadcasts"
	"github.com/belfry-push/belfry/sender/pushtest"
)

// A push service that takes messages and never answers holds no more attempts
// than its lane has places, makes the server no larger, and keeps the other push
// service's people waiting no longer than they would without it (REL-17, REL-27).
func TestSilence(t *testing.T) {
	t.Parallel()
	rows := size(500, 2000)
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	awake, silent := startPushService(ctx, t, "--tls"), startPushService(ctx, t, "--tls")
	s := newServer(ctx, t, awake, silent)
	s.run()
	s.join(silent, rows, "news")
	s.join(awake, rows, "news") // behind the others in the file
	s.join(awake, rows, "awake")

	var alone []time.Duration
	for range 3 { // the first one dials
		launched := time.Now()
		calm := s.launch("awake", 3600)
		s.finishQuickly(calm)
		alone = append(alone, awake.last().Sub(launched))
	}
	slices.Sort(alone)
	silent.answer("", answer{Fault: pushtest.Hang})
	launched := time.Now()
	id := s.launch("news", 3600)
	for s.accepted(id, awake) < rows {
		if time.Since(launched) > within {
			t.Fatal("the others do not finish")
		}
		<-time.After(20 * time.Millisecond)
	}
	took, before := awake.last().Sub(launched), alone[1]

	silent.await(perHost)
	least := s.memory()
	most := least
	for began := time.Now(); time.Since(began) < time.Duration(size(12, 60))*time.Second; {
		<-time.After(250 * time.Millisecond)
		most = max(most, s.memory())
	}
	// An attempt holds its place for ten seconds, so in less than that there cannot
	// be more than the lane has places; half of it, since some come late.
	entries := silent.ledger()
	busiest := 0
	for i, r := range entries {
		until, _ := slices.BinarySearchFunc(entries, r.Time.Add(5*time.Second), func(e pushtest.Received, at time.Time) int { return e.Time.Compare(at) })
		busiest = max(busiest, until-i)
	}
	if busiest > perHost {
		t.Errorf("%d attempts were in flight", busiest)
	}
	if *full && most > least*5/4+8<<10 {
		t.Errorf("the server grew from %d to %d kB", least, most)
	}
	s.call(200, "POST", "/api/v1/broadcasts/"+id+"/cancel", nil, nil)
	b := s.finish(id)
	if b.Counts.Accepted != rows || b.Counts.Cancelled+b.Counts.Failed != rows || b.State != broadcasts.Cancelled {
		t.Errorf("it ends with %+v", b.Counts)
	}
	s.stop()
	file := s.audit()
	file.agree(t, b)
	if file.subscriptions != 3*rows {
		t.Errorf("%d subscriptions are left of %d", file.subscriptions, 3*rows)
	}
	t.Logf("REL-17: %d rows at a silent push service: at most %d attempts in flight, RssAnon %d to %d kB; %d rows at another took %d ms, and alone %d ms (%.2f times)",
		rows, busiest, least, most, rows, took.Milliseconds(), before.Milliseconds(), took.Seconds()/before.Seconds())
}

// accepted is how many rows of a broadcast a push service has accepted, as the API tells.
func (s *server) accepted(id string, p *pushService) int {
	s.t.Helper()
	return share(s.show(id), p).Accepted
}

// reason is why a push service is not open, as the API tells; empty where it is.
func (s *server) reason(id string, p *pushService) string {
	s.t.Helper()
	return share(s.show(id), p).Reason
}

// share is a push service's share of a broadcast.
func share(b broadcasts.Broadcast, p *pushService) broadcasts.Host {
	for _, h := range b.Hosts {
		if "https://"+h.Host == p.url || h.Host == p.host() {
			return h
		}
	}
	return broadcasts.Host{}
}

var anonymous = regexp.MustCompile(`RssAnon:\s+(\d+) kB`)

// memory is the server's own, in kB.
func (s *server) memory() int {
	s.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.life.PID()))
	if err != nil {
		s.t.Fatal(err)
	}
	match := anonymous.FindSubmatch(status)
	if match == nil {
		s.t.Fatalf("no RssAnon in %s", status)
	}
	n, _ := strconv.Atoi(string(match[1]))
	return n
}
