package keys

import (
	"encoding/json"
	"fmt"
	"net/mail"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/belfry-push/belfry"
)

// maxSubject keeps a token under 400 octets (WP-46): what is left of it when
// header, signature and the longest name of a push service are in.
const maxSubject = 100

var (
	label = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$`)
	// nowhere are the top-level names that mean this machine, this network or
	// nothing at all (RFC 2606, RFC 6762), as reported refused (PS-22).
	nowhere = []string{"localhost", "local", "invalid", "test"}
)

// CheckSubject reports whether s may stand in a token as the way to reach us
// (RFC 8292 §2.1). Apple checks it, the others don't, so that a wrong one goes
// unseen until the first iPhone subscribes (WP-45, PS-03): it is refused before.
func CheckSubject(s string) error {
	wrong := subjectFault(s)
	if wrong == "" {
		return nil
	}
	return &belfry.Error{Kind: belfry.ErrInvalid, Code: "subject", Where: "--subject", Text: wrong +
		"; Apple refuses every message whose sender names no public address to be reached at, while other push services do not look",
		Hint: "use the address of a page, such as https://www.example.com/contact, which works everywhere, or mailto:ops@example.com"}
}

// subjectFault says what is wrong with s, or nothing.
func subjectFault(s string) string {
	shown := fmt.Sprintf("%+q", s)
	if inJSON, _ := json.Marshal(s); len(inJSON) > maxSubject+2 {
		return fmt.Sprintf("is longer than %d octets", maxSubject)
	}
	strange := func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`<>"\`, r) }
	rest, isMail := strings.CutPrefix(s, "mailto:")
	switch {
	case s == "":
		return "must not be empty"
	case strings.ContainsFunc(s, strange):
		return shown + " holds a space, a bracket, a quote or a character beyond ASCII"
	case isMail && strings.Contains(strings.ToLower(rest), "mailto:"):
		return shown + " says mailto: twice"
	case isMail:
		return mailFault(rest)
	case strings.HasPrefix(s, "https://"):
		return pageFault(s)
	}
	return shown + " begins neither with https:// nor with mailto:"
}

func mailFault(address string) string {
	if _, err := mail.ParseAddress(address); err != nil {
		return fmt.Sprintf("%+q is not a mail address", address)
	}
	return hostFault(address[strings.LastIndexByte(address, '@')+1:])
}

func pageFault(page string) string {
	u, err := url.Parse(page)
	if err != nil || u.User != nil || u.Opaque != "" {
		return fmt.Sprintf("%+q is not the address of a page", page)
	}
	return hostFault(u.Hostname())
}

func hostFault(host string) string {
	labels := strings.Split(host, ".")
	_, notIP := netip.ParseAddr(strings.Trim(host, "[]"))
	switch top := strings.ToLower(labels[len(labels)-1]); {
	case notIP == nil || strings.Trim(top, "0123456789") == "" && top != "":
		return fmt.Sprintf("%+q is an address, not a name", host)
	case slices.Contains(nowhere, top):
		return fmt.Sprintf("%+q is not known outside your network", host)
	case len(labels) < 2:
		return fmt.Sprintf("%+q has no dot, so it is not known outside your network", host)
	case slices.ContainsFunc(labels, func(l string) bool { return !label.MatchString(l) }):
		return fmt.Sprintf("%+q is not a host name", host)
	}
	return ""
}
