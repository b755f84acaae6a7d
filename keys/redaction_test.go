package keys_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"path/filepath"
	"strings"
	"testing"

	"github.com/belfry-push/belfry/keys"
)

// Whoever reads a private key in a log can ring every subscriber for ever, and
// whoever reads a token can for half a day (SEC-20, SEC-22, WP-54).
func TestNothingPrintsASecret(t *testing.T) {
	pair := parse(t, fixture(t, "web-push.json"))
	ring, err := keys.CreateFrom(filepath.Join(t.TempDir(), "vapid.json"), pair)
	if err != nil {
		t.Fatal(err)
	}
	signer := keys.NewSigner(ring, "mailto:ops@example.com", nil)
	header, err := signer.Authorization("https://push.example.net", "")
	if err != nil {
		t.Fatal(err)
	}
	var npm written
	json.Unmarshal(pair.JSON(), &npm)
	d, _ := b64.DecodeString(npm.PrivateKey)
	marks := append(forms(d), strings.TrimPrefix(strings.Split(header, ",")[0], "vapid t="))

	for _, value := range []any{pair, ring, signer} {
		for _, text := range shown(t, value) {
			for _, mark := range marks {
				if strings.Contains(text, mark) {
					t.Errorf("%T shows a secret: %s", value, text)
				}
			}
		}
	}
	if got := fmt.Sprint(pair); got != "[key pair "+ring.Current().ID+"]" {
		t.Errorf("a pair prints as %s, which does not tell which", got)
	}
}

// forms are the ways in which octets may come to stand in a text.
func forms(secret []byte) []string {
	decimals := strings.Trim(fmt.Sprint(secret), "[]")
	return []string{
		string(secret), b64.EncodeToString(secret), hex.EncodeToString(secret), strings.ToUpper(hex.EncodeToString(secret)),
		decimals, strings.ReplaceAll(decimals, " ", ", "), strings.ReplaceAll(decimals, " ", ","),
		new(big.Int).SetBytes(secret).String(), fmt.Sprintf("%#v", secret), fmt.Sprintf("%q", secret),
	}
}

// shown is every text that value comes to in a program that logs it.
func shown(t *testing.T, value any) []string {
	t.Helper()
	type open struct{ Value any }
	type closed struct{ value any }
	var texts []string
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%b", "%U", "%c", "%e", "%t", "%p"} {
		for _, v := range []any{value, open{value}, &open{value}, closed{value}, []any{value}, map[string]any{"k": value}} {
			texts = append(texts, fmt.Sprintf(verb, v))
		}
	}
	texts = append(texts, errors.Join(fmt.Errorf("with %v", value), fmt.Errorf("with %+v", open{value})).Error())
	var log bytes.Buffer
	for _, h := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		slog.New(h).Info("log", "value", value, "open", open{value}, "closed", closed{value}, "error", fmt.Errorf("with %v", value))
	}
	texts = append(texts, log.String())
	for _, v := range []any{value, open{value}, []any{value}} {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, string(b))
	}
	return texts
}
