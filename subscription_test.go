package belfry_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/internal/vectors"
)

const (
	goodEndpoint = "https://fcm.googleapis.com/fcm/send/cW9yX:APA91bHPRgkF3JUikC4ENAHEeMrd41Zxv3hVZjC9KtT8OvPVGJ"
	// RFC 8291 Appendix A.
	goodKey  = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"
	goodAuth = "BTBZMqHH6r4Tts7J_aSIgg"
)

func browserJSON(endpoint, p256dh, auth, expiration string) []byte {
	return fmt.Appendf(nil, `{"endpoint":%q,"expirationTime":%s,"keys":{"p256dh":%q,"auth":%q},"someday":"more"}`, endpoint, expiration, p256dh, auth)
}

func pushSubscription(t testing.TB, text []byte) (p belfry.PushSubscription) {
	t.Helper()
	if err := json.Unmarshal(text, &p); err != nil {
		t.Fatal(err)
	}
	return p
}

// A subscription with keys that cannot encrypt is a visitor who believes to be
// registered and is never rung (WP-26, WP-27).
func TestSubscriptionKeyVectors(t *testing.T) {
	var file struct {
		Rows []struct{ P256dh, Auth, Expect, Why string }
	}
	vectors.Load(t, "subscription-keys", &file)
	if len(file.Rows) == 0 {
		t.Fatal("no rows")
	}
	for _, row := range file.Rows {
		t.Run(row.Why, func(t *testing.T) {
			var p belfry.PushSubscription
			p.Endpoint, p.Keys.P256dh, p.Keys.Auth = goodEndpoint, row.P256dh, row.Auth
			s, err := p.Check(belfry.PushHosts{})
			if row.Expect == "ok" {
				if err != nil {
					t.Fatal(err)
				}
				if s.P256dh.Reveal() != strings.TrimRight(row.P256dh, "=") || s.Auth.Reveal() != strings.TrimRight(row.Auth, "=") {
					t.Error("keys came out changed")
				}
				return
			}
			if e := told(t, err, belfry.ErrInvalid, row.Expect); e.Where != "keys."+row.Expect || s.Endpoint != (belfry.Endpoint{}) {
				t.Errorf("where is %q", e.Where)
			}
		})
	}
}

func TestPushSubscriptionCheck(t *testing.T) {
	for _, tt := range []struct {
		expiration string
		want       time.Time
	}{
		{"null", time.Time{}},
		{"0", time.UnixMilli(0).UTC()},
		{"1767323045678.0", time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC)},
		{"253402300799999", time.Date(9999, 12, 31, 23, 59, 59, 999e6, time.UTC)},
	} {
		s, err := pushSubscription(t, browserJSON(goodEndpoint, goodKey, goodAuth, tt.expiration)).Check(belfry.PushHosts{})
		if err != nil {
			t.Fatal(err)
		}
		if s.Endpoint.Reveal() != goodEndpoint || s.P256dh.Reveal() != goodKey || s.Auth.Reveal() != goodAuth || s.Expires != tt.want {
			t.Errorf("%s: read as %v, expires %v", tt.expiration, s, s.Expires)
		}
		if s.Host() != "fcm.googleapis.com" || s.ID != "" || !s.Created.IsZero() {
			t.Errorf("host %s; the store gives id and time, not the browser: %v", s.Host(), s)
		}
	}
	for _, tt := range []struct{ endpoint, key, auth, expiration, code, where string }{
		{"http://fcm.googleapis.com/x", goodKey, goodAuth, "null", "scheme", "endpoint"},
		{"https://evil.example/x", goodKey, goodAuth, "null", "not-allowed", "endpoint"},
		{"", "", "", "null", "length", "endpoint"},
		{goodEndpoint, goodAuth, goodAuth, "null", "p256dh", "keys.p256dh"},
		{goodEndpoint, goodKey, goodKey, "null", "auth", "keys.auth"},
		{goodEndpoint, goodKey, goodAuth, "-1", "expiration-time", "expirationTime"},
		{goodEndpoint, goodKey, goodAuth, "253402300800000", "expiration-time", "expirationTime"},
		{goodEndpoint, goodKey, goodAuth, "1e300", "expiration-time", "expirationTime"},
	} {
		_, err := pushSubscription(t, browserJSON(tt.endpoint, tt.key, tt.auth, tt.expiration)).Check(belfry.PushHosts{})
		if e := told(t, err, belfry.ErrInvalid, tt.code); e.Where != tt.where {
			t.Errorf("%s: where is %q", tt.code, e.Where)
		}
	}
}

// Channel names stand in index keys, addresses and logs: one letter more and a
// name is two channels, or none.
func TestCheckChannels(t *testing.T) {
	long := strings.Repeat("a", 64)
	given := []string{"news", "0", "a.b_c-d", long, "news", "alerts"}
	got, err := belfry.CheckChannels(given)
	if want := []string{"0", "a.b_c-d", long, "alerts", "news"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v", got, err)
	}
	if given[0] != "news" || given[5] != "alerts" {
		t.Error("the caller's list was sorted under its hands")
	}
	if got, err := belfry.CheckChannels(nil); err != nil || len(got) != 0 {
		t.Errorf("no channels: %v, %v", got, err)
	}
	for _, name := range []string{"", "News", "-a", ".a", "_a", "a b", "a/b", "a\x00", "a\n", "ü", "a,b", long + "a", "\x1b[31m", strings.Repeat("é", 1000)} {
		_, err := belfry.CheckChannels([]string{"news", name})
		e := told(t, err, belfry.ErrInvalid, "channel")
		if e.Where != "channels" || e.Hint == "" || len(e.Text) > 1000 || strings.ContainsAny(e.Text, "\n\x00\x1b") {
			t.Errorf("%q: %q at %q, hint %q", name, e.Text, e.Where, e.Hint)
		}
	}
	many := make([]string, belfry.MaxChannels)
	for i := range many {
		many[i] = fmt.Sprint("c", i)
	}
	if _, err := belfry.CheckChannels(many); err != nil {
		t.Errorf("%d channels: %v", len(many), err)
	}
	_, err = belfry.CheckChannels(append(many, "one-more"))
	if e := told(t, err, belfry.ErrInvalid, "channels"); !strings.Contains(e.Text, "100 channels, not 101") {
		t.Errorf("got %v", err)
	}
}

func TestCheckLocaleTimeZoneAndUser(t *testing.T) {
	checks := map[string]func(string) error{"locale": belfry.CheckLocale, "time-zone": belfry.CheckTimeZone, "user": belfry.CheckUser}
	good := map[string][]string{
		"locale":    {"", "de", "pt-BR", "zh-Hant-TW", "sl-rozaj-biske", "en-u-hc-h12"},
		"time-zone": {"", "UTC", "Europe/Vienna", "America/Argentina/Buenos_Aires", "Etc/GMT+1", "America/Port-au-Prince"},
		"user":      {"", "42", "ann@example.com", "Jürgen 🔔", strings.Repeat("u", 128), strings.Repeat("ü", 64)},
	}
	bad := map[string][]string{
		"locale":    {"x", "de_DE", "de-", "-de", "de DE", "de\n", "7a", strings.Repeat("a", 9), "de" + strings.Repeat("-x", 9)},
		"time-zone": {"/", "Europe/", "/Vienna", "../etc/passwd", "Europe/Vienna\n", "Europe Vienna", "a/b/c/d/e", strings.Repeat("z", 33)},
		"user":      {"a\x00", "a\nb", "\x1b[31m", "a\x7f", "a\u0085", "a\xff", strings.Repeat("u", 129)},
	}
	for code, check := range checks {
		for _, s := range good[code] {
			if err := check(s); err != nil {
				t.Errorf("%s %q: %v", code, s, err)
			}
		}
		for _, s := range bad[code] {
			err := check(s)
			if err == nil {
				t.Errorf("%s accepts %q", code, s)
				continue
			}
			if e := told(t, err, belfry.ErrInvalid, code); strings.ContainsAny(e.Text, "\n\x00\x1b\x7f") || len(e.Text) > 400 {
				t.Errorf("%s %q: the error carries it along: %q", code, s, e.Text)
			}
		}
	}
}

// An audience that names two kinds, or none, would ring people nobody meant.
func TestAudienceCheck(t *testing.T) {
	ulid := strings.Repeat("0", 26)
	got, err := belfry.Audience{Channels: []string{"news", "alerts", "news"}}.Check()
	if err != nil || !slices.Equal(got.Channels, []string{"alerts", "news"}) || got.Channel() != "" {
		t.Errorf("got %+v, %v", got, err)
	}
	for name, a := range map[string]belfry.Audience{
		"news": {Channels: []string{"news"}}, "": {Users: []string{"ann"}}, " ": {Subscriptions: []string{ulid}}, "  ": {All: true},
	} {
		got, err := a.Check()
		if err != nil || got.Channel() != strings.TrimSpace(name) {
			t.Errorf("%+v: channel %q, %v", a, got.Channel(), err)
		}
	}
	for _, tt := range []struct {
		a           belfry.Audience
		code, where string
	}{
		{belfry.Audience{}, "audience", "audience"},
		{belfry.Audience{Channels: []string{}}, "audience", "audience"},
		{belfry.Audience{Channels: []string{"news"}, All: true}, "audience", "audience"},
		{belfry.Audience{Users: []string{"ann"}, Subscriptions: []string{ulid}}, "audience", "audience"},
		{belfry.Audience{Users: slices.Repeat([]string{"ann"}, 1001)}, "audience", "audience"},
		{belfry.Audience{Subscriptions: slices.Repeat([]string{ulid}, 1001)}, "audience", "audience"},
		{belfry.Audience{Users: []string{"ann", ""}}, "user", "audience.users"},
		{belfry.Audience{Users: []string{"a\nb"}}, "user", "audience.users"},
		{belfry.Audience{Subscriptions: []string{"x"}}, "audience", "audience.subscriptions"},
		{belfry.Audience{Channels: []string{"No"}}, "channel", "audience.channels"},
	} {
		_, err := tt.a.Check()
		if e := told(t, err, belfry.ErrInvalid, tt.code); e.Where != tt.where {
			t.Errorf("%.80s: where is %q", fmt.Sprint(tt.a), e.Where)
		}
	}
	for _, a := range []belfry.Audience{{Users: slices.Repeat([]string{"ann"}, 1000)}, {Subscriptions: slices.Repeat([]string{ulid}, 1000)}} {
		if _, err := a.Check(); err != nil {
			t.Error(err)
		}
	}
}

// Whatever a browser sends and Check accepts is at a push service on the list
// and can be sealed for, says nothing that only the store may say, and is
// accepted again unchanged in the form in which an export writes it: one octet
// off, and a visitor who believes to be registered is never rung.
func FuzzPushSubscription(f *testing.F) {
	for _, row := range endpointRows(f) {
		f.Add(browserJSON(row.Endpoint, goodKey, goodAuth, "1767323045678"))
	}
	var keys struct {
		Rows []struct{ P256dh, Auth string }
	}
	vectors.Load(f, "subscription-keys", &keys)
	for _, row := range keys.Rows {
		f.Add(browserJSON(goodEndpoint, row.P256dh, row.Auth, "null"))
	}
	for _, expiration := range []string{"0", "-0", "0.9", "-0.9", "253402300799999", "253402300800000", "1e300", "1e-300", "true"} {
		f.Add(browserJSON(goodEndpoint, goodKey, goodAuth, expiration))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var p belfry.PushSubscription
		if json.Unmarshal(text, &p) != nil {
			return
		}
		s, err := p.Check(belfry.PushHosts{})
		if err != nil {
			if !errors.Is(err, belfry.ErrInvalid) || !reflect.DeepEqual(s, belfry.Subscription{}) {
				t.Errorf("refused with %v, and yet it gives %+v", err, s)
			}
			return
		}
		if err := fault(p.Endpoint, s.Endpoint); err != nil {
			t.Errorf("%q accepted as %q: %v", p.Endpoint, s.Endpoint.Reveal(), err)
		}
		if err := keyFault(p, s); err != nil {
			t.Error(err)
		}
		again, err := exported(t, s).Check(belfry.PushHosts{})
		if err != nil || !reflect.DeepEqual(again, s) {
			t.Errorf("exported and imported, %+v became %+v, %v", s, again, err)
		}
		said := belfry.Subscription{Endpoint: s.Endpoint, P256dh: s.P256dh, Auth: s.Auth, Expires: s.Expires}
		if !reflect.DeepEqual(s, said) {
			t.Errorf("a browser sets what is not its to set: %+v", s)
		}
	})
}

// keyFault says what is wrong with the keys and the expiry of s as those of p.
func keyFault(p belfry.PushSubscription, s belfry.Subscription) error {
	key, auth := s.P256dh[:], s.Auth[:]
	if _, err := ecdh.P256().NewPublicKey(key); err != nil {
		return fmt.Errorf("nobody can seal for the key: %w", err)
	}
	for _, pair := range []struct {
		sent string
		kept []byte
	}{{p.Keys.P256dh, key}, {p.Keys.Auth, auth}} {
		urlSafe := strings.NewReplacer("+", "-", "/", "_", "=", "").Replace(pair.sent)
		if sent, err := base64.RawURLEncoding.DecodeString(urlSafe); err != nil || !bytes.Equal(sent, pair.kept) {
			return fmt.Errorf("%q is kept as %x (%v)", pair.sent, pair.kept, err)
		}
	}
	if p.ExpirationTime == nil {
		if !s.Expires.IsZero() {
			return fmt.Errorf("no expiry became %v", s.Expires)
		}
		return nil
	}
	if ms := *p.ExpirationTime; s.Expires.UnixMilli() != int64(ms) || ms < 0 || s.Expires.Location() != time.UTC || s.Expires.Year() > 9999 {
		return fmt.Errorf("expiry %v became %v", ms, s.Expires)
	}
	return nil
}

// exported is s as a browser would send it anew.
func exported(t testing.TB, s belfry.Subscription) belfry.PushSubscription {
	expiration := "null"
	if !s.Expires.IsZero() {
		expiration = fmt.Sprint(s.Expires.UnixMilli())
	}
	return pushSubscription(t, browserJSON(s.Endpoint.Reveal(), s.P256dh.Reveal(), s.Auth.Reveal(), expiration))
}

// Keys that a page wrote with btoa() are the same keys.
func TestKeysInPlainBase64(t *testing.T) {
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	auth := belfry.AuthSecret{0xff, 0xef, 0xfb} // "/+/7…", where the alphabets differ
	for _, b64 := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
		got, err := belfry.ParsePublicKey(b64.EncodeToString(key.PublicKey().Bytes()))
		if err != nil || !bytes.Equal(got[:], key.PublicKey().Bytes()) {
			t.Errorf("%v", err)
		}
		if got, err := belfry.ParseAuthSecret(b64.EncodeToString(auth[:])); err != nil || got != auth {
			t.Errorf("%v", err)
		}
	}
}
