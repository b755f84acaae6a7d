package keys

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"strings"
)

const (
	linkInfo = "belfry click link v1" // so that the key is of no use for anything else (RFC 5869 §3.2)
	linkSize = 16                     // octets of a signature: nobody guesses it, and it costs 22 of each link
)

// ClickLink signs the id of a message, so that only who was sent it can say that
// it was clicked: id, a dot, and the signature in base64url.
func (k *UserKey) ClickLink(id string) string {
	key, err := hkdf.Key(sha256.New, []byte(*k.secret), nil, linkInfo, sha256.Size)
	if err != nil {
		panic(err) // only a length over 255 hashes is refused
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(id))
	return id + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:linkSize])
}

// CheckClickLink returns the id in what ClickLink made, and whether this key did.
func (k *UserKey) CheckClickLink(link string) (id string, ok bool) {
	id, _, _ = strings.Cut(link, ".")
	return id, hmac.Equal([]byte(link), []byte(k.ClickLink(id))) // as text: base64 can be written in more ways than one
}
