package keys

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
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
	path, text, made, err := openText(path, newWebhook)
	if err != nil {
		return nil, false, err
	}
	random, prefixed := strings.CutPrefix(text, secretPrefix)
	secret, err := base64.StdEncoding.DecodeString(random)
	if err != nil || !prefixed || len(secret) < leastSecret || len(secret) > mostSecret {
		return nil, false, unusable(path, "does not hold whsec_ and 24 to 64 octets of base64", "restore it from a backup, or remove it: a new secret is made then, which receivers of callbacks must learn")
	}
	return &Webhook{&secret}, made, nil
}

func newWebhook() string {
	secret := make([]byte, newSecret)
	rand.Read(secret)
	return secretPrefix + base64.StdEncoding.EncodeToString(secret)
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
