package receipts

import (
	"encoding/binary"
	"errors"
	"time"

	"go.etcd.io/bbolt"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/internal/boltfile"
)

// Buckets of this package, in the house's one bbolt file. Schema 1.
//
//	receipts
//	    key    id of a message
//	    value  version, CRC-32C, JSON of Counts
//	receipts.totals
//	    key    "a", of all messages; "c" channel, of those to it
//	    value  version, CRC-32C, JSON of Counts, without actions
//	receipts.seen
//	    key    8-byte time in milliseconds until which the message is counted, its id,
//	           8-byte number of a block of rows, all big-endian
//	    value  an octet for each of the block's 256 rows, with a bit for each kind
//
// Counts of a message stay as long as its broadcast does, which nothing removes.
// Rows have positions that follow one another and are never given out again, so
// that a million of them take a megabyte. What is over comes first in
// receipts.seen, and is cleared away as new receipts come. It has no checksum: a
// bit that flipped on the disk is one row that counts twice, or not.
var (
	bucketCounts = []byte("receipts")
	bucketTotals = []byte("receipts.totals")
	bucketSeen   = []byte("receipts.seen")
)

const (
	blockRows = 256 // octets of a value in receipts.seen

	// countedFor is how long after its deadline a message is counted: a browser
	// shows what its push service held until then, and says so once it is online.
	countedFor = 7 * 24 * time.Hour

	// clearedAtOnce bounds what one commit clears away: a message to a million
	// rows has 4000 blocks.
	clearedAtOnce = 4096
)

// until is when the message is not counted any more.
func (m Message) until() time.Time { return m.Deadline.Add(countedFor).Truncate(time.Millisecond) }

func (m Message) blockKey(row belfry.Position) []byte {
	k := binary.BigEndian.AppendUint64(nil, uint64(m.until().UnixMilli()))
	return binary.BigEndian.AppendUint64(append(k, m.ID...), uint64(row)/blockRows)
}

const totalAll = "a"

func totalOf(channel string) string { return "c" + channel }

// A sheet is what one transaction has read and will write.
type sheet struct {
	tx     *bbolt.Tx
	now    time.Time
	counts map[string]*Counts // of messages
	totals map[string]*Counts
	blocks map[string][]byte
}

func newSheet(tx *bbolt.Tx, now time.Time) *sheet {
	return &sheet{tx, now, map[string]*Counts{}, map[string]*Counts{}, map[string][]byte{}}
}

// book counts a receipt, unless it was counted or comes too late.
func (s *sheet) book(r Receipt) error {
	if !s.now.Before(r.until()) || !s.first(r) {
		return nil
	}
	c, err := s.held(s.counts, bucketCounts, r.ID)
	if err != nil {
		return err
	}
	c.add(r.Kind)
	if r.Kind == Clicked {
		c.press(r.Action)
	}
	names := []string{totalAll}
	for _, channel := range r.Channels {
		names = append(names, totalOf(channel))
	}
	for _, name := range names {
		total, err := s.held(s.totals, bucketTotals, name)
		if err != nil {
			return err
		}
		total.add(r.Kind)
	}
	return nil
}

// first reports whether a receipt is the first of its row, message and kind, and
// remembers it.
func (s *sheet) first(r Receipt) bool {
	if r.Row == 0 {
		return true
	}
	key := r.blockKey(r.Row)
	block, held := s.blocks[string(key)]
	if !held {
		block = make([]byte, blockRows)
		copy(block, s.tx.Bucket(bucketSeen).Get(key))
		s.blocks[string(key)] = block
	}
	row, bit := &block[r.Row%blockRows], r.Kind.bit()
	if *row&bit != 0 {
		return false
	}
	*row |= bit
	return true
}

// held is a record as this transaction will write it. One that is damaged begins
// anew: it must not keep all others from being counted.
func (s *sheet) held(in map[string]*Counts, bucket []byte, key string) (*Counts, error) {
	if c, there := in[key]; there {
		return c, nil
	}
	c, err := countsOf(s.tx, bucket, key)
	if err != nil && !errors.Is(err, belfry.ErrCorrupt) {
		return nil, err
	}
	in[key] = &c
	return &c, nil
}

// write puts all where it belongs.
func (s *sheet) write() error {
	for key, block := range s.blocks {
		if err := s.tx.Bucket(bucketSeen).Put([]byte(key), block); err != nil {
			return err
		}
	}
	return errors.Join(putCounts(s.tx, bucketCounts, s.counts), putCounts(s.tx, bucketTotals, s.totals))
}

// clear forgets who was counted for messages that are not counted any more.
func (s *sheet) clear() error {
	c := s.tx.Bucket(bucketSeen).Cursor()
	var over [][]byte
	for k, _ := c.First(); k != nil && len(over) < clearedAtOnce && !s.now.Before(untilOf(k)); k, _ = c.Next() {
		over = append(over, append([]byte{}, k...))
	}
	for _, k := range over {
		if err := s.tx.Bucket(bucketSeen).Delete(k); err != nil {
			return err
		}
	}
	return nil
}

// untilOf reads the time in a key of receipts.seen. One that has none is over.
func untilOf(key []byte) time.Time {
	if len(key) < 8 {
		return time.Time{}
	}
	return time.UnixMilli(int64(binary.BigEndian.Uint64(key)))
}

func putCounts(tx *bbolt.Tx, bucket []byte, all map[string]*Counts) error {
	for key, c := range all {
		value, err := boltfile.Seal(c)
		if err != nil {
			return err
		}
		if err := tx.Bucket(bucket).Put([]byte(key), value); err != nil {
			return err
		}
	}
	return nil
}

// countsOf reads a record. There are none of what nobody has said anything of.
func countsOf(tx *bbolt.Tx, bucket []byte, key string) (c Counts, err error) {
	value := tx.Bucket(bucket).Get([]byte(key))
	if value == nil {
		return c, nil
	}
	if err := boltfile.Unseal(value, &c); err != nil {
		return Counts{}, err
	}
	return c, nil
}
