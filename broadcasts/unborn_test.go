package broadcasts_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/broadcasts"
)

// A slowJournal takes its time to refuse a broadcast, and commits to none that
// it has not taken.
type slowJournal struct {
	broadcasts.Journal
	refuses bool
}

func (j *slowJournal) Create(ctx context.Context, b broadcasts.Broadcast, c *broadcasts.Claim) (broadcasts.Broadcast, error) {
	if j.refuses {
		time.Sleep(2 * time.Second)
		return b, errBroken
	}
	return j.Journal.Create(ctx, b, c)
}

func (j *slowJournal) Commit(ctx context.Context, changes []broadcasts.Change, gone []belfry.Subscription) error {
	for _, c := range changes {
		if _, err := j.Get(ctx, c.ID); err != nil {
			return fmt.Errorf("commit of what is not there: %w", err)
		}
	}
	return j.Journal.Commit(ctx, changes, gone)
}

// Word of a lane that changes goes to the broadcasts that are on disk: one that
// is about to be must not be written down before, nor if it never is.
func TestWordOfALaneBeforeALaunchIsWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &slowJournal{}
		b := newBell(t, func(c *broadcasts.Config) { j.Journal, c.Journal = c.Journal, j })
		b.people.join(20, "push.example")
		b.post.slow["push.example"] = time.Second
		b.post.rule = func(belfry.Subscription) belfry.Outcome { return belfry.Outcome{Verdict: belfry.OurFault, Status: 403} }
		b.hello(time.Hour)
		j.refuses = true
		if _, _, err := b.Launch(t.Context(), broadcasts.Request{Message: hello(time.Hour), Audience: everybody}); err == nil {
			t.Error("it was launched")
		}
		time.Sleep(3 * time.Second)
		if b.log.count("cannot write down") != 0 {
			t.Error(b.log.buf.String())
		}
	})
}
