package live

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/internal/boltfile"
)

// A house is a log in a real file that can be closed and opened again.
type house struct {
	*Log
	t    testing.TB
	path string
	file *boltfile.File
	cfg  LogConfig
}

func newHouse(t testing.TB, cfg LogConfig) *house {
	t.Helper()
	h := &house{t: t, path: filepath.Join(t.TempDir(), "belfry.db"), cfg: cfg}
	h.open()
	t.Cleanup(h.close)
	return h
}

func (h *house) open() {
	h.t.Helper()
	h.file = must(boltfile.Open(h.path))
	h.Log = must(Open(h.file, h.cfg))
}

func (h *house) close() {
	h.Log.Close()
	h.file.Close()
}

func (h *house) reopen() {
	h.t.Helper()
	h.close()
	h.open()
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// to is an event with this id for an audience.
func to(id string, a belfry.Audience) belfry.Event {
	return belfry.Event{ID: id, Time: time.Now(), Audience: a, Message: belfry.Message{Title: "message " + id}}
}

func channels(names ...string) belfry.Audience { return belfry.Audience{Channels: names} }

func (h *house) append(e belfry.Event) string {
	h.t.Helper()
	cursor, err := h.Append(context.Background(), e)
	if err != nil {
		h.t.Fatal(err)
	}
	return cursor
}

// heard is the ids of what a listener hears behind a position.
func (h *house) heard(after uint64, l Listener) (ids []string) {
	h.t.Helper()
	for {
		s, err := h.read(after, l.groups(), perPage)
		if err != nil {
			h.t.Fatal(err)
		}
		for _, e := range s.events {
			ids = append(ids, e.message)
		}
		if after = s.upTo; !s.more {
			return ids
		}
	}
}

func same(a, b []string) bool { return fmt.Sprint(a) == fmt.Sprint(b) }

// An event is found by each of its channels, by its user, by everybody, each
// once and in the order of publishing, before and after a restart.
func TestWhoHearsWhat(t *testing.T) {
	t.Parallel()
	h := newHouse(t, LogConfig{})
	for _, e := range []belfry.Event{
		to("1", channels("news", "sport")), to("2", channels("sport")), to("3", belfry.Audience{All: true}),
		to("4", belfry.Audience{Users: []string{"ann", "bob"}}), to("5", channels("newsletter")), to("6", channels("news")),
	} {
		h.append(e)
	}
	if cursor := h.append(to("7", belfry.Audience{Subscriptions: []string{"01arz3ndektsv4rrffq69g5fav"}})); cursor != "" {
		t.Errorf("what nobody hears has a cursor: %s", cursor)
	}
	for range 2 {
		for _, tt := range []struct {
			l    Listener
			want []string
		}{
			{Listener{}, []string{"3"}},
			{Listener{Channels: []string{"news"}}, []string{"1", "3", "6"}},
			{Listener{Channels: []string{"sport", "news"}}, []string{"1", "2", "3", "6"}},
			{Listener{User: "ann"}, []string{"3", "4"}},
			{Listener{Channels: []string{"ann"}}, []string{"3"}},
			{Listener{User: "bob", Channels: []string{"newsletter"}}, []string{"3", "4", "5"}},
		} {
			if got := h.heard(0, tt.l); !same(got, tt.want) {
				t.Errorf("%v hears %v, want %v", tt.l, got, tt.want)
			}
		}
		if got := h.heard(3, Listener{Channels: []string{"news"}}); !same(got, []string{"6"}) {
			t.Errorf("behind the third event: %v", got)
		}
		h.reopen()
	}
}

// What a page reads is the message, its channels, its moment and its place, and
// of users nothing.
func TestEventJSON(t *testing.T) {
	t.Parallel()
	h := newHouse(t, LogConfig{})
	at := time.Date(2100, 3, 4, 5, 6, 7, 8_900_000, time.UTC) // of another clock, which is none of the log's business
	e := belfry.Event{ID: "m1", Time: at, Audience: channels("news"), Message: belfry.Message{Title: "<b>", Data: json.RawMessage("{\"a\":\n1}")}}
	cursor := h.append(e)
	want := `{"id":"m1","channels":["news"],"time":"2100-03-04T05:06:07.008Z","cursor":"` + cursor + `","message":{"title":"<b>","data":{"a":1}}}`
	s := must(h.read(0, Listener{Channels: []string{"news"}}.groups(), 1))
	if got := string(s.events[0].json(h.epoch)); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	if !regexp.MustCompile(`^[0-9a-z]+\.[0-9]+$`).MatchString(cursor) || len(cursor) > 32 {
		t.Errorf("cursor %q", cursor)
	}
	h.append(to("m2", belfry.Audience{Users: []string{"ann@example.com"}}))
	s = must(h.read(1, Listener{User: "ann@example.com"}.groups(), 1))
	var got map[string]any
	if err := json.Unmarshal(s.events[0].json(h.epoch), &got); err != nil || fmt.Sprint(got["channels"]) != "[]" || len(got) != 5 {
		t.Errorf("%v, %v", got, err)
	}
}

// A broadcast appends again after a crash. Pages must not see that, whether the
// crash was before or after the commit, or both are in one transaction.
func TestAppendTwice(t *testing.T) {
	t.Parallel()
	h := newHouse(t, LogConfig{})
	first := h.append(to("1", channels("news")))
	h.append(to("2", channels("news")))
	if again := h.append(to("1", channels("news"))); again != first {
		t.Errorf("%s again is %s", first, again)
	}
	h.reopen()
	if again := h.append(to("1", channels("news"))); again != first {
		t.Errorf("%s after a restart is %s", first, again)
	}
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() { h.Append(context.Background(), to("3", channels("news"))) })
	}
	all.Wait()
	if got := h.heard(0, Listener{Channels: []string{"news"}}); !same(got, []string{"1", "2", "3"}) {
		t.Errorf("%v", got)
	}
	late := to("4", channels("news"))
	late.Time = time.Now().Add(-25 * time.Hour)
	if cursor := h.append(late); cursor != "" {
		t.Errorf("a broadcast that was paused for a day is told again, at %s", cursor)
	}
}

// An append that was answered is on disk, and all who append at one moment share
// a few transactions.
func TestGroupCommit(t *testing.T) {
	t.Parallel()
	h := newHouse(t, LogConfig{})
	const n = 2000
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { h.append(to(fmt.Sprintf("%05d", i), channels("news"))) })
	}
	all.Wait()
	if got := len(h.heard(0, Listener{Channels: []string{"news"}})); got != n {
		t.Errorf("%d of %d are there", got, n)
	}
	var transactions int
	h.file.View(func(tx *bbolt.Tx) error { transactions = tx.ID(); return nil })
	if transactions > n/4 {
		t.Errorf("%d transactions for %d events", transactions, n)
	}
}

// What is over any limit goes, the oldest first, and a cursor from before is
// known to be too old.
func TestRetention(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for name, tt := range map[string]struct {
		cfg   LogConfig
		later time.Duration
		want  int
	}{
		"count":  {LogConfig{Count: 10}, 0, 10},
		"octets": {LogConfig{Octets: 2000}, 0, 0}, // as many as fit
		"age":    {LogConfig{Age: time.Hour}, 2 * time.Hour, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clock := now
			tt.cfg.Now = func() time.Time { return clock }
			h := newHouse(t, tt.cfg)
			for i := range 100 {
				e := to(fmt.Sprintf("%03d", i), channels("news"))
				e.Time = clock
				h.append(e)
			}
			clock = clock.Add(tt.later)
			last := to("last", channels("news"))
			last.Time = clock
			for range 3 { // each removes a few
				last.ID += "x"
				h.append(last)
			}
			h.sweep()
			b := must(h.bounds())
			kept := int(b.head - b.floor)
			if b.head != 103 || tt.want > 1 && kept != tt.want || tt.want == 1 && kept != 3 || kept == 0 || kept > 20 {
				t.Errorf("%d are kept, of %d", kept, b.head)
			}
			if seq, gap := b.place(b.cursor(1)); gap != Lost || seq != b.floor {
				t.Errorf("an old cursor: %d, %q", seq, gap)
			}
			if got := h.heard(0, Listener{Channels: []string{"news"}}); len(got) != kept {
				t.Errorf("%d are found", len(got))
			}
			if found := must(h.Examine(t.Context())); len(found.Findings) > 0 || found.Looked[0].Count != kept || found.Looked[1].Count != 2*kept {
				t.Errorf("%+v", found)
			}
			h.reopen()
			if again := must(h.bounds()); again != b {
				t.Errorf("%v after a restart, %v before", again, b)
			}
		})
	}
}

// A copy of the file that goes its own way is another log: what it gives a
// number is not what the original gave it.
func TestEpoch(t *testing.T) {
	t.Parallel()
	h := newHouse(t, LogConfig{})
	cursor := h.append(to("1", channels("news")))
	h.reopen()
	b := must(h.bounds())
	if seq, gap := b.place(cursor); seq != 1 || gap != "" {
		t.Errorf("after a restart: %d, %q", seq, gap)
	}
	h.Close()
	if err := Renew(h.file); err != nil {
		t.Fatal(err)
	}
	h.file.Close()
	h.open()
	b = must(h.bounds())
	if seq, gap := b.place(cursor); seq != b.head || gap != Renewed {
		t.Errorf("after a restore: %d, %q", seq, gap)
	}
	for _, wrong := range []string{"x", ".", b.epoch, b.epoch + ".", b.epoch + ".x", b.epoch + ".01", b.epoch + ".2", b.epoch + ".-1", "ü.1", cursor + "\n"} {
		if seq, gap := b.place(wrong); seq != b.head || gap != Unknown && gap != Renewed {
			t.Errorf("%q: %d, %q", wrong, seq, gap)
		}
	}
	if seq, gap := b.place(""); seq != b.head || gap != "" {
		t.Errorf("without one: %d, %q", seq, gap)
	}
}

// A log that stops says so, and loses nothing that it has taken.
func TestClose(t *testing.T) {
	t.Parallel()
	h := newHouse(t, LogConfig{})
	var all sync.WaitGroup
	var mu sync.Mutex // guards taken
	taken := 0
	for i := range 300 {
		all.Go(func() {
			if _, err := h.Append(context.Background(), to(fmt.Sprint(i), channels("news"))); err == nil {
				mu.Lock()
				taken++
				mu.Unlock()
			} else if !errors.Is(err, belfry.ErrBusy) {
				t.Error(err)
			}
		})
	}
	h.Close()
	all.Wait()
	if _, err := h.Append(t.Context(), to("late", channels("news"))); !errors.Is(err, belfry.ErrBusy) {
		t.Errorf("after the end: %v", err)
	}
	h.file.Close()
	h.open()
	if got := len(h.heard(0, Listener{Channels: []string{"news"}})); got < taken {
		t.Errorf("%d are there, and %d were taken", got, taken)
	}
}

// A bit that flipped is no message to anybody: who would have heard it is told
// that something is missing. Indexes are mended, and damage goes with its age.
func TestDamage(t *testing.T) {
	t.Parallel()
	h := newHouse(t, LogConfig{Count: 5})
	for i := range 4 {
		h.append(to(fmt.Sprint(i), channels("news")))
	}
	change := func(fn func(t tables) error) {
		t.Helper()
		if err := h.file.Update(func(tx *bbolt.Tx) error { return fn(openTables(tx)) }); err != nil {
			t.Fatal(err)
		}
	}
	news := channelGroup("news")
	change(func(t tables) error {
		return errors.Join(t.events.Put(seqKey(2), []byte("damaged")), t.groups.Delete(groupKey(news, 3)), t.messages.Delete([]byte("3")),
			t.groups.Put(groupKey(channelGroup("sport"), 4), nil), t.groups.Put([]byte("odd"), nil), t.messages.Put([]byte("stray"), seqKey(99)))
	})
	s := must(h.read(0, []group{news}, perPage))
	if s.lost != Lost || len(s.events) != 2 {
		t.Errorf("lost %q, %d events", s.lost, len(s.events))
	}
	if found := must(h.Examine(t.Context())); len(found.Findings) != 3 {
		t.Errorf("%+v", found)
	}
	if err := h.Mend(t.Context()); err != nil {
		t.Fatal(err)
	}
	if found := must(h.Examine(t.Context())); len(found.Findings) != 1 { // what is damaged stays so
		t.Errorf("after mending: %+v", found)
	}
	if got := h.heard(0, Listener{Channels: []string{"news"}}); !same(got, []string{"0", "2", "3"}) {
		t.Errorf("after mending: %v", got)
	}
	for i := range 4 {
		h.append(to(fmt.Sprint("x", i), channels("news")))
	}
	if err := h.Mend(t.Context()); err != nil {
		t.Fatal(err)
	}
	if found := must(h.Examine(t.Context())); len(found.Findings) != 0 {
		t.Errorf("in the end: %+v", found)
	}
}

// Resuming costs a seek, whatever the length of the log: compare the two.
func BenchmarkResume(b *testing.B) {
	for _, n := range []int{1000, 2_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			h := newHouse(b, LogConfig{})
			for j := 0; j < n; {
				must(0, h.update(func(t tables) (err error) {
					for end := min(n, j+20_000); j < end && err == nil; j++ {
						_, err = t.add(must(newEntry(to(fmt.Sprintf("%08d", j), channels(fmt.Sprint("c", j%100))))))
					}
					return err
				}))
			}
			head := must(h.bounds()).head
			groups := Listener{Channels: []string{"c1", "c2", "c3"}}.groups()
			for b.Loop() {
				must(h.read(head-800, groups, perPage))
			}
		})
	}
}

// Publishing shares its fsyncs.
func BenchmarkAppend(b *testing.B) {
	h := newHouse(b, LogConfig{})
	var n sync.Mutex // guards i
	i := 0
	b.SetParallelism(512)
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			n.Lock()
			i++
			id := fmt.Sprintf("%010d", i)
			n.Unlock()
			h.append(to(id, channels("news")))
		}
	})
}
