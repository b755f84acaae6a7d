// Package config turns flags and the environment into one checked struct. There
// is no configuration file.
package config

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/belfry-push/belfry"
)

// Serve is what `belfry serve` runs on.
type Serve struct {
	Data           string
	Listen         string
	PublicURL      string   // an origin; empty without one
	Origins        []string // the sites, as given by --origin
	Subject        string
	OpsListen      string
	TLSCert        string
	TLSKey         string
	TrustedProxies []netip.Prefix
	RegisterN      int
	RegisterPer    time.Duration
	LiveLimit      int // below 0 means none
	PushHosts      belfry.PushHosts
	PushCA         string
	CallbackHosts  belfry.CallbackHosts
	Engine         string
	Receipts       []string // what browsers are to tell of messages; empty for nothing
	ClickLinks     bool
	Demo           bool
	DemoChat       bool
	LogLevel       string
}

// ServeFlags adds the flags of serve to fs and returns what reads them, once
// they are parsed, into a checked Serve.
func ServeFlags(fs *pflag.FlagSet) func() (Serve, error) {
	listen := fs.String("listen", "127.0.0.1:8080", "`HOST:PORT` where browsers reach the server")
	public := fs.String("public-url", "", "`URL` at which browsers reach it from outside, such as https://ring.example.com")
	origins := fs.StringSlice("origin", nil, "a `site` that may register visitors, such as https://www.example.com; may be repeated")
	subject := fs.String("subject", "", "`address` by which push services reach you, https: or mailto:")
	ops := fs.String("ops-listen", "", "`HOST:PORT` where operators reach the server with a token")
	cert := fs.String("tls-cert", "", "`FILE` with the certificate chain, PEM")
	key := fs.String("tls-key", "", "`FILE` with its private key, PEM")
	proxies := fs.StringSlice("trusted-proxy", nil, "`CIDR` of a proxy whose X-Forwarded-For is believed; may be repeated")
	limit := fs.String("register-limit", "10/min", "`limit` on registrations of one address: N/s, N/min, N/h, or off")
	listeners := fs.String("live-limit", "1000", "how many `pages` of one address may listen at a time, or off")
	hosts := fs.StringSlice("push-host", nil, "one more push service, `HOST[:PORT]`; for development also http://127.0.0.1:PORT or HOST=127.0.0.1:PORT; may be repeated")
	ca := fs.String("push-ca", "", "`FILE` with one more certificate authority for push services, PEM")
	callbacks := fs.StringSlice("callback-host", nil, "one receiver of callbacks that may be in your own network, `HOST[:PORT]`; on this machine also http://127.0.0.1:PORT or HOST=127.0.0.1:PORT; may be repeated")
	engine := fs.String("engine", "native", "`name` of what seals messages: native or webpush-go")
	told := fs.StringSlice("receipts", []string{"shown", "clicked"}, "what `kinds` of receipts browsers send: shown, clicked, closed, shown-on-apple, or off")
	links := fs.Bool("click-links", false, "sign the links of messages, so that clicks count which no worker hears of")
	demo := fs.Bool("demo", false, "serve the demo page at / even with --public-url")
	chat := fs.Bool("demo-chat", false, "let visitors of the demo page write to each other, live; anybody who opens it may")
	level := fs.String("log-level", "info", "`level` of what is logged: debug, info, warn or error")
	return func() (Serve, error) {
		c := Serve{Listen: *listen, PublicURL: *public, Origins: *origins, Subject: *subject, OpsListen: *ops, TLSCert: *cert,
			TLSKey: *key, PushCA: *ca, Engine: *engine, ClickLinks: *links, Demo: *demo, DemoChat: *chat, LogLevel: *level}
		return c, c.check(*proxies, *limit, *listeners, *hosts, *callbacks, *told)
	}
}

func (c *Serve) check(proxies []string, limit, listeners string, hosts, callbacks, receipts []string) (err error) {
	if c.PublicURL != "" {
		if c.PublicURL, err = Origin("--public-url", c.PublicURL); err != nil {
			return err
		}
	}
	for i, o := range c.Origins {
		if c.Origins[i], err = Origin("--origin", o); err != nil {
			return err
		}
	}
	for _, p := range proxies {
		prefix, err := parsePrefix(p)
		if err != nil {
			return usage("--trusted-proxy", fmt.Sprintf("%+q is not an address or a CIDR such as 10.0.0.0/8", p))
		}
		c.TrustedProxies = append(c.TrustedProxies, prefix)
	}
	if c.RegisterN, c.RegisterPer, err = parseLimit(limit); err != nil {
		return err
	}
	if c.LiveLimit, err = parseCount("--live-limit", listeners); err != nil {
		return err
	}
	if c.PushHosts, err = belfry.NewPushHosts(hosts); err != nil {
		return err
	}
	if c.CallbackHosts, err = belfry.NewCallbackHosts(callbacks); err != nil {
		return err
	}
	if c.Receipts, err = parseReceipts(receipts); err != nil {
		return err
	}
	return c.checkListeners()
}

func (c *Serve) checkListeners() error {
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return usage("--listen", fmt.Sprintf("%+q is not HOST:PORT", c.Listen))
	}
	if !Loopback(host) && c.PublicURL == "" && len(c.Origins) == 0 {
		return &belfry.Error{Kind: belfry.ErrInvalid, Code: "usage", Where: "--listen", Text: fmt.Sprintf("nobody could register at %s: there is no --public-url and no --origin", c.Listen),
			Hint: "add --public-url https://ring.example.com, or --origin for each site"}
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		return usage("--tls-cert", "and --tls-key go together")
	}
	if c.OpsListen != "" {
		host, _, err := net.SplitHostPort(c.OpsListen)
		if err != nil {
			return usage("--ops-listen", fmt.Sprintf("%+q is not HOST:PORT", c.OpsListen))
		}
		if c.TLSCert == "" && !Loopback(host) {
			return &belfry.Error{Kind: belfry.ErrInvalid, Code: "ops-listen", Where: "--ops-listen", Text: "must be a loopback address without TLS: tokens would travel in the clear",
				Hint: "add --tls-cert and --tls-key, or listen on 127.0.0.1"}
		}
	}
	if c.DemoChat && !c.ShowsDemo() {
		return &belfry.Error{Kind: belfry.ErrInvalid, Code: "usage", Where: "--demo-chat", Text: "is a part of the demo page, which is not served here",
			Hint: "add --demo"}
	}
	if !slices.Contains([]string{"native", "webpush-go"}, c.Engine) {
		return usage("--engine", fmt.Sprintf("must be native or webpush-go, not %+q", c.Engine))
	}
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, c.LogLevel) {
		return usage("--log-level", fmt.Sprintf("must be debug, info, warn or error, not %+q", c.LogLevel))
	}
	return nil
}

// Local reports whether only this machine can reach the server, so that a
// subject and a certificate may be left out.
func (c Serve) Local() bool {
	host, _, _ := net.SplitHostPort(c.Listen)
	if !Loopback(host) {
		return false
	}
	for _, origin := range append([]string{c.PublicURL}, c.Origins...) {
		if _, rest, _ := strings.Cut(origin, "://"); origin != "" && !Loopback(hostOf(rest)) {
			return false
		}
	}
	return true
}

func hostOf(authority string) string {
	if host, _, err := net.SplitHostPort(authority); err == nil {
		return host
	}
	return authority
}

// AllOrigins is every site that may register, once the port is known, each once:
// that of --public-url first, then --origin, and on loopback the server's own. The
// first is the site of rows that name none.
func (c Serve) AllOrigins(listening net.Addr) []string {
	var all []string
	if c.PublicURL != "" {
		all = append(all, c.PublicURL)
	}
	all = append(append(all, c.Origins...), c.ownOrigins(listening)...)
	if len(all) == 0 {
		return nil
	}
	first, rest := all[0], all[1:]
	rest = slices.DeleteFunc(rest, func(o string) bool { return o == first })
	slices.Sort(rest)
	return append([]string{first}, slices.Compact(rest)...)
}

// Audience is what the aud of a user token may be: the server's public URL or,
// without one, what this machine calls the server. It is none where only a proxy
// knows the address.
func (c Serve) Audience(listening net.Addr) []string {
	if c.PublicURL != "" {
		return []string{c.PublicURL}
	}
	return c.ownOrigins(listening)
}

// ownOrigins are the server's own on loopback, once the port is known.
func (c Serve) ownOrigins(listening net.Addr) (own []string) {
	host, _, _ := net.SplitHostPort(c.Listen)
	if tcp, ok := listening.(*net.TCPAddr); ok && Loopback(host) {
		scheme := "http"
		if c.TLSCert != "" {
			scheme = "https"
		}
		for _, name := range []string{"127.0.0.1", "localhost"} {
			own = append(own, originOf(scheme, name, strconv.Itoa(tcp.Port)))
		}
	}
	return own
}

// ShowsDemo reports whether / is the demo page.
func (c Serve) ShowsDemo() bool {
	host, _, _ := net.SplitHostPort(c.Listen)
	return c.Demo || c.PublicURL == "" && Loopback(host)
}

func parsePrefix(s string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	return netip.ParsePrefix(s)
}

// parseLimit reads "10/min"; "off" and "0" mean no limit.
func parseLimit(s string) (int, time.Duration, error) {
	if s == "off" || s == "0" {
		return 0, 0, nil
	}
	number, unit, _ := strings.Cut(s, "/")
	per := map[string]time.Duration{"s": time.Second, "min": time.Minute, "h": time.Hour}[unit]
	n, err := strconv.Atoi(number)
	if err != nil || n < 1 || per == 0 {
		return 0, 0, usage("--register-limit", fmt.Sprintf("%+q is not N/s, N/min, N/h or off", s))
	}
	return n, per, nil
}

// parseCount reads "1000"; "off" and "0" mean no limit, which is -1.
func parseCount(flag, s string) (int, error) {
	if s == "off" || s == "0" {
		return -1, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		return 0, usage(flag, fmt.Sprintf("%+q is not a number or off", s))
	}
	return n, nil
}

// receiptKinds are what --receipts may name, in the order in which pages read them.
var receiptKinds = []string{"shown", "clicked", "closed", "shown-on-apple"}

// parseReceipts reads a list of kinds; "off" alone is none.
func parseReceipts(given []string) ([]string, error) {
	if slices.Equal(given, []string{"off"}) {
		return nil, nil
	}
	for _, kind := range given {
		if !slices.Contains(receiptKinds, kind) {
			return nil, usage("--receipts", fmt.Sprintf("%+q is not shown, clicked, closed or shown-on-apple; off stands alone", kind))
		}
	}
	if slices.Contains(given, "shown-on-apple") && !slices.Contains(given, "shown") {
		return nil, usage("--receipts", "shown-on-apple needs shown beside it")
	}
	return slices.DeleteFunc(slices.Clone(receiptKinds), func(kind string) bool { return !slices.Contains(given, kind) }), nil
}

func usage(flag, text string) error { return belfry.Invalid("usage", flag, text) }

// FromEnv gives every flag that was not set on the command line the value of
// BELFRY_ + its name in capitals, where there is one: a flag wins. --data has
// two meanings in one command and looks after itself.
func FromEnv(fs *pflag.FlagSet, getenv func(string) string) (err error) {
	fs.VisitAll(func(f *pflag.Flag) {
		name := EnvName(f.Name)
		value := getenv(name)
		if f.Changed || value == "" || err != nil || f.Name == "data" {
			return
		}
		if e := fs.Set(f.Name, value); e != nil {
			err = usage(name, fmt.Sprintf("%+q does not fit --%s", value, f.Name))
		}
	})
	return err
}

// EnvName is the environment variable behind a flag.
func EnvName(flag string) string {
	return "BELFRY_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// maxSocket is the longest path that a Unix socket may have on every system we
// build for, with room to spare (104 on darwin, 108 on Linux).
const maxSocket = 100

// Paths are the files in the data directory.
type Paths struct{ Dir, Database, Keys, Webhook, User, Socket string }

// PathsIn returns the files of the data directory dir.
func PathsIn(dir string) (Paths, error) {
	in := func(name string) string { return filepath.Join(dir, name) }
	p := Paths{dir, in("belfry.db"), in("vapid.json"), in("webhook.key"), in("user.key"), in("belfry.sock")}
	if len(p.Socket) > maxSocket {
		return p, &belfry.Error{Kind: belfry.ErrInvalid, Code: "usage", Where: "--data",
			Text: fmt.Sprintf("the socket's path %s is %d octets, over the %d that every system takes", p.Socket, len(p.Socket), maxSocket),
			Hint: "choose a shorter --data, or a relative one"}
	}
	return p, nil
}

// MakeDir makes the data directory and closes it to everybody but its owner. One
// that others may enter and that holds other things than ours is refused: /tmp
// or a home that is closed costs more than a wrong --data.
func (p Paths) MakeDir() error {
	if err := os.MkdirAll(p.Dir, 0o700); err != nil {
		return err
	}
	info, err := os.Stat(p.Dir)
	if err != nil || info.Mode().Perm() == 0o700 {
		return err
	}
	there, err := os.ReadDir(p.Dir)
	if err != nil {
		return err
	}
	for _, entry := range there {
		name, _, _ := strings.Cut(entry.Name(), ".")
		if !slices.Contains([]string{"belfry", "vapid", "webhook", "user", "lost+found"}, name) {
			return &belfry.Error{Kind: belfry.ErrInvalid, Code: "usage", Where: "--data",
				Text: fmt.Sprintf("%s is open to others and holds %+q; it would be closed to everybody but you", p.Dir, entry.Name()),
				Hint: "name a directory of its own, such as " + filepath.Join(p.Dir, "belfry-data")}
		}
	}
	return os.Chmod(p.Dir, 0o700)
}
