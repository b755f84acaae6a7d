package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/broadcasts"
	"github.com/belfry-push/belfry/broadcasts/broadcaststest"
)

// A crowd is an audience of so many, at two push services in turn.
type crowd int

func (n crowd) Snapshot(context.Context, belfry.Audience) (belfry.Position, int, error) {
	return belfry.Position(n), int(n), nil
}

func (n crowd) Page(_ context.Context, to belfry.Audience, after, until belfry.Position, limit int) (rows []belfry.Subscription, next belfry.Position, done bool, err error) {
	for next = after; next < until && len(rows) < limit; {
		next++
		if to.Subscriptions != nil && !slices.Contains(to.Subscriptions, fmt.Sprint(next)) {
			continue
		}
		host := []string{"fcm.googleapis.com", fmt.Sprintf("s%d.notify.windows.com", next)}[next%2]
		rows = append(rows, belfry.Subscription{Seq: next, ID: fmt.Sprint(next), Imported: true, Endpoint: belfry.StoredEndpoint(fmt.Sprintf("https://%s/secret%d", host, next))})
	}
	return rows, next, next >= until, nil
}

// A fickle sender calls every ninth gone, which is not enough for a push service
// to be doubted (WP-63), and accepts the others.
type fickle struct{}

func (fickle) Send(_ context.Context, s belfry.Subscription, _ belfry.PushMessage) belfry.Outcome {
	if s.Seq%9 == 0 {
		return belfry.Outcome{Verdict: belfry.Gone, Status: 410}
	}
	return belfry.Outcome{Verdict: belfry.Accepted, Status: 201}
}

func (fickle) Size(m belfry.PushMessage) (int, error) { return len(m.Payload), nil }

// A faulty journal fails its first commits.
type faulty struct {
	broadcasts.Journal
	mu     sync.Mutex // guards faults
	faults int
}

func (j *faulty) Commit(ctx context.Context, changes []broadcasts.Change, gone []belfry.Subscription) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.faults > 0 {
		j.faults--
		return errors.New("disk")
	}
	return j.Journal.Commit(ctx, changes, gone)
}

// counted are numbers of a meter by name and labels, as Prometheus reads them.
func (m *meter) counted(t *testing.T) map[string]int {
	t.Helper()
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]int{}
	for _, f := range families {
		for _, metric := range f.GetMetric() {
			name := strings.TrimPrefix(f.GetName(), "belfry_")
			for _, l := range metric.GetLabel() {
				name += " " + l.GetValue()
			}
			all[name] = int(metric.GetCounter().GetValue() + metric.GetGauge().GetValue())
		}
	}
	return all
}

// An operator who looks at a monitor and one who looks at the broadcasts must
// see the same numbers, across a pause, a cancellation, a disk that was full and
// a restart (REL-27).
func TestMetricsAgreeWithBroadcasts(t *testing.T) {
	memory := broadcaststest.NewMemory(func([]belfry.Subscription) error { return nil })
	before := broadcasts.Broadcast{Launch: broadcasts.Launch{ID: "01aaaaaaaaaaaaaaaaaaaaaaaa", Message: belfry.Message{Title: "T"}, Audience: belfry.Audience{All: true}, Until: 500, Deadline: time.Now().Add(time.Hour)},
		Progress: broadcasts.Progress{State: broadcasts.Running, Started: new(time.Time), Failures: map[string]int{}, Counts: broadcasts.Counts{Targets: 500, Pending: 400, Accepted: 100}}, Course: broadcasts.Course{After: 100, Handed: 100}}
	if _, err := memory.Create(t.Context(), before, nil); err != nil {
		t.Fatal(err)
	}
	m, journal := newMeter(), &faulty{Journal: memory, faults: 1}
	e, err := broadcasts.New(t.Context(), broadcasts.Config{Journal: meteredJournal{journal, m}, Audience: crowd(900), Sender: meteredSender{fickle{}, m, belfry.PushHosts{}}, Origins: []string{"https://www.example.com"}})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close(context.Background())
	for range 2 {
		b, _, err := e.Launch(t.Context(), broadcasts.Request{Message: belfry.Message{Title: "T"}, Audience: belfry.Audience{All: true}})
		if err != nil {
			t.Fatal(err)
		}
		e.Pause(t.Context(), b.ID)
		defer e.Cancel(context.Background(), b.ID)
		e.Resume(t.Context(), b.ID)
	}
	list, err := e.List(t.Context(), "", 10)
	if err != nil {
		t.Fatal(err)
	}
	e.Pause(t.Context(), list[0].ID)
	e.Cancel(t.Context(), list[0].ID)
	var sum broadcasts.Counts
	for _, b := range list {
		for b, err = range e.Watch(t.Context(), b.ID) {
			if err != nil {
				t.Fatal(err)
			}
			law(t, m.counted(t))
		}
		sum.Targets += b.Counts.Targets
		sum.Accepted += b.Counts.Accepted
		sum.Gone += b.Counts.Gone
		sum.Cancelled += b.Counts.Cancelled
	}
	if sum.Gone == 0 {
		t.Error("nobody was gone, so that nothing was counted of it")
	}
	got := m.counted(t)
	for name, want := range map[string]int{
		"rows_targeted_total": sum.Targets - 100, "rows_settled_total accepted": sum.Accepted - 100, "rows_settled_total gone": sum.Gone, "rows_settled_total cancelled": sum.Cancelled,
		"rows_pending": 0, "broadcasts running": 0, "broadcasts paused": 0, "broadcasts_launched_total": 2, "commits_total failed": 1,
		"attempts_total fcm.googleapis.com accepted": got["rows_settled_total accepted"] - got["attempts_total *.notify.windows.com accepted"],
	} {
		if got[name] != want {
			t.Errorf("%s is %d, want %d", name, got[name], want)
		}
	}
	if done := got["broadcasts_ended_total done"] + got["broadcasts_ended_total cancelled"]; done != 3 || got["commits_total done"] == 0 || got["attempts_total *.notify.windows.com gone"] == 0 {
		t.Errorf("%v", got)
	}
	if problems, err := testutil.GatherAndLint(m.registry); err != nil || len(problems) > 0 {
		t.Errorf("Prometheus would not have it so: %v, %v", problems, err)
	}
}

// law holds at every moment.
func law(t *testing.T, got map[string]int) {
	t.Helper()
	settled := 0
	for name, n := range got {
		if strings.HasPrefix(name, "rows_settled_total ") {
			settled += n
		}
	}
	if got["rows_targeted_total"] != got["rows_pending"]+settled {
		t.Fatalf("%d targets, %d pending and %d settled", got["rows_targeted_total"], got["rows_pending"], settled)
	}
}

// A slowpoke takes two seconds for every answer, and asks some to wait.
type slowpoke struct{ fickle }

func (slowpoke) Send(ctx context.Context, s belfry.Subscription, _ belfry.PushMessage) belfry.Outcome {
	select {
	case <-time.After(2 * time.Second):
	case <-ctx.Done():
		return belfry.Outcome{Verdict: belfry.Cancelled}
	}
	if s.Host() == "fcm.googleapis.com" {
		return belfry.Outcome{Verdict: belfry.Later, Status: 429, RetryAfter: 20 * time.Second}
	}
	return belfry.Outcome{Verdict: belfry.Accepted, Status: 201}
}

// An operator who looks at a monitor while a broadcast stands still must see at
// which push service, and once it is over that nothing is on its way any more. A
// push service with hundreds of hosts is one.
func TestLanesAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMeter()
		e, err := broadcasts.New(t.Context(), broadcasts.Config{Journal: broadcaststest.NewMemory(func([]belfry.Subscription) error { return nil }),
			Audience: crowd(600), Sender: meteredSender{slowpoke{}, m, belfry.PushHosts{}}, Origins: []string{"https://www.example.com"}, PerHost: 10,
			Pace: func(host string) float64 { return map[string]float64{"fcm.googleapis.com": 200}[host] }})
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close(context.Background())
		m.registry.MustRegister(laneCollector{e, m, belfry.PushHosts{}})
		expect := func(when string, want map[string]int) {
			t.Helper()
			got := m.counted(t)
			for name, n := range want {
				if value, told := got[name]; value != n || !told {
					t.Errorf("%s %s is %d (told: %t), want %d", when, name, value, told, n)
				}
			}
		}
		ttl := 60
		b, _, err := e.Launch(t.Context(), broadcasts.Request{Message: belfry.Message{Title: "T", TTL: &ttl}, Audience: belfry.Audience{All: true}})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		expect("at first", map[string]int{"lanes fcm.googleapis.com open": 1, "lanes fcm.googleapis.com waiting": 0, "pace fcm.googleapis.com": 200,
			"attempts_in_flight fcm.googleapis.com": 10, "lanes *.notify.windows.com waiting": 0})
		before := m.counted(t)
		if _, told := before["pace *.notify.windows.com"]; told || before["lanes *.notify.windows.com open"] < 100 || before["attempts_in_flight *.notify.windows.com"] < 100 {
			t.Errorf("%v", before)
		}
		time.Sleep(10 * time.Second)
		expect("when it was asked to wait", map[string]int{"lanes fcm.googleapis.com open": 0, "lanes fcm.googleapis.com waiting": 1, "lanes fcm.googleapis.com paused": 0,
			"attempts_in_flight fcm.googleapis.com": 0, "rows_queued fcm.googleapis.com": 10, "attempts_in_flight *.notify.windows.com": 0})
		if pace := m.counted(t)["pace fcm.googleapis.com"]; pace >= 200 {
			t.Errorf("its pace is still %d", pace)
		}
		for range e.Watch(t.Context(), b.ID) {
		}
		time.Sleep(time.Hour)
		expect("in the end", map[string]int{"attempts_in_flight fcm.googleapis.com": 0, "rows_queued fcm.googleapis.com": 0, "attempts_in_flight *.notify.windows.com": 0,
			"rows_queued *.notify.windows.com": 0, "lanes *.notify.windows.com open": 0})
		if problems, err := testutil.GatherAndLint(m.registry); err != nil || len(problems) > 0 {
			t.Errorf("Prometheus would not have it so: %v, %v", problems, err)
		}
	})
}
