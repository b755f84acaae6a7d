package broadcasts_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/broadcasts"
)

func (p *post) Size(m belfry.PushMessage) (int, error) { return len(m.Payload) + 1000, nil }

func (instant) Size(m belfry.PushMessage) (int, error) { return len(m.Payload), nil }

func (b *bell) estimate(m belfry.Message, a belfry.Audience) broadcasts.Estimate {
	b.t.Helper()
	got, err := b.Estimate(b.t.Context(), broadcasts.Request{Message: m, Audience: a})
	if err != nil {
		b.t.Fatal(err)
	}
	return got
}

// Who asks what a launch would be learns it, and nobody is rung: nothing is
// written, and what would be refused is.
func TestEstimate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t)
		b.journal.fail(errBroken)
		b.people.join(600, "b.example", "news")
		b.people.join(600, "a.example", "news")
		b.people.join(701, "large.example", "news")
		b.people.join(50, "large.example", "sport")
		m := hello(time.Hour)
		want := broadcasts.Estimate{Targets: 1901, Hosts: []broadcasts.Share{{"large.example", 701}, {"a.example", 600}, {"b.example", 600}},
			Warnings: []string{}, Duration: 3, ETA: time.Now().Add(2*time.Second + 101*time.Second/800).UTC()}
		got := b.estimate(m, belfry.Audience{Channels: []string{"news"}})
		payload, err := m.Payload(strings.Repeat("0", 26), "news", site)
		if err != nil {
			t.Fatal(err)
		}
		want.Payload, want.Body, want.Assumes = len(payload), len(payload)+1000, got.Assumes
		if !reflect.DeepEqual(got, want) || !strings.Contains(got.Assumes, "200 in the first second") {
			t.Errorf("\n got %+v\nwant %+v", got, want)
		}
		if none := b.estimate(m, belfry.Audience{Channels: []string{"nobody"}}); none.Targets != 0 || none.Hosts == nil || none.Duration != 0 {
			t.Errorf("nobody: %+v", none)
		}
		if _, err := b.Estimate(t.Context(), broadcasts.Request{Audience: everybody}); !errors.Is(err, belfry.ErrInvalid) {
			t.Errorf("a message without a title: %v", err)
		}
		b.people.fail(errBroken)
		if _, err := b.Estimate(t.Context(), broadcasts.Request{Message: m, Audience: everybody}); !errors.Is(err, errBroken) {
			t.Errorf("an audience that cannot be read: %v", err)
		}
		if list, _ := b.List(t.Context(), "", 10); len(list) != 0 || len(b.post.to("")) != 0 {
			t.Error("it was written or sent")
		}
	})
}

// What would go wrong is said before it does.
func TestEstimateWarns(t *testing.T) {
	b := newBell(t)
	ids := b.people.join(3000, "push.example")
	for _, id := range ids[:2] {
		b.people.change(id, func(s *belfry.Subscription) { s.Origin = "https://old.example" })
	}
	m := hello(2 * time.Second)
	m.Body = strings.Repeat("a", 2700)
	for i, part := range []string{"Firefox for Android", "2 registered at a site", "its ttl of 2s"} {
		if got := b.estimate(m, everybody); len(got.Warnings) != 3 || !strings.Contains(got.Warnings[i], part) {
			t.Errorf("%q does not say %q", got.Warnings, part)
		}
	}
	if got := b.estimate(hello(0), belfry.Audience{Subscriptions: ids[2:3]}); len(got.Warnings) != 0 {
		t.Errorf("%q", got.Warnings)
	}
}

// The pace doubles each second up to what PerHost allows, and one push service
// does not wait for another; in all, no more is in flight than may be.
func TestEstimateDuration(t *testing.T) {
	for _, tt := range []struct {
		rows, hosts, perHost int
		want                 int
	}{
		{1, 1, 128, 1}, {200, 1, 128, 1}, {201, 1, 128, 2}, {600, 1, 128, 2}, {1400, 1, 128, 3},
		{1400 + 10*1280, 1, 128, 13}, {1000, 1, 10, 10}, {1400, 4, 128, 3}, {3000, 50, 128, 15}, {10, 200, 128, 1},
	} {
		b := newBell(t, func(c *broadcasts.Config) { c.PerHost = tt.perHost })
		for n := range tt.hosts {
			b.people.join(tt.rows, fmt.Sprintf("push%d.example", n))
		}
		if got := b.estimate(hello(time.Hour), everybody); got.Duration != tt.want || got.Targets != tt.rows*tt.hosts {
			t.Errorf("%d at each of %d: %d seconds for %d, want %d", tt.rows, tt.hosts, got.Duration, got.Targets, tt.want)
		}
	}
}

// Hosts are strangers' choice: a great many do not make a great answer.
func TestEstimateManyHosts(t *testing.T) {
	b := newBell(t)
	for n := range 200 {
		b.people.join(1, strings.Repeat("x", n+1)+".example")
	}
	got := b.estimate(hello(time.Hour), everybody)
	if len(got.Hosts) != 65 || got.Hosts[0] != (broadcasts.Share{"other", 136}) || got.Targets != 200 {
		t.Errorf("%d shares of %d, the first %+v", len(got.Hosts), got.Targets, got.Hosts[0])
	}
}

// Who hangs up is not counted for any longer.
func TestEstimateInterrupted(t *testing.T) {
	b := newBell(t)
	b.people.join(3000, "push.example")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.Estimate(ctx, broadcasts.Request{Message: hello(time.Hour), Audience: everybody}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
