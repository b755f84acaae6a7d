//go:build faults

package faults

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"
)

// Of the pages that listen, one in a hundred never reads: the others hear no
// later for it, it is sent away once enough waits for it, and when it comes back
// it has all that it missed, each once (REL-12).
func TestPagesThatDoNotRead(t *testing.T) {
	if !*full {
		t.Parallel()
	}
	n, rounds := size(100, 1000), size(1, 2)
	slow := n / 100
	mayOpen(t, size(512, n+5000))
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	s := newServer(ctx, t)
	s.flags = append(s.flags, "--live-limit", "off")
	s.run()
	pages, _ := s.gather(n-slow, s.comeIn)

	events := size(80, 120) // more than we and the system hold for a page that does not read
	text := strings.Repeat("x", 3000)
	var said []string
	hear := func(events int) (late []time.Duration) {
		all := make([]time.Duration, len(pages))
		for range events {
			began := time.Now()
			id := s.say(text)
			said = append(said, id)
			each(t, len(pages), func(i int) error {
				got, err := pages[i].message()
				all[i] = time.Since(began)
				if err != nil || got != id {
					return fmt.Errorf("hears %q, %v, not %s", got, err, id)
				}
				return nil
			})
			late = append(late, all...)
		}
		return late
	}
	var alone, beside []time.Duration
	bytes := 0
	for range rounds {
		alone = append(alone, hear(size(1, events))...) // few pages take no time that could be compared
		before, cut := len(said), s.metric("belfry_live_slow_total")
		deaf, _ := s.gather(slow, s.deaf)
		beside = append(beside, hear(events)...)
		for s.metric("belfry_live_slow_total") < cut+slow || s.metric("belfry_live_connections") > len(pages) {
			select {
			case <-time.After(20 * time.Millisecond):
			case <-ctx.Done():
				t.Fatal("pages that do not read are not sent away")
			}
		}
		for _, p := range deaf {
			had := 0
			for id, err := p.message(); err == nil; id, err = p.message() {
				if id != said[before+had] {
					t.Fatalf("event %d is %s, not %s", had, id, said[before+had])
				}
				had++
			}
			if had == events {
				t.Fatal("nothing waited for a page that does not read")
			}
			bytes = max(bytes, had*len(text))
			again, err := s.listen(p.cursor)
			if err != nil || !again.recovered {
				t.Fatalf("it comes back: %v, %+v", err, again)
			}
			for ; had < events; had++ {
				if id, err := again.message(); err != nil || id != said[before+had] {
					t.Fatalf("event %d is %s, %v, not %s", had, id, err, said[before+had])
				}
			}
			again.Close()
			p.Close()
		}
	}
	p99, with := quantile(alone, 0.99), quantile(beside, 0.99)
	if *full && with.Seconds() > 1.2*p99.Seconds() {
		t.Errorf("p99 is %s beside pages that do not read, and %s without them", with, p99)
	}
	t.Logf("REL-12: %d pages of which %d do not read, %d events of %d octets each time: the others hear within p50 %d ms, p99 %d ms, without them %d and %d ms (p99 %.2f times); those are sent away with at most %d KB under way, come back and have all %d, 0 missed and 0 twice",
		n, slow, events*rounds, len(text), quantile(beside, 0.5).Milliseconds(), with.Milliseconds(), quantile(alone, 0.5).Milliseconds(), p99.Milliseconds(), with.Seconds()/p99.Seconds(), bytes/1000, events)
}
