package pushtest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"

	"github.com/belfry-push/belfry"
)

// What a strict receiver refuses (RFC 8188 §2, RFC 8291 §4).
var (
	errShort      = errors.New("too short for a header")
	errKeyID      = errors.New("bad keyid: the sender's key is not an uncompressed P-256 point")
	errRecordSize = errors.New("rs < 18")
	errTightSize  = errors.New("rs is not greater than the record (RFC 8291 §4)")
	errNoRecords  = errors.New("no records")
	errManyRecord = errors.New("too many records: a push message has exactly one")
	errTruncated  = errors.New("truncated: a record must hold a delimiter and a tag")
	errTag        = errors.New("auth tag: the record was not sealed with these keys")
	errAllZero    = errors.New("all-zero record: no delimiter")
	errDelimiter  = errors.New("bad delimiter")
)

const (
	saltSize   = 16
	fixedSize  = saltSize + 4 + 1 // what comes before the keyid (RFC 8188 §2.1)
	pointSize  = 65
	tagSize    = 16
	minRecord  = tagSize + 2 // RFC 8188 §2.1: smaller ones are invalid
	headerSize = fixedSize + pointSize
	minBody    = headerSize + 1 + tagSize // an empty plaintext: 103 octets
)

// Open decrypts the body of a push message as a browser does, and more
// strictly: exactly one record, an rs greater than it, nothing but zero octets
// behind the delimiter (WP-21..24, WP-37). key and auth are the subscription's.
func Open(body []byte, key *ecdh.PrivateKey, auth belfry.AuthSecret) ([]byte, error) {
	c, sender, err := readPush(body)
	if err != nil {
		return nil, err
	}
	shared, err := key.ECDH(sender)
	if err != nil {
		return nil, errKeyID
	}
	// RFC 8291 §3.3, §3.4: both public keys are part of the derivation, so that a
	// message for one subscription cannot be replayed to another.
	info := "WebPush: info\x00" + string(key.PublicKey().Bytes()) + string(sender.Bytes())
	ikm, err := hkdf.Key(sha256.New, shared, auth[:], info, 32)
	if err != nil {
		return nil, err
	}
	return c.open(ikm)
}

// readPush checks all of a push message that can be checked without keys, and
// returns the sender's.
func readPush(body []byte) (content, *ecdh.PublicKey, error) {
	c, err := readContent(body)
	if err != nil {
		return content{}, nil, err
	}
	if len(c.keyID) != pointSize || c.keyID[0] != 4 {
		return content{}, nil, errKeyID
	}
	sender, err := ecdh.P256().NewPublicKey(c.keyID)
	switch {
	case err != nil:
		return content{}, nil, errKeyID
	case len(c.records) == 0:
		return content{}, nil, errNoRecords
	case len(c.records) > c.recordSize:
		return content{}, nil, errManyRecord
	case len(c.records) == c.recordSize:
		return content{}, nil, errTightSize
	}
	return c, sender, nil
}

// content is a body in the aes128gcm content coding, taken apart (RFC 8188 §2.1).
type content struct {
	salt, keyID, records []byte
	recordSize           int
}

func readContent(body []byte) (content, error) {
	if len(body) < fixedSize || len(body) < fixedSize+int(body[fixedSize-1]) {
		return content{}, errShort
	}
	size := binary.BigEndian.Uint32(body[saltSize:])
	if size < minRecord {
		return content{}, errRecordSize
	}
	end := fixedSize + int(body[fixedSize-1])
	return content{
		salt: body[:saltSize], keyID: body[fixedSize:end], records: body[end:],
		// A record is never longer than the body, whatever a hostile header says.
		recordSize: int(min(size, 1<<30)),
	}, nil
}

// open decrypts every record in turn. The last one is marked by its delimiter,
// so a body cut between two records is never taken as whole (RFC 8188 §4.2).
func (c content) open(ikm []byte) ([]byte, error) {
	prk, err := hkdf.Extract(sha256.New, ikm, c.salt)
	if err != nil {
		return nil, err
	}
	key, err := hkdf.Expand(sha256.New, prk, "Content-Encoding: aes128gcm\x00", 16)
	if err != nil {
		return nil, err
	}
	nonce, err := hkdf.Expand(sha256.New, prk, "Content-Encoding: nonce\x00", 12)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	if len(c.records) == 0 {
		return nil, errNoRecords
	}
	plain := []byte{} // nil is what no payload is
	for seq, rest := uint64(0), c.records; len(rest) > 0; seq++ {
		record := rest[:min(len(rest), c.recordSize)]
		rest = rest[len(record):]
		text, err := openRecord(gcm, nonce, seq, record, len(rest) == 0)
		if err != nil {
			return nil, err
		}
		plain = append(plain, text...)
	}
	return plain, nil
}

// openRecord decrypts one record and takes delimiter and padding off.
func openRecord(gcm cipher.AEAD, nonce []byte, seq uint64, record []byte, last bool) ([]byte, error) {
	if len(record) < tagSize+1 {
		return nil, errTruncated
	}
	n := append([]byte(nil), nonce...)
	low := n[len(n)-8:]
	binary.BigEndian.PutUint64(low, binary.BigEndian.Uint64(low)^seq)
	text, err := gcm.Open(nil, n, record, nil)
	if err != nil {
		return nil, errTag
	}
	end := len(text)
	for end > 0 && text[end-1] == 0 {
		end--
	}
	if end == 0 {
		return nil, errAllZero
	}
	want := byte(1)
	if last {
		want = 2
	}
	if text[end-1] != want {
		return nil, errDelimiter
	}
	return text[:end-1], nil
}
