package broadcasts_test

import (
	"encoding/json"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/broadcasts"
	"github.com/belfry-push/belfry/broadcasts/broadcaststest"
	"github.com/belfry-push/belfry/internal/boltfile"
)

func TestJournal(t *testing.T) {
	t.Run("memory", func(t *testing.T) { broadcaststest.Journal(t, memoryRig) })
	t.Run("bbolt", func(t *testing.T) {
		broadcaststest.Journal(t, func(t *testing.T) broadcaststest.Rig { return newBoltRig(t).rig() })
	})
}

func memoryRig(*testing.T) broadcaststest.Rig {
	there, spoilt := map[string]bool{}, false
	j := broadcaststest.NewMemory(func(gone []belfry.Subscription) error {
		if spoilt {
			return errSpoilt
		}
		for _, s := range gone {
			delete(there, s.ID)
		}
		return nil
	})
	remembered := map[string]belfry.Memory{}
	j.Remember = func(learnt []belfry.Subscription) {
		for _, s := range learnt {
			remembered[s.ID] = s.Memory
		}
	}
	return broadcaststest.Rig{
		Journal: j, Reopen: func() broadcasts.Journal { return j },
		Remembered: func(id string) belfry.Memory { return remembered[id] },
		Spoil:      func(on bool) { spoilt = on },
		Subscribed: func(id string) bool { return there[id] },
		Subscribe: func(ids ...string) {
			for _, id := range ids {
				there[id] = true
			}
		},
	}
}

var errSpoilt = errors.New("spoilt")

// A boltRig is a journal in a real file, beside a bucket that plays the subscriptions.
type boltRig struct {
	t      *testing.T
	path   string
	file   *boltfile.File
	spoilt bool
	log    record
	*broadcasts.BoltJournal
}

var subscriptionBucket = []byte("test.subscriptions")

func newBoltRig(t *testing.T) *boltRig {
	r := &boltRig{t: t, path: filepath.Join(t.TempDir(), "belfry.db")}
	r.open()
	t.Cleanup(func() { r.file.Close() })
	return r
}

func (r *boltRig) open() {
	var err error
	if r.file, err = boltfile.Open(r.path); err != nil {
		r.t.Fatal(err)
	}
	if r.BoltJournal, err = broadcasts.NewBoltJournal(r.file, r, slog.New(slog.NewTextHandler(&r.log, nil))); err != nil {
		r.t.Fatal(err)
	}
}

func (r *boltRig) reopen() {
	if err := r.file.Close(); err != nil {
		r.t.Fatal(err)
	}
	r.open()
}

// Forget fails, when it is spoilt, behind half of the work: the transaction
// must take that back.
func (r *boltRig) Forget(tx *bbolt.Tx, gone []belfry.Subscription) (n int, err error) {
	for _, s := range gone {
		if err := tx.Bucket(subscriptionBucket).Delete([]byte(s.ID)); err != nil {
			return n, err
		}
		if n++; r.spoilt {
			return n, errSpoilt
		}
	}
	return n, nil
}

// Remember keeps what is learnt in the row's value.
func (r *boltRig) Remember(tx *bbolt.Tx, learnt []belfry.Subscription) error {
	for _, s := range learnt {
		text, err := json.Marshal(s.Memory)
		if err := errors.Join(err, tx.Bucket(subscriptionBucket).Put([]byte(s.ID), text)); err != nil {
			return err
		}
	}
	return nil
}

func (r *boltRig) update(fn func(tx *bbolt.Tx) error) {
	r.t.Helper()
	if err := r.file.Update(fn); err != nil {
		r.t.Fatal(err)
	}
}

func (r *boltRig) rig() broadcaststest.Rig {
	return broadcaststest.Rig{
		Journal: r, Reopen: func() broadcasts.Journal { r.reopen(); return r },
		Spoil: func(on bool) { r.spoilt = on },
		Subscribe: func(ids ...string) {
			r.update(func(tx *bbolt.Tx) error {
				b, err := tx.CreateBucketIfNotExists(subscriptionBucket)
				for _, id := range ids {
					err = errors.Join(err, b.Put([]byte(id), nil))
				}
				return err
			})
		},
		Subscribed: func(id string) (there bool) {
			r.file.View(func(tx *bbolt.Tx) error {
				there = tx.Bucket(subscriptionBucket).Get([]byte(id)) != nil
				return nil
			})
			return there
		},
		Remembered: func(id string) (m belfry.Memory) {
			r.file.View(func(tx *bbolt.Tx) error {
				json.Unmarshal(tx.Bucket(subscriptionBucket).Get([]byte(id)), &m) // which is empty before anything is learnt
				return nil
			})
			return m
		},
	}
}

// Any octet that changes on the disk is found when the record is read. An
// operator who is shown no number asks; one who is shown a wrong one believes.
func TestDamagedRecord(t *testing.T) {
	r := newBoltRig(t)
	r.file.NoSync = true // thousands of small transactions that nobody needs to survive
	b := launched("01jz0000000000000000000001")
	whole := launched("01jz0000000000000000000002")
	for _, b := range []broadcasts.Broadcast{whole, b} {
		if _, err := r.Create(t.Context(), b, nil); err != nil {
			t.Fatal(err)
		}
	}
	for _, bucket := range []string{"broadcasts", "broadcasts.progress"} {
		good := r.record(bucket, b.ID)
		for i := range good {
			bad := append([]byte(nil), good...)
			bad[i] ^= 1 << (i % 8)
			r.put(bucket, b.ID, bad)
			r.mustBeDamaged(b.ID)
		}
		for _, bad := range [][]byte{{}, good[:3], good[:5], good[:len(good)-1], append(good[:len(good):len(good)], ' ')} {
			r.put(bucket, b.ID, bad)
			r.mustBeDamaged(b.ID)
		}
		r.update(func(tx *bbolt.Tx) error { return tx.Bucket([]byte(bucket)).Delete([]byte(b.ID)) })
		r.mustBeDamaged(b.ID)
		r.put(bucket, b.ID, good)
		if got, err := r.Get(t.Context(), b.ID); err != nil || got.Counts != b.Counts {
			t.Fatal("the good record does not read any more:", err)
		}
	}
	if _, err := r.Get(t.Context(), whole.ID); err != nil {
		t.Error("the other broadcast suffers:", err)
	}
	told := r.log.count("passed over", b.ID)
	r.put("broadcasts.progress", b.ID, []byte("noise"))
	if list, err := r.List(t.Context(), "", 10); err != nil || len(list) != 1 || list[0].ID != whole.ID || r.log.count("passed over", b.ID) != told+1 {
		t.Errorf("the list is %+v, %v, and the log says so %d times more", list, err, r.log.count("passed over", b.ID)-told)
	}
}

func launched(id string) broadcasts.Broadcast {
	return broadcasts.Broadcast{
		Launch: broadcasts.Launch{ID: id, Message: belfry.Message{Title: "T"}, Audience: belfry.Audience{All: true}, Until: 7},
		Progress: broadcasts.Progress{State: broadcasts.Running, Failures: map[string]int{}, Hosts: []broadcasts.Host{},
			Counts: broadcasts.Counts{Targets: 3, Pending: 3}},
	}
}

func (r *boltRig) record(bucket, id string) (value []byte) {
	r.file.View(func(tx *bbolt.Tx) error {
		value = append(value, tx.Bucket([]byte(bucket)).Get([]byte(id))...)
		return nil
	})
	return value
}

func (r *boltRig) put(bucket, id string, value []byte) {
	r.t.Helper()
	r.update(func(tx *bbolt.Tx) error { return tx.Bucket([]byte(bucket)).Put([]byte(id), value) })
}

func (r *boltRig) drop(bucket, id string) {
	r.t.Helper()
	r.update(func(tx *bbolt.Tx) error { return tx.Bucket([]byte(bucket)).Delete([]byte(id)) })
}

func (r *boltRig) mustBeDamaged(id string) {
	r.t.Helper()
	if b, err := r.Get(r.t.Context(), id); !errors.Is(err, belfry.ErrCorrupt) {
		r.t.Fatalf("Get gives %+v, %v", b, err)
	}
	list, err := r.List(r.t.Context(), "", 10)
	if err != nil || slices.ContainsFunc(list, func(b broadcasts.Broadcast) bool { return b.ID == id }) {
		r.t.Fatalf("List gives %+v, %v", list, err)
	}
	if list, damaged, err := r.Unfinished(r.t.Context(), "one", time.Now()); err != nil || !slices.Equal(damaged, []string{id}) {
		r.t.Fatalf("Unfinished gives %d and %q, %v", len(list), damaged, err)
	}
}

// A callback is called as it was written down, or not at all.
func TestDamagedCallback(t *testing.T) {
	r := newBoltRig(t)
	b := launched("01jz0000000000000000000001")
	b.Callback, b.State = belfry.StoredCallback(hook), broadcasts.Done
	_, err := r.Create(t.Context(), b, nil)
	if err := errors.Join(err, r.Commit(t.Context(), []broadcasts.Change{{Broadcast: b}}, nil)); err != nil {
		t.Fatal(err)
	}
	bad := r.record("broadcasts.callbacks", b.ID)
	bad[len(bad)-2] ^= 1
	r.put("broadcasts.callbacks", b.ID, bad)
	if list, damaged, err := r.Uncalled(t.Context()); err != nil || len(list) != 0 || !slices.Equal(damaged, []string{b.ID}) {
		t.Errorf("to be called are %v, and damaged %q, %v", list, damaged, err)
	}
}

// A damaged broadcast does not keep the others from going on, nor the server
// from starting; it is named, and is as it was.
func TestDamagedRecordAtStart(t *testing.T) {
	r := newBoltRig(t)
	b := newBell(t, func(c *broadcasts.Config) { c.Journal = r })
	b.people.join(3, "push.example")
	b.Close(t.Context())
	for _, id := range []string{endedID, runningID} {
		if _, err := r.Create(t.Context(), launched(id), nil); err != nil {
			t.Fatal(err)
		}
	}
	r.put("broadcasts.progress", endedID, []byte("garbage"))
	b.start()
	if got := b.end(runningID); got.State != broadcasts.Done || got.Counts.Expired != 3 {
		t.Errorf("the other one: %+v", got.Counts)
	}
	if n := b.log.count("level=ERROR", endedID, "damaged and passed over"); n != 1 || string(r.record("broadcasts.progress", endedID)) != "garbage" {
		t.Errorf("named %d times", n)
	}
}

// When the file is nearly full, no broadcast begins any more, and those that
// are running still write what they did and remove who is gone.
func TestNearlyFull(t *testing.T) {
	r := newBoltRig(t)
	r.rig().Subscribe("a")
	b := launched("01jz0000000000000000000001")
	if _, err := r.Create(t.Context(), b, nil); err != nil {
		t.Fatal(err)
	}
	r.file.MaxSize = 4 << 20
	var told *belfry.Error
	if _, err := r.Create(t.Context(), launched("01jz0000000000000000000002"), nil); !errors.As(err, &told) || told.Kind != belfry.ErrFull {
		t.Errorf("a launch into a full file: %v", err)
	}
	if list, err := r.List(t.Context(), "", 10); err != nil || len(list) != 1 {
		t.Errorf("%d broadcasts, %v", len(list), err)
	}
	b.Counts.Pending, b.Counts.Gone = 2, 1
	if err := r.Commit(t.Context(), []broadcasts.Change{{Broadcast: b}}, []belfry.Subscription{{ID: "a"}}); err != nil {
		t.Error(err)
	}
	if got, _ := r.Get(t.Context(), b.ID); got.Counts.Gone != 1 || r.rig().Subscribed("a") {
		t.Errorf("%+v", got.Counts)
	}
}
