package boltfile

import (
	"encoding/binary"
	"encoding/json"
	"hash/crc32"

	"github.com/belfry-push/belfry"
)

// recordVersion is the first octet of every record that Seal writes.
const recordVersion = 1

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Seal writes a record that few rows need and people may want to read: version,
// CRC-32C, JSON. Rows by the million have a binary form of their own.
func Seal(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
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
	return json.Unmarshal(record[5:], v)
}
