package sender

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/belfry-push/belfry"
)

const (
	overhead = 103  // octets that sealing adds: 86 header, 1 delimiter, 16 tag (WP-32)
	maxBody  = 4096 // the longest body that every push service must take (RFC 8030 §7.2)
)

// buckets are the lengths that bodies are padded up to, so that a push service
// learns little from a length. The last is the most that Firefox for Android
// takes; above it every octet counts and nothing is padded (WP-34, PS-12).
var buckets = [...]int{512, 1024, 2048, 2744}

// A letter is one message as one browser will get it, checked but not yet
// sealed. Its plaintext is shared with other letters: it is only read.
type letter struct {
	endpoint  belfry.Endpoint
	url       *url.URL
	p256dh    belfry.PublicKey
	auth      belfry.AuthSecret
	plaintext []byte
	size      int // of the body, in octets
	ttl       int // seconds
	urgency   belfry.Urgency
	topic     string
}

// newLetter takes the endpoint and its URL as [belfry.PushHosts.Target] gives them.
func newLetter(endpoint belfry.Endpoint, to *url.URL, sub belfry.Subscription, msg belfry.PushMessage) (*letter, error) {
	l := &letter{endpoint: endpoint, url: to, p256dh: sub.P256dh, auth: sub.Auth, plaintext: msg.Payload,
		urgency: msg.Urgency, topic: msg.Topic}
	if err := exact(to, endpoint); err != nil {
		return nil, err
	}
	var err error
	if l.size, err = bodySize(msg); err != nil {
		return nil, err
	}
	switch l.urgency {
	case "", belfry.UrgencyVeryLow, belfry.UrgencyLow, belfry.UrgencyNormal, belfry.UrgencyHigh:
	default:
		return nil, belfry.Invalid("urgency", "urgency", "must be very-low, low, normal or high")
	}
	if !isTopic(l.topic) {
		return nil, belfry.Invalid("topic", "topic", "must be at most 32 characters of base64url (RFC 8030 §5.4)")
	}
	l.ttl = ttl(l.url.Hostname(), msg.TTL)
	return l, nil
}

// exact makes u, the URL of e, one to post to such that the request's target is
// the stored path and query octet for octet (WP-02). url.URL escapes anew what
// it would have written differently, "|" as "%7C", and a push service may see
// another resource in that.
func exact(u *url.URL, e belfry.Endpoint) error {
	want := strings.TrimPrefix(e.Reveal(), e.Origin())
	if !strings.HasPrefix(want, "//") { // which would be read as a host
		u.Opaque, u.RawQuery, u.ForceQuery = want, "", false
	}
	if u.RequestURI() != want {
		return belfry.Invalid("endpoint", "endpoint", "cannot be posted to exactly as it is stored")
	}
	return nil
}

// bodySize is how long the body for msg is made.
func bodySize(msg belfry.PushMessage) (int, error) {
	n := len(msg.Payload) + overhead
	if n > maxBody {
		return 0, &belfry.Error{Kind: belfry.ErrTooLarge, Code: "message-too-large", Where: "message",
			Text: fmt.Sprintf("would be a body of %d octets, over the %d that a push service must take", n, maxBody)}
	}
	for _, size := range buckets {
		if n <= size && !msg.Unpadded {
			return size, nil
		}
	}
	return n, nil
}

// isTopic reports whether s may stand in a Topic header. Nothing else may: a
// line feed in it would begin a header of its own (SEC-48).
func isTopic(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !('A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
			return false
		}
	}
	return len(s) <= 32
}

// ttl is the TTL header in seconds for what is left of a message's lifetime.
// Microsoft refuses TTL 0 with 400 and Apple demands a positive one (PS-31,
// PS-25); a little late is better there than never.
func ttl(host string, left time.Duration) int {
	least := time.Duration(0)
	switch {
	case strings.HasSuffix(host, ".notify.windows.com"):
		least = time.Minute
	case strings.HasSuffix(host, ".push.apple.com"):
		least = time.Second
	}
	return int(min(max(left, least), belfry.MaxTTL) / time.Second)
}

// secrets are the texts that must not be shown when a push service repeats them.
func (l *letter) secrets(authorization string) []string {
	uri := l.url.RequestURI()
	path, query, _ := strings.Cut(uri, "?")
	token, _, _ := strings.Cut(strings.TrimPrefix(authorization, "vapid t="), ",")
	all := []string{l.endpoint.Reveal(), uri, path, query, path[strings.LastIndexByte(path, '/')+1:],
		authorization, token, l.p256dh.Reveal(), l.auth.Reveal()}
	if unescaped, err := url.PathUnescape(uri); err == nil {
		all = append(all, unescaped)
	}
	fields, _ := url.ParseQuery(query) // what can be read of it
	for _, values := range fields {
		all = append(all, values...)
	}
	return all
}
