package belfry

import (
	"slices"
	"strings"
)

// linkParameter is what a page looks for in its address, to say that somebody
// came to it by a message.
const linkParameter = "belfry"

// Linked is the message with links that say which message they are of: each that
// a click opens carries link, made of letters, digits, dots, hyphens and
// underscores, as the parameter belfry. A declarative notification opens its link
// and no worker hears of the click, so that the page must (BR-56).
func (m Message) Linked(link string) Message {
	if m.URL == "" {
		m.URL = "/"
	}
	m.URL, m.Actions = linked(m.URL, link), slices.Clone(m.Actions)
	for i, a := range m.Actions {
		if a.URL != "" { // else it opens the message's
			m.Actions[i].URL = linked(a.URL, link)
		}
	}
	return m
}

// linked adds the parameter behind those that there are, and before the fragment.
func linked(target, link string) string {
	target, fragment, cut := strings.Cut(target, "#")
	if strings.Contains(target, "?") {
		target += "&"
	} else {
		target += "?"
	}
	target += linkParameter + "=" + link
	if cut {
		target += "#" + fragment
	}
	return target
}
