package belfry_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/internal/vectors"
)

// told ends the test unless err is one that people see, of this kind and code.
func told(t *testing.T, err, kind error, code string) *belfry.Error {
	t.Helper()
	var e *belfry.Error
	if !errors.As(err, &e) || !errors.Is(err, kind) || e.Code != code {
		t.Fatalf("got %v, want %v with code %s", err, kind, code)
	}
	return e
}

type endpointRow struct{ Endpoint, Expect, Why string }

func endpointRows(t testing.TB) []endpointRow {
	t.Helper()
	var file struct{ Rows []endpointRow }
	vectors.Load(t, "endpoints", &file)
	if len(file.Rows) == 0 {
		t.Fatal("no rows")
	}
	return file.Rows
}

// An endpoint that slips in makes this server post to wherever its author likes;
// one that is kept out is a visitor who cannot register (SEC-01).
func TestEndpointVectors(t *testing.T) {
	for _, row := range endpointRows(t) {
		t.Run(row.Why, func(t *testing.T) {
			e, err := belfry.PushHosts{}.Endpoint(row.Endpoint)
			if row.Expect != "ok" {
				if where := told(t, err, belfry.ErrInvalid, row.Expect).Where; where != "endpoint" || e != (belfry.Endpoint{}) {
					t.Errorf("where is %q, endpoint %v", where, e)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if want := strings.Replace(row.Endpoint, ":443/", "/", 1); e.Reveal() != want {
				t.Errorf("stored as %s", e.Reveal())
			}
		})
	}
}

// The rows that SEC-01 names and the vectors do not hold.
func TestEndpointRefuses(t *testing.T) {
	long := "https://fcm.googleapis.com/" + strings.Repeat("a", 2048-len("https://fcm.googleapis.com/"))
	if _, err := (belfry.PushHosts{}).Endpoint(long); err != nil {
		t.Errorf("2048 octets: %v", err)
	}
	for _, row := range []endpointRow{
		{long + "a", "length", "2049 octets"},
		{"https://fcm.googleapis.com./x", "not-allowed", "trailing dot"},
		{"https://.push.apple.com/x", "charset", "nothing in front of the wildcard's dot"},
		{"https://a..push.apple.com/x", "charset", "an empty label"},
		{"https://%ff.push.apple.com/x", "charset", "an escaped octet, which would be stored as it is"},
		{"https://%25.push.apple.com/x", "charset", "an escaped percent sign"},
		{"https://fcm.googleap%C4%B0s.com/x", "charset", "a dotted capital I, which becomes an i in lower case"},
		{"https://a;b.push.apple.com/x", "charset", "a semicolon"},
		{"https://*.push.apple.com/x", "charset", "the wildcard itself"},
		{"https://a_b.push.apple.com/x", "charset", "an underscore"},
		{"https://push.apple.com/x", "not-allowed", "the wildcard's parent"},
		{"https://evilpush.apple.com/x", "not-allowed", "no dot boundary"},
		{"https://web.push.apple.com.evil.example/x", "not-allowed", "suffix behind"},
		{"https://evil.example/x.push.apple.com/", "not-allowed", "suffix in the path"},
		{"https://evil.example\\.push.apple.com/x", "charset", "backslash, which browsers read as a slash"},
		{"https://fcm.googleapis.com/\"x", "charset", "quote"},
		{"https://fcm.googleapis.com/a\\b", "charset", "backslash in the path"},
		{"https://fcm.googleapis.com/<", "charset", "angle bracket"},
		{"https://fcm.googleapis.com/>", "charset", "angle bracket"},
		{"https://fcm.googleapis.com/\x7f", "charset", "delete"},
		{"https://fcm.googleapis.com/ü", "charset", "not ASCII"},
		{"https://fcm.googleapis.com/%zz", "charset", "a broken escape"},
		{"https://fcm.googleapis.com:99999/x", "port", "no such port"},
		{"https://fcm.googleapis.com:0443/x", "port", "a port that means 443 to some"},
		{"https://fcm.googleapis.com:80/x", "port", "http's port"},
		{"https://fcm.googleapis.com", "path", "no path"},
		{"https://fcm.googleapis.com?token=a", "path", "a query alone"},
		{"https://fcm.googleapis.com/x#", "fragment", "an empty fragment"},
		{"https://@fcm.googleapis.com/x", "userinfo", "an empty user name"},
		{"https://[::ffff:127.0.0.1]/x", "ip-literal", "mapped address"},
		{"https://[fe80::1%25eth0]/x", "ip-literal", "address with a zone"},
		{"https://0x7f000001/x", "not-allowed", "hexadecimal address"},
		{"https://127.1/x", "not-allowed", "short address"},
		{"ftp://fcm.googleapis.com/x", "scheme", "another scheme"},
		{"javascript:alert(1)", "scheme", "script"},
		{"/wpush/v2/gAAAA", "scheme", "the tail alone, as Mozilla warns of"},
	} {
		e, err := belfry.PushHosts{}.Endpoint(row.Endpoint)
		if e != (belfry.Endpoint{}) {
			t.Errorf("%s: accepted as %s", row.Why, e.Reveal())
		}
		told(t, err, belfry.ErrInvalid, row.Expect)
		if row.Expect != "length" && strings.Contains(err.Error(), "fcm.googleapis.com/") {
			t.Errorf("%s: the error holds the endpoint: %v", row.Why, err)
		}
	}
}

// Tokens live in the path and in the query, and a push service knows them by
// the octet: an escape that is written anew is another subscription (WP-02).
func TestEndpointKeepsPathAndQuery(t *testing.T) {
	hosts := []string{"fcm.googleapis.com", "updates.push.services.mozilla.com", "web.push.apple.com", "wns2-par02p.notify.windows.com"}
	pieces := []string{"%3d", "%3D", "%2F", "%2f", "%25", "%20", "%C3%BC", ":", "=", "+", "/", "//", "-", "_", ".", "..", "~", "!", "*", "'",
		"(", ")", ",", ";", "@", "$", "&", "|", "^", "`", "{", "}", "[", "]", "a", "Z", "0", "APA91bH"}
	random := rand.New(rand.NewPCG(8030, 8291))
	for range 1000 {
		target := "/"
		for range 1 + random.IntN(40) {
			target += pieces[random.IntN(len(pieces))]
		}
		target += "x"
		if random.IntN(2) == 0 {
			target += "?token=" + pieces[random.IntN(len(pieces))] + "%3d%3d?" + pieces[random.IntN(len(pieces))]
		}
		host := hosts[random.IntN(len(hosts))]
		e, err := belfry.PushHosts{}.Endpoint("HTTPS://" + strings.ToUpper(host) + ":443" + target)
		if err != nil {
			t.Fatalf("%s: %v", target, err)
		}
		if e.Reveal() != "https://"+host+target {
			t.Fatalf("%s became %s", target, e.Reveal())
		}
	}
}

// What is posted to is what is stored: the URL that comes with the check must
// not be that of another spelling, and none comes without it (SEC-02).
func TestTarget(t *testing.T) {
	for _, row := range endpointRows(t) {
		e, u, err := belfry.PushHosts{}.Target(belfry.StoredEndpoint(strings.Replace(row.Endpoint, "https://", "HTTPS://", 1)))
		if (err == nil) != (row.Expect == "ok") || (u == nil) != (err != nil) {
			t.Errorf("%s: %v, %v", row.Why, u, err)
		}
		if err != nil {
			continue
		}
		if want, err := url.Parse(e.Reveal()); err != nil || !reflect.DeepEqual(u, want) {
			t.Errorf("%s: posts to %v, stored as %v, %v", row.Why, u, want, err)
		}
	}
	hosts, err := belfry.NewPushHosts([]string{"[::1]:8091"})
	if err != nil {
		t.Fatal(err)
	}
	if _, u, err := hosts.Target(belfry.StoredEndpoint("https://[::1]:8091/p")); err != nil || u.Host != "[::1]:8091" {
		t.Errorf("posts to %v, %v", u, err)
	}
}

// Two spellings of one endpoint would be two subscriptions, and the person be
// rung twice; and a push service compares the audience of a token with its own
// origin, by the octet (WP-41, LIB-06).
func TestEndpointParts(t *testing.T) {
	opened, err := belfry.NewPushHosts([]string{"push.kaiostech.com:8443", "http://127.0.0.1:8090", "[::1]:8091", "http://[::1]:80"})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ raw, stored, host, origin string }{
		{"https://FCM.googleapis.com:443/x", "https://fcm.googleapis.com/x", "fcm.googleapis.com", "https://fcm.googleapis.com"},
		{"Https://fcm.googleapis.com/x?y=Z", "https://fcm.googleapis.com/x?y=Z", "fcm.googleapis.com", "https://fcm.googleapis.com"},
		{"https://a.b.push.apple.com/x", "https://a.b.push.apple.com/x", "a.b.push.apple.com", "https://a.b.push.apple.com"},
		{"https://push.kaiostech.com:8443/wpush/v2/x", "https://push.kaiostech.com:8443/wpush/v2/x", "push.kaiostech.com:8443", "https://push.kaiostech.com:8443"},
		{"http://127.0.0.1:8090/p/x", "http://127.0.0.1:8090/p/x", "127.0.0.1:8090", "http://127.0.0.1:8090"},
		{"https://[::1]:8091/p/x", "https://[::1]:8091/p/x", "[::1]:8091", "https://[::1]:8091"},
		{"http://[::1]:80/p/x", "http://[::1]/p/x", "[::1]", "http://[::1]"},
	} {
		e, err := opened.Endpoint(tt.raw)
		if err != nil {
			t.Errorf("%s: %v", tt.raw, err)
			continue
		}
		if e.Reveal() != tt.stored || e.Host() != tt.host || e.Origin() != tt.origin || e.Hash() != sha256.Sum256([]byte(tt.stored)) {
			t.Errorf("%s: stored %s, host %s, origin %s", tt.raw, e.Reveal(), e.Host(), e.Origin())
		}
		if again := belfry.StoredEndpoint(e.Reveal()); again != e {
			t.Errorf("%s: read back as another", tt.raw)
		}
	}
	// A row from elsewhere was never checked; its host must not show more than the host.
	for _, raw := range []string{"https://push.example?token=secret", "https://secret@push.example/x", "https://a:secret@push.example", "https://push.example#secret"} {
		if e := belfry.StoredEndpoint(raw); e.Host() != "push.example" || strings.Contains(e.String(), "secret") {
			t.Errorf("%s shows itself as %s at %s", raw, e, e.Host())
		}
	}
	if none := (belfry.Endpoint{}); none.Host() != "" || none.Origin() != "" || none.String() != "[no endpoint]" {
		t.Errorf("no endpoint is at %q, %q", none.Host(), none.Origin())
	}
}

// What an operator opens is opened to the letter: this host at this port.
func TestNewPushHosts(t *testing.T) {
	for _, tt := range []struct {
		spec       string
		want       belfry.PushHost
		yes, other string // an endpoint it opens, and one close by that it does not
	}{
		{"push.example.net", belfry.PushHost{Scheme: "https", Host: "push.example.net", Port: "443"},
			"https://push.example.net/x", "https://push.example.net:8443/x"},
		{"PUSH.example.net", belfry.PushHost{Scheme: "https", Host: "push.example.net", Port: "443"},
			"https://push.EXAMPLE.net/x", "https://a.push.example.net/x"},
		{"push.kaiostech.com:8443", belfry.PushHost{Scheme: "https", Host: "push.kaiostech.com", Port: "8443"},
			"https://push.kaiostech.com:8443/x", "https://push.kaiostech.com/x"},
		{"10.0.0.7:8443", belfry.PushHost{Scheme: "https", Host: "10.0.0.7", Port: "8443"},
			"https://10.0.0.7:8443/x", "http://10.0.0.7:8443/x"},
		{"[::1]:8090", belfry.PushHost{Scheme: "https", Host: "::1", Port: "8090"}, "https://[::1]:8090/x", "https://[::1]/x"},
		{"http://127.0.0.1:8090", belfry.PushHost{Scheme: "http", Host: "127.0.0.1", Port: "8090"},
			"http://127.0.0.1:8090/x", "https://127.0.0.1:8090/x"},
		{"http://localhost:8090", belfry.PushHost{Scheme: "http", Host: "localhost", Port: "8090"},
			"http://localhost:8090/x", "http://localhost:8091/x"},
		{"http://[::1]", belfry.PushHost{Scheme: "http", Host: "::1", Port: "80"}, "http://[::1]/x", "http://[::2]/x"},
		{"push.example.net=127.0.0.1:9000", belfry.PushHost{Scheme: "https", Host: "push.example.net", Port: "443", Dial: "127.0.0.1:9000"},
			"https://push.example.net/x", "https://127.0.0.1:9000/x"},
		{"push.example.net:8443=[::1]:9000", belfry.PushHost{Scheme: "https", Host: "push.example.net", Port: "8443", Dial: "[::1]:9000"},
			"https://push.example.net:8443/x", "https://push.example.net/x"},
		{"fcm.googleapis.com=127.0.0.1:9000", belfry.PushHost{Scheme: "https", Host: "fcm.googleapis.com", Port: "443", Dial: "127.0.0.1:9000"},
			"https://fcm.googleapis.com/x", "http://fcm.googleapis.com/x"},
	} {
		hosts, err := belfry.NewPushHosts([]string{tt.spec})
		if err != nil {
			t.Errorf("%s: %v", tt.spec, err)
			continue
		}
		if got, ok := hosts.Opened(tt.want.Host, tt.want.Port); !ok || got != tt.want || !slices.Equal(hosts.Additions(), []belfry.PushHost{tt.want}) {
			t.Errorf("%s: opens %+v", tt.spec, hosts.Additions())
		}
		if _, err := hosts.Endpoint(tt.yes); err != nil {
			t.Errorf("%s: %s: %v", tt.spec, tt.yes, err)
		}
		if e, err := hosts.Endpoint(tt.other); err == nil {
			t.Errorf("%s: opens %s as well", tt.spec, e.Reveal())
		}
		if _, err := hosts.Endpoint("https://web.push.apple.com/x"); err != nil {
			t.Errorf("%s: closes the built-in list: %v", tt.spec, err)
		}
		// What is checked in an endpoint is checked for opened hosts alike.
		for _, bad := range []string{strings.Replace(tt.yes, "://", "://u@", 1), tt.yes + "#f", tt.yes + "\n", strings.TrimSuffix(tt.yes, "x")} {
			if _, err := hosts.Endpoint(bad); err == nil {
				t.Errorf("%s: accepts %q", tt.spec, bad)
			}
		}
	}
}

// A slip in --push-host must be told at the start: what it opens is a way
// around the rules that keep this server from posting to the inside.
func TestNewPushHostsRefuses(t *testing.T) {
	for _, spec := range []string{
		"", " ", "a b", "host/", "host/path", "host?x", "host#x", "user@host", "https://host", "ftp://host",
		"*.example.net", "*", "host:", "host:x", "host.", "::1", "http://", "=127.0.0.1:9000", "http://example.net:8090",
		"http://10.0.0.1:8090", "host=127.0.0.1", "host=localhost:9000", "host=10.0.0.1:9000", "host=:9000", "host=",
		"host=127.0.0.1:9=9", `host\x`, "host:0", "host:0443", "host:65536", "host:99999", "host=127.0.0.1:0", "a;b", "a..b", "ü.example",
	} {
		hosts, err := belfry.NewPushHosts([]string{"push.example.net", spec})
		e := told(t, err, belfry.ErrInvalid, "push-host")
		shown, known := map[string]string{"host/": "host", "host/path": "host", "host?x": "host", "host#x": "host"}[spec]
		if !known {
			shown = spec
		}
		if e.Where != "--push-host "+shown || e.Hint == "" || len(hosts.Additions()) > 0 {
			t.Errorf("%q: where %q, hint %q, opens %v", spec, e.Where, e.Hint, hosts.Additions())
		}
	}
}

// Somebody will paste an endpoint where a host belongs. The error goes to a
// terminal and to the logs of whatever starts the server.
func TestNewPushHostsHidesEndpoints(t *testing.T) {
	for _, spec := range []string{
		"https://updates.push.services.mozilla.com/wpush/v2/SECRET", "updates.push.services.mozilla.com/wpush/v2/SECRET",
		"https://db5.notify.windows.com/?token=SECRET", "http://10.0.0.1/SECRET", "push.example/SECRET=127.0.0.1:1",
	} {
		_, err := belfry.NewPushHosts([]string{spec})
		if e := told(t, err, belfry.ErrInvalid, "push-host"); strings.Contains(e.Error()+e.Hint, "SECRET") {
			t.Errorf("%s: %v", spec, e)
		}
	}
}

// allowed is the list of push services, written down a second time.
func allowed(host string) bool {
	for _, name := range []string{"fcm.googleapis.com", "android.googleapis.com", "jmt17.google.com", "updates.push.services.mozilla.com"} {
		if host == name {
			return true
		}
	}
	for _, parent := range []string{"push.apple.com", "notify.windows.com"} {
		front, under := strings.CutSuffix(host, "."+parent)
		if under && front != "" {
			return true
		}
	}
	return false
}

// Whatever a browser sends: what is accepted is at a push service on the list,
// and is accepted again unchanged when it is checked before sending (SEC-01, SEC-02).
func FuzzEndpoint(f *testing.F) {
	for _, row := range endpointRows(f) {
		f.Add(row.Endpoint)
	}
	f.Add("https://%ff.push.apple.com/x")
	f.Add("https://wns2-par02p.notify.windows.com:443/w/?token=A%3d:=+&b=%zz")
	f.Fuzz(func(t *testing.T, raw string) {
		e, err := belfry.PushHosts{}.Endpoint(raw)
		if err != nil {
			return
		}
		if err := fault(raw, e); err != nil {
			t.Errorf("%q accepted as %q: %v", raw, e.Reveal(), err)
		}
	})
}

// fault says what is wrong with e as what raw was accepted as.
func fault(raw string, e belfry.Endpoint) error {
	for _, text := range []string{raw, e.Reveal()} {
		u, err := url.Parse(text)
		switch {
		case err != nil:
			return err
		case u.User != nil || u.Fragment != "" || len(u.Path) < 2 || u.Opaque != "":
			return fmt.Errorf("%q has a part too many or too few", text)
		case u.Port() != "" && u.Port() != "443" || strings.ToLower(u.Scheme) != "https":
			return fmt.Errorf("scheme %s, port %s", u.Scheme, u.Port())
		}
		host := u.Hostname()
		for _, r := range host {
			if !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-", r) {
				return fmt.Errorf("%q is in the host", r)
			}
		}
		if host = strings.ToLower(host); !allowed(host) || host != e.Host() || strings.Contains(host, "..") {
			return fmt.Errorf("host %s, which is reported as %s", host, e.Host())
		}
	}
	again, err := belfry.PushHosts{}.Endpoint(e.Reveal())
	if err != nil || again != e {
		return fmt.Errorf("checked again it is %q, %v", again.Reveal(), err)
	}
	// A program that reads URLs otherwise than Go does must come to the same host.
	authority, target, _ := strings.Cut(strings.TrimPrefix(e.Reveal(), "https://"), "/")
	if authority != e.Host() || strings.ContainsAny(authority, "@:?#\\%") || !strings.HasSuffix(raw, "/"+target) {
		return fmt.Errorf("cut by hand it is %q at %q", target, authority)
	}
	return nil
}

// Hosts are counted under few names: a stranger who registers at ten thousand
// names under a wildcard must not make ten thousand rows in a monitor.
func TestServiceNames(t *testing.T) {
	hosts, err := belfry.NewPushHosts([]string{"push.example.com", "up.example.com:8443", "http://127.0.0.1:8090"})
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]string{
		"fcm.googleapis.com":               "fcm.googleapis.com",
		"web.push.apple.com":               "*.push.apple.com",
		"a.b.push.apple.com":               "*.push.apple.com",
		"db5p.notify.windows.com":          "*.notify.windows.com",
		"push.example.com":                 "push.example.com",
		"up.example.com:8443":              "up.example.com:8443",
		"127.0.0.1:8090":                   "127.0.0.1:8090",
		"up.example.com:9443":              "other",
		"x.push.example.com":               "other",
		"push.apple.com":                   "other",
		"fcm.googleapis.com.evil.example":  "other",
		"fcm.googleapis.com/fcm/send/12ab": "other",
		"":                                 "other",
	} {
		if got := hosts.Service(host); got != want {
			t.Errorf("%q is counted as %q, want %q", host, got, want)
		}
	}
}
