package keys

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// The file webhook.key holds the secret that callbacks are signed with, in the
// form in which receivers' libraries take it: whsec_ and base64.

const (
	secretPrefix = "whsec_"
	// A secret is 24 to 64 octets (Standard Webhooks 1.0.0, Signature scheme).
	leastSecret = 24
	mostSecret  = 64
	newSecret   = 32
)

// A Webhook signs callbacks as Standard Webhooks 1.0.0 says, so that who
// receives one knows that it is ours. The secret is behind a pointer, so that no
// way of printing a Webhook reaches it (SEC-22).
type Webhook struct{ secret *[]byte }

// OpenWebhook reads the secret at path. A missing one is made, and said to be:
// unlike a VAPID key it can be replaced, receivers only have to learn the new one.
func OpenWebhook(path string) (w *Webhook, made bool, err error) {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	b, err := readPrivate(path)
	if errors.Is(err, fs.ErrNotExist) {
		w, err = makeWebhook(path)
		return w, err == nil, err
	}
	if err != nil {
		return nil, false, err
	}
	text, prefixed := strings.CutPrefix(strings.TrimSpace(string(b)), secretPrefix)
	secret, err := base64.StdEncoding.DecodeString(text)
	if err != nil || !prefixed || len(secret) < leastSecret || len(secret) > mostSecret {
		return nil, false, unusable(path, "does not hold whsec_ and 24 to 64 octets of base64", "restore it from a backup, or remove it: a new secret is made then, which receivers of callbacks must learn")
	}
	return &Webhook{&secret}, false, nil
}

func makeWebhook(path string) (*Webhook, error) {
	secret := make([]byte, newSecret)
	rand.Read(secret)
	w := &Webhook{&secret}
	return w, write(path, []byte(w.Reveal()+"\n"), func(temp string) error { return os.Rename(temp, path) })
}

// Reveal returns the secret as receivers' libraries take it.
func (w *Webhook) Reveal() string {
	return secretPrefix + base64.StdEncoding.EncodeToString(*w.secret)
}

// Sign returns the value of webhook-signature for what is sent at at.
func (w *Webhook) Sign(id string, at time.Time, body []byte) string {
	mac := hmac.New(sha256.New, *w.secret)
	fmt.Fprintf(mac, "%s.%d.", id, at.Unix())
	mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}
