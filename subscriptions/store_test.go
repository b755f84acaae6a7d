package subscriptions_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/internal/boltfile"
	"github.com/belfry-push/belfry/subscriptions"
)

// A house is a store on a real file that can be closed and opened again.
type house struct {
	*subscriptions.Store
	t    testing.TB
	path string
	file *boltfile.File
	cfg  subscriptions.Config
}

func newHouse(t testing.TB, cfg subscriptions.Config) *house {
	h := &house{t: t, path: filepath.Join(t.TempDir(), "belfry.db"), cfg: cfg}
	h.open()
	t.Cleanup(func() { h.file.Close() })
	return h
}

func (h *house) open() {
	h.t.Helper()
	var err error
	if h.file, err = boltfile.Open(h.path); err != nil {
		h.t.Fatal(err)
	}
	if h.Store, err = subscriptions.New(h.file.DB, h.cfg); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) reopen() {
	h.t.Helper()
	if err := h.file.Close(); err != nil {
		h.t.Fatal(err)
	}
	h.open()
}

// browser is what the n-th browser sends: its endpoint and keys follow from n.
func browser(n int, channels ...string) belfry.Subscription {
	s := belfry.Subscription{
		Endpoint: endpoint(n),
		KeyID:    "key-a",
		Channels: channels,
		Locale:   "de-AT",
		TimeZone: "Europe/Vienna",
		Origin:   "https://www.example.com",
		Expires:  time.Date(2030, 1, 2, 3, 4, 5, 6_000_000, time.UTC),
	}
	sum := sha256.Sum256(fmt.Append(nil, n))
	copy(s.P256dh[:], sum[:])
	copy(s.Auth[:], sum[16:])
	return s
}

func endpoint(n int) belfry.Endpoint {
	return belfry.StoredEndpoint(fmt.Sprintf("https://fcm.googleapis.com/fcm/send/%08d", n))
}

func (h *house) register(sub belfry.Subscription) subscriptions.Registration {
	h.t.Helper()
	r, err := h.Register(h.t.Context(), sub, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	return r
}

func (h *house) get(id string) belfry.Subscription {
	h.t.Helper()
	row, err := h.Get(h.t.Context(), id)
	if err != nil {
		h.t.Fatal(err)
	}
	return row
}

func (h *house) count(a belfry.Audience) int {
	h.t.Helper()
	n, err := h.Count(h.t.Context(), a)
	if err != nil {
		h.t.Fatal(err)
	}
	return n
}

// all pages through an audience with small pages and returns its endpoints' order.
func (h *house) all(a belfry.Audience, until belfry.Position, limit int) (rows []belfry.Subscription) {
	h.t.Helper()
	var at belfry.Position
	for done := false; !done; {
		var page []belfry.Subscription
		var err error
		page, at, done, err = h.Page(h.t.Context(), a, at, until, limit)
		if err != nil {
			h.t.Fatal(err)
		}
		if len(page) > limit {
			h.t.Fatalf("a page of %d rows, limit %d", len(page), limit)
		}
		rows = append(rows, page...)
	}
	return rows
}

var everybody = belfry.Audience{All: true}

func channels(names ...string) belfry.Audience { return belfry.Audience{Channels: names} }

// A browser that registered is there, exactly as it said, also after the
// server was started anew; else the visitor pressed the button for nothing.
func TestRegisterIsKept(t *testing.T) {
	now := time.Date(2026, 3, 4, 5, 6, 7, 8_000_000, time.UTC)
	h := newHouse(t, subscriptions.Config{Now: func() time.Time { return now }})
	sub := browser(1, "news", "alerts")
	sub.User = "ann"
	got := h.register(sub)
	if !got.Created || len(got.Subscription.ID) != 26 {
		t.Fatalf("created %v, id %q", got.Created, got.Subscription.ID)
	}
	want := sub
	want.Seq, want.ID, want.Secret = 1, got.Subscription.ID, got.Secret.Hash()
	want.Channels = []string{"alerts", "news"}
	want.Created, want.Seen = now, now
	h.reopen()
	if row := h.get(want.ID); !reflect.DeepEqual(row, want) || !reflect.DeepEqual(got.Subscription, want) {
		t.Errorf("kept\n%+v\nanswered\n%+v\nwant\n%+v", row, got.Subscription, want)
	}
}

// Many visitors who press the button together are all kept, and they do not
// wait for one fsync each: a disk makes a few hundred in a second.
func TestConcurrentRegistrationsShareCommits(t *testing.T) {
	const visitors = 1000
	h := newHouse(t, subscriptions.Config{})
	before := h.txid()
	var wg sync.WaitGroup
	for n := range visitors {
		wg.Go(func() {
			if _, err := h.Register(t.Context(), browser(n, "news"), nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	commits := h.txid() - before
	if commits > visitors/10 {
		t.Errorf("%d commits for %d registrations", commits, visitors)
	}
	h.reopen()
	if n := h.count(everybody); n != visitors {
		t.Errorf("%d rows counted, want %d", n, visitors)
	}
	seen := map[belfry.Endpoint]bool{}
	for _, row := range h.all(channels("news"), subscriptions.End, 100) {
		seen[row.Endpoint] = true
	}
	if len(seen) != visitors {
		t.Errorf("%d rows found, want %d", len(seen), visitors)
	}
	t.Logf("%d registrations in %d commits", visitors, commits)
}

// txid is the number of the last commit.
func (h *house) txid() int {
	h.t.Helper()
	tx, err := h.file.Begin(false)
	if err != nil {
		h.t.Fatal(err)
	}
	defer tx.Rollback()
	return tx.ID()
}

// Endpoints leak. Whoever knows one must not be able to take its row over, or
// the messages of a visitor would go to somebody else's keys.
func TestTakeoverIsRefused(t *testing.T) {
	h := newHouse(t, subscriptions.Config{})
	victim := h.register(browser(1, "news"))
	attack := browser(1, "spam")
	attack.P256dh[5] ^= 1
	wrong := belfry.NewDeviceSecret()
	for name, secret := range map[string]*belfry.DeviceSecret{"none": nil, "wrong": &wrong, "zero": {}} {
		if _, err := h.Register(t.Context(), attack, secret); !errors.Is(err, belfry.ErrConflict) {
			t.Errorf("%s secret: %v, want a conflict", name, err)
		}
	}
	if row := h.get(victim.Subscription.ID); !reflect.DeepEqual(row, victim.Subscription) {
		t.Errorf("the victim's row changed to %+v", row)
	}
	if n := h.count(channels("spam")); n != 0 {
		t.Errorf("%d rows in the attacker's channel", n)
	}
}
