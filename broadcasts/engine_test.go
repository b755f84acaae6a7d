package broadcasts_test

import (
	"testing"
	"testing/synctest"
	"time"
)

// A broadcast to everybody reaches everybody, once.
func TestBroadcast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t)
		b.people.join(1000, "push.example")
		launched := b.hello(time.Hour)
		last := b.end(launched.ID)
		if last.Counts.Accepted != 1000 || len(b.post.to("")) != 1000 {
			t.Errorf("%+v after %d attempts", last.Counts, len(b.post.to("")))
		}
	})
}
