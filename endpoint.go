package belfry

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// maxEndpoint is the longest endpoint we keep, in octets (SEC-01). The longest
// seen in the field, Microsoft's, are under 700.
const maxEndpoint = 2048

// An Endpoint is a push resource's URL. It is hostile input, since a browser
// chose it, and a bearer secret, since whoever knows it may post to it
// (RFC 8030 §8.3): it prints as host and hash. Only [PushHosts.Endpoint] makes
// one from text.
type Endpoint struct{ url string }

// StoredEndpoint is the endpoint as this house wrote it down. It is not checked
// again here; sending does that (SEC-02).
func StoredEndpoint(url string) Endpoint { return Endpoint{url} }

// Reveal returns the URL, for the request itself and for an export that was asked for.
func (e Endpoint) Reveal() string { return e.url }

// Hash is the endpoint's name in the store, SHA-256 of the URL.
func (e Endpoint) Hash() [32]byte { return sha256.Sum256([]byte(e.url)) }

// Host is the push service's host, with the port where it is not the default. It
// shows nothing else of a URL that was never checked.
func (e Endpoint) Host() string {
	_, rest, _ := strings.Cut(e.url, "://")
	if end := strings.IndexAny(rest, "/?#"); end >= 0 {
		rest = rest[:end]
	}
	return rest[strings.LastIndexByte(rest, '@')+1:]
}

// Origin is the push service's origin, the audience of a VAPID token (RFC 8292 §2).
func (e Endpoint) Origin() string {
	scheme, rest, found := strings.Cut(e.url, "://")
	if !found {
		return ""
	}
	host := e.Host()
	if strings.HasPrefix(rest, host) { // as in every endpoint that was checked
		return e.url[:len(scheme)+len("://")+len(host)]
	}
	return scheme + "://" + host
}

func (e Endpoint) String() string {
	if e.url == "" {
		return "[no endpoint]"
	}
	h := e.Hash()
	return e.Host() + "/#" + hex.EncodeToString(h[:4])
}
func (e Endpoint) Format(w fmt.State, _ rune)   { io.WriteString(w, e.String()) }
func (e Endpoint) LogValue() slog.Value         { return slog.StringValue(e.String()) }
func (e Endpoint) MarshalText() ([]byte, error) { return []byte(e.String()), nil }

// builtinHosts are the push services of the browsers in use: Google, Mozilla,
// Apple and Microsoft (PS-01, PS-10, PS-20, PS-30). "*." stands for one or more
// labels in front of the name, never for the name itself.
var builtinHosts = []string{
	"fcm.googleapis.com",
	"android.googleapis.com",
	"jmt17.google.com",
	"updates.push.services.mozilla.com",
	"*.push.apple.com",
	"*.notify.windows.com",
}

var defaultPorts = map[string]string{"https": "443", "http": "80"}

// PushHosts says which push services we speak to. The zero value knows the
// built-in list; [NewPushHosts] adds to it.
type PushHosts struct {
	opened map[string]PushHost // by host:port
}

// A PushHost is one host that an operator opened by name, with --push-host or
// --callback-host.
type PushHost struct {
	Scheme string // "https", or "http" for a loopback address
	Host   string // as it stands in an endpoint, without the port
	Port   string // never empty
	Dial   string // a loopback address:port to dial instead; may be empty
}

// NewPushHosts reads the operator's additions: HOST, HOST:PORT,
// http://HOST:PORT with a loopback address, or HOST=ADDR:PORT where the
// loopback ADDR is dialled instead of HOST.
func NewPushHosts(specs []string) (PushHosts, error) {
	opened, err := openHosts(specs, func(spec, text string) error {
		return &Error{Kind: ErrInvalid, Code: "push-host", Where: "--push-host " + spec, Text: text, Hint: hostForms}
	})
	return PushHosts{opened}, err
}

const hostForms = "write HOST, HOST:PORT, http://127.0.0.1:PORT or HOST=127.0.0.1:PORT"

// openHosts reads what an operator opened, by host:port. refuse makes the error
// of a spec that is none.
func openHosts(specs []string, refuse func(spec, text string) error) (map[string]PushHost, error) {
	opened := map[string]PushHost{}
	for _, spec := range specs {
		h, wrong := parsePushHost(spec)
		if wrong != "" {
			// Who pastes an endpoint here is shown its host alone: the rest is a secret.
			return nil, refuse(beforePath.FindString(spec), wrong)
		}
		opened[h.Host+":"+h.Port] = h
	}
	return opened, nil
}

var beforePath = regexp.MustCompile(`^([A-Za-z]+://)?[^/?#]*`)

// parsePushHost reads one spec, or says what is wrong with it.
func parsePushHost(spec string) (h PushHost, wrong string) {
	h = PushHost{Scheme: "https", Port: "443"}
	name, dial, redirected := strings.Cut(spec, "=")
	if redirected {
		addr, err := netip.ParseAddrPort(dial)
		if err != nil || !addr.Addr().IsLoopback() || addr.Port() == 0 {
			return h, "the address after = must be a loopback address and a port"
		}
		h.Dial = dial
	}
	plain := strings.HasPrefix(name, "http://")
	if plain {
		h.Scheme, h.Port = "http", "80"
	}
	u, err := url.Parse(h.Scheme + "://" + strings.TrimPrefix(name, "http://"))
	if err != nil || !isHost(u.Hostname()) || u.Path != "" || u.RawQuery != "" || u.User != nil || u.Fragment != "" {
		return h, "must name one host, with no path"
	}
	h.Host = strings.ToLower(u.Hostname())
	if p := u.Port(); p != "" {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || n == 0 || p[0] == '0' {
			return h, "the port must be 1 to 65535"
		}
		h.Port = p
	} else if strings.HasSuffix(u.Host, ":") {
		return h, "the port is empty"
	}
	if strings.ContainsAny(h.Host, "*\\ ") || strings.HasSuffix(h.Host, ".") {
		return h, "must name one host exactly, without wildcards"
	}
	if plain && !loopback(h.Host) {
		return h, "plain http is for loopback addresses only"
	}
	return h, ""
}

// Opened returns the operator's entry for host (without port) and port.
func (p PushHosts) Opened(host, port string) (PushHost, bool) {
	h, ok := p.opened[host+":"+port]
	return h, ok
}

// Additions lists what was opened beyond the built-in list, in no order.
func (p PushHosts) Additions() []PushHost {
	all := make([]PushHost, 0, len(p.opened))
	for _, h := range p.opened {
		all = append(all, h)
	}
	return all
}

// Endpoint checks raw against the list and returns it in its one stored form:
// host in lower case, default port left out, path and query untouched (WP-02,
// LIB-06). It parses first and compares hosts; a pattern over the whole URL
// would let https://evil.example/x.push.apple.com/ in (SEC-01).
func (p PushHosts) Endpoint(raw string) (Endpoint, error) {
	e, _, err := p.Target(StoredEndpoint(raw))
	return e, err
}

// Target checks a stored endpoint once more, for who is about to post to it, and
// returns what that takes: the endpoint as [PushHosts.Endpoint] would, and its
// URL. Parsing a URL is dear enough that one attempt does it once.
func (p PushHosts) Target(stored Endpoint) (Endpoint, *url.URL, error) {
	raw := stored.url
	refuse := func(code, text string) (Endpoint, *url.URL, error) {
		return Endpoint{}, nil, Invalid(code, "endpoint", text)
	}
	if raw == "" || len(raw) > maxEndpoint {
		return refuse("length", fmt.Sprintf("must be 1 to %d octets long, not %d", maxEndpoint, len(raw)))
	}
	for i := range len(raw) {
		if c := raw[i]; c <= ' ' || c >= 0x7f || c == '\\' || c == '"' || c == '<' || c == '>' {
			return refuse("charset", "must be printable ASCII without spaces, quotes or backslashes")
		}
	}
	u, err := url.Parse(raw)
	if err != nil {
		// url.Error prints the whole URL, which is a secret.
		return refuse("charset", "is not a URL")
	}
	scheme := strings.ToLower(u.Scheme)
	defaultPort := defaultPorts[scheme]
	if defaultPort == "" {
		return refuse("scheme", "must begin with https://")
	}
	host, port := strings.ToLower(u.Hostname()), cmp.Or(u.Port(), defaultPort)
	opened, isOpened := p.Opened(host, port)
	isOpened = isOpened && opened.Scheme == scheme
	switch {
	case scheme != "https" && !isOpened:
		return refuse("scheme", "must begin with https://")
	case u.User != nil:
		return refuse("userinfo", "must not hold a user name")
	case u.Fragment != "" || strings.Contains(raw, "#"):
		return refuse("fragment", "must not hold a fragment")
	case strings.HasSuffix(u.Host, ":"):
		return refuse("port", "must not hold an empty port")
	case !isHost(u.Hostname()):
		return refuse("charset", "must name a host in letters, digits, dots and hyphens")
	case isOpened, port == "443" && builtin(host) != "":
	case isIP(host):
		return refuse("ip-literal", "must name a host, not an address")
	case port != "443":
		return refuse("port", "must use port 443")
	default:
		return Endpoint{}, nil, &Error{Kind: ErrInvalid, Code: "not-allowed", Where: "endpoint",
			Text: "is not at a push service that this server speaks to",
			Hint: "an operator can open one more host with --push-host"}
	}
	if u.Path == "" || u.Path == "/" {
		return refuse("path", "must hold a path")
	}
	authority := host
	if strings.Contains(host, ":") {
		authority = "[" + host + "]"
	}
	if port != defaultPort {
		authority += ":" + port
	}
	// Everything behind the authority is kept octet for octet: url.URL would
	// re-escape it, and Microsoft's tokens live in the query.
	_, rest, _ := strings.Cut(raw, "://")
	u.Scheme, u.Host = scheme, authority
	rest = rest[strings.IndexAny(rest, "/?"):]
	if raw[:len(raw)-len(rest)] == scheme+"://"+authority {
		return stored, u, nil // as it is once it was checked
	}
	return Endpoint{scheme + "://" + authority + rest}, u, nil
}

// builtin returns the entry of the built-in list that host falls under, or
// nothing.
func builtin(host string) string {
	for _, name := range builtinHosts {
		if name == host {
			return name
		}
		if suffix, wild := strings.CutPrefix(name, "*"); wild && strings.HasSuffix(host, suffix) && len(host) > len(suffix) {
			return name
		}
	}
	return ""
}

// Service is the entry of the list that a host falls under, as [Endpoint.Host]
// gives it, or "other". Anybody may register at any host that a wildcard lets in,
// so where names must be few it is these that are counted by.
func (p PushHosts) Service(host string) string {
	if entry := builtin(host); entry != "" {
		return entry
	}
	for _, h := range p.opened {
		if host == h.Host || host == net.JoinHostPort(h.Host, h.Port) {
			return host
		}
	}
	return "other"
}

func isHost(host string) bool { return isName(host) || isIP(host) }

// isName reports whether host is labels of letters, digits and hyphens, with or
// without a dot at the end. url.Parse unescapes a host and lets most punctuation
// through, and strings.ToLower makes ASCII letters of some that are none, so a
// name is checked as it was written.
func isName(host string) bool {
	before := byte('.')
	for i := range len(host) {
		c := host[i]
		switch {
		case 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-':
		case c == '.' && before != '.':
		default:
			return false
		}
		before = c
	}
	return host != ""
}

func isIP(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}

// loopback reports whether host can only mean this machine.
func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}
