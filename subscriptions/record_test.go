package subscriptions

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/belfry-push/belfry"
)

// anyone returns a subscription that is different in every field each time.
func anyone(r *rand.Rand) belfry.Subscription {
	text := func(most int) string {
		b := make([]byte, r.IntN(most+1))
		for i := range b {
			b[i] = byte(r.IntN(256))
		}
		return string(b)
	}
	moment := func() time.Time {
		if r.IntN(4) == 0 {
			return time.Time{}
		}
		return time.Unix(r.Int64N(253402300800), r.Int64N(1e9)).UTC()
	}
	s := belfry.Subscription{
		Seq: belfry.Position(r.Uint64()), ID: text(26), Endpoint: belfry.StoredEndpoint(text(2048)), KeyID: text(12),
		User: text(128), Locale: text(20), TimeZone: text(40), Origin: text(100),
		Expires: moment(), Created: moment(), Seen: moment(), Imported: r.IntN(2) == 0,
	}
	if r.IntN(2) == 0 {
		s.Memory = belfry.Memory{WrongKey: r.IntN(2) == 0, Constrained: r.IntN(2) == 0, Suspect: r.IntN(2) == 0, RefusedDays: 1 + r.IntN(255), Refused: belfry.Day(1 + r.Uint32N(1<<31)), Unreached: belfry.Day(r.Uint32())}
	}
	for _, secret := range [][]byte{s.P256dh[:], s.Auth[:], s.Secret[:]} {
		copy(secret, text(2*len(secret)))
	}
	for range r.IntN(5) {
		s.Channels = append(s.Channels, text(64))
	}
	return s
}

// What is saved comes back unchanged; one octet off in a key and a browser can
// open no message any more.
func TestRecordRoundTrip(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		want := anyone(r)
		got, err := decode(uint64(want.Seq), encode(&want))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("got %+v, %v\nwant %+v", got, err, want)
		}
	}
}

// A field that is added to Subscription and forgotten here would be lost for
// every visitor at the next start.
func TestRecordHoldsEveryField(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	var s belfry.Subscription
	for range 50 { // until nothing is empty by chance
		one := reflect.ValueOf(anyone(r))
		all := reflect.ValueOf(&s).Elem()
		for i := range all.NumField() {
			if all.Field(i).IsZero() {
				all.Field(i).Set(one.Field(i))
			}
		}
	}
	got, err := decode(uint64(s.Seq), encode(&s))
	if err != nil {
		t.Fatal(err)
	}
	v := reflect.ValueOf(got)
	for i := range v.NumField() {
		if v.Field(i).IsZero() {
			t.Errorf("%s is not kept", v.Type().Field(i).Name)
		}
	}
}

// A row of which nothing is remembered is written as it was before anything could
// be, so a database of then is read and no row of it changes.
func TestRecordOfBefore(t *testing.T) {
	s := anyone(rand.New(rand.NewPCG(11, 12)))
	s.Memory = belfry.Memory{}
	b := encode(&s)
	if b[0] != 1 {
		t.Errorf("version %d", b[0])
	}
	if s.Memory.Suspect = true; encode(&s)[0] != 2 || len(encode(&s)) != len(b)+1+memorySize {
		t.Errorf("version %d of %d octets", encode(&s)[0], len(encode(&s)))
	}
}

// Any bit that flips on the disk is noticed, and so is a record that stands
// under the key of another: its messages would go to the wrong person (REL-14).
func TestRecordDamage(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	s := anyone(r)
	b := encode(&s)
	for bit := range 8 * len(b) {
		b[bit/8] ^= 1 << (bit % 8)
		if _, err := decode(uint64(s.Seq), b); !errors.Is(err, belfry.ErrCorrupt) {
			t.Fatalf("bit %d: %v", bit, err)
		}
		b[bit/8] ^= 1 << (bit % 8)
	}
	for n := range b {
		if _, err := decode(uint64(s.Seq), b[:n]); !errors.Is(err, belfry.ErrCorrupt) {
			t.Fatalf("cut to %d: %v", n, err)
		}
	}
	_, err := decode(uint64(s.Seq)+1, b)
	if !errors.Is(err, belfry.ErrCorrupt) {
		t.Errorf("under another key: %v", err)
	}
	if len(s.ID) > 3 && strings.Contains(err.Error(), s.ID) {
		t.Errorf("the error shows what the record holds: %v", err)
	}
}

// Whatever stands behind a sum that is right, decoding neither panics nor reads
// past the end; what it reads is written to the same octets again, so that
// nothing is lost by a change of something else; and with any one bit of it
// flipped it is refused.
func FuzzDecode(f *testing.F) {
	r := rand.New(rand.NewPCG(9, 10))
	for range 5 {
		s := anyone(r)
		f.Add(uint64(s.Seq), encode(&s)[recordHead:], r.Uint32())
	}
	marked := anyone(r)
	marked.Memory = belfry.Memory{WrongKey: true}
	f.Add(uint64(marked.Seq), encode(&marked)[recordHead:], r.Uint32())
	short := belfry.Subscription{Seq: 7, ID: "01j9x2v7q3m8k5n4p6r0s1t2w3", Endpoint: belfry.StoredEndpoint("https://fcm.googleapis.com/x"),
		KeyID: "key-a", User: "ann", Created: time.UnixMilli(1767323045678), Imported: true, Channels: []string{"alerts", "news"}}
	f.Add(uint64(7), encode(&short)[recordHead:], uint32(0))
	f.Add(uint64(1), []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}, uint32(0))
	f.Fuzz(func(t *testing.T, seq uint64, fields []byte, bit uint32) {
		decode(seq, fields) // as it is, with a sum that is not right
		for _, version := range []byte{recordVersion, recordWithMem} {
			b := append(make([]byte, recordHead), fields...)
			b[0] = version
			binary.BigEndian.PutUint32(b[1:], recordSum(seq, version, fields))
			s, err := decode(seq, b)
			switch {
			case err != nil && (!errors.Is(err, belfry.ErrCorrupt) || !reflect.DeepEqual(s, belfry.Subscription{})):
				t.Fatalf("refused with %v, and yet it reads %+v", err, s)
			case err == nil && !bytes.Equal(encode(&s), b):
				t.Fatalf("%x\nis written again as\n%x", b, encode(&s))
			}
			bit := bit % uint32(8*len(b))
			b[bit/8] ^= 1 << (bit % 8)
			if _, err := decode(seq, b); !errors.Is(err, belfry.ErrCorrupt) {
				t.Fatalf("bit %d is flipped: %v", bit, err)
			}
		}
	})
}
