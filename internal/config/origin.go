package config

import (
	"cmp"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/belfry-push/belfry"
)

// Origin returns the origin that raw names in its one form: scheme, lower-case
// host, port unless it is the default (RFC 6454 §6.1). http is for loopback only,
// since a browser gives service workers to nobody else.
func Origin(where, raw string) (string, error) {
	wrong := func(text string) (string, error) {
		return "", &belfry.Error{Kind: belfry.ErrInvalid, Code: "origin", Where: where, Text: fmt.Sprintf("%+q %s", raw, text),
			Hint: "write an origin such as https://www.example.com"}
	}
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return wrong("is not an origin")
	}
	if u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || u.Path != "" && u.Path != "/" {
		return wrong("holds more than an origin")
	}
	// Browsers compare octet for octet: what they would never send would let nobody in, without a word.
	host := strings.ToLower(u.Hostname())
	port, err := strconv.ParseUint(cmp.Or(u.Port(), defaultPort(u.Scheme)), 10, 16)
	switch addr, notIP := netip.ParseAddr(host); {
	case strings.Contains(host, "*"):
		return wrong("must name one site: there are no wildcards")
	case notIP != nil && !hostName.MatchString(host), notIP == nil && addr.Zone() != "":
		return wrong("must name the host as browsers send it, in letters, digits, dots and hyphens (xn--… for others)")
	case err != nil, port == 0, strings.HasSuffix(u.Host, ":"):
		return wrong("has a port that is not 1 to 65535")
	case u.Scheme == "http" && !Loopback(host):
		return wrong("must begin with https://: browsers allow push over http on this machine only")
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		host = addr.String() // [2001:DB8::0:1] is [2001:db8::1] in a browser
	}
	return originOf(u.Scheme, host, strconv.FormatUint(port, 10)), nil
}

var hostName = regexp.MustCompile(`^[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?$`)

func defaultPort(scheme string) string {
	return map[string]string{"https": "443", "http": "80"}[scheme]
}

// originOf writes an origin as browsers do, without the scheme's own port.
func originOf(scheme, host, port string) string {
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if port != defaultPort(scheme) {
		host += ":" + port
	}
	return scheme + "://" + host
}

// Loopback reports whether host can only mean this machine.
func Loopback(host string) bool {
	host = strings.ToLower(strings.Trim(host, "[]"))
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}
