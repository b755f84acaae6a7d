package belfry

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"strings"
)

// A Callback is the URL that is told how a broadcast ended. Whoever launches
// chooses it, and it may hold a secret, as chat services' do: it prints as host
// and hash, in JSON too, where none is null. Only [CallbackHosts.Callback] makes
// one from text that can be called.
type Callback struct {
	url   string
	shown string // of one that was read where it is shown, and cannot be called
}

// StoredCallback is the callback as this house wrote it down. Calling it checks
// it again.
func StoredCallback(url string) Callback { return Callback{url: url} }

// Reveal returns the URL, for the request itself, or nothing where there is none to call.
func (c Callback) Reveal() string { return c.url }

// Shown is the callback as everybody may see it, for when it is not called any more.
func (c Callback) Shown() Callback { return Callback{shown: c.String()} }

// String is empty where there is no callback.
func (c Callback) String() string {
	if c.url == "" {
		return c.shown
	}
	sum := sha256.Sum256([]byte(c.url))
	return Endpoint{c.url}.Host() + "/#" + hex.EncodeToString(sum[:4])
}
func (c Callback) Format(w fmt.State, _ rune) { io.WriteString(w, c.String()) }
func (c Callback) LogValue() slog.Value       { return slog.StringValue(c.String()) }

func (c Callback) MarshalJSON() ([]byte, error) {
	if c == (Callback{}) {
		return []byte("null"), nil
	}
	return json.Marshal(c.String())
}

// UnmarshalJSON reads what MarshalJSON wrote, which cannot be called.
func (c *Callback) UnmarshalJSON(b []byte) error {
	*c = Callback{}
	return json.Unmarshal(b, &c.shown)
}

// CallbackHosts says which receivers of callbacks may be in our own network. The
// zero value knows none: then all must be at public addresses.
type CallbackHosts struct {
	opened map[string]PushHost // by host:port
}

// NewCallbackHosts reads what an operator opened, written as for [NewPushHosts].
func NewCallbackHosts(specs []string) (CallbackHosts, error) {
	opened, err := openHosts(specs, func(spec, text string) error {
		return &Error{Kind: ErrInvalid, Code: "callback-host", Where: "--callback-host " + spec, Text: text, Hint: hostForms}
	})
	return CallbackHosts{opened}, err
}

// Additions lists what was opened, in no order.
func (c CallbackHosts) Additions() []PushHost { return PushHosts(c).Additions() }

// Opened returns the operator's entry for host (without port) and port.
func (c CallbackHosts) Opened(host, port string) (PushHost, bool) {
	return PushHosts(c).Opened(host, port)
}

// Callback checks raw and returns it with its scheme and host in lower case.
// Whether a name leads to an address that may be called is seen when it is called.
func (c CallbackHosts) Callback(raw string) (Callback, error) {
	refuse := func(text string) (Callback, error) { return Callback{}, Invalid("callback", "callback", text) }
	if raw == "" || len(raw) > maxEndpoint {
		return refuse(fmt.Sprintf("must be a URL of 1 to %d octets, not %d", maxEndpoint, len(raw)))
	}
	if strings.ContainsFunc(raw, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune(`\"<>`, r) }) {
		return refuse("must be printable ASCII without spaces, quotes or backslashes")
	}
	u, err := url.Parse(raw)
	if err != nil || u.Opaque != "" {
		return refuse("is not a URL") // url.Error prints all of it
	}
	u.Host = strings.ToLower(u.Host)
	host, port := u.Hostname(), u.Port()
	if port == "" {
		port = map[string]string{"https": "443", "http": "80"}[u.Scheme]
	}
	opened, isOpened := c.Opened(host, port)
	isOpened = isOpened && opened.Scheme == u.Scheme
	switch {
	case u.Scheme != "https" && !isOpened:
		return refuse("must begin with https://")
	case u.User != nil:
		return refuse("must not hold a user name")
	case strings.Contains(raw, "#"):
		return refuse("must not hold a fragment")
	case !isHost(host) || strings.HasSuffix(u.Host, ":"):
		return refuse("must name a host in letters, digits, dots and hyphens")
	case !isOpened && (isIP(host) || loopback(host)):
		return Callback{}, &Error{Kind: ErrInvalid, Code: "callback", Where: "callback", Text: "must name a host of the public internet",
			Hint: "an operator can open one more with --callback-host"}
	}
	return Callback{url: u.String()}, nil
}
