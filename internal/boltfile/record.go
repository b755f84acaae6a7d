package boltfile

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"

	"github.com/belfry-push/belfry"
)

// recordVersion is the first octet of every record that Seal writes.
const recordVersion = 1

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Seal writes a record that few rows need and people may want to read: version,
// CRC-32C, JSON. Rows by the million have a binary form of their own.
func Seal(v any) ([]byte, error) {
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false) // it would stay in an operator's data, which is sent as it is: six octets for each "<"
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	b := bytes.TrimSuffix(text.Bytes(), []byte("\n"))
	record := binary.BigEndian.AppendUint32([]byte{recordVersion}, crc32.Checksum(b, castagnoli))
	return append(record, b...), nil
}

// Unseal reads what Seal wrote and nothing else: bbolt checks its own pages but
// not what is in them, and a bit that flipped on the disk must not become
// something that an operator believes.
func Unseal(record []byte, v any) error {
	if len(record) < 5 || record[0] != recordVersion || binary.BigEndian.Uint32(record[1:]) != crc32.Checksum(record[5:], castagnoli) {
		return belfry.ErrCorrupt
	}
	if err := json.Unmarshal(record[5:], v); err != nil {
		return fmt.Errorf("%w: %w", belfry.ErrCorrupt, err)
	}
	return nil
}
