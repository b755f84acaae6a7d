package broadcasts_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/broadcasts"
	"go.etcd.io/bbolt"
)

func (r *boltRig) examine() (looked []belfry.Looked, findings []string) {
	r.t.Helper()
	got, err := r.Examine(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range got.Findings {
		if f.Hint == "" || f.Severity != belfry.Fault {
			r.t.Errorf("%+v", f)
		}
		findings = append(findings, f.What)
	}
	return got.Looked, findings
}

const (
	endedID   = "01jz0000000000000000000001"
	runningID = "01jz0000000000000000000002"
)

// told is a journal with a broadcast that has ended and one that runs, of which
// two rows are open.
func told(t *testing.T) *boltRig {
	r := newBoltRig(t)
	ended := launched(endedID)
	ended.State, ended.Counts = broadcasts.Done, broadcasts.Counts{Targets: 3, Accepted: 2, Failed: 1}
	ended.Failures = map[string]int{"stale": 1}
	ended.Hosts = []broadcasts.Host{{Host: "a.example", Accepted: 1}, {Host: "b.example", Accepted: 1}}
	rows := map[broadcasts.Turn]*broadcasts.Try{{Host: 1, At: 1}: {}, {Host: 2, Next: 5, At: 2}: {Tries: 1}}
	running := launched(runningID)
	running.Message.Topic = "news"
	for _, c := range []broadcasts.Change{{Broadcast: ended}, {Broadcast: running, Rows: rows}} {
		if _, err := r.Create(t.Context(), c.Broadcast, nil); err != nil {
			t.Fatal(err)
		}
		if err := r.Commit(t.Context(), []broadcasts.Change{c}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if looked, findings := r.examine(); findings != nil || looked[0].Count != 2 || looked[1].Count != 2 {
		t.Fatalf("before: %v %q", looked, findings)
	}
	return r
}

// topicOf is the key of a broadcast among those of its topic.
func topicOf(id string) string { return belfry.Message{Topic: "news"}.TopicHeader() + id }

// row is the key of an open row.
func row(id string, at uint64) string {
	return string(binary.BigEndian.AppendUint64(append([]byte(id), make([]byte, 12)...), at))
}

// Whatever the disk does to a broadcast, the operator reads of it; and what is
// said to be put right by a rebuild is.
func TestExamineNamesDamage(t *testing.T) {
	remove := func(bucket, key string) func(*boltRig) {
		return func(r *boltRig) {
			r.update(func(tx *bbolt.Tx) error { return tx.Bucket([]byte(bucket)).Delete([]byte(key)) })
		}
	}
	put := func(bucket, key, value string) func(*boltRig) {
		return func(r *boltRig) { r.put(bucket, key, []byte(value)) }
	}
	for _, tt := range []struct {
		name   string
		damage func(r *boltRig)
		want   []string // what is in the findings, before and
		stays  []string // after mending
	}{
		{"a message", put("broadcasts", endedID, "x"), []string{endedID + `" cannot be read`}, []string{"cannot be read"}},
		{"counts", put("broadcasts.progress", runningID, ""), []string{runningID + `" cannot be read`}, []string{"cannot be read"}},
		{"a lost message", remove("broadcasts", runningID), []string{"has lost its message"}, []string{"has lost its message"}},
		{"a row of one that ended", put("broadcasts.open", row(endedID, 9), ""), []string{"row 9 of broadcast " + endedID + " is open, which has ended"}, nil},
		{"a row of nobody", put("broadcasts.open", row("01jz0000000000000000000009", 1), ""), []string{"belongs to no broadcast"}, nil},
		{"a short row", put("broadcasts.open", "x", ""), []string{`an open row "x" belongs to no broadcast`}, nil},
		{"one that is not listed", remove("broadcasts.running", runningID), []string{runningID + " is running, and would not go on after a restart"}, nil},
		{"one that is listed", put("broadcasts.running", endedID, ""), []string{endedID + `" is listed as running, and is done`}, nil},
		{"a callback", put("broadcasts.callbacks", endedID, "x"), []string{`the callback of broadcast "` + endedID + `" cannot be read`}, []string{"the callback of"}},
		{"a callback of nobody", put("broadcasts.callbacks", "x", "x"), []string{`a callback belongs to broadcast "x", which is not there`}, nil},
		{"a topic", remove("broadcasts.topics", topicOf(runningID)), []string{runningID + " is not listed with its topic"}, nil},
		{"a topic of nobody", put("broadcasts.topics", topicOf("01jz0000000000000000000009"), ""), []string{"is listed with a topic, and is not of it"}, nil},
		{"another topic", put("broadcasts.topics", strings.Repeat("x", 32)+runningID, ""), []string{"is listed with a topic, and is not of it"}, nil},
		{"a short topic", put("broadcasts.topics", "x", ""), []string{"is listed with a topic, and is not of it"}, nil},
		{"a name that is listed", put("broadcasts.running", "x", ""), []string{`"x" is listed as running, and is not there`}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := told(t)
			tt.damage(r)
			if _, findings := r.examine(); !slices.EqualFunc(findings, tt.want, strings.Contains) {
				t.Errorf("%q", findings)
			}
			if err := r.Mend(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, findings := r.examine(); !slices.EqualFunc(findings, tt.stays, strings.Contains) {
				t.Errorf("after mending: %q", findings)
			}
		})
	}
}

// The accounting is computed anew from the file: numbers that do not add up are
// said to, whichever they are (REL-27).
func TestExamineComputesTheAccounting(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(b *broadcasts.Broadcast)
		want   string
	}{
		{"too many", func(b *broadcasts.Broadcast) { b.Counts.Gone = 1 }, "was for 3 subscriptions and accounts for 4"},
		{"too few", func(b *broadcasts.Broadcast) { b.Counts.Targets = 9 }, "was for 9 subscriptions and accounts for 3"},
		{"below nothing", func(b *broadcasts.Broadcast) { b.Counts.Pending, b.Counts.Left = 4, -1 }, "has a count below nothing"},
		{"too many reasons", func(b *broadcasts.Broadcast) { b.Expiries = map[string]int{"busy": 1} }, "has 0 that expired and reasons for 1"},
		{"no reason", func(b *broadcasts.Broadcast) { b.Counts.Pending, b.Counts.Failed = 2, 1 }, "has 1 that failed and reasons for 0"},
		{"no push service", func(b *broadcasts.Broadcast) { b.Counts.Pending, b.Counts.Accepted = 2, 1 }, "has 1 that were accepted, and its push services took 0"},
		{"open and settled", func(b *broadcasts.Broadcast) { b.Counts.Pending, b.Counts.Left = 1, 2 }, "has 2 open rows and only 1 pending"},
		{"ended before its end", func(b *broadcasts.Broadcast) { b.State = broadcasts.Done }, "is done and has 3 pending"},
	} {
		r := told(t)
		b := launched(runningID)
		b.Message.Topic = "news"
		tt.change(&b)
		if err := r.Commit(t.Context(), []broadcasts.Change{{Broadcast: b}}, nil); err != nil {
			t.Fatal(err)
		}
		if _, findings := r.examine(); !slices.Equal(findings, []string{"broadcast " + runningID + " " + tt.want}) {
			t.Errorf("%s: %q", tt.name, findings)
		}
	}
}

// A broadcast on its way, paused, resumed and cancelled, is sound at every
// moment: a doctor who cries wolf is not heard.
func TestExamineBesideBroadcasts(t *testing.T) {
	r := newBoltRig(t)
	r.file.NoSync = true
	p := &post{before: func(belfry.Subscription) { runtime.Gosched() }}
	b := newBell(t, func(c *broadcasts.Config) { c.Journal, c.Sender = r, p })
	for i, id := range b.people.join(3000, "push.example") {
		if i%3 == 0 {
			p.script(id, belfry.Outcome{Verdict: belfry.Refused, Reason: fmt.Sprint("reason ", i%60)})
		}
	}
	one, two := b.hello(time.Hour), b.hello(time.Hour)
	orders := []func(context.Context, string) (broadcasts.Broadcast, error){b.Pause, b.Resume, b.Pause, b.Resume, b.Cancel}
	for n := 0; ; n++ {
		if looked, findings := r.examine(); findings != nil || looked[0].Count != 2 {
			t.Fatalf("%v %q", looked, findings)
		}
		if n < len(orders) {
			orders[n](t.Context(), two.ID)
		}
		if got, err := b.Get(t.Context(), one.ID); err != nil || got.Ended() && n >= len(orders) {
			if got.Counts.Accepted != 2000 || got.Counts.Failed != 1000 {
				t.Errorf("%+v, %v", got.Counts, err)
			}
			break
		}
	}
	b.end(two.ID)
	if _, findings := r.examine(); findings != nil {
		t.Errorf("at the end: %q", findings)
	}
}

// A claim that cannot be read refuses a launch for ever, and one that is in no
// order is never swept away.
func TestExamineClaims(t *testing.T) {
	r := told(t)
	b := launched("01jz0000000000000000000003")
	claim := &broadcasts.Claim{Key: broadcasts.Key{1}, Asked: [32]byte{2}}
	if _, err := r.Create(t.Context(), b, claim); err != nil {
		t.Fatal(err)
	}
	if looked, findings := r.examine(); findings != nil || looked[3].Count != 1 {
		t.Fatalf("%v %q", looked, findings)
	}
	key := string(claim.Key[:])
	good, order := r.record("broadcasts.claims", key), r.record("broadcasts.claimed", b.ID)
	for _, tt := range []struct {
		spoil func()
		want  string
	}{
		{func() { r.put("broadcasts.claims", key, good[:9]) }, "cannot be read, and a launch with it is refused"},
		{func() { r.put("broadcasts.claimed", b.ID, []byte("another")) }, "would be kept for ever"},
		{func() { r.drop("broadcasts.claims", key) }, "launched with an idempotency key, which is not there"},
		{func() {
			r.drop("broadcasts", b.ID)
			r.drop("broadcasts.progress", b.ID)
			r.drop("broadcasts.running", b.ID)
		}, "belongs to broadcast"},
	} {
		r.put("broadcasts.claims", key, good)
		r.put("broadcasts.claimed", b.ID, order)
		tt.spoil()
		if _, findings := r.examine(); !strings.Contains(strings.Join(findings, "; "), tt.want) {
			t.Errorf("%q does not say %q", findings, tt.want)
		}
		if err := r.Mend(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, findings := r.examine(); findings != nil {
			t.Errorf("after mending: %q", findings)
		}
	}
}
