package broadcasts

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/internal/boltfile"
)

// A Journal is where broadcasts are written down. What a method has returned
// from survives a power cut.
type Journal interface {
	// Create writes a new broadcast and returns it. With a claim that has made
	// one already, it writes nothing and returns that one. Nil claims nothing.
	Create(ctx context.Context, b Broadcast, c *Claim) (Broadcast, error)
	// Claimed returns the broadcast that a claim has made, or belfry.ErrNotFound.
	// Both give belfry.ErrConflict when its key was used for something else.
	Claimed(ctx context.Context, c Claim, now time.Time) (Broadcast, error)
	// Commit writes what has changed in broadcasts and forgets the subscriptions
	// that are gone, given as they were when their push service said so, all in
	// one transaction: when it fails, nothing has changed. It keeps no reference
	// to what it is given. What has ended has no open rows any more, of its launch
	// only what Launch.Wiped leaves, and is among the Uncalled if it has a callback.
	Commit(ctx context.Context, changes []Change, gone []belfry.Subscription) error
	// Get returns one broadcast, or belfry.ErrNotFound.
	Get(ctx context.Context, id string) (Broadcast, error)
	// List returns up to limit broadcasts from the newest on, beginning behind
	// the id after if that is not empty.
	List(ctx context.Context, after string, limit int) ([]Broadcast, error)
	// Unfinished returns the broadcasts that have not ended and are free for holder
	// now, and the ids of those that cannot be read.
	Unfinished(ctx context.Context, holder string, now time.Time) (list []Broadcast, damaged []string, err error)
	// Topic returns the broadcasts whose Topic header this is, whether they have ended or not.
	Topic(ctx context.Context, header string) ([]Broadcast, error)
	// Open says of how many rows of a broadcast the pager has passed and nothing
	// has settled, for each push service that has any.
	Open(ctx context.Context, id string) (map[HostID]int, error)
	// Turns returns up to limit open rows of one push service, in the order of
	// their turns.
	Turns(ctx context.Context, id string, host HostID, limit int) ([]OpenRow, error)
	// Uncalled returns the broadcasts that have ended and whose callback is not
	// over, with what is to be called, and the ids of those that cannot be read.
	Uncalled(ctx context.Context) (list []Broadcast, damaged []string, err error)
	// Called notes that the callback of a broadcast is over, and forgets it.
	Called(ctx context.Context, id string) error
}

// A Change is what one commit writes of a broadcast: its progress, its course,
// and the turns that it adds or, with nil, takes away. A row that is to have
// another turn is taken from its old one.
type Change struct {
	Broadcast
	Rows map[Turn]*Try
	// Learnt are rows of which something new is to be remembered, with that in their
	// Memory and all else as it was when their push service said so.
	Learnt []belfry.Subscription
}

// A HostID is a push service's line in the journal. Hosts come from strangers, so
// there are only so many lines: two hosts that share one by chance wait for each
// other.
type HostID uint32

const maxLines = 4096

// hostID is FNV-1a, whose package in the standard library allocates.
func hostID(host string) HostID {
	h := uint32(2166136261)
	for i := range len(host) {
		h = (h ^ uint32(host[i])) * 16777619
	}
	return HostID(h % maxLines)
}

// A Turn is an open row's place in the line of its push service.
type Turn struct {
	Host HostID          // where the row was when it came into the line
	Next int64           // when its turn is, in nanoseconds since 1970; 0 is at once
	At   belfry.Position // which row it is
}

// An OpenRow is a row that waits for its turn, or has it.
type OpenRow struct {
	Turn
	Try
}

// Buckets of this package, in the house's one bbolt file. Schema 1.
//
//	broadcasts
//	    key    id, a ULID in lower case, so that keys are in order of creation
//	    value  version, CRC-32C, JSON of what does not change while it runs: message, audience,
//	           times, until; once it has ended, without what the message said
//	broadcasts.progress
//	    key    id
//	    value  version, CRC-32C, JSON of what every commit changes: state, counts, hosts, course
//	broadcasts.open
//	    key    id, Turn: 4-byte HostID, 8-byte time, 8-byte position, all big-endian
//	    value  empty for a row that was not tried, else version, CRC-32C, JSON of Try
//	broadcasts.running
//	    key    id
//	    value  empty
//	broadcasts.topics
//	    key    Topic header of 32 octets, id
//	    value  empty
//	broadcasts.callbacks
//	    key    id of one that has ended and whose callback is not over
//	    value  version, CRC-32C, JSON of the URL
//	broadcasts.claims
//	    key    SHA-256 of caller, NUL, idempotency key
//	    value  version, CRC-32C, JSON of Claimed
//	broadcasts.claimed
//	    key    id of a broadcast that was launched with an idempotency key
//	    value  its key in broadcasts.claims, so that the oldest are found first
//
// Message and progress are apart so that a commit writes a few hundred octets
// and not the message again. What it said is wiped in the commit that ends the
// broadcast; the file's free pages keep it until they are used again. Of a row
// there is nothing before the pager comes to it, and nothing once it is settled:
// the course and the open rows are all that a restart needs. They stand in line,
// so that the next of one push service are found by one seek, however many wait.
// broadcasts.running is derived from the progress, broadcasts.topics from the launch.
var (
	bucketBroadcasts = []byte("broadcasts")
	bucketProgress   = []byte("broadcasts.progress")
	bucketOpen       = []byte("broadcasts.open")
	bucketRunning    = []byte("broadcasts.running")
	bucketTopics     = []byte("broadcasts.topics")
	bucketCallbacks  = []byte("broadcasts.callbacks")
	bucketClaims     = []byte("broadcasts.claims")
	bucketClaimed    = []byte("broadcasts.claimed")
)

// A BoltJournal is a Journal in the house's one file.
type BoltJournal struct {
	db            *boltfile.File
	subscriptions Subscriptions
	log           *slog.Logger
}

// Subscriptions are where a commit writes what became of them, in its own
// transaction. Both leave those alone that have a new endpoint since.
type Subscriptions interface {
	// Forget removes those that are gone, and says how many it found.
	Forget(tx *bbolt.Tx, gone []belfry.Subscription) (int, error)
	// Remember writes the Memory of others.
	Remember(tx *bbolt.Tx, learnt []belfry.Subscription) error
}

// NewBoltJournal keeps broadcasts in db. log hears of records that are damaged.
func NewBoltJournal(db *boltfile.File, s Subscriptions, log *slog.Logger) (*BoltJournal, error) {
	err := boltfile.MakeBuckets(db, bucketBroadcasts, bucketProgress, bucketOpen, bucketRunning, bucketTopics, bucketCallbacks, bucketClaims, bucketClaimed)
	return &BoltJournal{db, s, log}, wrap("open", err)
}

// Create writes a new broadcast, unless the file is nearly full: what is left
// then is for those that are running (REL-09). Launches at one time share an
// fsync: a site that rings for single people makes many.
func (j *BoltJournal) Create(_ context.Context, b Broadcast, c *Claim) (made Broadcast, err error) {
	err = j.db.Batch(func(tx *bbolt.Tx) (err error) {
		made, err = create(tx, b, c)
		return err
	})
	return made, wrap("create", err)
}

func create(tx *bbolt.Tx, b Broadcast, c *Claim) (Broadcast, error) {
	if c != nil {
		if earlier, there, err := claimant(tx, *c, b.Created); there || err != nil {
			return earlier, err
		}
	}
	if err := boltfile.Room(tx); err != nil {
		return b, err
	}
	if err := sweepClaims(tx, b.Created); err != nil {
		return b, err
	}
	if c != nil {
		if err := putClaim(tx, *c, b); err != nil {
			return b, err
		}
	}
	return b, errors.Join(putLaunch(tx, b.Launch), putTopic(tx, b.Launch), putProgress(tx, b))
}

// Claimed returns the broadcast that a claim has made.
func (j *BoltJournal) Claimed(_ context.Context, c Claim, now time.Time) (b Broadcast, err error) {
	err = boltfile.View(j.db, func(tx *bbolt.Tx) error {
		var there bool
		if b, there, err = claimant(tx, c, now); err == nil && !there {
			err = unknown()
		}
		return err
	})
	return b, wrap("claimed", err)
}

// Commit writes changes and forgets who is gone, in one transaction.
func (j *BoltJournal) Commit(_ context.Context, changes []Change, gone []belfry.Subscription) error {
	return wrap("commit", j.db.Update(func(tx *bbolt.Tx) error {
		for _, c := range changes {
			if err := errors.Join(putProgress(tx, c.Broadcast), putRows(tx, c)); err != nil {
				return err
			}
			if len(c.Learnt) > 0 {
				if err := j.subscriptions.Remember(tx, c.Learnt); err != nil {
					return err
				}
			}
			if c.Ended() {
				if err := errors.Join(putCallback(tx, c.Launch), putLaunch(tx, c.Launch.Wiped())); err != nil {
					return err
				}
			}
		}
		if len(gone) == 0 {
			return nil
		}
		_, err := j.subscriptions.Forget(tx, gone)
		return err
	}))
}

// Get returns one broadcast.
func (j *BoltJournal) Get(_ context.Context, id string) (b Broadcast, err error) {
	err = boltfile.View(j.db, func(tx *bbolt.Tx) error {
		b, err = read(tx, []byte(id))
		return err
	})
	return b, wrap("get", err)
}

// List returns broadcasts from the newest on. One that is damaged is passed over:
// it must not hide the others.
func (j *BoltJournal) List(_ context.Context, after string, limit int) (list []Broadcast, err error) {
	err = boltfile.View(j.db, func(tx *bbolt.Tx) error {
		c := tx.Bucket(bucketBroadcasts).Cursor()
		key, _ := c.Last()
		if after != "" {
			if key, _ = c.Seek([]byte(after)); key == nil {
				key, _ = c.Last()
			}
			for key != nil && string(key) >= after {
				key, _ = c.Prev()
			}
		}
		for ; key != nil && len(list) < limit; key, _ = c.Prev() {
			switch b, err := read(tx, key); {
			case err == nil:
				list = append(list, b)
			case errors.Is(err, belfry.ErrCorrupt):
				j.log.Warn("broadcast is damaged and passed over", "broadcast", string(key))
			default:
				return err
			}
		}
		return nil
	})
	return list, wrap("list", err)
}

// Unfinished returns the broadcasts that have not ended and are free for holder.
func (j *BoltJournal) Unfinished(_ context.Context, holder string, now time.Time) (list []Broadcast, damaged []string, err error) {
	list, damaged, err = j.listed("unfinished", bucketRunning, func(*Broadcast, []byte) error { return nil })
	return slices.DeleteFunc(list, func(b Broadcast) bool { return !b.Lease.Free(holder, now) }), damaged, err
}

// listed returns the broadcasts whose ids are the keys of a bucket, with what
// each one's value says, and the ids of those that cannot be read.
func (j *BoltJournal) listed(doing string, bucket []byte, with func(b *Broadcast, value []byte) error) (list []Broadcast, damaged []string, err error) {
	err = boltfile.View(j.db, func(tx *bbolt.Tx) error {
		return tx.Bucket(bucket).ForEach(func(key, value []byte) error {
			b, err := read(tx, key)
			if err = cmp.Or(err, with(&b, value)); err != nil {
				damaged = append(damaged, string(key))
			} else {
				list = append(list, b)
			}
			return nil
		})
	})
	return list, damaged, wrap(doing, err)
}

// Topic returns the broadcasts of a topic.
func (j *BoltJournal) Topic(_ context.Context, header string) (list []Broadcast, err error) {
	err = boltfile.View(j.db, func(tx *bbolt.Tx) error {
		c := tx.Bucket(bucketTopics).Cursor()
		for k, _ := c.Seek([]byte(header)); bytes.HasPrefix(k, []byte(header)); k, _ = c.Next() {
			if b, err := read(tx, k[len(header):]); err == nil { // one that is damaged must not stop the others
				list = append(list, b)
			}
		}
		return nil
	})
	return list, wrap("topic", err)
}

// Open counts the open rows of a broadcast. It reads keys alone: a million take
// some tenths of a second.
func (j *BoltJournal) Open(_ context.Context, id string) (open map[HostID]int, err error) {
	err = boltfile.View(j.db, func(tx *bbolt.Tx) error {
		open = openOf(tx, id)
		return nil
	})
	return open, wrap("open rows", err)
}

func openOf(tx *bbolt.Tx, id string) map[HostID]int {
	open, c := map[HostID]int{}, tx.Bucket(bucketOpen).Cursor()
	for k, _ := c.Seek([]byte(id)); isTurn(k, id); k, _ = c.Next() {
		open[turnOf(k, id).Host]++
	}
	return open
}

// Uncalled returns the broadcasts whose callback is not over.
func (j *BoltJournal) Uncalled(context.Context) (list []Broadcast, damaged []string, err error) {
	return j.listed("uncalled", bucketCallbacks, func(b *Broadcast, value []byte) error {
		var url string
		err := boltfile.Unseal(value, &url)
		b.Callback = belfry.StoredCallback(url)
		return err
	})
}

// Called forgets a callback. Those that are over at one time share an fsync.
func (j *BoltJournal) Called(_ context.Context, id string) error {
	return wrap("called", j.db.Batch(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketCallbacks).Delete([]byte(id))
	}))
}

func putCallback(tx *bbolt.Tx, l Launch) error {
	if l.Callback.Reveal() == "" {
		return nil
	}
	value, err := boltfile.Seal(l.Callback.Reveal())
	if err != nil {
		return err
	}
	return tx.Bucket(bucketCallbacks).Put([]byte(l.ID), value)
}

// Turns returns the first in the line of one push service.
func (j *BoltJournal) Turns(_ context.Context, id string, host HostID, limit int) (rows []OpenRow, err error) {
	err = boltfile.View(j.db, func(tx *bbolt.Tx) error {
		c := tx.Bucket(bucketOpen).Cursor()
		for k, v := c.Seek(turnKey(id, Turn{Host: host})); isTurn(k, id) && len(rows) < limit; k, v = c.Next() {
			o := OpenRow{Turn: turnOf(k, id)}
			if o.Host != host {
				break
			}
			if len(v) > 0 && boltfile.Unseal(v, &o.Try) != nil {
				return damaged(id)
			}
			rows = append(rows, o)
		}
		return nil
	})
	return rows, wrap("turns", err)
}

func turnKey(id string, t Turn) []byte {
	k := binary.BigEndian.AppendUint32([]byte(id), uint32(t.Host))
	k = binary.BigEndian.AppendUint64(k, uint64(t.Next))
	return binary.BigEndian.AppendUint64(k, uint64(t.At))
}

const turnSize = 4 + 8 + 8 // octets of a turn in a key

func isTurn(k []byte, id string) bool {
	return len(k) == len(id)+turnSize && string(k[:len(id)]) == id
}

func turnOf(k []byte, id string) Turn {
	k = k[len(id):]
	return Turn{HostID(binary.BigEndian.Uint32(k)), int64(binary.BigEndian.Uint64(k[4:])), belfry.Position(binary.BigEndian.Uint64(k[12:]))}
}

// putRows writes open rows in the order of their keys, which is what bbolt is
// quick at, and removes all of what has ended.
func putRows(tx *bbolt.Tx, c Change) error {
	bucket := tx.Bucket(bucketOpen)
	for _, turn := range slices.SortedFunc(maps.Keys(c.Rows), compareTurns) {
		key, try := turnKey(c.ID, turn), c.Rows[turn]
		if try == nil {
			if err := bucket.Delete(key); err != nil {
				return err
			}
			continue
		}
		var value []byte
		if *try != (Try{}) {
			var err error
			if value, err = boltfile.Seal(try); err != nil {
				return err
			}
		}
		if err := bucket.Put(key, value); err != nil {
			return err
		}
	}
	if !c.Ended() {
		return nil
	}
	return removeTurns(bucket, c.ID)
}

// removeTurns removes all open rows of a broadcast, some thousands at a time. To
// seek the first one again after each would take an hour for a million: bbolt
// keeps pages that were emptied until the commit, and looks through all of them.
func removeTurns(bucket *bbolt.Bucket, id string) error {
	for from := []byte(id); from != nil; {
		var keys [][]byte
		cursor := bucket.Cursor()
		k, _ := cursor.Seek(from)
		for ; isTurn(k, id) && len(keys) < 4096; k, _ = cursor.Next() {
			keys = append(keys, bytes.Clone(k))
		}
		if from = nil; isTurn(k, id) {
			from = bytes.Clone(k)
		}
		for _, key := range keys {
			if err := bucket.Delete(key); err != nil {
				return err
			}
		}
	}
	return nil
}

func compareTurns(a, b Turn) int {
	return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.Next, b.Next), cmp.Compare(a.At, b.At))
}

// stored is a Launch with what operators never see.
type stored struct {
	Launch
	Until       belfry.Position `json:"until"`
	CallbackURL string          `json:"callbackURL,omitempty"` // until the end
}

// storedProgress is a Progress with the course that operators never see.
type storedProgress struct {
	Progress
	Course *Course `json:"course"`
}

func putLaunch(tx *bbolt.Tx, l Launch) error {
	value, err := boltfile.Seal(stored{l, l.Until, l.Callback.Reveal()})
	if err != nil {
		return err
	}
	return tx.Bucket(bucketBroadcasts).Put([]byte(l.ID), value)
}

func putTopic(tx *bbolt.Tx, l Launch) error {
	if key := topicKey(l); key != nil {
		return tx.Bucket(bucketTopics).Put(key, nil)
	}
	return nil
}

const headerSize = 32 // octets of a Topic header

// topicKey is where a broadcast stands among those of its topic; nil without one.
func topicKey(l Launch) []byte {
	if header := l.Message.TopicHeader(); header != "" {
		return []byte(header + l.ID)
	}
	return nil
}

func putProgress(tx *bbolt.Tx, b Broadcast) error {
	value, err := boltfile.Seal(storedProgress{b.Progress, &b.Course})
	if err != nil {
		return err
	}
	if err := tx.Bucket(bucketProgress).Put([]byte(b.ID), value); err != nil {
		return err
	}
	if b.Ended() {
		return tx.Bucket(bucketRunning).Delete([]byte(b.ID))
	}
	return tx.Bucket(bucketRunning).Put([]byte(b.ID), nil)
}

func read(tx *bbolt.Tx, id []byte) (Broadcast, error) {
	launch, progress := tx.Bucket(bucketBroadcasts).Get(id), tx.Bucket(bucketProgress).Get(id)
	if launch == nil && progress == nil {
		return Broadcast{}, unknown()
	}
	var s stored
	var p storedProgress
	if errors.Join(boltfile.Unseal(launch, &s), boltfile.Unseal(progress, &p)) != nil {
		return Broadcast{}, damaged(string(id))
	}
	if p.Course == nil {
		p.Course = &Course{Handed: unknownCourse}
	}
	s.Launch.Until = s.Until
	if s.CallbackURL != "" {
		s.Callback = belfry.StoredCallback(s.CallbackURL)
	}
	return Broadcast{s.Launch, p.Progress, *p.Course}, nil
}

func unknown() error {
	return &belfry.Error{Kind: belfry.ErrNotFound, Code: "not-found", Text: "no such broadcast"}
}

func damaged(id string) error {
	return &belfry.Error{Kind: belfry.ErrCorrupt, Code: "database-damaged", Where: "broadcast " + id,
		Text: "is damaged in the database", Hint: "keep a copy of the file as it is, and restore it from a backup"}
}

// wrap names the room; a full disk keeps the words that say what to do.
func wrap(doing string, err error) error {
	var told *belfry.Error
	if err = boltfile.Explain(err); err == nil || errors.As(err, &told) {
		return err
	}
	return fmt.Errorf("broadcasts: %s: %w", doing, err)
}
