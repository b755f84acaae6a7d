package boltfile_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"hash/crc32"
	"testing"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/internal/boltfile"
)

// Whatever stands in the file, it is what Seal wrote or it is refused, also with
// one bit of it flipped; and what Seal was given it gives back to the octet: an
// operator's data is measured before it is written, and must not grow in here.
func FuzzUnseal(f *testing.F) {
	for _, text := range []string{`{"a":"<b>&\u2028"}`, "[1, 2.50,\t-0e9]", `"\ud800"`, "null", "\"\u2028\xff\"", "{}{}", "12345678901234567890", ""} {
		f.Add([]byte(text), uint32(0))
		f.Add([]byte(text), uint32(len(text)*8+39))
	}
	f.Fuzz(func(t *testing.T, text []byte, bit uint32) {
		var v json.RawMessage
		boltfile.Unseal(text, &v) // as it is, with a sum that is not right
		sum := crc32.Checksum(text, crc32.MakeTable(crc32.Castagnoli))
		record := append(binary.BigEndian.AppendUint32([]byte{1}, sum), text...)
		err := boltfile.Unseal(record, &v)
		if (err == nil) != json.Valid(text) || err != nil && !errors.Is(err, belfry.ErrCorrupt) {
			t.Fatalf("%q: %v", text, err)
		}
		if err == nil {
			sealed(t, text)
		}
		bit %= uint32(8 * len(record))
		record[bit/8] ^= 1 << (bit % 8)
		if err := boltfile.Unseal(record, &v); !errors.Is(err, belfry.ErrCorrupt) {
			t.Fatalf("%q with bit %d flipped: %v", text, bit, err)
		}
	})
}

// sealed checks that a value which others wrote goes through the file unchanged.
func sealed(t *testing.T, text []byte) {
	var want bytes.Buffer
	if err := json.Compact(&want, text); err != nil {
		t.Fatal(err)
	}
	record, err := boltfile.Seal(json.RawMessage(text))
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	var got json.RawMessage
	if err := boltfile.Unseal(record, &got); err != nil || !bytes.Equal(got, want.Bytes()) {
		t.Fatalf("%q came back as %q, %v", text, got, err)
	}
}
