package config

import (
	"fmt"
	"net/netip"
	"net/url"
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
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Path != "" && u.Path != "/" {
		return wrong("holds more than an origin")
	}
	if u.Scheme == "http" && !Loopback(u.Hostname()) {
		return wrong("must begin with https://: browsers allow push over http on this machine only")
	}
	host := strings.ToLower(u.Host)
	host = strings.TrimSuffix(host, map[string]string{"https": ":443", "http": ":80"}[u.Scheme])
	return u.Scheme + "://" + host, nil
}

// Loopback reports whether host can only mean this machine.
func Loopback(host string) bool {
	host = strings.Trim(host, "[]")
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}
