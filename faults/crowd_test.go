//go:build faults

package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// pagesAtOnce is how many pages come or go in one moment.
func pagesAtOnce() int { return size(300, 10_000) }

// Everybody comes in one moment, as after a broadcast that says where to look, and
// gets in. Then the server is killed: each page was told another time to come
// back, comes then, and has what was said meanwhile; and who asks whether the
// server is alive is answered soon. A page that waits costs next to nothing (REL-11).
func TestCrowd(t *testing.T) {
	if !*full {
		t.Parallel()
	}
	n := pagesAtOnce()
	mayOpen(t, size(512, n+5000)) // the server keeps some for all else
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	s := newServer(ctx, t)
	s.flags = append(s.flags, "--live-limit", "off")
	s.run()
	empty := s.memory()
	answered := s.watchHealth()
	pages, took := s.gather(n, s.comeIn)
	crowded := answered()
	weight := s.weigh(n, empty)
	s.kill()
	disband(pages)
	waits := make([]time.Duration, n)
	for i, p := range pages {
		waits[i] = p.retry
	}
	mustSpread(t, waits)

	s.run()
	id := s.say("You were away.")
	answered = s.watchHealth()
	began, at := time.Now(), make([]time.Duration, n)
	back, returned := s.gather(n, func(i int) (*page, error) {
		if *full { // in the small form, nobody does as told
			<-time.After(waits[i])
		}
		at[i] = time.Since(began)
		return s.listen(pages[i].cursor)
	})
	calm := answered()
	each(t, n, func(i int) error {
		if got, err := back[i].message(); err != nil || got != id || !back[i].recovered {
			return fmt.Errorf("comes back to %q (%v, recovered: %v), not to %s", got, err, back[i].recovered, id)
		}
		return nil
	})
	if p99 := max(quantile(crowded, 0.99), quantile(calm, 0.99)); *full && p99 > 200*time.Millisecond {
		t.Errorf("health is answered within %s (p99) while they come, or come back", p99)
	}
	spread := quantile(at, 1) - quantile(at, 0)
	if *full && spread < 10*time.Second {
		t.Errorf("they come back within %s of each other", spread)
	}
	t.Logf("REL-11: %d pages in one moment, all let in within %d ms (/healthz: %s), of which each then takes %.1f kB; killed, told to come back after %.1f to %.1f s, and back over %.1f s, the last within %d ms (/healthz: %s), 0 of them without what was said meanwhile",
		n, took.Milliseconds(), told99(crowded), weight, quantile(waits, 0).Seconds(), quantile(waits, 1).Seconds(), spread.Seconds(), returned.Milliseconds(), told99(calm))
	disband(back)
	s.stop()
}

// weigh returns what each of n pages that wait takes of the server's own memory, in
// kB, once what they left behind when they came in is given back.
func (s *server) weigh(n, empty int) (each float64) {
	s.t.Helper()
	const most = 2.5
	for deadline := time.Now().Add(20 * time.Second); ; <-time.After(100 * time.Millisecond) {
		each = float64(s.memory()-empty) / float64(n)
		if each <= most || !*full { // few pages, and the race detector's own memory
			return each
		}
		if time.Now().After(deadline) {
			s.t.Errorf("a page that waits takes %.1f kB, and %.1f are wanted", each, most)
			return each
		}
	}
}

func told99(all []time.Duration) string {
	return fmt.Sprintf("p50 %d ms, p99 %d ms of %d", quantile(all, 0.5).Milliseconds(), quantile(all, 0.99).Milliseconds(), len(all))
}

// healthOf names, to a process of this test alone, the server to ask.
const healthOf = "BELFRY_FAULTS_HEALTH_OF"

// watchHealth has another process ask whether the server is alive, since this one
// has its hands full, until the function that it returns is called, which says
// how long each answer took.
func (s *server) watchHealth() (stop func() []time.Duration) {
	s.t.Helper()
	cmd := exec.CommandContext(s.ctx, os.Args[0])
	cmd.Env = append(os.Environ(), healthOf+"="+s.url)
	cmd.Stderr = os.Stderr
	end, err := cmd.StdinPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	var said bytes.Buffer
	cmd.Stdout = &said
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	return func() (took []time.Duration) {
		s.t.Helper()
		end.Close()
		if err := cmd.Wait(); err != nil {
			s.t.Fatalf("whether the server is alive: %v", err)
		}
		if err := json.Unmarshal(said.Bytes(), &took); err != nil || len(took) == 0 {
			s.t.Fatalf("%v: %s", err, &said)
		}
		return took
	}
}

// askHealth asks whether a server is alive again and again, each time as a
// stranger, until the input ends, and writes how long each answer took.
func askHealth(url string) error {
	over := make(chan struct{})
	go func() {
		defer close(over)
		io.Copy(io.Discard, os.Stdin)
	}()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	var took []time.Duration
	for {
		began := time.Now()
		resp, err := client.Get(url + "/healthz")
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return errors.New(resp.Status)
		}
		took = append(took, time.Since(began))
		select {
		case <-over:
			return json.NewEncoder(os.Stdout).Encode(took)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// A server that is told to stop says so to each page, a few at a time, with
// another time to come back for each, and is gone within ten seconds (REL-10).
func TestCrowdIsSentAway(t *testing.T) {
	if !*full {
		t.Parallel()
	}
	n := pagesAtOnce()
	mayOpen(t, size(512, n+5000))
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	s := newServer(ctx, t)
	s.flags = append(s.flags, "--live-limit", "off")
	s.run()
	pages, _ := s.gather(n, s.comeIn)

	byes := make([]time.Duration, n)
	began := time.Now()
	code := make(chan int, 1)
	go func() { code <- s.life.End(ctx, t, syscall.SIGTERM) }()
	each(t, n, func(i int) error {
		e, err := pages[i].next()
		for err == nil && e.name == "ping" {
			e, err = pages[i].next()
		}
		byes[i] = time.Since(began)
		if err != nil || e.name != "bye" || !strings.HasPrefix(e.data, `{"reason":"drain","retry":`) {
			return fmt.Errorf("is told %+v, %v", e, err)
		}
		if e, err := pages[i].next(); err == nil {
			return fmt.Errorf("is told %+v behind the goodbye", e)
		}
		return nil
	})
	ended := <-code
	took := time.Since(began)
	waits, back := make([]time.Duration, n), make([]time.Duration, n)
	for i, p := range pages {
		waits[i], back[i] = p.retry, byes[i]+p.retry
	}
	mustSpread(t, waits)
	left, returned := quantile(byes, 1)-quantile(byes, 0), quantile(back, 1)-quantile(back, 0)
	if ended != 0 || *full && (took > 10*time.Second || left < 4*time.Second || returned < 10*time.Second) {
		t.Errorf("it ended with %d after %s; pages were sent away over %s, to come back over %s", ended, took, left, returned)
	}
	t.Logf("REL-10: SIGTERM with %d pages: exit 0 within %d ms, each told `bye` and when to come back; sent away over %.1f s, to come back over %.1f s", n, took.Milliseconds(), left.Seconds(), returned.Seconds())
}
