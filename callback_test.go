package belfry_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/belfry-push/belfry"
)

// A callback is called from inside the operator's network. One that is let
// through too easily posts where only neighbours may (SEC-03).
func TestCallback(t *testing.T) {
	hosts, err := belfry.NewCallbackHosts([]string{"hooks.internal:8443", "http://127.0.0.1:9000", "10.0.0.7"})
	if err != nil {
		t.Fatal(err)
	}
	for raw, want := range map[string]string{
		"https://hooks.example.com/a/SECRET?b=c%2Fd&e":       "https://hooks.example.com/a/SECRET?b=c%2Fd&e",
		"HTTPS://Hooks.Example.COM/A":                        "https://hooks.example.com/A",
		"https://hooks.example.com":                          "https://hooks.example.com",
		"https://hooks.example.com:8443/":                    "https://hooks.example.com:8443/",
		"https://hooks.internal:8443/x":                      "https://hooks.internal:8443/x",
		"http://127.0.0.1:9000/x":                            "http://127.0.0.1:9000/x",
		"https://10.0.0.7/x":                                 "https://10.0.0.7/x",
		"":                                                   "",
		"/x":                                                 "",
		"https:hooks.example.com/x":                          "",
		"https:///x":                                         "",
		"http://hooks.example.com/x":                         "",
		"http://hooks.internal:8443/x":                       "",
		"https://127.0.0.1:9000/x":                           "",
		"http://127.0.0.1:9001/x":                            "",
		"https://10.0.0.7:8443/x":                            "",
		"https://8.8.8.8/x":                                  "",
		"https://[::1]/x":                                    "",
		"https://localhost/x":                                "",
		"https://ada:SECRET@hooks.example.com/x":             "",
		"https://hooks.example.com/x#SECRET":                 "",
		"https://hooks.example.com:/x":                       "",
		"https://hooks.example.com:http/x":                   "",
		"https://hooks.exämple.com/SECRET":                   "",
		"https://hooks.example.com/SECRET\r\nx: y":           "",
		"https://hooks.example.com\\@127.0.0.1/SECRET":       "",
		"file:///etc/passwd":                                 "",
		"javascript:alert(1)":                                "",
		"https://h.example/" + strings.Repeat("SECRET", 400): "",
	} {
		got, err := hosts.Callback(raw)
		if got.Reveal() != want || (want == "") != (err != nil) {
			t.Errorf("%q is %q (%v), want %q", raw, got.Reveal(), err, want)
		}
		if err != nil && strings.Contains(told(t, err, belfry.ErrInvalid, "callback").Error(), "SECRET") {
			t.Errorf("%q: %v", raw, err)
		}
	}
}

// The URL of a chat service's hook is the right to write there.
func TestCallbackIsASecret(t *testing.T) {
	c, err := belfry.CallbackHosts{}.Callback("https://hooks.example.com/SECRET")
	if err != nil {
		t.Fatal(err)
	}
	const shown = "hooks.example.com/#42467253"
	text, err := json.Marshal(c)
	if err != nil || string(text) != `"`+shown+`"` {
		t.Errorf("%s, %v", text, err)
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("m", "callback", c)
	for _, text := range []string{fmt.Sprint(c), fmt.Sprintf("%+v %#v %q %x", c, c, c, c), fmt.Sprint(struct{ C belfry.Callback }{c}), log.String()} {
		if strings.Contains(text, "SECRET") || !strings.Contains(text, shown) {
			t.Errorf("prints as %s", text)
		}
	}
	var read belfry.Callback
	if err := json.Unmarshal(text, &read); err != nil || read.String() != shown || read.Reveal() != "" || read != c.Shown() || read.Shown() != read {
		t.Errorf("reads as %s, %q, %v", read, read.Reveal(), err)
	}
	text, err = json.Marshal(belfry.Callback{})
	if err != nil || string(text) != "null" || json.Unmarshal(text, &read) != nil || read != (belfry.Callback{}) {
		t.Errorf("none is %s, %v", text, err)
	}
}

// A mistake in --callback-host is told as one in --push-host is, of its own flag.
func TestNewCallbackHostsRefuses(t *testing.T) {
	_, err := belfry.NewCallbackHosts([]string{"http://hooks.example.com/SECRET"})
	if e := told(t, err, belfry.ErrInvalid, "callback-host"); strings.Contains(e.Error(), "SECRET") || !strings.Contains(e.Error(), "--callback-host http://hooks.example.com: ") || e.Hint == "" {
		t.Error(e)
	}
}

// A callback is checked again before each call: what was taken at launch must be
// taken then, and be the same, and go nowhere that was not opened.
func FuzzCallback(f *testing.F) {
	for _, raw := range []string{"https://hooks.example.com/a%2Fb?c=d", "HTTPS://H:443", "http://127.0.0.1:9000/x", "https://[::1]:8443/", "https://h.example?%zz", "https:/x", "https://h:0/\x00"} {
		f.Add(raw)
	}
	hosts, err := belfry.NewCallbackHosts([]string{"http://127.0.0.1:9000", "[::1]:8443"})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		c, err := hosts.Callback(raw)
		if err != nil {
			return
		}
		again, err := hosts.Callback(c.Reveal())
		if err != nil || again != c {
			t.Errorf("%q is %q, and then %q, %v", raw, c.Reveal(), again.Reveal(), err)
		}
		u, err := url.Parse(c.Reveal())
		if err != nil {
			t.Fatal(err)
		}
		opened := u.Host == "127.0.0.1:9000" && u.Scheme == "http" || u.Host == "[::1]:8443"
		if _, err := netip.ParseAddr(u.Hostname()); !opened && (err == nil || u.Scheme != "https" || u.Hostname() == "localhost") || u.User != nil {
			t.Errorf("%q is let through as %q", raw, c.Reveal())
		}
	})
}
