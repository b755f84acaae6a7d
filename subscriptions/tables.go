package subscriptions

import (
	"encoding/binary"
	"errors"
	"maps"
	"slices"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/internal/boltfile"
	"go.etcd.io/bbolt"
)

// Buckets of this package, in the house's one bbolt file. Schema 1.
//
//	subscriptions
//	    key    8-byte big-endian sequence, in order of creation
//	    value  version, CRC-32C, length-prefixed fields of belfry.Subscription
//	subscriptions.by_id, .by_endpoint
//	    key    public id; SHA-256 of the endpoint, so saving twice is saving once
//	    value  sequence
//	    the bucket's own sequence, of .by_endpoint: from which row on some may be missing in it (tail.go);
//	           0 when none is
//	subscriptions.by_channel, .by_user
//	    key    channel or user, 0x00, sequence   neither holds a NUL, so one Seek finds the first member
//	    value  empty
//	subscriptions.counts
//	    key    "a", all rows; "b", those that no import brought; "c" channel, "k" VAPID key id, "u" user, their rows;
//	           "d" user, those of the user's rows that a browser registered; "m" mark, rows that have it in their memory
//	    value  8-byte big-endian number, never zero
//
// All but the first are derived: they are written in the same transaction as
// subscriptions, but for the endpoints of new rows, and can be made anew from it.
var (
	rowsName  = []byte("subscriptions")
	idsName   = []byte("subscriptions.by_id")
	endsName  = []byte("subscriptions.by_endpoint")
	chansName = []byte("subscriptions.by_channel")
	usersName = []byte("subscriptions.by_user")
	countName = []byte("subscriptions.counts")

	derivedNames = [][]byte{idsName, endsName, chansName, usersName, countName}
)

// tables are the buckets as one transaction sees them.
type tables struct {
	rows, byID, byEndpoint, byChannel, byUser, counts *bbolt.Bucket

	// held are tallies that are written when all rows are, since a thousand rows
	// of one channel are one number; nil where each is written at once.
	held map[string]uint64

	// full is why no row may be added, asked for with the first of many: nothing
	// that is written before the commit changes it, and it takes a system call.
	full error

	// tail is where rows are looked for that are not in byEndpoint yet.
	tail *tail
}

func openTables(tx *bbolt.Tx) tables {
	t := tables{
		rows: tx.Bucket(rowsName), byID: tx.Bucket(idsName), byEndpoint: tx.Bucket(endsName),
		byChannel: tx.Bucket(chansName), byUser: tx.Bucket(usersName), counts: tx.Bucket(countName),
	}
	// Keys are appended, to a bucket or to one channel's part of it, and bbolt
	// splits a full page in the middle unless it is told; a tenth is left for
	// records that grow by a channel. Only hashes come in no order.
	for _, b := range []*bbolt.Bucket{t.rows, t.byID, t.byChannel, t.byUser} {
		b.FillPercent = 0.9
	}
	return t
}

func makeTables(db *boltfile.File) error {
	return boltfile.MakeBuckets(db, append(derivedNames, rowsName)...)
}

// room refuses new rows in a file that is nearly full, so that there is always
// room to leave.
func (t tables) room() error {
	if t.held != nil {
		return t.full
	}
	return boltfile.Room(t.rows.Tx())
}

func seqKey(seq uint64) []byte { return binary.BigEndian.AppendUint64(nil, seq) }

// row reads one row. One that an index names and that is not there is damage too.
func (t tables) row(seq uint64) (belfry.Subscription, error) {
	return decode(seq, t.rows.Get(seqKey(seq)))
}

// find reads the row that index holds under key.
func (t tables) find(index *bbolt.Bucket, key []byte) (belfry.Subscription, error) {
	v := index.Get(key)
	if v == nil {
		return belfry.Subscription{}, belfry.ErrNotFound
	}
	if len(v) != 8 {
		return belfry.Subscription{}, damaged(0)
	}
	return t.row(binary.BigEndian.Uint64(v))
}

func (t tables) byHash(e belfry.Endpoint) (belfry.Subscription, error) {
	hash := e.Hash()
	row, err := t.find(t.byEndpoint, hash[:])
	if errors.Is(err, belfry.ErrNotFound) {
		return t.late(e, hash)
	}
	return row, err
}

// add gives s the next place in the order and saves it.
func (t tables) add(s *belfry.Subscription) error {
	seq, err := t.rows.NextSequence()
	if err != nil {
		return err
	}
	s.Seq = belfry.Position(seq)
	return t.save(nil, s)
}

// save replaces the row old by now, and all that is derived from the one by
// what is derived from the other. Either may be nil.
//
// What was learnt of another endpoint or key says nothing of the one that is now.
func (t tables) save(old, now *belfry.Subscription) error {
	if old != nil && now != nil && !samePlace(*old, *now) {
		now.Memory = belfry.Memory{}
	}
	if now != nil {
		if err := t.rows.Put(seqKey(uint64(now.Seq)), encode(now)); err != nil {
			return err
		}
	} else if err := t.rows.Delete(seqKey(uint64(old.Seq))); err != nil {
		return err
	}
	return t.derive(old, now)
}

// derive brings the derived buckets from old to now.
func (t tables) derive(old, now *belfry.Subscription) error {
	was, is := t.entries(old), t.entries(now)
	for _, e := range was {
		if !slices.ContainsFunc(is, e.same) {
			if err := e.index.Delete([]byte(e.key)); err != nil {
				return err
			}
		}
	}
	for _, e := range is {
		if !slices.ContainsFunc(was, e.same) {
			if err := t.put(e, old == nil); err != nil {
				return err
			}
		}
	}
	return t.count(tallies(old), tallies(now))
}

// put adds an entry, of a row that is new or not.
func (t tables) put(e entry, isNew bool) error {
	if isNew && e.index == t.byEndpoint {
		return t.leave(e)
	}
	return e.index.Put([]byte(e.key), e.value)
}

// An entry is one key of a derived bucket.
type entry struct {
	index *bbolt.Bucket
	key   string
	value []byte
}

func (e entry) same(o entry) bool { return e.index == o.index && e.key == o.key }

func (t tables) entries(s *belfry.Subscription) []entry {
	if s == nil {
		return nil
	}
	seq, hash := seqKey(uint64(s.Seq)), s.Endpoint.Hash()
	all := make([]entry, 0, 3+len(s.Channels))
	all = append(all, entry{t.byID, s.ID, seq}, entry{t.byEndpoint, string(hash[:]), seq})
	for _, c := range s.Channels {
		all = append(all, entry{t.byChannel, c + "\x00" + string(seq), nil})
	}
	if s.User != "" {
		all = append(all, entry{t.byUser, s.User + "\x00" + string(seq), nil})
	}
	return all
}

const (
	tallyAll     = "a"
	tallyBrowser = "b" // rows that no import brought
	tallyChannel = "c"
	tallyKey     = "k"
	tallyUser    = "u"
	tallyDevices = "d"
	tallyMark    = "m"
)

// tallies are the keys in counts under which s is counted.
func tallies(s *belfry.Subscription) []string {
	if s == nil {
		return nil
	}
	all := make([]string, 0, 5+len(s.Channels))
	all = append(all, tallyAll, tallyKey+s.KeyID)
	if !s.Imported {
		all = append(all, tallyBrowser)
	}
	for _, mark := range s.Memory.Marks() {
		all = append(all, tallyMark+mark)
	}
	for _, c := range s.Channels {
		all = append(all, tallyChannel+c)
	}
	if s.User != "" {
		all = append(all, tallyUser+s.User)
		if !s.Imported {
			all = append(all, tallyDevices+s.User)
		}
	}
	return all
}

func (t tables) count(was, is []string) error {
	for _, key := range was {
		if !slices.Contains(is, key) {
			if err := t.setTally(key, max(t.tally(key), 1)-1); err != nil {
				return err
			}
		}
	}
	for _, key := range is {
		if !slices.Contains(was, key) {
			if err := t.setTally(key, t.tally(key)+1); err != nil {
				return err
			}
		}
	}
	return nil
}

// tally reads a count. One that is damaged reads as none, and taking from none
// leaves none: a wrong count must keep nobody from leaving, and a rebuild mends it.
func (t tables) tally(key string) uint64 {
	if n, held := t.held[key]; held {
		return n
	}
	v := t.counts.Get([]byte(key))
	if len(v) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(v)
}

func (t tables) setTally(key string, n uint64) error {
	if t.held != nil {
		t.held[key] = n
		return nil
	}
	if n == 0 {
		return t.counts.Delete([]byte(key))
	}
	return t.counts.Put([]byte(key), binary.BigEndian.AppendUint64(nil, n))
}

// hold puts off the writing of tallies until settle, in the order of their keys.
func (t *tables) hold() { t.full, t.held = t.room(), map[string]uint64{} }

func (t *tables) settle() error {
	held := t.held
	t.held = nil
	for _, key := range slices.Sorted(maps.Keys(held)) {
		if err := t.setTally(key, held[key]); err != nil {
			return err
		}
	}
	return nil
}
