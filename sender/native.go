package sender

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"net/http"
	"strconv"

	"github.com/belfry-push/belfry"
)

// recordSize stands in the header of every body. A body is one record, and the
// record is shorter than this whatever the message (RFC 8291 §4, WP-23).
const recordSize = 4096

// native is the engine of our own, over the standard library alone.
type native struct {
	// fresh draws what must never be used twice (RFC 8291 §3.1, RFC 8188 §4.3):
	// a key pair and a salt for one message. Tests put in those of the RFC.
	fresh func() (*ecdh.PrivateKey, [16]byte, error)
	rs    uint32 // the record size that each header names
}

func newNative() native { return native{fresh: fresh, rs: recordSize} }

func fresh() (key *ecdh.PrivateKey, salt [16]byte, err error) {
	rand.Read(salt[:])
	key, err = ecdh.P256().GenerateKey(rand.Reader)
	return key, salt, err
}

// What every request says in the same words, which nobody writes to.
var (
	contentEncoding = []string{"aes128gcm"}
	contentType     = []string{"application/octet-stream"}
)

func (e native) post(ctx context.Context, via *courier, l *letter) (*http.Response, error) {
	body, err := e.seal(l)
	if err != nil {
		return nil, err
	}
	// A bytes.Reader gives the request its GetBody: HTTP/2 may then send it once
	// more when the push service refused the stream unread. Where it goes, the
	// courier says.
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header["Content-Encoding"] = contentEncoding
	req.Header["Content-Type"] = contentType
	req.Header["Ttl"] = []string{strconv.Itoa(l.ttl)}
	if l.urgency != "" {
		req.Header.Set("Urgency", string(l.urgency))
	}
	if l.topic != "" {
		req.Header.Set("Topic", l.topic)
	}
	return via.Do(req)
}

// Seal makes the body of msg for the browser behind sub, as the native engine
// posts it: for who carries it there by other means, or measures.
func Seal(sub belfry.Subscription, msg belfry.PushMessage) ([]byte, error) {
	size, err := bodySize(msg)
	if err != nil {
		return nil, err
	}
	return newNative().seal(&letter{p256dh: sub.P256dh, auth: sub.Auth, plaintext: msg.Payload, size: size})
}

// seal makes the body of a letter (RFC 8291 §3.4).
func (e native) seal(l *letter) ([]byte, error) {
	own, salt, err := e.fresh()
	if err != nil {
		return nil, err
	}
	// NewPublicKey refuses what is not on the curve, compressed or infinity (WP-26).
	browser, err := ecdh.P256().NewPublicKey(l.p256dh[:])
	if err != nil {
		return nil, err
	}
	shared, err := own.ECDH(browser)
	if err != nil {
		return nil, err
	}
	ours := own.PublicKey().Bytes()
	info := append(make([]byte, 0, longest), "WebPush: info\x00"...)
	info = append(append(info, l.p256dh[:]...), ours...)
	ikm := expand(extract(l.auth[:], shared), info)
	return encrypt(ikm[:], salt, e.rs, ours, l.plaintext, l.size-overhead-len(l.plaintext))
}

// encrypt is the aes128gcm content coding (RFC 8188 §2) for a body of exactly
// one record: header, then plaintext, delimiter and pad zero octets, sealed.
func encrypt(ikm []byte, salt [16]byte, rs uint32, keyID, plaintext []byte, pad int) ([]byte, error) {
	record := len(plaintext) + 1 + pad + 16
	if record >= int(rs) {
		return nil, errors.New("longer than one record")
	}
	gcm, nonce, err := contentKey(ikm, salt)
	if err != nil {
		return nil, err
	}
	body := make([]byte, 0, len(salt)+4+1+len(keyID)+record)
	body = append(body, salt[:]...)
	body = binary.BigEndian.AppendUint32(body, rs)
	body = append(body, byte(len(keyID)))
	body = append(body, keyID...)
	header := len(body)
	body = append(body, plaintext...)
	body = append(body, 2)      // the delimiter of a last record
	body = body[:len(body)+pad] // zero since make
	return gcm.Seal(body[:header], nonce, body[header:], nil), nil
}

// contentKey derives the cipher and the first record's nonce (RFC 8188 §2.2, §2.3).
func contentKey(ikm []byte, salt [16]byte) (cipher.AEAD, []byte, error) {
	prk := extract(salt[:], ikm)
	cek := expand(prk, []byte("Content-Encoding: aes128gcm\x00"))
	nonce := expand(prk, []byte("Content-Encoding: nonce\x00"))
	block, err := aes.NewCipher(cek[:16])
	if err != nil {
		return nil, nil, err
	}
	gcm, err := cipher.NewGCM(block)
	return gcm, nonce[:12], err
}
