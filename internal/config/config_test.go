package config

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"github.com/belfry-push/belfry"
)

// An origin is compared with what a browser sends, octet for octet. One that no
// browser would send must be refused at the start, or nobody could register and
// nothing would say why.
func TestOrigin(t *testing.T) {
	for raw, want := range map[string]string{
		"https://www.example.com":       "https://www.example.com",
		"https://WWW.Example.com:443/":  "https://www.example.com",
		"https://www.example.com:8443":  "https://www.example.com:8443",
		"https://www.example.com:0443":  "https://www.example.com",
		"https://xn--mnchen-3ya.de":     "https://xn--mnchen-3ya.de",
		"https://a_b.example":           "https://a_b.example",
		"http://LOCALHOST:3000":         "http://localhost:3000",
		"http://[::1]:80":               "http://[::1]",
		"http://127.0.0.1:80":           "http://127.0.0.1",
		"https://[2001:DB8::0:1]":       "https://[2001:db8::1]",
		"https://*.example.com":         "",
		"https://münchen.de":            "",
		"https://www.example.com:":      "",
		"https://www.example.com:99999": "",
		"https://www.example.com:0":     "",
		"https://[fe80::1%25eth0]":      "",
		"https://www.example.com/shop":  "",
		"https://www.example.com?":      "",
		"https://www.example.com#a":     "",
		"https://127.0.0.1.example.com": "https://127.0.0.1.example.com",
		"http://127.0.0.1.example.com":  "",
		"https://ada@www.example.com":   "",
		"http://www.example.com":        "",
		"www.example.com":               "",
		"null":                          "",
		"":                              "",
	} {
		got, err := Origin("--origin", raw)
		var told *belfry.Error
		if got != want || (want == "") != errors.As(err, &told) {
			t.Errorf("%q is %q (%v), want %q", raw, got, err, want)
		}
	}
}

// On a scheme's own port a browser leaves the port out.
func TestAllOrigins(t *testing.T) {
	for _, try := range []struct {
		serve Serve
		port  int
		want  []string
	}{
		{Serve{Listen: "127.0.0.1:0"}, 8080, []string{"http://127.0.0.1:8080", "http://localhost:8080"}},
		{Serve{Listen: "127.0.0.1:80"}, 80, []string{"http://127.0.0.1", "http://localhost"}},
		{Serve{Listen: "localhost:443", TLSCert: "cert.pem"}, 443, []string{"https://127.0.0.1", "https://localhost"}},
		{Serve{Listen: ":443", PublicURL: "https://ring.example.com", Origins: []string{"https://b.example", "https://a.example"}}, 443,
			[]string{"https://ring.example.com", "https://a.example", "https://b.example"}},
	} {
		if got := try.serve.AllOrigins(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: try.port}); !slices.Equal(got, try.want) {
			t.Errorf("%s: %q, want %q", try.serve.Listen, got, try.want)
		}
	}
}

// A user token is for the address that the site knows, and for no other once there
// is one: what was signed for another server must not hold here.
func TestAudience(t *testing.T) {
	for _, try := range []struct {
		serve Serve
		want  []string
	}{
		{Serve{Listen: "127.0.0.1:0"}, []string{"http://127.0.0.1:8080", "http://localhost:8080"}},
		{Serve{Listen: "127.0.0.1:0", TLSCert: "cert.pem"}, []string{"https://127.0.0.1:8080", "https://localhost:8080"}},
		{Serve{Listen: "127.0.0.1:0", PublicURL: "https://ring.example.com", Origins: []string{"https://a.example"}}, []string{"https://ring.example.com"}},
		{Serve{Listen: ":8080", Origins: []string{"https://a.example"}}, nil},
	} {
		if got := try.serve.Audience(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8080}); !slices.Equal(got, try.want) {
			t.Errorf("%s, %s: %q, want %q", try.serve.Listen, try.serve.PublicURL, got, try.want)
		}
	}
}

// The data directory is closed to others, and a directory that others need is not.
func TestMakeDir(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no modes")
	}
	for _, try := range []struct {
		name  string
		mode  os.FileMode
		holds string
		want  os.FileMode
	}{
		{"new", 0, "", 0o700},
		{"empty", 0o755, "", 0o700},
		{"a data directory from a backup", 0o755, "belfry.db", 0o700},
		{"only a key", 0o755, "vapid.json", 0o700},
		{"a disk of its own", 0o755, "lost+found", 0o700},
		{"somebody else's", 0o755, "index.html", 0o755},
		{"everybody's", 0o777, "index.html", 0o777},
		{"a home that is closed already", 0o700, "index.html", 0o700},
	} {
		paths, err := PathsIn(filepath.Join(t.TempDir(), "data"))
		if err != nil {
			t.Fatal(err)
		}
		if try.mode != 0 {
			if err := errors.Join(os.Mkdir(paths.Dir, 0o700), os.Chmod(paths.Dir, try.mode)); err != nil {
				t.Fatal(err)
			}
		}
		if try.holds != "" {
			if err := os.WriteFile(filepath.Join(paths.Dir, try.holds), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		err = paths.MakeDir()
		info, _ := os.Stat(paths.Dir)
		if refused := errors.Is(err, belfry.ErrInvalid); refused != (try.want != 0o700) || info.Mode().Perm() != try.want {
			t.Errorf("%s: %v, mode %o, want %o", try.name, err, info.Mode().Perm(), try.want)
		}
	}
}
