//go:build faults

package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/belfry-push/belfry/broadcasts"
)

// A caller launches small broadcasts without a pause, as a busy site does, while
// the server is stopped and started under it.
type caller struct {
	s    *server
	body []byte

	mu       sync.Mutex // guards what follows
	given    []string   // ids that were given out
	refused  int        // launches answered 503
	broken   int        // launches that were begun and not answered, as over an idle connection that just closes
	commands int        // commands that were told whether they had launched
	odd      []string   // what nobody should be answered
}

// call launches once, and reports false when no server was there to answer.
func (c *caller) call(ctx context.Context) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://belfry/api/v1/broadcasts", bytes.NewReader(c.body))
	if err != nil {
		panic(err)
	}
	resp, err := c.s.api.Do(req)
	if err != nil {
		var lost *net.OpError
		if reached := !errors.As(err, &lost) || lost.Op != "dial"; reached && ctx.Err() == nil {
			c.mu.Lock()
			c.broken++
			c.mu.Unlock()
		}
		return false
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(resp.Body)
	var got struct{ ID, Code string }
	json.Unmarshal(answer, &got)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case resp.StatusCode == http.StatusAccepted && got.ID != "":
		c.given = append(c.given, got.ID)
	case resp.StatusCode == http.StatusServiceUnavailable && got.Code == "stopping":
		c.refused++
	default:
		c.odd = append(c.odd, string(answer))
	}
	return true
}

// command launches once by belfry send, which is told that it has launched, or
// that the server is not there or is stopping.
func (c *caller) command() {
	got := run(c.s.ctx, c.s.t, belfry(c.s.t, "send", "--channel", "few", "--title", "The bell rings", "--detach", "--data", c.s.data))
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case got.code == 0:
		c.given = append(c.given, strings.TrimSpace(got.out))
		c.commands++
	case got.code == 1 && (strings.Contains(got.err, "is shutting down") || strings.Contains(got.err, "no server is running")) && strings.Contains(got.err, "\nhint: "):
		c.commands++
	default:
		c.odd = append(c.odd, got.err)
	}
}

// A server that is restarted under load loses nothing and repeats nothing:
// whoever launches while it stops is told to come back, what is in flight gets
// its answer, and the rest is the next server's (REL-10, REL-27).
func TestStopped(t *testing.T) {
	const few, many = 3, 300
	cycles := size(5, 100)
	ctx, cancel := context.WithTimeout(t.Context(), 3*within)
	defer cancel()
	push := startPushService(ctx, t, "--tls")
	s := newServer(ctx, t, push)
	s.run()
	s.join(push, few, "few")
	s.join(push, many, "many")
	push.answer("", answer{DelayMS: 100})

	body, err := json.Marshal(launchOf("few", 3600))
	if err != nil {
		t.Fatal(err)
	}
	c := &caller{s: s, body: body}
	want := map[string]int{}
	longest := time.Duration(0)
	for range cycles {
		want[s.launch("many", 3600)] = many
		calls, quit := context.WithCancel(ctx)
		var calling sync.WaitGroup
		for range 2 {
			calling.Go(func() {
				for calls.Err() == nil {
					if !c.call(calls) {
						select {
						case <-time.After(time.Millisecond):
						case <-calls.Done():
						}
					}
				}
			})
		}
		<-time.After(rand.N(300 * time.Millisecond))
		began := time.Now()
		calling.Go(c.command) // begins before the server is asked to stop, or behind
		s.stop()
		longest = max(longest, time.Since(began))
		s.run()
		quit()
		calling.Wait()
	}
	push.answer("")
	for _, id := range c.given {
		want[id] = few
	}
	missed, twice := 0, 0
	last := map[string]broadcasts.Broadcast{}
	for id, n := range want {
		last[id] = s.finishQuickly(id)
		if counts := (broadcasts.Counts{Targets: n, Accepted: n}); last[id].Counts != counts {
			t.Errorf("broadcast %s is %s with %+v", id, last[id].State, last[id].Counts)
		}
	}
	entries := push.ledger()
	for id, n := range want {
		had := count(entries, id)
		missed += n - len(had.accepted)
		twice += again(had.tried)
	}
	s.stop()
	file := s.audit()
	for _, b := range last {
		file.agree(t, b)
	}
	if missed > 0 || twice > 0 || len(c.odd) > 0 || *full && c.refused == 0 || longest > size(within/2, 30*time.Second) {
		t.Errorf("%d missed, %d tried twice, %d launches refused, the longest stop took %s, and callers were answered %q", missed, twice, c.refused, longest, c.odd)
	}
	t.Logf("REL-10: %d stops under load: exit 0 within %d ms, %d broadcasts launched meanwhile, %d launches answered 503 and %d not at all, %d commands told in words: %d missed, %d tried twice",
		cycles, longest.Milliseconds(), len(c.given), c.refused, c.broken, c.commands, missed, twice)
}

// finishQuickly waits for the end of one of many broadcasts.
func (s *server) finishQuickly(id string) broadcasts.Broadcast {
	s.t.Helper()
	for {
		b := s.show(id)
		if b.Ended() {
			return b
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-s.ctx.Done():
			s.t.Fatalf("broadcast %s does not end: %+v", id, b.Counts)
		}
	}
}
