package belfry_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/belfry-push/belfry"
)

// Whoever finds an endpoint in a log may post to it, and with the keys beside
// it may write to the person; whoever finds a device secret may take the
// registration over. No way of printing one may show it (SEC-20, SEC-22).
func TestSecretsDoNotShow(t *testing.T) {
	s, err := pushSubscription(t, browserJSON(goodEndpoint, goodKey, goodAuth, "null")).Check(belfry.PushHosts{})
	if err != nil {
		t.Fatal(err)
	}
	device := belfry.NewDeviceSecret()
	marks := []string{strings.TrimPrefix(goodEndpoint, "https://fcm.googleapis.com")}
	for _, secret := range [][]byte{s.P256dh[:], s.Auth[:], device[:], []byte(goodEndpoint)} {
		marks = append(marks, forms(secret)...)
	}
	type record struct {
		Endpoint belfry.Endpoint
		Secret   belfry.DeviceSecret
		Auth     *belfry.AuthSecret
	}
	values := []any{s.Endpoint, s.P256dh, s.Auth, device, s, &s, []belfry.Subscription{s}, []*belfry.Subscription{&s}, &s.Endpoint, &device,
		record{s.Endpoint, device, &s.Auth}, map[belfry.Endpoint]belfry.DeviceSecret{s.Endpoint: device}}
	for _, value := range values {
		for _, text := range shown(t, value) {
			for _, mark := range marks {
				if strings.Contains(text, mark) {
					t.Fatalf("%T shows a secret: %s", value, text)
				}
			}
		}
	}
	// Yet two rows of a log can be told apart, and the host be found.
	hash := s.Endpoint.Hash()
	want := "fcm.googleapis.com/#" + hex.EncodeToString(hash[:4])
	for _, verb := range []string{"%v", "%s", "%+v", "%#v", "%q", "%x", "%d"} {
		if got := fmt.Sprintf(verb, s.Endpoint); got != want {
			t.Errorf("an endpoint prints with %s as %s", verb, got)
		}
	}
	if got := fmt.Sprint(s.P256dh, s.Auth, device); got != "[secret] [secret] [secret]" {
		t.Errorf("keys print as %s", got)
	}
}

// These two travel as JSON with everything in them; a log line or an error of
// ours does not show it all the same (SEC-20 names the payload too).
func TestWhatTravelsDoesNotShow(t *testing.T) {
	type job struct {
		Subscription *belfry.PushSubscription
		Message      belfry.PushMessage
	}
	p := pushSubscription(t, browserJSON(goodEndpoint, goodKey, goodAuth, "null"))
	m := belfry.PushMessage{Payload: []byte(`{"title":"your test result"}`)}
	marks := append(forms(m.Payload), "APA91bHPRgkF3JUikC4E", goodKey, goodAuth)
	for _, value := range []any{p, &p, m, &m, job{&p, m}, &job{&p, m}} {
		var texts []string
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			texts = append(texts, fmt.Sprintf(verb, value))
		}
		for _, text := range append(texts, logged(p), logged(&p), logged(m), logged(&m)) {
			for _, mark := range marks {
				if strings.Contains(text, mark) {
					t.Fatalf("%T shows what it carries: %s", value, text)
				}
			}
		}
	}
	if got := fmt.Sprint(m); got != "[message of 28 octets]" {
		t.Errorf("a message prints as %s", got)
	}
}

func logged(value any) string {
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("log", "value", value)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("log", "value", value)
	return log.String()
}

// forms are the ways in which octets may come to stand in a text.
func forms(secret []byte) []string {
	decimals := strings.Trim(fmt.Sprint(secret), "[]")
	return []string{
		string(secret), base64.RawURLEncoding.EncodeToString(secret), base64.RawStdEncoding.EncodeToString(secret),
		hex.EncodeToString(secret), strings.ToUpper(hex.EncodeToString(secret)),
		decimals, strings.ReplaceAll(decimals, " ", ", "), strings.ReplaceAll(decimals, " ", ","),
		strings.Trim(fmt.Sprintf("%#v", secret), "[]byte{}"), strings.Trim(fmt.Sprintf("%q", secret), `"`),
	}
}

// shown is every text that value comes to in a program that logs it.
func shown(t *testing.T, value any) []string {
	t.Helper()
	type open struct{ Value any }
	var texts []string
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%b", "%U", "%c", "%e", "%t"} {
		for _, v := range []any{value, open{value}, &open{value}, []any{value}, map[string]any{"k": value}} {
			texts = append(texts, fmt.Sprintf(verb, v))
		}
	}
	wrapped := fmt.Errorf("with %v: %w", value, errors.Join(fmt.Errorf("with %+v", open{value}), belfry.Invalid("x", "x", fmt.Sprint(value))))
	texts = append(texts, wrapped.Error(), fmt.Sprintf("%+v", wrapped), fmt.Sprintln(value), recovered(value))
	var log bytes.Buffer
	for _, h := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		slog.New(h).Info("log", "value", value, "open", open{value}, "error", wrapped, slog.Group("group", "value", value))
		slog.New(h).With("value", value).Info("log")
	}
	texts = append(texts, log.String())
	for _, v := range []any{value, open{value}, []any{value}} {
		if b, err := json.Marshal(v); err != nil {
			t.Fatalf("%T: %v", value, err)
		} else {
			texts = append(texts, string(b))
		}
	}
	return texts
}

// recovered is what a server prints of a panic that it caught.
func recovered(value any) (text string) {
	defer func() { text = fmt.Sprint(recover()) }()
	panic(value)
}

// A device secret is what lets a browser change its registration: it must come
// back from the browser as it was given, and fit no other (SEC-12).
func TestDeviceSecret(t *testing.T) {
	one, other := belfry.NewDeviceSecret(), belfry.NewDeviceSecret()
	if one == other {
		t.Fatal("two browsers have one secret")
	}
	again, err := belfry.ParseDeviceSecret(one.Reveal())
	if err != nil || again != one || len(one.Reveal()) != 43 {
		t.Fatalf("came back changed: %v", err)
	}
	if !one.Hash().Fits(again) || one.Hash().Fits(other) {
		t.Error("fits the wrong one")
	}
	// A row that no browser registered here has no hash: nothing fits it.
	for _, s := range []belfry.DeviceSecret{{}, one} {
		if (belfry.SecretHash{}).Fits(s) {
			t.Error("an imported row can be taken over by anybody")
		}
	}
	for _, text := range []string{"", "x", one.Reveal()[:42], one.Reveal() + "AA", one.Reveal() + "AAA", one.Reveal()[:42] + "\n", "+" + one.Reveal()[1:], " " + one.Reveal()} {
		_, err := belfry.ParseDeviceSecret(text)
		told(t, err, belfry.ErrDenied, "unauthorised")
		if len(text) > 1 && strings.Contains(err.Error(), text[1:20]) {
			t.Errorf("the error shows the secret: %v", err)
		}
	}
}
