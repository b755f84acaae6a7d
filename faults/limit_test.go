//go:build faults

package faults

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/belfry-push/belfry/broadcasts"
	"github.com/belfry-push/belfry/sender/pushtest"
)

// A push service that takes so many a minute gets hardly more, however it asks us
// to wait; everybody gets the message, and the end is foreseen (REL-05, REL-27).
func TestLimit(t *testing.T) {
	t.Parallel()
	perMinute, rows := size(120, 1000), size(126, 2000)
	forms := []pushtest.RetryAfter{pushtest.InSeconds, pushtest.AsDate}
	if *full { // where no time is said, we wait a minute
		forms = append(forms, pushtest.Unsaid, pushtest.Absurd)
	}
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	var services []*pushService
	for range forms {
		services = append(services, startPushService(ctx, t, "--tls"))
	}
	s := newServer(ctx, t, services...)
	s.run()
	all := make([]limited, len(forms))
	for i, p := range services {
		s.join(p, rows, fmt.Sprint("news", i))
	}
	var watching sync.WaitGroup
	for i, p := range services {
		limit, err := json.Marshal(pushtest.Limit{PerMinute: perMinute, RetryAfter: forms[i]})
		if err != nil {
			t.Fatal(err)
		}
		p.ask(http.MethodPost, "/pushtest/limit", limit)
		launch := launchOf(fmt.Sprint("news", i), 3600)
		launch["rate"] = 200 // a vendor's is met at this pace; one that was opened, as fast as we can
		s.call(http.StatusAccepted, http.MethodPost, "/api/v1/broadcasts", launch, &all[i].Broadcast)
		watching.Go(func() { all[i].follow(ctx, s) })
	}
	watching.Wait()
	told := ""
	for i, p := range services {
		l := &all[i]
		l.Broadcast = s.finish(l.ID)
		if l.Counts != (broadcasts.Counts{Targets: rows, Accepted: rows}) {
			t.Errorf("%s: it ends with %+v", forms[i], l.Counts)
		}
		sum := p.summary()
		took := l.Finished.Sub(*l.Started)
		foreseen := l.foreseen(took / 4)
		refused, off := float64(sum.Refused["limit"])/float64(sum.Received), foreseen.Seconds()/took.Seconds()-1
		if *full && (refused > 0.05 || off < -0.2 || off > 0.2) {
			t.Errorf("%s: %.1f %% were refused; it took %s, and after a quarter it was to take %s", forms[i], 100*refused, took, foreseen)
		}
		told += fmt.Sprintf("; %s: %.1f %% answered 429, took %.0f s, foreseen after a quarter of that %+.0f %%", forms[i], 100*refused, took.Seconds(), 100*off)
	}
	if s.registered() != rows*len(forms) {
		t.Errorf("%d subscriptions are left", s.registered())
	}
	s.stop()
	file := s.audit()
	for i := range all {
		file.agree(t, all[i].Broadcast)
	}
	t.Logf("REL-05: %d rows at push services that take %d a minute%s", rows, perMinute, told)
}

// A limited broadcast is one with what was foreseen of it.
type limited struct {
	broadcasts.Broadcast
	etas []foresight
}

type foresight struct{ at, end time.Time }

// follow notes what is foreseen until the end.
func (l *limited) follow(ctx context.Context, s *server) {
	id := l.ID
	for ctx.Err() == nil {
		b := s.show(id)
		if b.Ended() {
			return
		}
		if b.ETA != nil {
			l.etas = append(l.etas, foresight{time.Now(), *b.ETA})
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// foreseen is how long it was to take, as it was told once so much had passed.
func (l *limited) foreseen(passed time.Duration) (takes time.Duration) {
	for _, f := range l.etas {
		if takes = f.end.Sub(*l.Started); f.at.Sub(*l.Started) >= passed {
			break
		}
	}
	return takes
}
