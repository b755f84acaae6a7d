package broadcasts_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/broadcasts"
)

// A receiver is a caller that answers by script.
type receiver struct {
	mu      sync.Mutex    // guards what follows
	answers []any         // a status or an error, the last one stays; 204 without
	slow    time.Duration // how long an answer takes
	calls   []heard
	flying  int
	most    int
}

type heard struct {
	at   time.Time
	to   string
	id   string
	body string
}

func (r *receiver) Call(ctx context.Context, to belfry.Callback, id string, body []byte) (int, error) {
	r.mu.Lock()
	r.calls = append(r.calls, heard{time.Now(), to.Reveal(), id, string(body)})
	r.flying++
	r.most = max(r.most, r.flying)
	answer, slow := any(204), r.slow
	if len(r.answers) > 0 {
		answer = r.answers[0]
		r.answers = r.answers[min(1, len(r.answers)-1):]
	}
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.flying--
	}()
	select {
	case <-time.After(slow):
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	if err, failed := answer.(error); failed {
		return 0, err
	}
	return answer.(int), nil
}

func (r *receiver) heard() []heard {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]heard(nil), r.calls...)
}

func (r *receiver) script(answers ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answers = answers
}

func (r *receiver) takes(slow time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.slow = slow
}

const hook = "https://hooks.example.com/SECRET"

func newCallingBell(t *testing.T) (*bell, *receiver) {
	r := &receiver{}
	b := newBell(t, func(c *broadcasts.Config) { c.Caller = r })
	b.post.slow["push.example"] = time.Second
	return b, r
}

// ring launches a broadcast whose end is told to the receiver.
func (b *bell) ring() broadcasts.Broadcast {
	return b.request(broadcasts.Request{Message: hello(24 * time.Hour), Audience: everybody, Callback: hook})
}

func (b *bell) uncalled() int {
	b.t.Helper()
	list, _, err := b.journal.Uncalled(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	return len(list)
}

// Who asked to be told hears once, at the end and not before it, what an
// operator would be shown; and the URL, which may hold a secret, is shown nowhere.
func TestCallback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, r := newCallingBell(t)
		b.people.join(2, "push.example")
		launched := b.ring()
		time.Sleep(500 * time.Millisecond)
		if n := len(r.heard()); n > 0 || b.uncalled() > 0 {
			t.Fatalf("%d calls before the end", n)
		}
		b.end(launched.ID)
		time.Sleep(48 * time.Hour)
		calls := r.heard()
		if len(calls) != 1 || calls[0].to != hook || calls[0].id != launched.ID {
			t.Fatalf("%+v", calls)
		}
		want, _ := json.Marshal(b.get(launched.ID))
		if calls[0].body != string(want) {
			t.Errorf("it hears %s\nwant %s", calls[0].body, want)
		}
		var told broadcasts.Broadcast
		if err := json.Unmarshal([]byte(calls[0].body), &told); err != nil || told.State != broadcasts.Done || told.Counts.Accepted != 2 {
			t.Errorf("it hears of %s %+v, %v", told.State, told.Counts, err)
		}
		if b.uncalled() > 0 || b.log.count("callback delivered", launched.ID, "tries=1") != 1 {
			t.Error("that it was delivered is not written down")
		}
		text, _ := json.Marshal([]any{launched, told})
		if n := b.log.count("SECRET"); n > 0 || strings.Contains(string(text), "SECRET") {
			t.Errorf("the secret is in %d lines of the log, or in %s", n, text)
		}
	})
}

// A broadcast that is cancelled has ended, too, whether it was running or paused.
func TestCallbackOfTheCancelled(t *testing.T) {
	for _, pause := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			b, r := newCallingBell(t)
			b.people.join(300, "push.example")
			launched := b.ring()
			time.Sleep(500 * time.Millisecond)
			if pause {
				if _, err := b.Pause(t.Context(), launched.ID); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Hour)
			}
			if n := len(r.heard()); n > 0 {
				t.Errorf("%d calls before the end", n)
			}
			if _, err := b.Cancel(t.Context(), launched.ID); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Hour)
			var told broadcasts.Broadcast
			if calls := r.heard(); len(calls) != 1 || json.Unmarshal([]byte(calls[0].body), &told) != nil || told.State != broadcasts.Cancelled {
				t.Errorf("paused %v: %+v", pause, calls)
			}
		})
	}
}

// A receiver that is being restarted, is wrongly set up or sends us elsewhere is
// asked again, with the same id and words, less and less often.
func TestCallbackIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, r := newCallingBell(t)
		r.script(errBroken, 500, 307, 404, 429, 100, 200)
		launched := b.ring()
		b.end(launched.ID)
		time.Sleep(23 * time.Hour)
		calls := r.heard()
		if len(calls) != 7 || b.uncalled() > 0 || b.log.count("callback delivered", "tries=7") != 1 || b.log.count("a callback failed", launched.ID) != 1 {
			t.Fatalf("%d calls", len(calls))
		}
		for i, c := range calls[1:] {
			most := 5 * time.Second << i
			if wait := c.at.Sub(calls[i].at); wait < most/2 || wait > most {
				t.Errorf("call %d comes after %v, not %v to %v", i+2, wait, most/2, most)
			}
			if c.id != calls[0].id || c.body != calls[0].body {
				t.Errorf("call %d is of %s: %s", i+2, c.id, c.body)
			}
		}
	})
}

// Receivers that were told of ends in one moment must not all be called again in one.
func TestCallbacksComeBackApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, r := newCallingBell(t)
		r.script(503)
		for range 10 {
			b.ring()
		}
		time.Sleep(5 * time.Second)
		at := map[time.Time]int{}
		for _, c := range r.heard() {
			at[c.at]++
		}
		if len(at) < 9 {
			t.Errorf("20 calls in %d moments", len(at))
		}
	})
}

// Who says 410 is not asked again; who never answers is given up after a day,
// and an operator can read of both.
func TestCallbackIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, r := newCallingBell(t)
		r.script(410)
		launched := b.ring()
		time.Sleep(time.Hour)
		if n := len(r.heard()); n != 1 || b.uncalled() > 0 || b.log.count("callback given up", launched.ID, "status=410") != 1 {
			t.Errorf("%d calls after 410", n)
		}
		r.script(errBroken)
		dead := b.ring()
		time.Sleep(time.Minute)
		if b.uncalled() != 1 {
			t.Error("it is forgotten while it is still tried")
		}
		time.Sleep(48 * time.Hour)
		calls := r.heard()[1:]
		if took := calls[len(calls)-1].at.Sub(calls[0].at); took < 24*time.Hour || took > 25*time.Hour || len(calls) < 30 || len(calls) > 60 {
			t.Errorf("%d calls in %v", len(calls), took)
		}
		if b.uncalled() > 0 || b.log.count("callback given up", dead.ID, "err=broken", "hooks.example.com/#") != 1 {
			t.Error("that it was given up is not written down")
		}
	})
}

// A restart neither forgets whom to tell nor tells for ever, and what was cut
// off is told again.
func TestCallbackOverRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, r := newCallingBell(t)
		r.script(503)
		b.ring()
		time.Sleep(3 * time.Hour)
		n := len(r.heard())
		b.restart()
		synctest.Wait()
		if got := len(r.heard()); got != n+1 {
			t.Errorf("%d calls at the start", got-n)
		}
		r.takes(10 * time.Second)
		time.Sleep(5 * time.Second) // the next is under way
		r.script(200)
		b.restart()
		if b.uncalled() != 1 {
			t.Fatal("what was cut off counts as over")
		}
		time.Sleep(time.Minute)
		n = len(r.heard())
		b.restart()
		time.Sleep(48 * time.Hour)
		if got := len(r.heard()); got != n || b.uncalled() != 0 {
			t.Errorf("%d calls after it was delivered", got-n)
		}

		r.script(503)
		b.ring()
		time.Sleep(time.Minute)
		b.Close(context.Background())
		n = len(r.heard())
		time.Sleep(30 * time.Hour)
		if got := len(r.heard()); got != n {
			t.Errorf("%d calls of a server that is stopped", got-n)
		}
		b.start()
		synctest.Wait()
		b.restart()
		if n++; b.uncalled() != 1 {
			t.Fatal("what was cut off counts as over")
		}
		time.Sleep(30 * time.Hour)
		if got := len(r.heard()); got != n+1 || b.uncalled() != 0 {
			t.Errorf("%d calls after more than a day", got-n)
		}
	})
}

// When it cannot be written down that somebody was told, an operator reads why
// they are told again.
func TestCallbackOnAFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, r := newCallingBell(t)
		r.takes(time.Second)
		launched := b.ring()
		b.end(launched.ID)
		b.journal.fail(errBroken)
		time.Sleep(time.Hour)
		if n := len(r.heard()); n != 1 || b.log.count("is called again after a restart", launched.ID) != 1 {
			t.Errorf("%d calls", n)
		}
		b.journal.fail(nil)
		b.restart()
		time.Sleep(time.Hour)
		if n := len(r.heard()); n != 2 || b.uncalled() > 0 {
			t.Errorf("%d calls", n)
		}
	})
}

// A site that rings for single people must not open a connection for each to a
// receiver that has fallen asleep.
func TestCallsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, r := newCallingBell(t)
		r.takes(10 * time.Second)
		for range 100 {
			b.ring()
		}
		time.Sleep(5 * time.Minute)
		if len(r.heard()) != 100 || r.most != 16 || b.uncalled() > 0 {
			t.Errorf("%d calls, %d at a time", len(r.heard()), r.most)
		}
	})
}

// A callback that cannot be called is refused while the operator looks, and
// nobody is rung.
func TestCallbackRefused(t *testing.T) {
	b, _ := newCallingBell(t)
	silent := newBell(t)
	for _, tt := range []struct {
		bell *bell
		url  string
	}{{b, "http://hooks.example.com/SECRET"}, {b, "https://127.0.0.1/SECRET"}, {silent, hook}} {
		_, _, err := tt.bell.Launch(t.Context(), broadcasts.Request{Message: hello(time.Hour), Audience: everybody, Callback: tt.url})
		var told *belfry.Error
		if !errors.As(err, &told) || told.Kind != belfry.ErrInvalid || told.Code != "callback" || strings.Contains(told.Error(), "SECRET") {
			t.Errorf("%s: %v", tt.url, err)
		}
		if list, _ := tt.bell.List(t.Context(), "", 10); len(list) > 0 {
			t.Error("it was written down")
		}
	}
}
