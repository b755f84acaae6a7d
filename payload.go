package belfry

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"net/url"
	"slices"
	"strings"
	"time"
)

const (
	// MaxPayload is the most plaintext that fits the 4096 octets of body which
	// every push service must take: 4096 − 86 header − 1 delimiter − 16 tag (WP-32).
	MaxPayload = 3993
	// MobilePayload is the most that Firefox for Android takes: its push service
	// hands the message on in a smaller envelope, body ≤ 2744 (PS-12).
	MobilePayload = 2641
)

// A PushMessage is one message as it travels to a push service (RFC 8030 §5):
// the same for every subscription of one origin, and never written to.
type PushMessage struct {
	Payload  []byte        // plaintext, at most MaxPayload octets
	TTL      time.Duration // what is left of the message's lifetime
	Urgency  Urgency       // empty means normal
	Topic    string        // the Topic header, as TopicHeader makes it; may be empty
	Unpadded bool          // as short as it can be, for the second try after TooLarge (WP-67)
}

// A push message prints as its size: what it says is between sender and reader (SEC-20).
func (m PushMessage) Format(w fmt.State, _ rune) {
	fmt.Fprintf(w, "[message of %d octets]", len(m.Payload))
}
func (m PushMessage) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(m)) }

// webPush is the member that marks a declarative message (W3C Push API).
const webPush = 8030

type payload struct {
	WebPush      int          `json:"web_push"`
	Notification notification `json:"notification"`
}

type notification struct {
	Title              string          `json:"title"`
	Body               string          `json:"body,omitempty"`
	Navigate           string          `json:"navigate"`
	Lang               string          `json:"lang,omitempty"`
	Dir                string          `json:"dir,omitempty"`
	Tag                string          `json:"tag"`
	Icon               string          `json:"icon,omitempty"`
	Image              string          `json:"image,omitempty"`
	Silent             bool            `json:"silent,omitempty"`
	RequireInteraction bool            `json:"requireInteraction,omitempty"`
	Renotify           bool            `json:"renotify,omitempty"`
	Actions            []payloadAction `json:"actions,omitempty"`
	Data               map[string]any  `json:"data"`
}

type payloadAction struct {
	Action   string `json:"action"`
	Title    string `json:"title"`
	Navigate string `json:"navigate"`
}

// Payload compiles the message with its id into the one JSON that classic and
// declarative browsers both read, for subscriptions of origin. channel is the
// audience's when it is exactly one. Variants are no part of it: each is a
// message of its own, by [Message.In]. A message over MaxPayload is refused with
// its measured size.
func (m Message) Payload(id, channel, origin string) ([]byte, error) {
	tag := m.Tag
	if tag == "" {
		tag = m.Topic
	}
	if tag == "" {
		tag = id
	}
	n := notification{
		Title: m.Title, Body: m.Body, Navigate: navigate(m.URL, origin), Lang: m.Lang, Dir: m.Dir, Tag: tag,
		Icon: absolute(m.Icon, origin), Image: absolute(m.Image, origin),
		Silent: m.Silent, RequireInteraction: m.RequireInteraction, Renotify: m.Renotify,
	}
	for _, a := range m.Actions {
		target := a.URL
		if target == "" {
			target = m.URL
		}
		n.Actions = append(n.Actions, payloadAction{a.Action, a.Title, navigate(target, origin)})
	}
	mark := map[string]string{"id": id}
	if channel != "" {
		mark["channel"] = channel
	}
	n.Data = map[string]any{"belfry": mark}
	if !isNull(m.Data) {
		var own map[string]json.RawMessage
		if err := json.Unmarshal(m.Data, &own); err != nil {
			return nil, Invalid("data", "data", "must be a JSON object")
		}
		for name, value := range own {
			n.Data[name] = value
		}
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false) // "<" would cost six octets of a small budget; nothing here becomes HTML
	if err := enc.Encode(payload{webPush, n}); err != nil {
		return nil, Invalid("message", "", "cannot be written as JSON")
	}
	b := bytes.TrimSuffix(out.Bytes(), []byte("\n"))
	if len(b) > MaxPayload {
		return nil, &Error{Kind: ErrTooLarge, Code: "message-too-large",
			Text: fmt.Sprintf("is %d octets when compiled, over the %d that a push service must take", len(b), MaxPayload),
			Hint: "shorten body or data"}
	}
	return b, CheckPayload(b, origin)
}

// navigate resolves a click target. One at another of our sites would be
// refused by the browser that shows it, so it becomes the site's root (SEC-31).
func navigate(raw, origin string) string {
	if target := absolute(raw, origin); target != "" && sameOrigin(target, origin) {
		return target
	}
	return origin + "/"
}

// absolute resolves a path against origin. WebKit parses without a base URL and
// drops the whole message for one relative link (BR-51).
func absolute(raw, origin string) string {
	if strings.HasPrefix(raw, "/") {
		return origin + raw
	}
	return raw
}

func sameOrigin(raw, origin string) bool {
	got, err := linkOrigin(raw)
	return err == nil && got == origin
}

// CheckPayload reports whether a payload is one that both the W3C parser and
// WebKit's accept as a declarative message of origin; the error's Code names
// the member at fault. The two disagree in places, and this is what they share
// (BR-50..53).
func CheckPayload(b []byte, origin string) error {
	refuse := func(member, text string) error { return Invalid(member, "payload."+member, text) }
	var top map[string]any
	if json.Unmarshal(b, &top) != nil {
		return refuse("web_push", "is not a JSON object")
	}
	if top["web_push"] != float64(webPush) {
		return refuse("web_push", "must be the number 8030")
	}
	n, ok := top["notification"].(map[string]any)
	if !ok {
		return refuse("notification", "must be an object")
	}
	if title, _ := n["title"].(string); title == "" {
		return refuse("title", "must be a string that is not empty")
	}
	if target, _ := n["navigate"].(string); !sameOrigin(target, origin) {
		return refuse("navigate", "must be an absolute URL of "+origin)
	}
	for _, member := range []string{"body", "lang", "tag"} {
		if v, there := n[member]; there && !is[string](v) {
			return refuse(member, "must be a string")
		}
	}
	if v, there := n["dir"]; there && !slices.Contains([]any{"auto", "ltr", "rtl"}, v) {
		return refuse("dir", "must be auto, ltr or rtl")
	}
	for _, member := range []string{"silent", "requireInteraction", "renotify"} {
		if v, there := n[member]; there && !is[bool](v) {
			return refuse(member, "must be true or false")
		}
	}
	for _, member := range []string{"icon", "image"} {
		if v, there := n[member]; there && !isAbsolute(v) {
			return refuse(member, "must be an absolute URL")
		}
	}
	return checkPayloadActions(n, top, origin)
}

func checkPayloadActions(n, top map[string]any, origin string) error {
	actions, isList := n["actions"].([]any)
	if _, there := n["actions"]; there && !isList {
		return Invalid("actions", "payload.actions", "must be a list")
	}
	for _, item := range actions {
		a, _ := item.(map[string]any)
		name, _ := a["action"].(string)
		title, _ := a["title"].(string)
		target, _ := a["navigate"].(string)
		if name == "" || title == "" || !sameOrigin(target, origin) {
			return Invalid("actions", "payload.actions", "each needs action, title and navigate")
		}
	}
	for _, from := range []map[string]any{top, n} {
		if v, there := from["app_badge"]; there {
			if badge, ok := v.(float64); !ok || badge < 0 || badge != math.Trunc(badge) {
				return Invalid("app_badge", "payload.app_badge", "must be a whole number from 0")
			}
		}
		if v, there := from["mutable"]; there && !is[bool](v) {
			return Invalid("mutable", "payload.mutable", "must be true or false")
		}
	}
	return nil
}

func is[T any](v any) bool { _, ok := v.(T); return ok }

func isAbsolute(v any) bool {
	s, _ := v.(string)
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != ""
}
