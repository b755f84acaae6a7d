package broadcasts_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/broadcasts"
)

var (
	otherKey = belfry.Outcome{Verdict: belfry.WrongKey, Status: 403, Reason: "VapidPkHashMismatch"}
	noKey    = belfry.Outcome{Verdict: belfry.WrongKey, Reason: "not a key of this server"}
	unknown  = belfry.Outcome{Verdict: belfry.Refused, Status: 400, Reason: "no"}
	silence  = belfry.Outcome{Verdict: belfry.Later, Reason: "connection refused"}
)

// What a push service lets us know of a row is remembered, and only that: a row
// that is called wrong without cause is rung no more, and a million rows that are
// accepted must not be written each time.
func TestLessons(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		today := belfry.DayOf(time.Now())
		for _, tt := range []struct {
			name    string
			before  belfry.Memory
			answers []belfry.Outcome
			after   belfry.Memory
			written int
		}{
			{"accepted", belfry.Memory{}, []belfry.Outcome{accepted}, belfry.Memory{}, 0},
			{"accepted again", belfry.Memory{Suspect: true, RefusedDays: 3, Refused: 1, Unreached: 7}, []belfry.Outcome{accepted}, belfry.Memory{}, 1},
			{"wrong key", belfry.Memory{}, []belfry.Outcome{otherKey}, belfry.Memory{WrongKey: true}, 1},
			{"no key of ours", belfry.Memory{}, []belfry.Outcome{noKey}, belfry.Memory{}, 0},
			{"too large", belfry.Memory{}, []belfry.Outcome{large}, belfry.Memory{Constrained: true}, 1},
			{"too large, then accepted", belfry.Memory{}, []belfry.Outcome{large, accepted}, belfry.Memory{Constrained: true}, 1},
			{"small at once", belfry.Memory{Constrained: true}, []belfry.Outcome{accepted}, belfry.Memory{Constrained: true}, 0},
			{"refused", belfry.Memory{}, []belfry.Outcome{unknown}, belfry.Memory{RefusedDays: 1, Refused: today}, 1},
			{"refused twice a day", belfry.Memory{RefusedDays: 1, Refused: today}, []belfry.Outcome{unknown}, belfry.Memory{RefusedDays: 1, Refused: today}, 0},
			{"refused on a third day", belfry.Memory{RefusedDays: 2, Refused: today - 1}, []belfry.Outcome{unknown}, belfry.Memory{Suspect: true, RefusedDays: 3, Refused: today}, 1},
			{"not reached", belfry.Memory{}, []belfry.Outcome{silence}, belfry.Memory{Unreached: today}, 1},
			{"not reached for two weeks", belfry.Memory{Unreached: today - 14}, []belfry.Outcome{silence}, belfry.Memory{Unreached: today - 14}, 0},
			{"not reached for longer", belfry.Memory{Unreached: today - 15}, []belfry.Outcome{silence}, belfry.Memory{Unreached: today - 15, Suspect: true}, 1},
			{"reached again", belfry.Memory{Unreached: today - 15}, []belfry.Outcome{silence, unknown}, belfry.Memory{RefusedDays: 1, Refused: today}, 1},
			{"a bad day", belfry.Memory{}, []belfry.Outcome{later}, belfry.Memory{}, 0},
			{"blocked", belfry.Memory{}, []belfry.Outcome{{Verdict: belfry.Blocked}}, belfry.Memory{}, 0},
		} {
			b := newBell(t)
			id := b.people.join(1, "push.example")[0]
			b.people.change(id, func(s *belfry.Subscription) { s.Memory = tt.before })
			b.post.script(id, tt.answers...)
			b.end(b.hello(5 * time.Second).ID)
			if got := b.people.memory(id); got != tt.after || b.people.learnt != tt.written || !b.people.there(id) {
				t.Errorf("%s: %+v, written %d times; want %+v and %d", tt.name, got, b.people.learnt, tt.after, tt.written)
			}
		}
	})
}

// A row that is marked is not asked for again, and counted with a reason that says
// why; one that is constrained gets its first try without padding (WP-64, WP-67).
func TestMarkedRows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t)
		ids := b.people.join(2, "push.example")
		b.people.change(ids[0], func(s *belfry.Subscription) { s.Memory.WrongKey = true })
		b.people.change(ids[1], func(s *belfry.Subscription) { s.Memory.Constrained = true })
		last := b.end(b.hello(time.Hour).ID)
		if last.Counts != (broadcasts.Counts{Targets: 2, Accepted: 1, Failed: 1}) || last.Failures["wrong-key"] != 1 {
			t.Errorf("%+v %v", last.Counts, last.Failures)
		}
		if sent := b.post.to(""); len(sent) != 1 || sent[0].id != ids[1] || !sent[0].message.Unpadded {
			t.Errorf("%+v", sent)
		}
		b.post.script(ids[1], large)
		if last = b.end(b.hello(time.Hour).ID); last.Failures["too much"] != 1 || len(b.post.to("")) != 2 {
			t.Errorf("%v, %d tries", last.Failures, len(b.post.to("")))
		}
	})
}

// A push service that calls all of them wrong is as little to be believed as one
// that calls all gone: whoever is marked is rung no more before the next visit.
func TestTooManyWrongKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t)
		ids := b.people.join(2000, "push.example")
		b.post.rule = func(belfry.Subscription) belfry.Outcome { return otherKey }
		last := b.end(b.hello(time.Hour).ID)
		marked := 0
		for _, id := range ids {
			if b.people.memory(id).WrongKey {
				marked++
			}
		}
		if last.Counts.Failed != 2000 || marked == 0 || marked > 200+128 {
			t.Errorf("%d failed, %d are marked", last.Counts.Failed, marked)
		}
	})
}
