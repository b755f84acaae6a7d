package subscriptions

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/belfry-push/belfry"
)

// A record:
//
//	1 octet   version: 1, or 2 for a row of which something is remembered
//	4 octets  CRC-32C, big-endian, of the row's 8-octet key, the version and the fields
//	fields    each a uvarint length and that many octets:
//	          id, endpoint, p256dh, auth, key id, secret hash, user, locale, time zone,
//	          origin, expires, created, seen, flags, in version 2 memory, then one field for each channel
//
// A time is empty for none, or 8 octets of seconds since 1970 and 4 of
// nanoseconds. Flags are one octet: 1 means imported. Memory is 10 octets: marks
// (1 wrong key, 2 constrained, 4 suspect), on how many days it was refused, and as
// 4 octets each the last of these days and the first unreached one. The key is part of the
// sum so that a record under another row's key is noticed. A row has one record
// and no other: what encode would not write is not read either, since the next
// change of the row would lose it, as it would a flag that is not known here.
const (
	recordVersion   = 1
	recordWithMem   = 2
	recordHead      = 5
	flagImported    = 1
	memorySize      = 10
	markWrongKey    = 1
	markConstrained = 2
	markSuspect     = 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func recordSum(seq uint64, version byte, fields []byte) uint32 {
	var head [9]byte
	binary.BigEndian.PutUint64(head[:], seq)
	head[8] = version
	return crc32.Update(crc32.Checksum(head[:], castagnoli), castagnoli, fields)
}

// encode returns the record of s.
func encode(s *belfry.Subscription) []byte {
	b := make([]byte, recordHead, 512)
	b[0] = versionOf(s)
	b = appendField(b, s.ID)
	b = appendField(b, s.Endpoint.Reveal())
	b = appendField(b, s.P256dh[:])
	b = appendField(b, s.Auth[:])
	b = appendField(b, s.KeyID)
	b = appendField(b, s.Secret[:])
	for _, text := range []string{s.User, s.Locale, s.TimeZone, s.Origin} {
		b = appendField(b, text)
	}
	for _, t := range []time.Time{s.Expires, s.Created, s.Seen} {
		b = appendTime(b, t)
	}
	var flags byte
	if s.Imported {
		flags |= flagImported
	}
	b = appendField(b, []byte{flags})
	if s.Memory != (belfry.Memory{}) {
		b = appendMemory(b, s.Memory)
	}
	for _, c := range s.Channels {
		b = appendField(b, c)
	}
	binary.BigEndian.PutUint32(b[1:], recordSum(uint64(s.Seq), b[0], b[recordHead:]))
	return b
}

func versionOf(s *belfry.Subscription) byte {
	if s.Memory == (belfry.Memory{}) {
		return recordVersion
	}
	return recordWithMem
}

func appendMemory(b []byte, m belfry.Memory) []byte {
	var marks byte
	for _, mark := range []struct {
		set bool
		bit byte
	}{{m.WrongKey, markWrongKey}, {m.Constrained, markConstrained}, {m.Suspect, markSuspect}} {
		if mark.set {
			marks |= mark.bit
		}
	}
	b = append(b, memorySize, marks, byte(m.RefusedDays))
	b = binary.BigEndian.AppendUint32(b, uint32(m.Refused))
	return binary.BigEndian.AppendUint32(b, uint32(m.Unreached))
}

func appendField[T string | []byte](b []byte, v T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(v))), v...)
}

func appendTime(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return append(b, 0)
	}
	b = append(b, 12)
	b = binary.BigEndian.AppendUint64(b, uint64(t.Unix()))
	return binary.BigEndian.AppendUint32(b, uint32(t.Nanosecond()))
}

// decode reads the record of the row seq. The result shares no memory with b,
// which belongs to a transaction.
func decode(seq uint64, b []byte) (belfry.Subscription, error) {
	s := belfry.Subscription{Seq: belfry.Position(seq)}
	if len(b) < recordHead || b[0] != recordVersion && b[0] != recordWithMem {
		return belfry.Subscription{}, damaged(seq)
	}
	if recordSum(seq, b[0], b[recordHead:]) != binary.BigEndian.Uint32(b[1:]) {
		return belfry.Subscription{}, damaged(seq)
	}
	r := reader{rest: b[recordHead:]}
	s.ID = r.text()
	s.Endpoint = belfry.StoredEndpoint(r.text())
	r.fill(s.P256dh[:])
	r.fill(s.Auth[:])
	s.KeyID = r.text()
	r.fill(s.Secret[:])
	s.User, s.Locale, s.TimeZone, s.Origin = r.text(), r.text(), r.text(), r.text()
	s.Expires, s.Created, s.Seen = r.time(), r.time(), r.time()
	var flags [1]byte
	r.fill(flags[:])
	r.bad = r.bad || flags[0]&^flagImported != 0
	s.Imported = flags[0]&flagImported != 0
	if b[0] == recordWithMem {
		s.Memory = r.memory()
	}
	for len(r.rest) > 0 && !r.bad {
		s.Channels = append(s.Channels, r.text())
	}
	if r.bad {
		return belfry.Subscription{}, damaged(seq)
	}
	return s, nil
}

func damaged(seq uint64) error {
	return &belfry.Error{Kind: belfry.ErrCorrupt, Code: "damaged",
		Text: fmt.Sprintf("the record of subscription number %d is damaged", seq), Hint: "keep a copy of the file as it is, and restore it from a backup"}
}

// A reader takes fields off the front of a record. After the first field that
// does not fit, all are empty and bad is set.
type reader struct {
	rest []byte
	bad  bool
}

func (r *reader) field() []byte {
	n, size := binary.Uvarint(r.rest)
	padded := size > 1 && r.rest[size-1] == 0 // a length that a shorter uvarint would hold
	if r.bad || size <= 0 || padded || n > uint64(len(r.rest)-size) {
		r.bad = true
		return nil
	}
	f := r.rest[size : size+int(n)]
	r.rest = r.rest[size+int(n):]
	return f
}

func (r *reader) text() string { return string(r.field()) }

func (r *reader) fill(dst []byte) {
	f := r.field()
	if len(f) != len(dst) {
		r.bad = true
		return
	}
	copy(dst, f)
}

func (r *reader) memory() belfry.Memory {
	var f [memorySize]byte
	r.fill(f[:])
	m := belfry.Memory{WrongKey: f[0]&markWrongKey != 0, Constrained: f[0]&markConstrained != 0, Suspect: f[0]&markSuspect != 0, RefusedDays: int(f[1]),
		Refused: belfry.Day(binary.BigEndian.Uint32(f[2:])), Unreached: belfry.Day(binary.BigEndian.Uint32(f[6:]))}
	r.bad = r.bad || f[0]&^(markWrongKey|markConstrained|markSuspect) != 0 || m == (belfry.Memory{}) || m.Check() != nil
	return m
}

func (r *reader) time() time.Time {
	f := r.field()
	switch len(f) {
	case 0:
		return time.Time{}
	case 12:
		sec, nsec := binary.BigEndian.Uint64(f), binary.BigEndian.Uint32(f[8:])
		if t := time.Unix(int64(sec), int64(nsec)).UTC(); nsec < 1e9 && !t.IsZero() {
			return t
		}
	}
	r.bad = true
	return time.Time{}
}
