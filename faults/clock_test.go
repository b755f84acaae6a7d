//go:build faults

package faults

import (
	"context"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belfry-push/belfry/broadcasts"
	"github.com/belfry-push/belfry/sender/pushtest"
)

// A wronged is a push service by whose clock ours is wrong.
type wronged struct {
	*pushService
	off atomic.Int64 // how far ours is ahead of it, a time.Duration
}

// startWronged starts one in this process, since there are many.
func startWronged(t *testing.T, off time.Duration) *wronged {
	t.Helper()
	w := &wronged{}
	w.off.Store(int64(off))
	service, err := pushtest.Start(pushtest.Config{TLS: true, Now: func() time.Time { return time.Now().Add(-time.Duration(w.off.Load())) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { service.Close() })
	w.pushService = &pushService{t: t, url: service.URL(), ca: service.CA()}
	return w
}

var differs = regexp.MustCompile(` and our clock is (\S+) (ahead of|behind) its own$`)

// Wherever our clock is so wrong that a push service refuses our tokens, its rows
// wait, nobody is removed, and the operator reads by how much it is wrong; once
// it is right, all get the message (REL-08, WP-43, REL-27).
func TestWrongClock(t *testing.T) {
	t.Parallel()
	const (
		each    = 3
		behind  = -6 * time.Hour // a token is signed for 12 hours and used for 6
		ahead   = 12 * time.Hour // and no push service takes one for more than 24
		mostOff = 25 * time.Hour
	)
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	var services []*wronged
	var pushes []*pushService
	if *full {
		for off := -mostOff; off <= mostOff; off += time.Hour {
			services = append(services, startWronged(t, off))
		}
	} else {
		for _, off := range []time.Duration{-mostOff, behind, 0, ahead, ahead + time.Hour} {
			services = append(services, startWronged(t, off))
		}
	}
	for _, w := range services {
		pushes = append(pushes, w.pushService)
	}
	s := newServer(ctx, t, pushes...)
	s.run()
	var lines [][]byte
	for _, p := range pushes {
		lines = append(lines, p.mint(each, s.key())...)
	}
	s.load(lines, "news")
	id := s.launch("news", 3600)

	// A new token is good for 12 hours, so between 6 and 12 hours behind it is
	// taken at first, and refused before it is renewed.
	mayBeRefused := func(off time.Duration) bool { return off < behind || off > ahead }
	mustBeRefused := func(off time.Duration) bool { return off <= -ahead || off > ahead }
	var b broadcasts.Broadcast
	for settled := false; !settled; {
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("it does not come to rest: %+v", b.Hosts)
		}
		b, settled = s.show(id), true
		for _, w := range services {
			h := share(b, w.pushService)
			settled = settled && (h.Accepted == each || h.State == "paused")
		}
	}
	shown := s.cli(0, "broadcasts", "show", id)
	refused, furthest := 0, time.Duration(0)
	for _, w := range services {
		off, h := time.Duration(w.off.Load()), share(b, w.pushService)
		switch {
		case h.Accepted == each && !mustBeRefused(off):
			continue
		case h.State != "paused" || h.Accepted > 0 || !mayBeRefused(off):
			t.Errorf("%s ahead: %+v", off, h)
			continue
		}
		refused++
		m := differs.FindStringSubmatch(h.Reason)
		if m == nil {
			t.Errorf("%s ahead: nobody is told of the clock: %s", off, h.Reason)
			continue
		}
		told, err := time.ParseDuration(m[1])
		if m[2] == "behind" {
			told = -told
		}
		furthest = max(furthest, (told - off).Abs())
		if err != nil || !strings.Contains(shown, h.Reason) {
			t.Errorf("%s ahead: %s is not what is shown: %s", off, h.Reason, shown)
		}
	}
	// How long a request takes is in it, and that a Date has no fractions.
	if furthest > 2*time.Minute {
		t.Errorf("what is told is wrong by %s", furthest)
	}
	targets := each * len(services)
	if want := (broadcasts.Counts{Targets: targets, Accepted: targets - each*refused, Pending: each * refused}); b.Counts != want || s.registered() != targets {
		t.Errorf("%+v, and %d are left of %d", b.Counts, s.registered(), targets)
	}

	recovered := time.Duration(0)
	if *full { // a push service that refuses us is asked once a minute
		for _, w := range services {
			w.off.Store(0)
		}
		right := time.Now()
		b = s.finish(id)
		recovered = time.Since(right)
		if b.Counts != (broadcasts.Counts{Targets: targets, Accepted: targets}) || recovered > 3*time.Minute {
			t.Errorf("once the clock is right, it ends with %+v after %s", b.Counts, recovered)
		}
	} else {
		s.call(200, "POST", "/api/v1/broadcasts/"+id+"/cancel", nil, nil)
		b = s.finish(id)
	}
	s.stop()
	file := s.audit()
	file.agree(t, b)
	if file.subscriptions != targets {
		t.Errorf("%d subscriptions are left of %d", file.subscriptions, targets)
	}
	t.Logf("REL-08: our clock wrong by the hour from %s to %s, %d push services: %d refuse our tokens, none from %s to %s; each time it is told by how much, %.0f s wrong at most; 0 of %d removed; once it is right, %d accepted within %.0f s",
		-mostOff, mostOff, len(services), refused, behind, ahead, furthest.Seconds(), targets, b.Counts.Accepted, recovered.Seconds())
}
