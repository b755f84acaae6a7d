package live

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"unique"

	"go.etcd.io/bbolt"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/internal/boltfile"
)

// Buckets of this package, in the house's one bbolt file. Schema 1.
//
//	live
//	    key    "epoch", "floor", "size"
//	    value  text; number of the last event that was removed; octets of all records: 8-byte big-endian
//	live.events
//	    key    8-byte big-endian number, from 1, in the order of publishing
//	    value  version, CRC-32C, JSON of a record
//	live.by_group
//	    key    group, 0x00, number   no group holds a NUL, so one Seek finds what is new to it
//	    value  empty
//	live.by_message
//	    key    message id, so that publishing twice is publishing once
//	    value  number
//
// The last two are derived: they are written in the same transaction as events,
// and can be made anew from it. The head of the log is the sequence of
// live.events; what lies between floor and head is there without a hole.
var (
	stateName    = []byte("live")
	eventsName   = []byte("live.events")
	groupsName   = []byte("live.by_group")
	messagesName = []byte("live.by_message")

	epochKey = []byte("epoch")
	floorKey = []byte("floor")
	sizeKey  = []byte("size")
)

// A group is whom an event is for, and what a page listens to: everybody, a
// channel, a user. A million pages hold eight octets for each of theirs.
type group = unique.Handle[string]

var everybody = unique.Make("a")

func channelGroup(name string) group { return unique.Make("c" + name) }
func userGroup(name string) group    { return unique.Make("u" + name) }

// groupsOf is who hears an event.
func groupsOf(a belfry.Audience) (all []group) {
	if a.All {
		all = append(all, everybody)
	}
	for _, c := range a.Channels {
		all = append(all, channelGroup(c))
	}
	for _, u := range a.Users {
		all = append(all, userGroup(u))
	}
	return all
}

func groupKey(g group, seq uint64) []byte {
	return binary.BigEndian.AppendUint64(append([]byte(g.Value()), 0), seq)
}

func seqKey(seq uint64) []byte { return binary.BigEndian.AppendUint64(nil, seq) }

func number(v []byte) uint64 {
	if len(v) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(v)
}

// tables are the buckets as one transaction sees them.
type tables struct{ state, events, groups, messages *bbolt.Bucket }

func openTables(tx *bbolt.Tx) tables {
	t := tables{tx.Bucket(stateName), tx.Bucket(eventsName), tx.Bucket(groupsName), tx.Bucket(messagesName)}
	// Keys are appended, to a bucket or to one group's part of it, and message ids
	// ascend; bbolt splits a full page in the middle unless it is told.
	for _, b := range []*bbolt.Bucket{t.events, t.groups, t.messages} {
		b.FillPercent = 0.95
	}
	return t
}

func (t tables) bounds() bounds {
	return bounds{string(t.state.Get(epochKey)), number(t.state.Get(floorKey)), t.events.Sequence()}
}

// event reads one record. One that is not there between floor and head is damage too.
func (t tables) event(seq uint64) (record, error) {
	var r record
	if err := boltfile.Unseal(t.events.Get(seqKey(seq)), &r); err != nil {
		return r, fmt.Errorf("live: event %d: %w", seq, belfry.ErrCorrupt)
	}
	return r, nil
}

// add gives an event its number, unless its message has one.
func (t tables) add(e *entry) (isNew bool, err error) {
	if known := t.messages.Get([]byte(e.message)); known != nil {
		e.seq = number(known)
		return false, nil
	}
	if e.seq, err = t.events.NextSequence(); err != nil {
		return false, err
	}
	if err := t.events.Put(seqKey(e.seq), e.record); err != nil {
		return false, err
	}
	if err := t.grow(len(e.record)); err != nil {
		return false, err
	}
	return true, t.index(e.seq, e.message, e.groups)
}

// index writes what is derived from an event.
func (t tables) index(seq uint64, message string, groups []group) error {
	for _, g := range groups {
		if err := t.groups.Put(groupKey(g, seq), nil); err != nil {
			return err
		}
	}
	return t.messages.Put([]byte(message), seqKey(seq))
}

// remove takes the oldest event away. Of a damaged one the entries stay, which
// lead nowhere from then on; Mend clears them.
func (t tables) remove(seq uint64) error {
	r, err := t.event(seq)
	if err == nil {
		for _, g := range groupsOf(r.Audience) {
			if err := t.groups.Delete(groupKey(g, seq)); err != nil {
				return err
			}
		}
		if err := t.messages.Delete([]byte(r.ID)); err != nil {
			return err
		}
	}
	if err := t.grow(-len(t.events.Get(seqKey(seq)))); err != nil {
		return err
	}
	if err := t.events.Delete(seqKey(seq)); err != nil {
		return err
	}
	return t.state.Put(floorKey, seqKey(seq))
}

func (t tables) grow(by int) error {
	now := max(0, int64(number(t.state.Get(sizeKey)))+int64(by))
	return t.state.Put(sizeKey, seqKey(uint64(now)))
}

// A finger points to the next event of one group.
type finger struct {
	cursor *bbolt.Cursor
	prefix []byte
	seq    uint64 // 0 when there is none
}

func (t tables) finger(g group, after uint64) *finger {
	f := &finger{cursor: t.groups.Cursor(), prefix: append([]byte(g.Value()), 0)}
	k, _ := f.cursor.Seek(groupKey(g, after+1))
	f.point(k)
	return f
}

func (f *finger) point(k []byte) {
	f.seq = 0
	if bytes.HasPrefix(k, f.prefix) {
		f.seq = number(k[len(f.prefix):])
	}
}

func (f *finger) next() {
	k, _ := f.cursor.Next()
	f.point(k)
}

// after yields the numbers of the events behind a position that any of groups
// hears, in order, each once. It costs a seek for each group and a step for each
// event, however long the log is.
func (t tables) after(seq uint64, groups []group) func(yield func(uint64) bool) {
	return func(yield func(uint64) bool) {
		fingers := make([]*finger, 0, len(groups))
		for _, g := range groups {
			fingers = append(fingers, t.finger(g, seq))
		}
		for {
			least := uint64(0)
			for _, f := range fingers {
				if f.seq != 0 && (least == 0 || f.seq < least) {
					least = f.seq
				}
			}
			if least == 0 || !yield(least) {
				return
			}
			for _, f := range fingers {
				if f.seq == least {
					f.next()
				}
			}
		}
	}
}

// before yields the numbers of the events that any of groups hears from the newest
// back, each once.
func (t tables) before(groups []group) func(yield func(uint64) bool) {
	return func(yield func(uint64) bool) {
		fingers := make([]*finger, 0, len(groups))
		for _, g := range groups {
			fingers = append(fingers, t.lastFinger(g))
		}
		for {
			most := uint64(0)
			for _, f := range fingers {
				most = max(most, f.seq)
			}
			if most == 0 || !yield(most) {
				return
			}
			for _, f := range fingers {
				if f.seq == most {
					k, _ := f.cursor.Prev()
					f.point(k)
				}
			}
		}
	}
}

// lastFinger points to the newest event of a group.
func (t tables) lastFinger(g group) *finger {
	f := &finger{cursor: t.groups.Cursor(), prefix: append([]byte(g.Value()), 0)}
	k, _ := f.cursor.Seek(append([]byte(g.Value()), 1)) // behind all of its keys, and before another group's
	if k == nil {
		k, _ = f.cursor.Last()
	} else {
		k, _ = f.cursor.Prev()
	}
	f.point(k)
	return f
}
