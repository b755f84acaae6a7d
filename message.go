package belfry

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// A Message is what an operator says, as written in JSON on the command line
// and over HTTP. Title is required, all else has a default.
type Message struct {
	Title              string          `json:"title"`
	Body               string          `json:"body,omitempty"`
	URL                string          `json:"url,omitempty"`   // opened by a click; default "/"
	Icon               string          `json:"icon,omitempty"`  // absolute https or a path
	Image              string          `json:"image,omitempty"` // the same
	Lang               string          `json:"lang,omitempty"`  // BCP 47
	Dir                string          `json:"dir,omitempty"`   // auto, ltr or rtl
	Tag                string          `json:"tag,omitempty"`   // default: topic, else the message id
	Silent             bool            `json:"silent,omitempty"`
	RequireInteraction bool            `json:"requireInteraction,omitempty"`
	Renotify           bool            `json:"renotify,omitempty"`
	Actions            []Action        `json:"actions,omitempty"`
	Data               json.RawMessage `json:"data,omitempty"` // an object, handed to the page as it is
	Urgency            Urgency         `json:"urgency,omitempty"`
	TTL                *int            `json:"ttl,omitempty"`   // seconds; default 86400; 0 means now or never
	Topic              string          `json:"topic,omitempty"` // a later message replaces one still waiting
	Variants           Variants        `json:"variants,omitempty"`
}

// An Action is a button on a notification.
type Action struct {
	Action string `json:"action"`
	Title  string `json:"title"`
	URL    string `json:"url,omitempty"` // default: the message's
}

// Urgency is how much a message is worth a device's battery (RFC 8030 §5.3).
// The zero value means normal.
type Urgency string

const (
	UrgencyVeryLow Urgency = "very-low"
	UrgencyLow     Urgency = "low"
	UrgencyNormal  Urgency = "normal"
	UrgencyHigh    Urgency = "high"
)

const (
	defaultTTL = 24 * time.Hour
	// MaxTTL is 28 days, the longest that every large push service keeps a message (WP-04, PS-08).
	MaxTTL = 28 * 24 * time.Hour
	// maxActions is above what any browser shows; the worker cuts to Notification.maxActions.
	maxActions = 8
)

var actionName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// Lifetime is how long the message is worth saying.
func (m Message) Lifetime() time.Duration {
	if m.TTL == nil {
		return defaultTTL
	}
	return time.Duration(*m.TTL) * time.Second
}

// TopicHeader is the Topic header for the message's logical key: always 32
// characters of base64url, since Apple refuses other lengths (PS-24) and a push
// service must not read the key in it (WP-10). Empty without a topic.
func (m Message) TopicHeader() string {
	if m.Topic == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(m.Topic))
	return b64.EncodeToString(sum[:24])
}

// Check says what is wrong with the message and where. Absolute URLs must be at
// one of origins, the sites that this server rings for (SEC-31, SEC-32).
func (m Message) Check(origins []string) error {
	if err := m.check(origins); err != nil {
		return At("message", err)
	}
	return At("message", m.checkVariants(origins))
}

// check is Check without the variants.
func (m Message) check(origins []string) error {
	if err := m.checkText(); err != nil {
		return err
	}
	if err := m.checkDelivery(); err != nil {
		return err
	}
	for _, link := range []struct{ where, url string }{{"url", m.URL}, {"icon", m.Icon}, {"image", m.Image}} {
		if err := checkLink(link.url, origins); err != nil {
			return At(link.where, err)
		}
	}
	return m.checkActions(origins)
}

func (m Message) checkText() error {
	texts := []struct{ where, text string }{{"title", m.Title}, {"body", m.Body}, {"tag", m.Tag}, {"topic", m.Topic}}
	for _, t := range texts {
		if !utf8.ValidString(t.text) || strings.ContainsRune(t.text, 0) {
			return Invalid("text", t.where, "must be UTF-8 without NUL")
		}
	}
	switch {
	case strings.TrimSpace(m.Title) == "":
		// WebKit drops a declarative message whose title is empty (BR-50).
		return Invalid("title", "title", "must not be empty")
	case m.Lang != "" && !languageTag.MatchString(m.Lang):
		return Invalid("lang", "lang", fmt.Sprintf("%s is not a language tag such as en or pt-BR", quote(m.Lang)))
	case m.Dir != "" && !slices.Contains([]string{"auto", "ltr", "rtl"}, m.Dir):
		return Invalid("dir", "dir", fmt.Sprintf("must be auto, ltr or rtl, not %s", quote(m.Dir)))
	}
	if isNull(m.Data) {
		return nil
	}
	// Read as a browser reads it: a number beyond a float64 or an octet that is
	// not UTF-8 would cost the whole message there.
	var members map[string]any
	if json.Unmarshal(m.Data, &members) != nil || !utf8.Valid(m.Data) {
		return Invalid("data", "data", "must be a JSON object, in UTF-8 and with no number beyond 1.8e308")
	}
	if _, taken := members["belfry"]; taken {
		return Invalid("data", "data.belfry", "is reserved for the message's id")
	}
	return nil
}

// isNull reports whether a member was left out, or given as null, which is the same.
func isNull(raw json.RawMessage) bool { return raw == nil || string(raw) == "null" }

func (m Message) checkDelivery() error {
	if !slices.Contains([]Urgency{"", UrgencyVeryLow, UrgencyLow, UrgencyNormal, UrgencyHigh}, m.Urgency) {
		return Invalid("urgency", "urgency", fmt.Sprintf("must be very-low, low, normal or high, not %s", quote(string(m.Urgency))))
	}
	if m.TTL != nil && (*m.TTL < 0 || *m.TTL > int(MaxTTL/time.Second)) {
		return Invalid("ttl", "ttl", fmt.Sprintf("must be 0 to %d seconds (28 days), not %d", int(MaxTTL/time.Second), *m.TTL))
	}
	if len(m.Topic) > 256 {
		return Invalid("topic", "topic", fmt.Sprintf("must be at most 256 octets, not %d", len(m.Topic)))
	}
	return nil
}

func (m Message) checkActions(origins []string) error {
	if len(m.Actions) > maxActions {
		return Invalid("actions", "actions", fmt.Sprintf("at most %d, not %d", maxActions, len(m.Actions)))
	}
	seen := map[string]bool{}
	for i, a := range m.Actions {
		where := fmt.Sprintf("actions[%d]", i)
		switch {
		case CheckAction(a.Action) != nil:
			return At(where, CheckAction(a.Action))
		case seen[a.Action]:
			return Invalid("actions", where+".action", fmt.Sprintf("%s is used twice", quote(a.Action)))
		case strings.TrimSpace(a.Title) == "":
			return Invalid("actions", where+".title", "must not be empty")
		case !utf8.ValidString(a.Title) || strings.ContainsRune(a.Title, 0):
			return Invalid("text", where+".title", "must be UTF-8 without NUL")
		}
		seen[a.Action] = true
		if err := checkLink(a.URL, origins); err != nil {
			return At(where+".url", err)
		}
	}
	return nil
}

// CheckAction says whether name can be that of a button.
func CheckAction(name string) error {
	if !actionName.MatchString(name) {
		return Invalid("actions", "action", "must be 1 to 64 letters, digits, dots, underscores or hyphens")
	}
	return nil
}

// checkLink accepts nothing, a path, or an absolute URL at one of origins.
// https is demanded by the origins themselves: only a loopback one is http.
func checkLink(raw string, origins []string) error {
	if raw == "" {
		return nil
	}
	origin, err := linkOrigin(raw)
	if err != nil {
		return err
	}
	if origin != "" && !slices.Contains(origins, origin) {
		return &Error{Kind: ErrInvalid, Code: "url", Text: fmt.Sprintf("%s is not a site that this server rings for", quote(origin)),
			Hint: "write a path such as /sale, or start the server with --origin for that site"}
	}
	return nil
}

// linkOrigin returns the origin of an absolute http(s) URL, or "" for a path.
func linkOrigin(raw string) (string, error) {
	wrong := Invalid("url", "", fmt.Sprintf("%s is neither an https URL nor a path", quote(raw)))
	if !printable(raw) || strings.ContainsAny(raw, "\\ ") {
		return "", wrong
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.User != nil:
		return "", wrong
	case u.Scheme == "" && u.Host == "" && strings.HasPrefix(raw, "/") && !strings.HasPrefix(raw, "//"):
		return "", nil
	case u.Scheme != "https" && u.Scheme != "http" || !isHost(u.Hostname()):
		return "", wrong
	}
	host := strings.ToLower(u.Host)
	return u.Scheme + "://" + strings.TrimSuffix(host, map[string]string{"https": ":443", "http": ":80"}[u.Scheme]), nil
}
