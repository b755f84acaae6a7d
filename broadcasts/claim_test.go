package broadcasts_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/broadcasts"
)

func key(t *testing.T, caller, text string) *broadcasts.Key {
	t.Helper()
	k, err := broadcasts.NewKey(caller, text)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// A client whose connection broke before the answer came asks again, with the
// key that it asked with. Nobody is rung twice, whatever happened in between:
// the broadcast is over, the server was restarted, or rings for other sites now.
func TestLaunchedTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t)
		b.people.join(3, "push.example")
		r := broadcasts.Request{Message: hello(time.Hour), Audience: everybody, Key: key(t, "shop", "1")}
		r.Message.URL = "/sale"
		first := b.request(r)
		last := b.end(first.ID)
		for range 3 {
			time.Sleep(8*time.Hour - time.Second)
			b.cfg.Origins = []string{"https://elsewhere.example"}
			b.restart()
			got, replayed, err := b.Launch(t.Context(), r)
			if err != nil || !replayed || got.ID != first.ID || got.Counts != last.Counts {
				t.Errorf("%s %+v, replayed %v, %v", got.ID, got.Counts, replayed, err)
			}
		}
		other := r
		other.Message.Title = "Goodbye"
		var told *belfry.Error
		if got, _, err := b.Launch(t.Context(), other); !errors.As(err, &told) || told.Kind != belfry.ErrConflict || got.ID != "" {
			t.Errorf("another message with the same key: %q, %v", got.ID, err)
		}
		for _, k := range []*broadcasts.Key{nil, key(t, "shop", "2"), key(t, "blog", "1"), key(t, "sho", "p1")} {
			r.Key = k
			if got, replayed, err := b.Launch(t.Context(), r); err != nil || replayed || got.ID == first.ID {
				t.Errorf("%s, replayed %v, %v", got.ID, replayed, err)
			}
		}
		time.Sleep(3 * time.Second)
		r.Key = key(t, "shop", "1")
		if got, replayed, err := b.Launch(t.Context(), r); err != nil || replayed || got.ID == first.ID {
			t.Errorf("after a day: %s, replayed %v, %v", got.ID, replayed, err)
		}
	})
}

// A client that does not wait for its first try to fail makes one broadcast too,
// and the engine knows that it runs only once: it could not be closed else.
func TestLaunchedTwiceAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBell(t)
		b.post.slow["push.example"] = time.Second
		b.people.join(3, "push.example")
		r := broadcasts.Request{Message: hello(time.Hour), Audience: everybody, Key: key(t, "shop", "1")}
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() { b.request(r) })
		}
		all.Wait()
		list, err := b.List(t.Context(), "", 10)
		if err != nil || len(list) != 1 {
			t.Fatalf("%d broadcasts, %v", len(list), err)
		}
		b.end(list[0].ID)
		if n := len(b.post.to("")); n != 3 {
			t.Errorf("%d attempts", n)
		}
		b.Close(t.Context())
	})
}

// A key is text that passes through every program on its way as it is.
func TestKey(t *testing.T) {
	for _, text := range []string{"x", "5cb2fd0c-6b6a-4f1b-9c3f-4e2d6f6b8a10", `"quoted"`, strings.Repeat("~", 255)} {
		key(t, "shop", text)
	}
	for _, text := range []string{"", " ", "a b", "a\nb", "a\x00b", "é", strings.Repeat("~", 256)} {
		if _, err := broadcasts.NewKey("shop", text); !errors.Is(err, belfry.ErrInvalid) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// Claims go when their day is over, a few with each launch: a site that rings
// for every parcel must not fill its disk with keys, nor wait at the launch that
// happens to come after a pause.
func TestClaimsAreSwept(t *testing.T) {
	r := newBoltRig(t)
	r.file.NoSync = true // hundreds of small transactions that nobody needs to survive
	began := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	n := 0
	create := func(at time.Time, c *broadcasts.Claim) {
		t.Helper()
		n++
		b := launched(fmt.Sprintf("01jz%022d", n))
		b.Created = at
		if got, err := r.Create(t.Context(), b, c); err != nil || got.ID != b.ID {
			t.Fatal(got.ID, err)
		}
	}
	kept := func() (claims, order int) {
		r.file.View(func(tx *bbolt.Tx) error {
			claims = tx.Bucket([]byte("broadcasts.claims")).Stats().KeyN
			order = tx.Bucket([]byte("broadcasts.claimed")).Stats().KeyN
			return nil
		})
		return claims, order
	}
	for i := range 100 {
		create(began.Add(time.Duration(i)*time.Minute), &broadcasts.Claim{Key: broadcasts.Key{byte(i)}})
	}
	over := began.Add(broadcasts.KeepClaims)
	create(over.Add(-time.Second), nil)
	if claims, order := kept(); claims != 100 || order != 100 {
		t.Errorf("%d claims, %d in order: some went too early", claims, order)
	}
	create(over.Add(time.Minute), nil) // the first two
	if claims, order := kept(); claims != 98 || order != 98 {
		t.Errorf("%d claims, %d in order", claims, order)
	}
	later := over.Add(50 * time.Minute)
	create(later, &broadcasts.Claim{Key: broadcasts.Key{20}}) // used again since: it stays
	if claims, order := kept(); claims != 98-16 || order != 98-16+1 {
		t.Errorf("%d claims, %d in order after one sweep", claims, order)
	}
	for range 3 {
		create(later, nil)
	}
	if claims, order := kept(); claims != 50 || order != 50 {
		t.Errorf("%d claims, %d in order after all", claims, order)
	}
	if got, err := r.Claimed(t.Context(), broadcasts.Claim{Key: broadcasts.Key{20}}, later); err != nil || got.Created != later {
		t.Errorf("the claim that was made again: %v, %v", got.Created, err)
	}
}

// A damaged claim is not taken for none: that would ring everybody again.
func TestDamagedClaim(t *testing.T) {
	r := newBoltRig(t)
	c := broadcasts.Claim{Key: broadcasts.Key{1}}
	if _, err := r.Create(t.Context(), launched("01jz0000000000000000000001"), &c); err != nil {
		t.Fatal(err)
	}
	r.put("broadcasts.claims", string(c.Key[:]), []byte("garbage"))
	if _, err := r.Create(t.Context(), launched("01jz0000000000000000000002"), &c); !errors.Is(err, belfry.ErrCorrupt) {
		t.Error(err)
	}
	if _, err := r.Claimed(t.Context(), c, time.Now()); !errors.Is(err, belfry.ErrCorrupt) {
		t.Error(err)
	}
}
