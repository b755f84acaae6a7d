package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// vouch VARIABLE KEYFILE AUDIENCE USER [CHANNEL…]: a user token, as a site's backend
// signs it that has only the key's text and RFC 7515 before it.
func cmdVouch(ts *testscript.TestScript, _ bool, args []string) {
	part := func(v any) string {
		b, err := json.Marshal(v)
		ts.Check(err)
		return base64.RawURLEncoding.EncodeToString(b)
	}
	text := part(map[string]any{"alg": "HS256", "typ": "JWT"}) + "." +
		part(map[string]any{"aud": args[2], "sub": args[3], "channels": args[4:], "exp": time.Now().Unix() + 300})
	mac := hmac.New(sha256.New, []byte(strings.TrimSpace(ts.ReadFile(args[1]))))
	mac.Write([]byte(text))
	ts.Setenv(args[0], text+"."+base64.RawURLEncoding.EncodeToString(mac.Sum(nil)))
}
