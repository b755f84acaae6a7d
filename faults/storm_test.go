//go:build faults

package faults

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/belfry-push/belfry/broadcasts"
)

// One of four push services answers 503 for a while: the others' people wait no
// longer than without that, it is asked once a second at most once that is seen,
// and then all of its own get the message too (REL-04, REL-27).
func TestStorm(t *testing.T) {
	t.Parallel()
	each, lasts := size(100, 2500), size(3*time.Second, time.Minute)
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	var services []*pushService
	for range 4 {
		services = append(services, startPushService(ctx, t, "--tls"))
	}
	s := newServer(ctx, t, services...)
	s.run()
	var lines [][]byte
	for _, p := range services {
		lines = append(lines, p.mint(each, s.key())...)
	}
	rand.Shuffle(len(lines), func(i, j int) { lines[i], lines[j] = lines[j], lines[i] })
	s.load(lines, "news")
	bad, others := services[3], services[:3]

	took := func(id string, launched time.Time) time.Duration {
		for _, p := range others {
			for s.accepted(id, p) < each {
				select {
				case <-time.After(20 * time.Millisecond):
				case <-ctx.Done():
					t.Fatal("the others do not finish")
				}
			}
		}
		return slices.MaxFunc([]time.Time{others[0].last(), others[1].last(), others[2].last()}, time.Time.Compare).Sub(launched)
	}
	launched := time.Now()
	calm := s.launch("news", 3600)
	without := took(calm, launched)
	s.finish(calm)

	bad.answer("", answer{Status: 503})
	launched = time.Now()
	id := s.launch("news", 3600)
	with := took(id, launched)
	for !strings.HasSuffix(s.reason(id, bad), "and is asked once a second") {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			t.Fatal("it is not seen that the push service fails")
		}
	}
	// What is in flight then has its answer at once.
	<-time.After(time.Second)
	from, before := time.Now(), bad.summary().Received
	<-time.After(lasts)
	probes, watched := bad.summary().Received-before, time.Since(from)
	during := s.show(id)
	bad.answer("")
	b := s.finish(id)

	// One may be on its way when the count begins, and one when it ends; on a
	// machine that has no time, all that were in flight before it was seen.
	if *full && probes == 0 || float64(probes) > watched.Seconds()+float64(size(2*perHost, 2)) {
		t.Errorf("it was asked %d times in %s", probes, watched)
	}
	if during.Counts != (broadcasts.Counts{Targets: 4 * each, Accepted: 3 * each, Pending: each}) {
		t.Errorf("while it fails, %+v", during.Counts)
	}
	if b.Counts != (broadcasts.Counts{Targets: 4 * each, Accepted: 4 * each}) || len(count(bad.ledger(), id).accepted) != each {
		t.Errorf("it ends with %+v", b.Counts)
	}
	ratio := with.Seconds() / without.Seconds()
	if *full && ratio > 1.1 { // few rows take no time that could be compared
		t.Errorf("the others took %s, and %s without the bad one", with, without)
	}
	s.stop()
	file := s.audit()
	file.agree(t, b)
	if file.subscriptions != 4*each {
		t.Errorf("%d subscriptions are left of %d", file.subscriptions, 4*each)
	}
	t.Logf("REL-04: one of 4 push services with %d rows each answers 503 for %.0f s: the others took %d ms, without it %d ms (%.2f times); it was asked %d times in %.0f s; then %d of %d accepted, %d deleted",
		each, lasts.Seconds(), with.Milliseconds(), without.Milliseconds(), ratio, probes, watched.Seconds(), b.Counts.Accepted, b.Counts.Targets, 4*each-file.subscriptions)
}
