package config

import (
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

func parse(args ...string) (Serve, error) {
	fs := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	read := ServeFlags(fs)
	if err := fs.Parse(args); err != nil {
		return Serve{}, err
	}
	return read()
}

// Who may register follows from the flags: one origin too many lets a stranger's
// page in, one too few locks the operator's own out.
func TestWhoMayRegister(t *testing.T) {
	for _, tt := range []struct {
		args, want string
		local      bool
		demo       bool
	}{
		{"", "http://127.0.0.1:8080 http://localhost:8080", true, true},
		{"--origin http://localhost:3000", "http://localhost:3000 http://127.0.0.1:8080 http://localhost:8080", true, true},
		{"--origin https://www.example.com", "https://www.example.com http://127.0.0.1:8080 http://localhost:8080", false, true},
		{"--public-url https://ring.example.com", "https://ring.example.com http://127.0.0.1:8080 http://localhost:8080", false, false},
		{"--public-url https://ring.example.com --demo", "https://ring.example.com http://127.0.0.1:8080 http://localhost:8080", false, true},
		{"--public-url https://b.example.com --origin https://a.example.com,https://b.example.com --listen :8080", "https://b.example.com https://a.example.com", false, false},
		{"--origin https://b.example.com --origin https://a.example.com --listen 0.0.0.0:8080", "https://b.example.com https://a.example.com", false, false},
		{"--tls-cert c --tls-key k", "https://127.0.0.1:8080 https://localhost:8080", true, true},
	} {
		c, err := parse(strings.Fields(tt.args)...)
		if err != nil {
			t.Errorf("%s: %v", tt.args, err)
			continue
		}
		got := c.AllOrigins(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8080})
		if !slices.Equal(got, strings.Fields(tt.want)) {
			t.Errorf("%s: %v", tt.args, got)
		}
		if c.Local() != tt.local {
			t.Errorf("%s: local is %v", tt.args, c.Local())
		}
		if c.ShowsDemo() != tt.demo {
			t.Errorf("%s: the demo page is %v", tt.args, c.ShowsDemo())
		}
	}
}

// A chat on a page that is not there would leave its operator to look for it. No
// flag but its own opens one.
func TestDemoChat(t *testing.T) {
	for args, ok := range map[string]bool{
		"--demo-chat": true, "--public-url https://ring.example.com --demo --demo-chat": true,
		"--public-url https://ring.example.com --demo-chat": false, "--origin https://www.example.com --listen :8080 --demo-chat": false,
	} {
		if c, err := parse(strings.Fields(args)...); (err == nil) != ok || ok && !c.DemoChat {
			t.Errorf("%s: %v, the chat is %v", args, err, c.DemoChat)
		}
	}
	if c, err := parse("--demo"); err != nil || c.DemoChat {
		t.Errorf("without its flag: %v, the chat is %v", err, c.DemoChat)
	}
}

// Where nobody could register, serve does not start, rather than wait for
// somebody who cannot come.
func TestListenerNeedsAnOrigin(t *testing.T) {
	for _, listen := range []string{":8080", "0.0.0.0:8080", "[::]:8080", "192.0.2.1:8080", "ring.example.com:80"} {
		if _, err := parse("--listen", listen); err == nil {
			t.Errorf("%s is accepted", listen)
		}
		if _, err := parse("--listen", listen, "--origin", "https://www.example.com"); err != nil {
			t.Errorf("%s: %v", listen, err)
		}
	}
}

// A limit read wrongly either shuts visitors out or lets a flood in.
func TestRegisterLimit(t *testing.T) {
	for text, want := range map[string]struct {
		n   int
		per time.Duration
	}{
		"10/min": {10, time.Minute}, "1/s": {1, time.Second}, "600/h": {600, time.Hour}, "off": {}, "0": {},
	} {
		c, err := parse("--register-limit", text)
		if err != nil || c.RegisterN != want.n || c.RegisterPer != want.per {
			t.Errorf("%s: %d in %s, %v", text, c.RegisterN, c.RegisterPer, err)
		}
	}
	for _, text := range []string{"", "10", "10/", "/min", "-1/s", "0/s", "1.5/s", "10/day", "10/min/h"} {
		if _, err := parse("--register-limit", text); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
}

// Pages do what this list says; what it does not say is not counted.
func TestReceipts(t *testing.T) {
	for text, want := range map[string]string{
		"off": "", "shown": "shown", "closed,clicked,clicked": "clicked closed", "shown-on-apple,shown": "shown shown-on-apple",
	} {
		if c, err := parse("--receipts", text); err != nil || strings.Join(c.Receipts, " ") != want {
			t.Errorf("%s: %v, %v", text, c.Receipts, err)
		}
	}
	if c, err := parse(); err != nil || strings.Join(c.Receipts, " ") != "shown clicked" || c.ClickLinks {
		t.Errorf("by default: %v, %v, %v", c.Receipts, c.ClickLinks, err)
	}
	for text, says := range map[string]string{
		"opened": "shown, clicked, closed or shown-on-apple", "shown,off": "off stands alone", "shown-on-apple": "needs shown", "off,off": "off stands alone",
	} {
		if _, err := parse("--receipts", text); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// A proxy that is believed by mistake lets everybody choose their address.
func TestTrustedProxies(t *testing.T) {
	c, err := parse("--trusted-proxy", "10.0.0.0/8,192.0.2.1", "--trusted-proxy", "2001:db8::/32")
	var got []string
	for _, p := range c.TrustedProxies {
		got = append(got, p.String())
	}
	if want := []string{"10.0.0.0/8", "192.0.2.1/32", "2001:db8::/32"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	for _, text := range []string{"*", "10.0.0.0/33", "localhost", "10.0.0"} {
		if _, err := parse("--trusted-proxy", text); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
}

// The environment fills in what the command line leaves open, and nothing else.
func TestFromEnv(t *testing.T) {
	fs := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	read := ServeFlags(fs)
	if err := fs.Parse([]string{"--origin", "https://flag.example.com"}); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"BELFRY_ORIGIN": "https://env.example.com", "BELFRY_SUBJECT": "mailto:ops@example.com",
		"BELFRY_TRUSTED_PROXY": "10.0.0.0/8,192.0.2.1", "BELFRY_DEMO": "true", "BELFRY_DEMO_CHAT": "true", "BELFRY_ENGINE": ""}
	if err := FromEnv(fs, func(name string) string { return env[name] }); err != nil {
		t.Fatal(err)
	}
	c, err := read()
	if err != nil || !slices.Equal(c.Origins, []string{"https://flag.example.com"}) || c.Subject != "mailto:ops@example.com" ||
		len(c.TrustedProxies) != 2 || !c.Demo || !c.DemoChat || c.Engine != "native" {
		t.Errorf("%+v, %v", c, err)
	}
	env["BELFRY_DEMO"] = "perhaps"
	fs = pflag.NewFlagSet("serve", pflag.ContinueOnError)
	ServeFlags(fs)
	if err := FromEnv(fs, func(name string) string { return env[name] }); err == nil || !strings.HasPrefix(err.Error(), "BELFRY_DEMO: ") {
		t.Errorf("%v does not name the variable", err)
	}
}

// A socket whose path is too long cannot be made; the operator hears which
// directory is at fault, and not "invalid argument".
func TestSocketPath(t *testing.T) {
	long := strings.Repeat("a", maxSocket-len("/belfry.sock"))
	if p, err := PathsIn(long); err != nil || len(p.Socket) != maxSocket {
		t.Errorf("%d octets: %v", len(p.Socket), err)
	}
	if _, err := PathsIn(long + "a"); err == nil {
		t.Error("one octet more is accepted")
	}
}
