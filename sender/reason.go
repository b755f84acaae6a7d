package sender

import (
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxReason keeps a push service from filling our logs and tables.
const maxReason = 200

var (
	htmlTitle = regexp.MustCompile(`(?is)<title[^>]*>(.*?)</title>`)
	anyURL    = regexp.MustCompile(`(?i)\b[a-z][a-z0-9+.-]*://\S+`)
	longRun   = regexp.MustCompile(`[A-Za-z0-9_%+/=~-]{16,}`)
)

// secrets gives the texts of a request that nobody may read in what a push
// service says about it; nil for none. Most answers say nothing, so it is a
// function that is not always called.
type secrets func() []string

// reason is why an answer was not the one we wanted, in the push service's
// words where it has any, else the status. Without it one 403 cannot be told
// from another (WP-71).
func reason(a answer) string {
	said := a.header.Get("X-WNS-Error-Description")
	if said == "" && dropped(a.header) {
		said = "WNS: " + a.header.Get("X-WNS-Status") + a.header.Get("X-WNS-NotificationStatus")
	}
	if said == "" {
		said = bodyReason(a.body)
	}
	if said = clean(said, a.secrets); said != "" {
		return said
	}
	return strings.TrimSpace(fmt.Sprintf("%d %s", a.status, http.StatusText(a.status)))
}

// bodyReason finds the sentence in an error body: Apple's reason, autopush's
// message with its errno, Google's plain text or page title.
func bodyReason(body []byte) string {
	var said struct {
		Reason  string `json:"reason"`
		Message string `json:"message"`
		Error   any    `json:"error"`
		Errno   int    `json:"errno"`
	}
	text := string(body)
	switch {
	case json.Unmarshal(body, &said) == nil:
		name, _ := said.Error.(string)
		for _, words := range []string{said.Reason, said.Message, name} {
			if words != "" && said.Errno != 0 {
				return fmt.Sprintf("errno %d: %s", said.Errno, words)
			}
			if words != "" {
				return words
			}
		}
		if said.Errno != 0 {
			return fmt.Sprintf("errno %d", said.Errno)
		}
		return ""
	case strings.HasPrefix(strings.TrimSpace(text), "<"):
		if title := htmlTitle.FindStringSubmatch(text); title != nil {
			return html.UnescapeString(title[1])
		}
		return ""
	}
	return text
}

// clean makes foreign text fit to show: no secret, no control character, one
// line, at most maxReason octets.
func clean(text string, hide secrets) string {
	if text == "" {
		return ""
	}
	text = redact(text, hide)
	text = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)
	text = strings.Join(strings.Fields(text), " ")
	if len(text) <= maxReason {
		return text
	}
	end := maxReason
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end]
}

// redact takes out the secrets that we know, every URL, and whatever else looks
// like a token: a push service may repeat the request, or name a token that we
// have never seen.
func redact(text string, hide secrets) string {
	if hide != nil {
		for _, s := range hide() {
			if len(s) >= 8 { // less is no secret, and would be found everywhere
				text = strings.ReplaceAll(text, s, "[…]")
			}
		}
	}
	text = anyURL.ReplaceAllString(text, "[…]")
	return longRun.ReplaceAllStringFunc(text, func(run string) string {
		// Words are long too ("UnauthorizedRegistration"), but hold no digit.
		if len(run) >= 32 || strings.ContainsAny(run, "0123456789") {
			return "[…]"
		}
		return run
	})
}
