package subscriptions_test

import (
	"context"
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
	"go.etcd.io/bbolt"
)

// A house is a store on a real file that can be closed and opened again.
type house struct {
	*subscriptions.Store
	t    testing.TB
	path string
	file *boltfile.File
	cfg  subscriptions.Config
}

func (h *house) index() {
	h.t.Helper()
	if err := h.IndexAll(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
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
	if h.Store, err = subscriptions.New(h.file, h.cfg); err != nil {
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

// A secret that fits nothing must not open a row that no browser registered:
// imported rows have none.
func TestImportedRowHasNoOwner(t *testing.T) {
	h := newHouse(t, subscriptions.Config{})
	known := belfry.NewDeviceSecret() // a row that was taken from an export may bring a hash along
	sub := browser(1, "news")
	sub.Secret = known.Hash()
	if _, err := h.Import(t.Context(), []belfry.Subscription{sub}, ""); err != nil {
		t.Fatal(err)
	}
	row := h.all(everybody, subscriptions.End, 10)[0]
	for _, secret := range []belfry.DeviceSecret{{}, known} {
		if err := h.Authorize(t.Context(), row.ID, secret); !errors.Is(err, belfry.ErrDenied) {
			t.Errorf("authorised: %v", err)
		}
		if _, err := h.Register(t.Context(), browser(1), &secret); !errors.Is(err, belfry.ErrConflict) {
			t.Errorf("taken over: %v", err)
		}
	}
}

// A browser that comes again with its secret keeps its row: what it says anew
// is replaced, what it leaves out stays.
func TestRegisterAgain(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	h := newHouse(t, subscriptions.Config{Now: func() time.Time { return now }})
	first := browser(1, "news", "alerts")
	first.User = "ann"
	r := h.register(first)
	now = now.Add(time.Hour)

	again := belfry.Subscription{Endpoint: first.Endpoint, KeyID: "key-b", Channels: []string{"sport"}}
	again.P256dh[3] = 9
	got, err := h.Register(t.Context(), again, &r.Secret)
	if err != nil {
		t.Fatal(err)
	}
	want := r.Subscription
	want.KeyID, want.Channels, want.Seen = "key-b", []string{"sport"}, now
	want.P256dh, want.Auth, want.Expires = again.P256dh, again.Auth, time.Time{}
	if got.Created || got.Secret != r.Secret || !reflect.DeepEqual(got.Subscription, want) || !reflect.DeepEqual(h.get(want.ID), want) {
		t.Errorf("created %v\ngot  %+v\nwant %+v", got.Created, got.Subscription, want)
	}
	if h.count(channels("news")) != 0 || h.count(channels("sport")) != 1 || h.count(everybody) != 1 {
		t.Error("the counts do not follow")
	}
	again.Channels = []string{}
	if _, err := h.Register(t.Context(), again, &r.Secret); err != nil {
		t.Fatal(err)
	}
	if row := h.get(want.ID); len(row.Channels) != 0 || h.count(channels("sport")) != 0 {
		t.Errorf("left all channels, and still has %v", row.Channels)
	}
}

// Whoever guesses ids must not learn which exist, and nobody gets in without
// the secret of this very device (SEC-12, SEC-14).
func TestAuthorize(t *testing.T) {
	h := newHouse(t, subscriptions.Config{})
	ann, bob := h.register(browser(1)), h.register(browser(2))
	if err := h.Authorize(t.Context(), ann.Subscription.ID, ann.Secret); err != nil {
		t.Errorf("the right secret: %v", err)
	}
	wrong := h.Authorize(t.Context(), ann.Subscription.ID, bob.Secret)
	for name, err := range map[string]error{
		"wrong":   wrong,
		"zero":    h.Authorize(t.Context(), ann.Subscription.ID, belfry.DeviceSecret{}),
		"unknown": h.Authorize(t.Context(), "01j00000000000000000000000", ann.Secret),
		"empty":   h.Authorize(t.Context(), "", ann.Secret),
	} {
		if !errors.Is(err, belfry.ErrDenied) || !reflect.DeepEqual(err, wrong) {
			t.Errorf("%s: %v, want %v", name, err, wrong)
		}
	}
}

// The id stays when the browser gets a new endpoint: pages, receipts and
// operators know the device by it, and its secret still opens it.
func TestUpdateEndpoint(t *testing.T) {
	h := newHouse(t, subscriptions.Config{})
	r, other := h.register(browser(1, "news")), h.register(browser(2, "news"))
	fresh := browser(3)
	seen, user, zone, none := time.Date(2027, 1, 1, 1, 0, 0, 999, time.FixedZone("", 3600)), "ann", "Asia/Tokyo", ""
	got, err := h.Update(t.Context(), r.Subscription.ID, subscriptions.Change{
		Subscription: &fresh, Seen: &seen, User: &user, TimeZone: &zone, Locale: &none})
	if err != nil {
		t.Fatal(err)
	}
	want := r.Subscription
	want.Endpoint, want.P256dh, want.Auth, want.Expires = fresh.Endpoint, fresh.P256dh, fresh.Auth, fresh.Expires
	want.Seen = time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	want.User, want.TimeZone, want.Locale = user, zone, ""
	h.reopen()
	if row := h.get(want.ID); !reflect.DeepEqual(row, want) || !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", row, want)
	}
	if err := h.Authorize(t.Context(), want.ID, r.Secret); err != nil {
		t.Errorf("the secret no longer fits: %v", err)
	}
	// The old endpoint is free, the new one is not.
	if back := h.register(browser(1)); !back.Created {
		t.Error("the endpoint that was left is still held")
	}
	if _, err := h.Register(t.Context(), browser(3), nil); !errors.Is(err, belfry.ErrConflict) {
		t.Errorf("the new endpoint: %v, want a conflict", err)
	}
	// Nobody moves onto an endpoint that is another's (SEC-13).
	theirs := browser(2)
	if _, err := h.Update(t.Context(), want.ID, subscriptions.Change{Subscription: &theirs}); !errors.Is(err, belfry.ErrConflict) {
		t.Errorf("another's endpoint: %v, want a conflict", err)
	}
	if row := h.get(other.Subscription.ID); !reflect.DeepEqual(row, other.Subscription) {
		t.Errorf("the other row changed to %+v", row)
	}
}

// What breaks a rule is refused whoever calls, and the row stays as it was: a
// NUL in a name would make one index entry look like another's.
func TestWhatIsNotKept(t *testing.T) {
	h := newHouse(t, subscriptions.Config{})
	r := h.register(browser(1, "news"))
	bad := map[string]func(*belfry.Subscription){
		"no endpoint":    func(s *belfry.Subscription) { s.Endpoint = belfry.Endpoint{} },
		"NUL in user":    func(s *belfry.Subscription) { s.User = "a\x00b" },
		"NUL in channel": func(s *belfry.Subscription) { s.Channels = []string{"a\x00b"} },
	}
	for name, spoil := range bad {
		sub := browser(2)
		spoil(&sub)
		if _, err := h.Register(t.Context(), sub, nil); !errors.Is(err, belfry.ErrInvalid) {
			t.Errorf("register, %s: %v", name, err)
		}
		change := subscriptions.Change{Subscription: &sub, User: &sub.User, Channels: &sub.Channels}
		if _, err := h.Update(t.Context(), r.Subscription.ID, change); !errors.Is(err, belfry.ErrInvalid) {
			t.Errorf("update, %s: %v", name, err)
		}
		if done, err := h.Import(t.Context(), []belfry.Subscription{browser(3), sub}, ""); err != nil ||
			len(done.Refused) != 1 || done.Refused[0].Index != 1 || !errors.Is(done.Refused[0].Err, belfry.ErrInvalid) {
			t.Errorf("import, %s: %+v, %v", name, done, err)
		}
	}
	if row := h.get(r.Subscription.ID); !reflect.DeepEqual(row, r.Subscription) {
		t.Errorf("the row changed to %+v", row)
	}
}

// Who has left is gone from every audience, and can come back.
func TestRemove(t *testing.T) {
	h := newHouse(t, subscriptions.Config{})
	sub := browser(1, "news")
	sub.User = "ann"
	r := h.register(sub)
	if err := h.Remove(t.Context(), r.Subscription.ID); err != nil {
		t.Fatal(err)
	}
	h.reopen()
	for name, err := range map[string]error{
		"get":    second(h.Get(t.Context(), r.Subscription.ID)),
		"remove": h.Remove(t.Context(), r.Subscription.ID),
		"update": second(h.Update(t.Context(), r.Subscription.ID, subscriptions.Change{})),
	} {
		if !errors.Is(err, belfry.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, a := range []belfry.Audience{everybody, channels("news"), {Users: []string{"ann"}}, {Subscriptions: []string{r.Subscription.ID}}} {
		if h.count(a) != 0 || len(h.all(a, subscriptions.End, 10)) != 0 {
			t.Errorf("still in %+v", a)
		}
	}
	if back := h.register(sub); back.Subscription.ID == r.Subscription.ID || back.Subscription.Seq <= r.Subscription.Seq {
		t.Errorf("came back as %+v", back.Subscription)
	}
}

func second[T any](_ T, err error) error { return err }

// Gone rows go in the committer's transaction: if that is rolled back they are
// still there, and an id that left by itself meanwhile is nothing.
func TestForget(t *testing.T) {
	h := newHouse(t, subscriptions.Config{})
	var gone []belfry.Subscription
	for n := range 3 {
		gone = append(gone, h.register(browser(n, "news")).Subscription)
	}
	gone = append(gone, belfry.Subscription{ID: "01j00000000000000000000000"}, gone[0])
	for _, commit := range []bool{false, true} {
		tx, err := h.file.Begin(true)
		if err != nil {
			t.Fatal(err)
		}
		n, err := h.Forget(tx, gone)
		if err != nil || n != 3 {
			t.Errorf("forgot %d, %v", n, err)
		}
		left := 3
		if commit {
			err, left = tx.Commit(), 0
		} else {
			err = tx.Rollback()
		}
		if err != nil || h.count(everybody) != left || len(h.all(channels("news"), subscriptions.End, 10)) != left {
			t.Errorf("commit %v: %d left, want %d, %v", commit, h.count(everybody), left, err)
		}
	}
}

// A row that has a new endpoint by the time it is forgotten was never called
// gone: to remove it would lose a browser that has just healed.
func TestForgetSparesTheRenewed(t *testing.T) {
	h := newHouse(t, subscriptions.Config{})
	asked, fresh := h.register(browser(1, "news")).Subscription, browser(2)
	if _, err := h.Update(t.Context(), asked.ID, subscriptions.Change{Subscription: &fresh}); err != nil {
		t.Fatal(err)
	}
	err := h.file.Update(func(tx *bbolt.Tx) error {
		n, err := h.Forget(tx, []belfry.Subscription{asked})
		if n != 0 {
			t.Errorf("forgot %d", n)
		}
		return err
	})
	if err != nil || h.get(asked.ID).Endpoint != fresh.Endpoint {
		t.Errorf("the renewed row: %v", err)
	}
}

// What is remembered of a row is counted, survives a restart, and is forgotten
// with the endpoint or key that it was said of: else a browser that healed would
// never be rung again.
func TestRemember(t *testing.T) {
	h := newHouse(t, subscriptions.Config{})
	r := h.register(browser(1, "news"))
	row := r.Subscription
	remember := func(row belfry.Subscription, m belfry.Memory) {
		t.Helper()
		row.Memory = m
		if err := h.file.Update(func(tx *bbolt.Tx) error { return h.Remember(tx, []belfry.Subscription{row, {ID: "nobody"}}) }); err != nil {
			t.Fatal(err)
		}
	}
	marked := belfry.Memory{WrongKey: true, Suspect: true, RefusedDays: 3, Refused: 20_000}
	remember(row, marked)
	h.reopen()
	if got := h.get(row.ID); got.Memory != marked || got.Endpoint != row.Endpoint || got.KeyID != row.KeyID {
		t.Errorf("%+v", got.Memory)
	}
	marks := func() string {
		got, err := h.Marks(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(got)
	}
	if got := marks(); got != "map[constrained:0 suspect:1 wrong-key:1]" {
		t.Error(got)
	}
	if _, findings := h.examine(); len(findings) > 0 {
		t.Errorf("%q", findings)
	}

	same, wrongKey := browser(1), &belfry.Error{}
	if _, err := h.Register(t.Context(), same, &r.Secret); !errors.As(err, &wrongKey) || wrongKey.Code != "wrong-key" {
		t.Errorf("registered in vain: %v", err)
	}
	if _, err := h.Update(t.Context(), row.ID, subscriptions.Change{Subscription: &same}); !errors.As(err, &wrongKey) || wrongKey.Code != "wrong-key" {
		t.Errorf("changed in vain: %v", err)
	}
	channels := []string{"more"}
	if got, err := h.Update(t.Context(), row.ID, subscriptions.Change{Channels: &channels}); err != nil || got.Memory != marked {
		t.Errorf("other channels: %+v, %v", got.Memory, err)
	}
	fresh := browser(2)
	if got, err := h.Update(t.Context(), row.ID, subscriptions.Change{Subscription: &fresh}); err != nil || got.Memory != (belfry.Memory{}) {
		t.Errorf("a new endpoint: %+v, %v", got.Memory, err)
	}
	if got := marks(); got != "map[constrained:0 suspect:0 wrong-key:0]" {
		t.Error(got)
	}
	remember(row, marked) // said of the old endpoint, and late
	if got := h.get(row.ID); got.Memory != (belfry.Memory{}) {
		t.Errorf("a word of another endpoint: %+v", got.Memory)
	}

	moved := browser(3)
	moved.Memory = belfry.Memory{Constrained: true}
	if got, err := h.Import(t.Context(), []belfry.Subscription{moved}, ""); err != nil || got.Created != 1 || marks() != "map[constrained:1 suspect:0 wrong-key:0]" {
		t.Errorf("imported %+v, %v, %s", got, err, marks())
	}
	moved.Memory = belfry.Memory{RefusedDays: 1}
	if got, err := h.Import(t.Context(), []belfry.Subscription{moved}, ""); err != nil || len(got.Refused) != 1 {
		t.Errorf("imported %+v, %v", got, err)
	}
}

// A flood of made-up browsers ends at the cap, and those who are in can still
// change and leave (SEC-42). An operator's import is not held back by it.
func TestMaxRows(t *testing.T) {
	h := newHouse(t, subscriptions.Config{MaxRows: 2})
	var many []belfry.Subscription
	for n := range 5 {
		many = append(many, browser(100+n))
	}
	if done, err := h.Import(t.Context(), many, ""); err != nil || done.Created != 5 {
		t.Fatalf("import: %+v, %v", done, err)
	}
	first := h.register(browser(1))
	h.register(browser(2))
	if _, err := h.Register(t.Context(), browser(3), nil); !errors.Is(err, belfry.ErrFull) {
		t.Errorf("over the cap: %v", err)
	}
	if _, err := h.Register(t.Context(), browser(1, "news"), &first.Secret); err != nil {
		t.Errorf("a known browser: %v", err)
	}
	if done, err := h.Import(t.Context(), []belfry.Subscription{browser(4)}, ""); err != nil || done.Created != 1 {
		t.Errorf("import: %+v, %v", done, err)
	}
	for _, row := range h.all(everybody, subscriptions.End, 10)[1:] {
		if err := h.Remove(t.Context(), row.ID); err != nil {
			t.Errorf("remove: %v", err)
		}
	}
	if r := h.register(browser(3)); !r.Created {
		t.Error("there is room again, and it is not used")
	}
}

// One person has 20 browsers at most (SEC-42), by whichever call they come to
// the name. Rows an operator imported do not count: no browser asked for them.
func TestDevicesPerUser(t *testing.T) {
	h := newHouse(t, subscriptions.Config{})
	anns := func(n int) belfry.Subscription {
		s := browser(n)
		s.User = "ann"
		return s
	}
	var imported []belfry.Subscription
	for n := range 30 {
		imported = append(imported, anns(1000+n))
	}
	if _, err := h.Import(t.Context(), imported, ""); err != nil {
		t.Fatal(err)
	}
	var last subscriptions.Registration
	for n := range 20 {
		last = h.register(anns(n))
	}
	full := func(err error) bool {
		var own *belfry.Error
		return errors.As(err, &own) && own.Kind == belfry.ErrFull && own.Code == "too-many-devices"
	}
	if _, err := h.Register(t.Context(), anns(20), nil); !full(err) {
		t.Errorf("the 21st: %v", err)
	}
	user, bobs := "ann", h.register(browser(21))
	if _, err := h.Update(t.Context(), bobs.Subscription.ID, subscriptions.Change{User: &user}); !full(err) {
		t.Errorf("the 21st by update: %v", err)
	}
	if _, err := h.Register(t.Context(), anns(21), &bobs.Secret); !full(err) {
		t.Errorf("the 21st by registering again: %v", err)
	}
	stray := browser(22)
	if _, err := h.Import(t.Context(), []belfry.Subscription{stray}, ""); err != nil {
		t.Fatal(err)
	}
	rows := h.all(everybody, subscriptions.End, 100)
	if _, err := h.Update(t.Context(), rows[len(rows)-1].ID, subscriptions.Change{User: &user}); err != nil {
		t.Errorf("an imported row, given to ann by an operator: %v", err)
	}
	if _, err := h.Register(t.Context(), anns(19), &last.Secret); err != nil {
		t.Errorf("one of the 20 again: %v", err)
	}
	if err := h.Remove(t.Context(), last.Subscription.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Update(t.Context(), bobs.Subscription.ID, subscriptions.Change{User: &user}); err != nil {
		t.Errorf("one left, another came: %v", err)
	}
	if n := h.count(belfry.Audience{Users: []string{"ann", "nobody", "ann"}}); n != 51 {
		t.Errorf("ann has %d rows, want 51", n)
	}
}

// An import brings known browsers up to date and never makes two rows of one
// endpoint, or that person would be rung twice.
func TestImport(t *testing.T) {
	h := newHouse(t, subscriptions.Config{})
	known := h.register(browser(1, "news"))
	update := browser(1, "sport")
	update.P256dh[0] ^= 1
	update.Locale, update.TimeZone, update.User = "", "", "ann"
	twin := browser(2, "b")
	done, err := h.Import(t.Context(), []belfry.Subscription{browser(2, "a"), update, twin, browser(3)}, "")
	if err != nil || done.Created != 2 || done.Updated != 2 || done.Refused != nil {
		t.Fatalf("%+v, %v", done, err)
	}
	want := known.Subscription
	want.P256dh, want.Channels, want.User = update.P256dh, []string{"news", "sport"}, "ann"
	if row := h.get(want.ID); !reflect.DeepEqual(row, want) {
		t.Errorf("got  %+v\nwant %+v", row, want)
	}
	if err := h.Authorize(t.Context(), want.ID, known.Secret); err != nil {
		t.Errorf("an import took the browser's secret away: %v", err)
	}
	rows := h.all(channels("a"), subscriptions.End, 10)
	if len(rows) != 1 || !reflect.DeepEqual(rows[0].Channels, []string{"a", "b"}) || !rows[0].Imported || rows[0].Created.IsZero() || !rows[0].Seen.IsZero() {
		t.Errorf("twins became %+v", rows)
	}
	if h.count(everybody) != 3 {
		t.Errorf("%d rows, want 3", h.count(everybody))
	}
	// Channels that do not fit on top of those that are there: this row is
	// refused with its number, and nothing of it is stored.
	var many []string
	for n := range belfry.MaxChannels {
		many = append(many, fmt.Sprintf("c%d", n))
	}
	done, err = h.Import(t.Context(), []belfry.Subscription{browser(9), browser(1, many...)}, "")
	if err != nil || done.Created != 1 || len(done.Refused) != 1 || done.Refused[0].Index != 1 {
		t.Errorf("%+v, %v", done, err)
	}
	if row := h.get(want.ID); !reflect.DeepEqual(row, want) {
		t.Errorf("a refused row changed to %+v", row)
	}
}

// An endpoint belongs to one VAPID key for life. A row that names none must not
// move to the current one, or its browser is never rung again.
func TestImportKeepsKeys(t *testing.T) {
	h := newHouse(t, subscriptions.Config{})
	h.register(browser(1))
	unnamed := func(n int) belfry.Subscription {
		s := browser(n)
		s.KeyID = ""
		return s
	}
	if _, err := h.Import(t.Context(), []belfry.Subscription{unnamed(1), unnamed(2), browser(3)}, "key-b"); err != nil {
		t.Fatal(err)
	}
	for i, row := range h.all(everybody, subscriptions.End, 10) {
		if want := []string{"key-a", "key-b", "key-a"}[i]; row.KeyID != want {
			t.Errorf("row %d has %q, want %q", i+1, row.KeyID, want)
		}
	}
}

// When the file is full, newcomers are told so and everybody can still leave:
// a visitor who cannot unsubscribe blocks the site in the browser for good.
func TestFullFile(t *testing.T) {
	h := newHouse(t, subscriptions.Config{})
	h.file.MaxSize = h.file.AllocSize + 5<<20
	if _, err := h.Register(t.Context(), browser(-2), nil); err != nil {
		t.Fatalf("register while there is room: %v", err)
	}
	stored, full := 1, false
	for n := 0; !full && n < 100_000; n += 500 {
		done, err := h.Import(t.Context(), crowd(n, 500), "")
		if err != nil {
			t.Fatalf("import: %v", err)
		}
		stored += done.Created
		if full = len(done.Refused) > 0; full && !errors.Is(done.Refused[0].Err, belfry.ErrFull) {
			t.Errorf("import: %v", done.Refused[0].Err)
		}
	}
	if _, err := h.Register(t.Context(), browser(-1), nil); !errors.Is(err, belfry.ErrFull) {
		t.Errorf("register: %v", err)
	}
	tx, err := h.file.Begin(false)
	if err != nil {
		t.Fatal(err)
	}
	if left := int64(h.file.MaxSize-h.file.AllocSize) - tx.Size(); left < 3<<20 {
		t.Errorf("only %d octets are held back", left)
	}
	tx.Rollback()
	h.fast()
	for _, row := range h.all(everybody, subscriptions.End, 100) {
		if err := h.Remove(t.Context(), row.ID); err != nil {
			t.Fatalf("remove: %v", err)
		}
		stored--
	}
	if stored != 0 {
		t.Errorf("%d rows lost or too many", stored)
	}
	if r := h.register(browser(-1)); !r.Created {
		t.Error("there is room again, and it is not used")
	}
}

// bbolt's own refusal at its largest size is told as "full" too.
func TestFullFileWithoutReserve(t *testing.T) {
	h := newHouse(t, subscriptions.Config{})
	h.file.MaxSize = 1 << 20
	err := h.file.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucket([]byte("ballast"))
		if err == nil {
			err = b.Put([]byte("x"), make([]byte, 8<<20))
		}
		return err
	})
	if err := boltfile.Explain(err); !errors.Is(err, belfry.ErrFull) {
		t.Errorf("%v", err)
	}
}

// A call whose caller has hung up changes nothing.
func TestCancelled(t *testing.T) {
	h := newHouse(t, subscriptions.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.Register(ctx, browser(1), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("register: %v", err)
	}
	if _, _, _, err := h.Page(ctx, everybody, 0, subscriptions.End, 10); !errors.Is(err, context.Canceled) {
		t.Errorf("page: %v", err)
	}
	if h.count(everybody) != 0 {
		t.Error("a row was made")
	}
}
