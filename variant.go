package belfry

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Variants are what a message says in other languages than its own, by language
// tag (BCP 47). Tags are compared without regard to case.
type Variants map[string]Variant

// A Variant is what of a message is another for those who read another language.
// What it leaves out, or leaves empty, is the message's.
type Variant struct {
	Title   string   `json:"title,omitempty"`
	Body    string   `json:"body,omitempty"`
	URL     string   `json:"url,omitempty"`
	Image   string   `json:"image,omitempty"`
	Dir     string   `json:"dir,omitempty"`
	Actions []Action `json:"actions,omitempty"` // all of them
}

// maxVariants bounds what is compiled: each variant is a payload for each site.
const maxVariants = 32

// Tags are the tags of the variants, sorted.
func (v Variants) Tags() []string { return slices.Sorted(maps.Keys(v)) }

// In returns the message as those read it whom the variant with this tag is for,
// which is one of Tags. An empty tag stands for the message's own language.
func (m Message) In(tag string) Message {
	v := m.Variants[tag]
	if m.Variants = nil; tag == "" {
		return m
	}
	m.Lang = tag
	for _, text := range []struct {
		to   *string
		from string
	}{{&m.Title, v.Title}, {&m.Body, v.Body}, {&m.URL, v.URL}, {&m.Image, v.Image}, {&m.Dir, v.Dir}} {
		if text.from != "" {
			*text.to = text.from
		}
	}
	if len(v.Actions) > 0 {
		m.Actions = v.Actions
	}
	return m
}

// Lookup returns the tag of the variant for somebody with this locale, or ""
// where the message itself is the one (RFC 4647 §3.4): subtags are dropped from
// the end until the rest is the tag of a variant, or the language of the message.
// It is asked for each row of a broadcast, and allocates nothing.
func (m Message) Lookup(locale string) (tag string) {
	if len(m.Variants) == 0 {
		return ""
	}
	for wanted := locale; wanted != "" && !strings.EqualFold(wanted, m.Lang); wanted = broader(wanted) {
		for tag := range m.Variants {
			if strings.EqualFold(tag, wanted) {
				return tag
			}
		}
	}
	return ""
}

// broader drops the last subtag, and with it the single letter before it, which
// only says what kind of subtag follows.
func broader(tag string) string {
	end := max(0, strings.LastIndexByte(tag, '-'))
	if end >= 2 && tag[end-2] == '-' {
		end -= 2
	}
	return tag[:end]
}

// checkVariants says what is wrong with what the message says in other languages.
// Each has to be a message that could be sent by itself.
func (m Message) checkVariants(origins []string) error {
	if len(m.Variants) > maxVariants {
		return Invalid("variants", "variants", fmt.Sprintf("at most %d, not %d", maxVariants, len(m.Variants)))
	}
	seen := map[string]string{}
	for _, tag := range m.Variants.Tags() {
		folded := strings.ToLower(tag)
		switch twin, twice := seen[folded]; {
		case !languageTag.MatchString(tag):
			return Invalid("variants", "variants", fmt.Sprintf("%s is not a language tag such as en or pt-BR", quote(tag)))
		case twice:
			return Invalid("variants", "variants."+tag, "is the same language as "+twin)
		case strings.EqualFold(tag, m.Lang):
			return Invalid("variants", "variants."+tag, "is the language of the message itself, as its lang says")
		}
		seen[folded] = tag
		if err := m.In(tag).check(origins); err != nil {
			return At("variants."+tag, err)
		}
	}
	return nil
}
