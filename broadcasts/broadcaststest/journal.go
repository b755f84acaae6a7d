package broadcaststest

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/broadcasts"
)

// A Rig is a journal under test and the subscriptions that it forgets.
type Rig struct {
	Journal    broadcasts.Journal
	Subscribe  func(ids ...string)
	Subscribed func(id string) bool
	Remembered func(id string) belfry.Memory // zero for one of which nothing was learnt
	Spoil      func(bool)                    // while it is spoilt, forgetting fails halfway through
	Reopen     func() broadcasts.Journal     // as a restart does; Journal may not be used any more
}

// Journal holds the journals that open makes against what an engine relies on.
func Journal(t *testing.T, open func(t *testing.T) Rig) {
	for _, tt := range []struct {
		name string
		test func(t *testing.T, r Rig)
	}{
		{"create", testCreate},
		{"claim", testClaim},
		{"claims at once", testClaimsAtOnce},
		{"unknown", testUnknown},
		{"empty is not null", testEmpty},
		{"commit", testCommit},
		{"no reference is kept", testNoReference},
		{"list", testList},
		{"unfinished", testUnfinished},
		{"leases", testLeases},
		{"topics", testTopics},
		{"open rows", testOpen},
		{"wiped", testWiped},
		{"callbacks", testCallbacks},
		{"forget", testForget},
		{"remember", testRemember},
		{"all or nothing", testAllOrNothing},
		{"many at once", testManyAtOnce},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.test(t, open(t)) })
	}
}

var at = time.Date(2026, 3, 4, 5, 6, 7, 89_000_000, time.UTC)

// broadcast is the n-th of a test, with every field set that can be.
func broadcast(n int) broadcasts.Broadcast {
	ttl, late, rate, canary, started := 60, 3600, 100, broadcasts.Canary("1%"), at.Add(time.Second)
	return broadcasts.Broadcast{
		Launch: broadcasts.Launch{
			ID: fmt.Sprintf("01jz%022d", n),
			Message: belfry.Message{Title: "Überraschung <1>", Body: "b", Data: json.RawMessage(`{"a":[1,"x"]}`), TTL: &ttl,
				Actions: []belfry.Action{{Action: "open", Title: "Open", URL: "/x"}}, Urgency: belfry.UrgencyHigh, Topic: "prices"},
			Audience: belfry.Audience{Channels: []string{"news", "sport"}},
			Callback: belfry.StoredCallback(fmt.Sprintf("https://hooks.example.com/%d", n)),
			Options:  broadcasts.Options{At: &at, MaxLateness: &late, Rate: &rate, Canary: &canary, Push: broadcasts.PushAlways}, Starts: &started,
			Deadline: at.Add(time.Minute), Created: at, Warnings: []string{"long"}, Until: math.MaxUint64 - belfry.Position(n),
		},
		Progress: broadcasts.Progress{
			State: broadcasts.Running, Started: &started, Failures: map[string]int{"no": 2}, Expiries: map[string]int{"late": 4}, Pace: 12.5,
			Counts: broadcasts.Counts{Targets: 36, Pending: 1, Accepted: 2, Suppressed: 3, Expired: 4, Gone: 5, Left: 6, Failed: 7, Cancelled: 8},
			Hosts:  []broadcasts.Host{{Host: "push.example", State: "open", Accepted: 2}},
		},
		Course: broadcasts.Course{After: math.MaxUint64 - 1, Handed: 35, Proven: true, Lease: broadcasts.Lease{Holder: "one", Renewed: at}, Crashes: 1},
	}
}

func ended(b broadcasts.Broadcast, s broadcasts.State) broadcasts.Broadcast {
	finished, why := at.Add(time.Hour), "restart"
	b.State, b.Finished, b.Reason = s, &finished, &why
	return b
}

func mustCreate(t *testing.T, j broadcasts.Journal, all ...broadcasts.Broadcast) {
	t.Helper()
	for _, b := range all {
		if _, err := j.Create(t.Context(), b, nil); err != nil {
			t.Fatal(err)
		}
	}
}

func mustCommit(t *testing.T, j broadcasts.Journal, all []broadcasts.Broadcast, gone ...string) {
	t.Helper()
	if err := j.Commit(t.Context(), changes(all...), rows(gone...)); err != nil {
		t.Fatal(err)
	}
}

// changes are commits in which no row opens or is settled.
func changes(all ...broadcasts.Broadcast) (list []broadcasts.Change) {
	for _, b := range all {
		list = append(list, broadcasts.Change{Broadcast: b})
	}
	return list
}

// rows are subscriptions of which a journal need know no more than the id.
func rows(ids ...string) (all []belfry.Subscription) {
	for _, id := range ids {
		all = append(all, belfry.Subscription{ID: id})
	}
	return all
}

// mustHold wants broadcasts back as they were written, those that have ended wiped.
func mustHold(t *testing.T, j broadcasts.Journal, want ...broadcasts.Broadcast) {
	t.Helper()
	for _, w := range want {
		if w.Ended() {
			w.Launch = w.Launch.Wiped()
		}
		if got, err := j.Get(t.Context(), w.ID); err != nil || !reflect.DeepEqual(got, w) {
			t.Errorf("%v\n got %+v\nwant %+v", err, got, w)
		}
	}
}

func ids(list []broadcasts.Broadcast) (ids []string) {
	for _, b := range list {
		ids = append(ids, b.ID)
	}
	return ids
}

// An operator who saw an id finds the broadcast after a restart, as it was said.
func testCreate(t *testing.T, r Rig) {
	mustCreate(t, r.Journal, broadcast(1), broadcast(2))
	mustHold(t, r.Journal, broadcast(1), broadcast(2))
	mustHold(t, r.Reopen(), broadcast(1), broadcast(2))
}

// A client that had no answer and asks again with the same key gets the
// broadcast that it made, also after a restart, and for a day. One that uses the
// key for something else must not be told that this was launched.
func testClaim(t *testing.T, r Rig) {
	j := r.Journal
	claim := func(key, asked byte) broadcasts.Claim {
		return broadcasts.Claim{Key: broadcasts.Key{key}, Asked: [32]byte{asked}}
	}
	launch := func(n int, c broadcasts.Claim, after time.Duration) (broadcasts.Broadcast, error) {
		b := broadcast(n)
		b.Created = at.Add(after)
		return j.Create(t.Context(), b, &c)
	}
	is := func(got broadcasts.Broadcast, err error) func(n int) {
		return func(n int) {
			t.Helper()
			if err != nil || got.ID != broadcast(n).ID {
				t.Errorf("%s, %v; want broadcast %d", got.ID, err, n)
			}
		}
	}
	if _, err := j.Claimed(t.Context(), claim(1, 1), at); !errors.Is(err, belfry.ErrNotFound) {
		t.Errorf("a claim that nobody made: %v", err)
	}
	mustCreate(t, j, broadcast(0))
	is(launch(1, claim(1, 1), 0))(1)
	is(launch(2, claim(2, 1), 0))(2)
	is(launch(3, claim(1, 1), time.Hour))(1)
	is(launch(3, claim(1, 1), -time.Hour))(1) // the clock was put back
	j = r.Reopen()
	is(launch(3, claim(1, 1), broadcasts.KeepClaims-1))(1)
	is(j.Claimed(t.Context(), claim(2, 1), at))(2)
	mustHold(t, j, broadcast(0), broadcast(1), broadcast(2))

	_, err := launch(3, claim(1, 2), time.Hour)
	_, asked := j.Claimed(t.Context(), claim(1, 2), at)
	if !errors.Is(err, belfry.ErrConflict) || !errors.Is(asked, belfry.ErrConflict) || !strings.Contains(err.Error(), broadcast(1).ID) {
		t.Errorf("a key that was used for something else: %v, %v", err, asked)
	}
	if _, err := j.Get(t.Context(), broadcast(3).ID); !errors.Is(err, belfry.ErrNotFound) {
		t.Errorf("it was written: %v", err)
	}
	if _, err := j.Claimed(t.Context(), claim(1, 1), at.Add(broadcasts.KeepClaims)); !errors.Is(err, belfry.ErrNotFound) {
		t.Errorf("it stands for too long: %v", err)
	}
	is(launch(3, claim(1, 2), broadcasts.KeepClaims))(3)
	is(launch(4, claim(1, 2), 2*broadcasts.KeepClaims-1))(3)
	is(r.Reopen().Claimed(t.Context(), claim(1, 2), at.Add(broadcasts.KeepClaims)))(3)
}

// Two launches at one moment with one key make one broadcast.
func testClaimsAtOnce(t *testing.T, r Rig) {
	var all sync.WaitGroup
	var mu sync.Mutex // guards got
	got := map[string]bool{}
	for n := range 8 {
		all.Go(func() {
			b, err := r.Journal.Create(t.Context(), broadcast(n), &broadcasts.Claim{})
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			got[b.ID] = true
		})
	}
	all.Wait()
	if list, err := r.Journal.List(t.Context(), "", 10); err != nil || len(list) != 1 || len(got) != 1 || !got[list[0].ID] {
		t.Errorf("%v were made and %v answered, %v", ids(list), got, err)
	}
}

func testUnknown(t *testing.T, r Rig) {
	mustCreate(t, r.Journal, broadcast(1))
	for _, id := range []string{"", "x", broadcast(2).ID, broadcast(1).ID + "x", broadcast(1).ID[:25]} {
		if b, err := r.Journal.Get(t.Context(), id); !errors.Is(err, belfry.ErrNotFound) {
			t.Errorf("%q: %v, %v", id, b.ID, err)
		}
	}
}

// A program that reads failures["x"] or hosts.length must not meet null.
func testEmpty(t *testing.T, r Rig) {
	b := broadcast(1)
	b.Failures, b.Hosts = map[string]int{}, []broadcasts.Host{}
	mustCreate(t, r.Journal, b)
	got, err := r.Reopen().Get(t.Context(), b.ID)
	text, _ := json.Marshal(got)
	if err != nil || !strings.Contains(string(text), `"failures":{}`) || !strings.Contains(string(text), `"hosts":[]`) {
		t.Errorf("%s, %v", text, err)
	}
}

func testCommit(t *testing.T, r Rig) {
	one, two, three := broadcast(1), broadcast(2), broadcast(3)
	mustCreate(t, r.Journal, one, two, three)
	one.Counts.Pending, one.Counts.Accepted, one.Failures["busy"], one.ETA = 0, 3, 4, &at
	three = ended(three, broadcasts.Done)
	mustCommit(t, r.Journal, []broadcasts.Broadcast{one, three})
	mustHold(t, r.Journal, one, two, three)
	mustHold(t, r.Reopen(), one, two, three)
}

// The engine goes on counting in the maps and lists that it has handed over.
func testNoReference(t *testing.T, r Rig) {
	b := broadcast(1)
	mustCreate(t, r.Journal, b)
	b.Failures["no"]++
	b.Hosts[0].Accepted++
	mustHold(t, r.Journal, broadcast(1))

	mustCommit(t, r.Journal, []broadcasts.Broadcast{broadcast(1)})
	got, _ := r.Journal.Get(t.Context(), b.ID)
	got.Failures["no"]++
	got.Hosts[0].Host = "elsewhere.example"
	got.Message.Data[0] = 'x'
	mustHold(t, r.Journal, broadcast(1))
}

// Who pages through a list meets every broadcast once, the newest first, and is
// not confused by those that begin meanwhile.
func testList(t *testing.T, r Rig) {
	list := func(after string, limit int) []string {
		t.Helper()
		page, err := r.Journal.List(t.Context(), after, limit)
		if err != nil {
			t.Fatal(err)
		}
		return ids(page)
	}
	if got := list("", 10); got != nil {
		t.Errorf("an empty journal lists %v", got)
	}
	var want []string
	for n := range 10 {
		mustCreate(t, r.Journal, broadcast(2*n)) // created in order, with gaps between the ids
		want = append(want, broadcast(2*n).ID)
	}
	slices.Reverse(want)

	var got []string
	for after := ""; ; after = got[len(got)-1] {
		page := list(after, 3)
		if len(page) == 0 {
			break
		}
		got = append(got, page...)
		mustCreate(t, r.Journal, broadcast(100+len(got)))
	}
	if !slices.Equal(got, want) {
		t.Errorf("pages give\n%v, want\n%v", got, want)
	}
	for _, tt := range []struct {
		after string
		limit int
		want  []string
	}{
		{broadcast(7).ID, 2, []string{broadcast(6).ID, broadcast(4).ID}}, // never was
		{broadcast(2).ID, 100, []string{broadcast(0).ID}},
		{broadcast(0).ID, 100, nil},
		{"0", 100, nil},                            // before all
		{"z", 1, []string{broadcast(100 + 10).ID}}, // behind all
		{broadcast(110).ID, 1, list("", 2)[1:]},    // the newest
	} {
		if got := list(tt.after, tt.limit); !slices.Equal(got, tt.want) {
			t.Errorf("List(%q, %d) gives %v, want %v", tt.after, tt.limit, got, tt.want)
		}
	}
}

// What was running when the power went is found again, and nothing else is.
func testUnfinished(t *testing.T, r Rig) {
	j := r.Journal
	hold := func(want ...broadcasts.Broadcast) {
		t.Helper()
		got, _, err := j.Unfinished(t.Context(), "one", at)
		slices.SortFunc(got, func(a, b broadcasts.Broadcast) int { return strings.Compare(a.ID, b.ID) })
		if err != nil || len(got) != len(want) {
			t.Fatalf("%v, %v", ids(got), err)
		}
		for i, w := range want {
			if !reflect.DeepEqual(got[i], w) {
				t.Errorf("got %+v\nwant %+v", got[i], w)
			}
		}
	}
	hold()
	one, two, three := broadcast(1), broadcast(2), broadcast(3)
	mustCreate(t, j, one, two, three)
	hold(one, two, three)
	two.Counts.Pending, two.Counts.Accepted = 0, 3
	mustCommit(t, j, []broadcasts.Broadcast{ended(one, broadcasts.Done), two})
	hold(two, three)
	j = r.Reopen()
	hold(two, three)
	mustCommit(t, j, []broadcasts.Broadcast{ended(three, broadcasts.Cancelled)})
	hold(two)
	mustHold(t, j, ended(one, broadcasts.Done), two, ended(three, broadcasts.Cancelled))
}

type turns = map[broadcasts.Turn]*broadcasts.Try

// mustBeOpen holds what is open against what is wanted: how many rows of each
// push service, and which, in the order of their turns.
func mustBeOpen(t *testing.T, j broadcasts.Journal, id string, want ...broadcasts.OpenRow) {
	t.Helper()
	n := map[broadcasts.HostID]int{}
	lines := map[broadcasts.HostID][]broadcasts.OpenRow{}
	for _, o := range want {
		n[o.Host]++
		lines[o.Host] = append(lines[o.Host], o)
	}
	if got, err := j.Open(t.Context(), id); err != nil || !maps.Equal(got, n) {
		t.Errorf("open are %v, want %v (%v)", got, n, err)
	}
	for _, host := range []broadcasts.HostID{0, 1, 2, math.MaxUint32} {
		for limit := range len(lines[host]) + 2 {
			got, err := j.Turns(t.Context(), id, host, limit)
			if first := lines[host][:min(limit, len(lines[host]))]; err != nil || !slices.Equal(got, first) {
				t.Errorf("the first %d of %d are %v, want %v (%v)", limit, host, got, first, err)
			}
		}
	}
}

// What one server delivers no other one touches, until it was not heard of for
// too long; each commit renews that. The same server has it back at once.
func testLeases(t *testing.T, r Rig) {
	j, b := r.Journal, broadcast(1)
	mustCreate(t, j, b)
	free := func(holder string, after time.Duration, want bool) {
		t.Helper()
		list, _, err := j.Unfinished(t.Context(), holder, at.Add(after))
		if err != nil || len(list) > 1 || (len(list) == 1) != want {
			t.Errorf("%s, %v later: free are %v, %v", holder, after, ids(list), err)
		}
	}
	for range 2 {
		free("one", 0, true)
		free("one", time.Hour, true)
		free("two", 0, false)
		free("two", 10*time.Minute-1, false)
		free("two", 10*time.Minute, true)
		j = r.Reopen()
	}
	b.Lease.Renewed = at.Add(5 * time.Minute)
	mustCommit(t, j, []broadcasts.Broadcast{b})
	free("two", 15*time.Minute-1, false)
	b.Lease = broadcasts.Lease{Holder: "two", Renewed: at.Add(15 * time.Minute)}
	mustCommit(t, j, []broadcasts.Broadcast{b})
	j = r.Reopen()
	free("one", 16*time.Minute, false)
	free("two", 16*time.Minute, true)
	b.Lease = broadcasts.Lease{}
	mustCommit(t, j, []broadcasts.Broadcast{b})
	free("one", 16*time.Minute, true)
}

// The broadcasts of a topic are found whatever became of them, and no others: by
// them an older one knows after a restart whom a newer one has come by.
func testTopics(t *testing.T, r Rig) {
	one, two, other, none := broadcast(1), broadcast(2), broadcast(3), broadcast(4)
	other.Message.Topic, none.Message.Topic = "weather", ""
	mustCreate(t, r.Journal, one, two, other, none)
	header := one.Message.TopicHeader()
	mustCommit(t, r.Journal, []broadcasts.Broadcast{ended(two, broadcasts.Cancelled)})
	two = ended(two, broadcasts.Cancelled)
	for range 2 {
		list, err := r.Journal.Topic(t.Context(), header)
		slices.SortFunc(list, func(a, b broadcasts.Broadcast) int { return strings.Compare(a.ID, b.ID) })
		if err != nil || !slices.Equal(ids(list), []string{one.ID, two.ID}) || list[1].Course != two.Course || !list[1].Ended() {
			t.Errorf("%v, %v", ids(list), err)
		}
		if list, err := r.Journal.Topic(t.Context(), other.Message.TopicHeader()); err != nil || len(list) != 1 {
			t.Errorf("%v, %v", ids(list), err)
		}
		if list, err := r.Journal.Topic(t.Context(), strings.Repeat("x", 32)); err != nil || len(list) != 0 {
			t.Errorf("of no topic: %v, %v", ids(list), err)
		}
		r.Journal = r.Reopen()
	}
}

// What the pager has passed and nothing has settled is known after a restart,
// for each broadcast its own and each push service in its line: a row that is
// missing is never rung, one too many is rung twice.
func testOpen(t *testing.T, r Rig) {
	one, two := broadcast(1), broadcast(2)
	mustCreate(t, r.Journal, one, two)
	commit := func(j broadcasts.Journal, b broadcasts.Broadcast, rows turns) {
		t.Helper()
		if err := j.Commit(t.Context(), []broadcasts.Change{{Broadcast: b, Rows: rows}}, nil); err != nil {
			t.Fatal(err)
		}
	}
	mustBeOpen(t, r.Journal, one.ID)
	row := func(host broadcasts.HostID, next int64, at belfry.Position) broadcasts.Turn {
		return broadcasts.Turn{Host: host, Next: next, At: at}
	}
	tried := broadcasts.Try{Tries: 3, Short: true, Doubted: true, Held: time.Second}
	commit(r.Journal, one, turns{row(1, 0, 256): {}, row(1, 0, 7): {}, row(1, 300, 1): &tried, row(2, 5, math.MaxUint64): {},
		row(math.MaxUint32, math.MaxInt64, 2): {}, row(0, 0, 9): nil})
	commit(r.Journal, two, turns{row(1, 0, 1): {Tries: 1}})
	want := []broadcasts.OpenRow{{Turn: row(1, 0, 7)}, {Turn: row(1, 0, 256)}, {Turn: row(1, 300, 1), Try: tried},
		{Turn: row(2, 5, math.MaxUint64)}, {Turn: row(math.MaxUint32, math.MaxInt64, 2)}}
	mustBeOpen(t, r.Journal, one.ID, want...)
	j := r.Reopen()
	mustBeOpen(t, j, one.ID, want...)
	mustBeOpen(t, j, two.ID, broadcasts.OpenRow{Turn: row(1, 0, 1), Try: broadcasts.Try{Tries: 1}})
	mustBeOpen(t, j, broadcast(3).ID)

	commit(j, one, turns{row(1, 0, 7): nil, row(1, 0, 256): nil, row(1, 400, 256): &tried, row(2, 5, math.MaxUint64): nil})
	mustBeOpen(t, j, one.ID, want[2], broadcasts.OpenRow{Turn: row(1, 400, 256), Try: tried}, want[4])
	commit(j, ended(one, broadcasts.Cancelled), turns{row(1, 0, 9): {}})
	mustBeOpen(t, j, one.ID)
	many := turns{}
	for at := range belfry.Position(10_000) {
		many[row(broadcasts.HostID(at%3), 0, at)] = &broadcasts.Try{}
	}
	mustCreate(t, j, broadcast(0), broadcast(4))
	commit(j, broadcast(0), many)
	commit(j, broadcast(4), turns{row(1, 0, 1): {Tries: 1}})
	commit(j, ended(broadcast(0), broadcasts.Cancelled), nil)
	mustBeOpen(t, j, broadcast(0).ID)
	for _, id := range []string{two.ID, broadcast(4).ID} {
		mustBeOpen(t, j, id, broadcasts.OpenRow{Turn: row(1, 0, 1), Try: broadcasts.Try{Tries: 1}})
	}
}

// What people were told is kept no longer than it takes to tell them; what an
// operator looks for afterwards stays (SEC-25).
func testWiped(t *testing.T, r Rig) {
	for n, s := range []broadcasts.State{broadcasts.Done, broadcasts.Cancelled} {
		b := broadcast(n)
		b.Message.URL, b.Message.Icon, b.Message.Image, b.Message.Tag = "/canary", "/canary", "/canary", "tag"
		mustCreate(t, r.Journal, b, broadcast(n+10))
		b.State = broadcasts.Paused
		mustCommit(t, r.Journal, []broadcasts.Broadcast{b})
		mustHold(t, r.Journal, b)
		mustCommit(t, r.Journal, []broadcasts.Broadcast{ended(b, s)})
		want := ended(b, s)
		want.Callback = b.Callback.Shown()
		want.Message = belfry.Message{Title: b.Message.Title, Tag: "tag", Topic: "prices", Urgency: belfry.UrgencyHigh, TTL: b.Message.TTL}
		for _, j := range []broadcasts.Journal{r.Journal, r.Reopen()} {
			if got, err := j.Get(t.Context(), b.ID); err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%s: %v\n got %+v\nwant %+v", s, err, got, want)
			}
			mustHold(t, j, broadcast(n+10))
			r.Journal = j
		}
	}
}

// Who is to be told of an end is known from the end until they were told,
// whatever happens in between: one that is forgotten waits for ever, one that is
// kept is called for ever.
func testCallbacks(t *testing.T, r Rig) {
	j := r.Journal
	hold := func(want ...broadcasts.Broadcast) {
		t.Helper()
		got, _, err := j.Uncalled(t.Context())
		slices.SortFunc(got, func(a, b broadcasts.Broadcast) int { return strings.Compare(a.ID, b.ID) })
		if err != nil || len(got) != len(want) {
			t.Fatalf("%v, %v", ids(got), err)
		}
		for i, w := range want {
			url := w.Callback
			if w.Launch = w.Launch.Wiped(); !reflect.DeepEqual(got[i].Progress, w.Progress) || got[i].Callback != url || got[i].ID != w.ID {
				t.Errorf("got %+v, to %q\nwant %+v, to %q", got[i], got[i].Callback.Reveal(), w, url.Reveal())
			}
		}
	}
	one, two, none := broadcast(1), broadcast(2), broadcast(3)
	none.Callback = belfry.Callback{}
	mustCreate(t, j, one, two, none)
	hold()
	mustCommit(t, j, []broadcasts.Broadcast{ended(one, broadcasts.Done), two, ended(none, broadcasts.Done)})
	hold(ended(one, broadcasts.Done))
	mustCommit(t, j, []broadcasts.Broadcast{ended(two, broadcasts.Cancelled)})
	j = r.Reopen()
	hold(ended(one, broadcasts.Done), ended(two, broadcasts.Cancelled))
	for _, id := range []string{one.ID, one.ID, none.ID, broadcast(4).ID} {
		if err := j.Called(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
	hold(ended(two, broadcasts.Cancelled))
	wiped, _ := j.Get(t.Context(), one.ID)
	mustCommit(t, j, []broadcasts.Broadcast{wiped})
	hold(ended(two, broadcasts.Cancelled))
	j = r.Reopen()
	hold(ended(two, broadcasts.Cancelled))
}

// A subscription that is gone is removed with the count that says so; nobody
// else is.
func testForget(t *testing.T, r Rig) {
	r.Subscribe("a", "b", "c")
	b := broadcast(1)
	mustCreate(t, r.Journal, b)
	b.Counts.Pending, b.Counts.Gone = 0, 6
	mustCommit(t, r.Journal, []broadcasts.Broadcast{b}, "b", "nobody")
	mustHold(t, r.Journal, b)
	if !r.Subscribed("a") || r.Subscribed("b") || !r.Subscribed("c") {
		t.Error("a", r.Subscribed("a"), "b", r.Subscribed("b"), "c", r.Subscribed("c"))
	}
	mustHold(t, r.Reopen(), b)
	if r.Subscribed("b") {
		t.Error("the restart brought back who is gone")
	}
}

// What a push service lets us know of a subscription is remembered with the count
// that came of it, or not at all.
func testRemember(t *testing.T, r Rig) {
	r.Subscribe("a", "b", "c")
	one := broadcast(1)
	mustCreate(t, r.Journal, one)
	learnt := changes(one)
	learnt[0].Learnt = rows("a")
	learnt[0].Learnt[0].Memory = belfry.Memory{WrongKey: true, RefusedDays: 2, Refused: 20_000}
	r.Spoil(true)
	if err := r.Journal.Commit(t.Context(), learnt, rows("b", "c")); err == nil {
		t.Fatal("a commit that cannot forget succeeds")
	}
	if m := r.Remembered("a"); m != (belfry.Memory{}) {
		t.Errorf("a commit that failed remembers %+v", m)
	}
	r.Spoil(false)
	if err := r.Journal.Commit(t.Context(), learnt, nil); err != nil {
		t.Fatal(err)
	}
	r.Reopen()
	if m := r.Remembered("a"); m != learnt[0].Learnt[0].Memory || r.Remembered("b") != (belfry.Memory{}) {
		t.Errorf("remembers %+v", m)
	}
}

// A commit that fails is tried again: had it left half of itself behind, rows
// would be counted twice.
func testAllOrNothing(t *testing.T, r Rig) {
	r.Subscribe("a", "b", "c")
	one, two := broadcast(1), broadcast(2)
	mustCreate(t, r.Journal, one, two)
	after, end := broadcast(1), ended(broadcast(2), broadcasts.Done)
	after.Counts.Pending, after.Counts.Gone = 0, 6
	all := []broadcasts.Broadcast{after, end}

	r.Spoil(true)
	spoilt := changes(all...)
	spoilt[0].Rows = turns{{At: 1}: {}}
	if err := r.Journal.Commit(t.Context(), spoilt, rows("a", "b")); err == nil {
		t.Fatal("a commit that cannot forget succeeds")
	}
	mustHold(t, r.Journal, one, two)
	mustBeOpen(t, r.Journal, one.ID)
	if list, _, err := r.Journal.Unfinished(t.Context(), "one", at); err != nil || len(list) != 2 {
		t.Errorf("%v unfinished, %v", ids(list), err)
	}
	if list, _, err := r.Journal.Uncalled(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("%v are to be called, %v", ids(list), err)
	}
	for _, id := range []string{"a", "b", "c"} {
		if !r.Subscribed(id) {
			t.Errorf("%s was forgotten by a commit that failed", id)
		}
	}
	r.Spoil(false)
	mustCommit(t, r.Journal, all, "a", "b")
	mustHold(t, r.Journal, after, end)
	if r.Subscribed("a") || r.Subscribed("b") || !r.Subscribed("c") {
		t.Error("the second try forgets wrongly")
	}
}

// Operators launch and read while a committer writes.
func testManyAtOnce(t *testing.T, r Rig) {
	var all sync.WaitGroup
	for n := range 8 {
		all.Go(func() {
			b := broadcast(n)
			if _, err := r.Journal.Create(t.Context(), b, nil); err != nil {
				t.Error(err)
			}
			for range 5 {
				b.Counts.Accepted++
				if err := r.Journal.Commit(t.Context(), changes(b), nil); err != nil {
					t.Error(err)
				}
				got, err := r.Journal.Get(t.Context(), b.ID)
				if err != nil || got.Counts != b.Counts {
					t.Errorf("reads %+v after writing %+v, %v", got.Counts, b.Counts, err)
				}
				if _, err := r.Journal.List(t.Context(), "", 100); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if list, _, err := r.Journal.Unfinished(t.Context(), "one", at); err != nil || len(list) != 8 {
		t.Errorf("%d of 8 are there, %v", len(list), err)
	}
}
