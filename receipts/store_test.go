package receipts_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/internal/boltfile"
	"github.com/belfry-push/belfry/receipts"
)

func open(t *testing.T, path string) (*receipts.Store, *boltfile.File) {
	t.Helper()
	file, err := boltfile.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	store, err := receipts.New(file, receipts.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return store, file
}

const (
	commit = 5 * time.Second    // how long a receipt may wait in memory
	week   = 7 * 24 * time.Hour // how long after its deadline a message is counted
	day    = 24 * time.Hour     // how long messages here are worth saying
	first  = "01aaaaaaaaaaaaaaaaaaaaaaaa"
	second = "01bbbbbbbbbbbbbbbbbbbbbbbb"
)

func message(id string, channels ...string) receipts.Message {
	return receipts.Message{ID: id, Channels: channels, Deadline: time.Now().Add(day)}
}

func add(t *testing.T, s *receipts.Store, list ...receipts.Receipt) {
	t.Helper()
	if err := s.Add(list); err != nil {
		t.Fatal(err)
	}
}

// pass lets time pass, and what is due then be done.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// text is the counts of a message in short.
func text(c receipts.Counts) string {
	return strings.TrimSuffix(fmt.Sprintf("%d %d %d %v", c.Shown, c.Clicked, c.Closed, c.Actions), " map[]")
}

func expect(t *testing.T, s *receipts.Store, when, id, want string) {
	t.Helper()
	list, err := s.Of(t.Context(), id)
	if err != nil || len(list) != 1 || list[0] == nil {
		t.Fatalf("%s: %v, %v", when, list, err)
	}
	if got := text(*list[0]); got != want {
		t.Errorf("%s: %s, want %s", when, got, want)
	}
}

// A ledger is what a store must come to: everything that was said, as a set.
type ledger map[said]bool

type said struct {
	message string
	row     belfry.Position
	kind    receipts.Kind
}

// counts is the ledger of the messages of which it says yes, counted.
func (l ledger) counts(of func(message string) bool) (c receipts.Counts) {
	for s := range l {
		if of(s.message) {
			*map[receipts.Kind]*int{receipts.Shown: &c.Shown, receipts.Clicked: &c.Clicked, receipts.Closed: &c.Closed}[s.kind]++
		}
	}
	return c
}

// Whatever browsers say, however often, in whatever order, over restarts and
// crashes: each row counts once for each message and kind, and a crash takes at
// most what was said since the last commit. One row too many, and nobody believes
// a number here any more.
func TestEqualsASet(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { equalsASet(t, rand.New(rand.NewPCG(seed, 1))) })
		})
	}
}

func equalsASet(t *testing.T, chance *rand.Rand) {
	dir, n := t.TempDir(), 0
	path := func() string { return filepath.Join(dir, fmt.Sprintf("%d.db", n)) }
	messages := []receipts.Message{message(first, "news", "offers"), message(second, "news"), message("01cccccccccccccccccccccccc")}
	channels := map[string][]string{}
	for _, m := range messages {
		channels[m.ID] = m.Channels
	}
	kinds := []receipts.Kind{receipts.Shown, receipts.Clicked, receipts.Closed}
	written, waiting := ledger{}, ledger{}
	store, file := open(t, path())
	for range 60 {
		switch do := chance.IntN(10); {
		case do < 7:
			for range chance.IntN(40) {
				r := receipts.Receipt{Message: messages[chance.IntN(3)], Row: belfry.Position(1 + chance.IntN(300)), Kind: kinds[chance.IntN(3)]}
				add(t, store, r, r)
				waiting[said{r.ID, r.Row, r.Kind}] = true
			}
		case do == 7:
			pass(commit)
			maps.Copy(written, waiting)
			waiting = ledger{}
		case do == 8: // a restart in good order
			store.Close()
			file.Close()
			maps.Copy(written, waiting)
			waiting = ledger{}
			store, file = open(t, path())
		default: // a crash: the next process finds what the file is now
			old, held := store, file
			synctest.Wait()
			content, err := os.ReadFile(path())
			if err != nil {
				t.Fatal(err)
			}
			n++
			if err := os.WriteFile(path(), content, 0o600); err != nil {
				t.Fatal(err)
			}
			old.Close()
			held.Close()
			waiting = ledger{}
			store, file = open(t, path())
		}
	}
	store.Close()
	file.Close()
	maps.Copy(written, waiting)
	store, file = open(t, path())
	defer file.Close()
	defer store.Close()
	for _, m := range messages {
		expect(t, store, "at the end", m.ID, text(written.counts(func(id string) bool { return id == m.ID })))
	}
	all, of, err := store.Totals(t.Context(), 10)
	if err != nil || text(all) != text(written.counts(func(string) bool { return true })) || len(of) != 2 {
		t.Errorf("in all %s, %v, %v", text(all), of, err)
	}
	for channel, got := range of {
		want := written.counts(func(id string) bool { return strings.Contains(strings.Join(channels[id], " "), channel) })
		if text(got) != text(want) {
			t.Errorf("%s: %s, want %s", channel, text(got), text(want))
		}
	}
}

// A row clicks once, whichever button it was, and nobody in particular each time:
// their links cannot be told apart. Names that browsers make up cost no more than
// a few lines.
func TestClicks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, file := open(t, filepath.Join(t.TempDir(), "belfry.db"))
		defer file.Close()
		defer store.Close()
		m := message(first)
		click := func(row belfry.Position, action string) {
			add(t, store, receipts.Receipt{Message: m, Row: row, Kind: receipts.Clicked, Action: action})
		}
		click(1, "open")
		click(1, "later")
		click(1, "")
		click(2, "open")
		click(0, "")
		click(0, "")
		pass(commit)
		expect(t, store, "at first", first, "0 4 0 map[open:2]")
		for i := range 100 {
			click(belfry.Position(3+i), fmt.Sprintf("name-%d", i))
		}
		pass(commit)
		list, err := store.Of(t.Context(), first)
		if err != nil || list[0].Clicked != 104 || len(list[0].Actions) != 16 || list[0].Actions["other"] != 86 || list[0].Actions["open"] != 2 {
			t.Errorf("%+v, %v", list[0], err)
		}
	})
}

// What is kept to count once goes when a message is not counted any more, and its
// counts stay.
func TestExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, file := open(t, filepath.Join(t.TempDir(), "belfry.db"))
		defer file.Close()
		defer store.Close()
		old := message(first, "news")
		for row := range belfry.Position(1000) {
			add(t, store, receipts.Receipt{Message: old, Row: row + 1, Kind: receipts.Shown})
		}
		pass(day + week - time.Minute)
		add(t, store, receipts.Receipt{Message: old, Row: 1, Kind: receipts.Shown}, receipts.Receipt{Message: old, Row: 1, Kind: receipts.Clicked})
		pass(commit)
		expect(t, store, "just in time", first, "1000 1 0")
		pass(time.Minute)
		add(t, store, receipts.Receipt{Message: old, Row: 1, Kind: receipts.Shown}, receipts.Receipt{Message: old, Row: 2, Kind: receipts.Clicked})
		pass(commit)
		expect(t, store, "too late", first, "1000 1 0")
		add(t, store, receipts.Receipt{Message: message(second), Row: 1, Kind: receipts.Shown})
		pass(commit)
		if n := keys(t, file, "receipts.seen"); n != 1 {
			t.Errorf("%d blocks are kept", n)
		}
		expect(t, store, "a week later", first, "1000 1 0")
	})
}

func keys(t *testing.T, file *boltfile.File, bucket string) (n int) {
	t.Helper()
	err := file.View(func(tx *bbolt.Tx) error {
		n = tx.Bucket([]byte(bucket)).Stats().KeyN
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// All browsers of a broadcast answer at once. They share transactions, and those
// that wait take no more memory than is allowed.
func TestCrowd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, file := open(t, filepath.Join(t.TempDir(), "belfry.db"))
		defer file.Close()
		defer store.Close()
		m, before := message(first), pages(file)
		began := time.Now()
		for row := range belfry.Position(4095) {
			add(t, store, receipts.Receipt{Message: m, Row: row + 1, Kind: receipts.Shown})
		}
		synctest.Wait()
		expect(t, store, "before there are many", first, "0 0 0")
		add(t, store, receipts.Receipt{Message: m, Row: 5000, Kind: receipts.Shown})
		synctest.Wait()
		expect(t, store, "once there are", first, "4096 0 0")
		if took := time.Since(began); took != 0 {
			t.Errorf("many waited for %s", took)
		}
		if wrote := pages(file) - before; wrote > 100 {
			t.Errorf("%d pages were written for 4096 receipts", wrote)
		}
	})
}

// pages is how many have been written.
func pages(file *boltfile.File) int64 {
	stats := file.Stats()
	return stats.TxStats.GetWrite()
}

// A disk that is full costs no receipt that was taken, and none is taken that
// could not be written: the browser brings it again.
func TestFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "belfry.db")
		store, file := open(t, path)
		defer file.Close()
		defer store.Close()
		m := message(first)
		shown := func(row belfry.Position) error {
			return store.Add([]receipts.Receipt{{Message: m, Row: row, Kind: receipts.Shown}})
		}
		size := bound(file, 1)
		if err := shown(1); err != nil {
			t.Fatal(err)
		}
		pass(commit)
		if err := shown(2); !errors.Is(err, belfry.ErrFull) {
			t.Errorf("on a full disk: %v", err)
		}
		expect(t, store, "full", first, "0 0 0")
		bound(file, size)
		pass(commit)
		expect(t, store, "with room again", first, "1 0 0")
		if err := shown(2); err != nil {
			t.Errorf("with room again: %v", err)
		}
	})
}

// bound gives the file another largest size, between two transactions, and returns
// the one that it had.
func bound(file *boltfile.File, size int) (before int) {
	file.Update(func(*bbolt.Tx) error {
		before, file.MaxSize = file.MaxSize, size
		return errors.New("nothing is to be written")
	})
	return before
}

// While a commit takes long, what waits is bounded, and a call is taken whole or not at all.
func TestBusy(t *testing.T) {
	store, file := open(t, filepath.Join(t.TempDir(), "belfry.db"))
	defer file.Close()
	held, err := file.Begin(true) // somebody else writes
	if err != nil {
		t.Fatal(err)
	}
	m := message(first)
	list := make([]receipts.Receipt, 50)
	taken := 0
	for call := 0; err == nil; call++ {
		for i := range list {
			list[i] = receipts.Receipt{Message: m, Row: belfry.Position(call*len(list) + i + 1), Kind: receipts.Shown}
		}
		if err = store.Add(list); err == nil {
			taken += len(list)
		}
		if taken > 100_000 {
			t.Fatal("what waits has no bound")
		}
	}
	if !errors.Is(err, belfry.ErrBusy) {
		t.Errorf("%v", err)
	}
	held.Rollback()
	store.Close()
	after, err := receipts.New(file, receipts.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer after.Close()
	expect(t, after, "in the end", first, fmt.Sprintf("%d 0 0", taken))
}

// A record that the disk damaged is named, hides no other, and keeps nobody from
// being counted.
func TestDamage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, file := open(t, filepath.Join(t.TempDir(), "belfry.db"))
		defer file.Close()
		defer store.Close()
		one, two := message(first, "news"), message(second, "news")
		add(t, store, receipts.Receipt{Message: one, Row: 1, Kind: receipts.Shown}, receipts.Receipt{Message: two, Row: 1, Kind: receipts.Shown})
		pass(commit)
		examine := func() (looked int, found []belfry.Finding) {
			got, err := store.Examine(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return got.Looked[0].Count, got.Findings
		}
		if n, found := examine(); n != 4 || len(found) > 0 {
			t.Errorf("whole: %d, %v", n, found)
		}
		err := file.Update(func(tx *bbolt.Tx) error {
			k, _ := tx.Bucket([]byte("receipts.seen")).Cursor().First()
			return errors.Join(tx.Bucket([]byte("receipts")).Put([]byte(first), []byte("x")),
				tx.Bucket([]byte("receipts.totals")).Put([]byte("cnews"), []byte("x")),
				tx.Bucket([]byte("receipts.seen")).Put(append([]byte{}, k...), []byte("x")))
		})
		if err != nil {
			t.Fatal(err)
		}
		_, found := examine()
		for i, want := range []string{`the count of receipts of broadcast "` + first, `the sum of receipts under "cnews" cannot be read`, "whose receipts were counted is damaged"} {
			if i >= len(found) || !strings.Contains(found[i].What, want) || found[i].Hint == "" {
				t.Errorf("%v, want %s", found, want)
			}
		}
		list, err := store.Of(t.Context(), first, second, "01unknown")
		if err != nil || list[0] != nil || list[1].Shown != 1 || list[2].Shown != 0 {
			t.Errorf("%v, %v", list, err)
		}
		add(t, store, receipts.Receipt{Message: one, Row: 2, Kind: receipts.Shown}, receipts.Receipt{Message: two, Row: 2, Kind: receipts.Shown})
		pass(commit)
		expect(t, store, "anew", first, "1 0 0")
		expect(t, store, "beside it", second, "2 0 0")
	})
}
