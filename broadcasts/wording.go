package broadcasts

import (
	"cmp"
	"fmt"

	"github.com/belfry-push/belfry"
)

// A wording is what of a broadcast is the same for many rows and another for
// others: the site, which its links lead to, and the variant of the message.
// Each is compiled once, and never for a row.
type wording struct {
	origin  string
	variant string // tag; empty for the message itself
}

// wording is the one that a row gets.
func (e *Engine) wording(m belfry.Message, row belfry.Subscription) wording {
	return wording{cmp.Or(row.Origin, e.Origins[0]), m.Lookup(row.Locale)}
}

// wordings are all there are of a message, those of one variant together.
func (e *Engine) wordings(m belfry.Message) (all []wording) {
	for _, tag := range append([]string{""}, m.Variants.Tags()...) {
		for _, origin := range e.Origins {
			all = append(all, wording{origin, tag})
		}
	}
	return all
}

// payload compiles a wording of l's message.
func (e *Engine) payload(l Launch, w wording) ([]byte, error) {
	m := l.Message.In(w.variant)
	if e.ClickLink != nil {
		m = m.Linked(e.ClickLink(l.ID))
	}
	p, err := m.Payload(l.ID, l.Audience.Channel(), w.origin)
	if w.variant != "" {
		err = belfry.At("variants."+w.variant, err)
	}
	return p, belfry.At("message", err)
}

// compile makes all payloads, so that a message that is too large in one of its
// wordings is refused before it is queued (WP-33).
func (e *Engine) compile(b Broadcast) (payloads map[wording][]byte, warnings []string, err error) {
	payloads, longest := map[wording][]byte{}, map[string]int{}
	for _, w := range e.wordings(b.Message) {
		if payloads[w], err = e.payload(b.Launch, w); err != nil {
			return nil, nil, err
		}
		longest[w.variant] = max(longest[w.variant], len(payloads[w]))
	}
	for _, tag := range append([]string{""}, b.Message.Variants.Tags()...) {
		if longest[tag] <= belfry.MobilePayload {
			continue
		}
		what := "the message"
		if tag != "" {
			what = "its variant " + tag
		}
		warnings = append(warnings, fmt.Sprintf("%s is %d octets, over %d: Firefox for Android will refuse it", what, longest[tag], belfry.MobilePayload))
	}
	return payloads, warnings, nil
}
