//go:build faults

package faults

import (
	"bytes"
	"encoding/binary"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/belfry-push/belfry/broadcasts"
	"github.com/belfry-push/belfry/internal/boltfile"
	"github.com/belfry-push/belfry/sender/pushtest"
)

// mustAddUp holds the law of the accounts: nobody is lost between two counts.
func mustAddUp(t *testing.T, where, id string, c broadcasts.Counts) {
	t.Helper()
	sum := c.Pending + c.Accepted + c.Suppressed + c.Expired + c.Gone + c.Left + c.Failed + c.Cancelled
	if c.Targets != sum || min(c.Pending, c.Accepted, c.Suppressed, c.Expired, c.Gone, c.Left, c.Failed, c.Cancelled) < 0 {
		t.Errorf("broadcast %s does not add up in %s: %+v", id, where, c)
	}
}

// A booked broadcast is what the file says of it.
type booked struct {
	broadcasts.Progress
	broadcasts.Course `json:"course"`

	open int // rows handed out and not settled
}

// A book is what stands in the file.
type book struct {
	broadcasts    map[string]*booked
	subscriptions int
}

// audit reads the database of a server that is down as it lies there: its pages
// are whole, each broadcast adds up, and what is derived agrees with what it is
// derived from.
func (s *server) audit() book {
	s.t.Helper()
	t := s.t
	db, err := bbolt.Open(filepath.Join(s.data, "belfry.db"), 0o600, &bbolt.Options{ReadOnly: true, Timeout: 5 * time.Second, PreLoadFreelist: true})
	if err != nil {
		t.Fatalf("the file cannot be read: %v", err)
	}
	defer db.Close()
	found := book{broadcasts: map[string]*booked{}}
	err = db.View(func(tx *bbolt.Tx) error {
		for err := range tx.Check() {
			t.Errorf("bbolt's check says: %v", err)
		}
		found.readBroadcasts(t, tx)
		rows := tx.Bucket([]byte("subscriptions"))
		found.subscriptions = rows.Stats().KeyN
		var counted uint64
		if n := tx.Bucket([]byte("subscriptions.counts")).Get([]byte("a")); n != nil {
			counted = binary.BigEndian.Uint64(n)
		}
		if ids := tx.Bucket([]byte("subscriptions.by_id")).Stats().KeyN; found.subscriptions != int(counted) || ids != found.subscriptions {
			t.Errorf("there are %d subscriptions, %d of them have an id, and the count says %d", found.subscriptions, ids, counted)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func (f *book) readBroadcasts(t *testing.T, tx *bbolt.Tx) {
	t.Helper()
	tx.Bucket([]byte("broadcasts.progress")).ForEach(func(id, record []byte) error {
		b := &booked{}
		if err := boltfile.Unseal(record, b); err != nil {
			t.Errorf("broadcast %s: %v", id, err)
			return nil
		}
		f.broadcasts[string(id)] = b
		mustAddUp(t, "the file", string(id), b.Counts)
		if tx.Bucket([]byte("broadcasts")).Get(id) == nil {
			t.Errorf("broadcast %s has no message", id)
		}
		// bbolt does not tell an empty value from none.
		if k, _ := tx.Bucket([]byte("broadcasts.running")).Cursor().Seek(id); bytes.Equal(k, id) == b.Ended() {
			t.Errorf("broadcast %s is %s, and the list of what runs says otherwise", id, b.State)
		}
		return nil
	})
	tx.Bucket([]byte("broadcasts.open")).ForEach(func(key, _ []byte) error {
		const turn = 4 + 8 + 8 // host, time, position
		if b := f.broadcasts[string(key[:max(len(key)-turn, 0)])]; b != nil {
			b.open++
		} else {
			t.Errorf("a row is open of a broadcast that there is not")
		}
		return nil
	})
	for id, b := range f.broadcasts {
		if b.open > b.Counts.Pending || b.Ended() && b.open > 0 {
			t.Errorf("broadcast %s is %s with %d rows open and %d pending", id, b.State, b.open, b.Counts.Pending)
		}
	}
}

// agree holds a book against what the API said of a broadcast.
func (f book) agree(t *testing.T, b broadcasts.Broadcast) {
	t.Helper()
	in := f.broadcasts[b.ID]
	if in == nil || in.Counts != b.Counts || in.State != b.State {
		t.Errorf("the file has %+v of broadcast %s, and the API said %s %+v", in, b.ID, b.State, b.Counts)
	}
}

// A tally is what a ledger says of one broadcast, by endpoint.
type tally struct {
	tried    map[string]int // the push service had the whole message, whatever it answered
	accepted map[string]int
}

// count reads the entries that carry the message id.
func count(entries []pushtest.Received, id string) tally {
	c := tally{map[string]int{}, map[string]int{}}
	for _, r := range entries {
		if !bytes.Contains(r.Plaintext, []byte(id)) {
			continue
		}
		c.tried[r.Token]++
		if r.Accepted() {
			c.accepted[r.Token]++
		}
	}
	return c
}

// again is how many more than one each has had.
func again(n map[string]int) (more int) {
	for _, times := range n {
		more += times - 1
	}
	return more
}
