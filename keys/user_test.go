package keys_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"hash"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/keys"
)

const (
	ringURL  = "https://ring.example"
	userText = "belfry_user_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
)

var noon = time.Unix(1_900_000_000, 0)

func userKey(t testing.TB, text string) *keys.UserKey {
	t.Helper()
	path := filepath.Join(t.TempDir(), "user.key")
	if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	k, made, err := keys.OpenUserKey(path)
	if err != nil || made {
		t.Fatal(made, err)
	}
	return k
}

// jwt signs as any library does, and not as ours would have it.
func jwt(header, claims, key string, algorithm func() hash.Hash) string {
	text := b64.EncodeToString([]byte(header)) + "." + b64.EncodeToString([]byte(claims))
	mac := hmac.New(algorithm, []byte(key))
	mac.Write([]byte(text))
	return text + "." + b64.EncodeToString(mac.Sum(nil))
}

const hs256 = `{"alg":"HS256","typ":"JWT"}`

// claims is what a good token says at noon, with one member more or another one.
func claims(members ...string) string {
	all := []string{`"aud":"` + ringURL + `"`, `"sub":"ann"`, fmt.Sprintf(`"exp":%d`, noon.Unix()+300)}
	for _, m := range members {
		name, _, _ := strings.Cut(m, ":")
		all = slices.DeleteFunc(all, func(have string) bool { return strings.HasPrefix(have, name+":") })
		if !strings.HasSuffix(m, ":") {
			all = append(all, m)
		}
	}
	return "{" + strings.Join(all, ",") + "}"
}

// What a site signs with any library names a user, and opens what it lists.
func TestUserToken(t *testing.T) {
	k := userKey(t, userText)
	at := func(seconds float64) string { return fmt.Sprintf(`"exp":%f`, float64(noon.Unix())+seconds) }
	for name, tt := range map[string]struct {
		claims   string
		user     string
		channels []string
		left     time.Duration
	}{
		"a user":             {claims(), "ann", nil, 300 * time.Second},
		"private channels":   {claims(`"channels":["private-b","private-a"]`), "ann", []string{"private-a", "private-b"}, 300 * time.Second},
		"one channel twice":  {claims(`"channels":["private-a","private-a"]`), "ann", []string{"private-a"}, 300 * time.Second},
		"no list":            {claims(`"channels":null`), "ann", nil, 300 * time.Second},
		"several servers":    {claims(`"aud":["https://other.example","` + ringURL + `"]`), "ann", nil, 300 * time.Second},
		"10 minutes":         {claims(at(600)), "ann", nil, 600 * time.Second},
		"the last second":    {claims(at(1.7)), "ann", nil, time.Second},
		"an id that is text": {claims(`"sub":"Zoë Müller <z@example.com>"`), "Zoë Müller <z@example.com>", nil, 300 * time.Second},
		"128 octets":         {claims(`"sub":"` + strings.Repeat("x", 128) + `"`), strings.Repeat("x", 128), nil, 300 * time.Second},
		"more than we know":  {claims(fmt.Sprintf(`"iat":%d,"nbf":%d,"jti":"1","iss":"shop","name":{"x":1}`, noon.Unix(), noon.Unix())), "ann", nil, 300 * time.Second},
		"a clock 60 s ahead": {claims(fmt.Sprintf(`"nbf":%d`, noon.Unix()+60)), "ann", nil, 300 * time.Second},
	} {
		got, err := k.Check(jwt(hs256, tt.claims, userText, sha256.New), []string{ringURL}, noon)
		if err != nil || got.ID != tt.user || !slices.Equal(got.Channels, tt.channels) || got.Expires.Sub(noon).Round(time.Millisecond) != tt.left {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	own := []string{"http://127.0.0.1:8080", "http://localhost:8080"}
	if _, err := k.Check(jwt(hs256, claims(`"aud":"http://localhost:8080"`), userText, sha256.New), own, noon); err != nil {
		t.Error(err)
	}
}

// A token that anybody could have made, that is for another server, that lasts or
// that says nothing makes nobody a user: one that passes lets a stranger hear
// what is for somebody else (SEC-11).
func TestUserTokenRefuses(t *testing.T) {
	k := userKey(t, userText)
	good := claims()
	unsigned := b64.EncodeToString([]byte(`{"alg":"none"}`)) + "." + b64.EncodeToString([]byte(good)) + "."
	signed := jwt(hs256, good, userText, sha256.New)
	if _, err := k.Check(signed, []string{ringURL}, noon); err != nil {
		t.Fatal(err)
	}
	head, rest, _ := strings.Cut(signed, ".")
	_, sum, _ := strings.Cut(rest, ".")
	exp := func(seconds int64) string {
		return jwt(hs256, claims(fmt.Sprintf(`"exp":%d`, noon.Unix()+seconds)), userText, sha256.New)
	}
	with := func(members ...string) string { return jwt(hs256, claims(members...), userText, sha256.New) }
	many := make([]string, belfry.MaxChannels+1)
	for i := range many {
		many[i] = fmt.Sprintf(`"c%d"`, i)
	}
	const signature, form = "is not signed with this server's key by HS256", "is not a JSON Web Token"
	for name, tt := range map[string]struct{ token, says string }{
		"nothing":                 {"", form},
		"a word":                  {"ann", form},
		"two parts":               {head + "." + rest[:len(rest)-len(sum)-1], form},
		"four parts":              {signed + ".x", form},
		"another alphabet":        {strings.Replace(signed, head, head+"+", 1), form},
		"a line in it":            {signed + "\n", form},
		"no JSON":                 {jwt(hs256, "{", userText, sha256.New), form},
		"a list":                  {jwt(hs256, "[]", userText, sha256.New), form},
		"a header of no JSON":     {jwt("7", good, userText, sha256.New), form},
		"a user that is a number": {with(`"sub":7`), form},
		"channels of one name":    {with(`"channels":"private-a"`), form},
		"an end in words":         {with(`"exp":"soon"`), form},
		"an end beyond numbers":   {with(`"exp":1e999`), form},
		"null":                    {jwt(hs256, "null", userText, sha256.New), "is not for this server"},

		"no algorithm":                {unsigned, signature},
		"no algorithm, signed":        {jwt(`{"alg":"none"}`, good, userText, sha256.New), signature},
		"None":                        {jwt(`{"alg":"None"}`, good, userText, sha256.New), signature},
		"algorithm left out":          {jwt(`{}`, good, userText, sha256.New), signature},
		"algorithm in small letters":  {jwt(`{"alg":"hs256"}`, good, userText, sha256.New), signature},
		"two algorithms":              {jwt(`{"alg":["HS256"]}`, good, userText, sha256.New), signature},
		"RS256":                       {jwt(`{"alg":"RS256"}`, good, userText, sha256.New), signature},
		"ES256":                       {jwt(`{"alg":"ES256"}`, good, userText, sha256.New), signature},
		"HS512":                       {jwt(`{"alg":"HS512"}`, good, userText, sha512.New), signature},
		"HS384 that is HS256":         {jwt(`{"alg":"HS384"}`, good, userText, sha256.New), signature},
		"another key":                 {jwt(hs256, good, userText+"x", sha256.New), signature},
		"an empty key":                {jwt(hs256, good, "", sha256.New), signature},
		"the key without its prefix":  {jwt(hs256, good, userText[len("belfry_user_"):], sha256.New), signature},
		"no signature":                {strings.TrimSuffix(signed, sum), signature},
		"half a signature":            {signed[:len(signed)-23], signature},
		"somebody else's name":        {strings.Replace(signed, b64.EncodeToString([]byte(good)), b64.EncodeToString([]byte(claims(`"sub":"bob"`))), 1), signature},
		"an extension":                {jwt(`{"alg":"HS256","crit":["exp"]}`, good, userText, sha256.New), "asks for an extension"},
		"an extension that is false":  {jwt(`{"alg":"HS256","crit":false}`, good, userText, sha256.New), "asks for an extension"},
		"no audience":                 {with(`"aud":`), "is not for this server"},
		"another server":              {with(`"aud":"https://ring.example.evil"`), "is not for this server"},
		"a path":                      {with(`"aud":"https://ring.example/"`), "is not for this server"},
		"another scheme":              {with(`"aud":"http://ring.example"`), "is not for this server"},
		"no servers":                  {with(`"aud":[]`), "is not for this server"},
		"no end":                      {with(`"exp":`), "has no exp"},
		"an end of null":              {with(`"exp":null`), "has no exp"},
		"this moment":                 {exp(0), "has expired"},
		"an hour ago":                 {exp(-3600), "has expired"},
		"before all time":             {with(`"exp":-1e300`), "has expired"},
		"a second too long":           {exp(601), "expires more than 10 minutes ahead"},
		"in milliseconds":             {with(fmt.Sprintf(`"exp":%d`, noon.UnixMilli())), "expires more than 10 minutes ahead"},
		"not yet":                     {with(fmt.Sprintf(`"nbf":%d`, noon.Unix()+61)), "is not valid yet"},
		"nobody":                      {with(`"sub":`), "has no sub"},
		"nobody by name":              {with(`"sub":""`), "has no sub"},
		"a line feed in the name":     {with(`"sub":"a\nb"`), "has a sub that is not a user name"},
		"a NUL in the name":           {with(`"sub":"a\u0000b"`), "has a sub that is not a user name"},
		"a name of 129 octets":        {with(`"sub":"` + strings.Repeat("x", 129) + `"`), "has a sub that is not a user name"},
		"a channel that cannot be":    {with(`"channels":["private-a","*"]`), "opens what cannot be opened"},
		"101 channels":                {with(`"channels":[` + strings.Join(many, ",") + `]`), "opens what cannot be opened"},
		"more than 4 KiB":             {with(`"x":"` + strings.Repeat("x", 4<<10) + `"`), "is over 4096 octets"},
		"more than 4 KiB of anything": {strings.Repeat("x", 1<<20), "is over 4096 octets"},
	} {
		u, err := k.Check(tt.token, []string{ringURL}, noon)
		if u.ID != "" || err == nil {
			t.Errorf("%s: is %q, %v", name, u.ID, err)
			continue
		}
		if e := told(t, err, belfry.ErrDenied, "user-token"); !strings.Contains(e.Text, tt.says) {
			t.Errorf("%s: %q, want %q", name, e.Text, tt.says)
		}
		if text := fmt.Sprintf("%v %+v", err, err); strings.Contains(text, userText) || len(tt.token) > 20 && strings.Contains(text, tt.token[:20]) {
			t.Errorf("%s: it shows %s", name, text)
		}
	}
	if _, err := k.Check(signed, nil, noon); err == nil || !strings.Contains(err.Error(), "does not know its address") {
		t.Errorf("a server without an address takes a token: %v", err)
	}
}

// Whatever stands where a token should, it makes nobody a user who is not in one
// that was signed.
func FuzzUserToken(f *testing.F) {
	for _, token := range []string{"", "..", "a.b.c", jwt(hs256, claims(), "other", sha256.New), jwt(`{"alg":"none"}`, claims(), "", sha256.New),
		jwt(`{"alg":"HS256","crit":[{}]}`, `{"aud":{"x":[]},"exp":1e400,"sub":null}`, userText, sha256.New)} {
		f.Add(token, "")
	}
	f.Add(hs256, claims(`"channels":["private-a"]`))
	f.Add(hs256, `{"AUD":"https://ring.example","Sub":"ann","exp":1900000300,"exp":9e18}`)
	k := userKey(f, userText)
	f.Fuzz(func(t *testing.T, head, body string) {
		if u, err := k.Check(head, []string{ringURL}, noon); err == nil {
			t.Errorf("%q is %q", head, u.ID)
		} else if !errors.Is(err, belfry.ErrDenied) {
			t.Error(err)
		}
		// What the site itself may sign by mistake.
		u, err := k.Check(jwt(head, body, userText, sha256.New), []string{ringURL}, noon)
		if err != nil {
			if !errors.Is(err, belfry.ErrDenied) {
				t.Error(err)
			}
			return
		}
		left := u.Expires.Sub(noon)
		if u.ID == "" || belfry.CheckUser(u.ID) != nil || left <= 0 || left > 10*time.Minute {
			t.Errorf("%q %q: %+v", head, body, u)
		}
		if again, err := belfry.CheckChannels(u.Channels); err != nil || !slices.Equal(again, u.Channels) {
			t.Errorf("%q: %q", body, u.Channels)
		}
	})
}

// A secret is made once, for its owner alone, and prints as nothing: with another
// one after a restart nobody would be a user any more.
func TestUserKeyIsMadeOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "user.key")
	first, made, err := keys.OpenUserKey(path)
	if err != nil || !made {
		t.Fatal(made, err)
	}
	again, made, err := keys.OpenUserKey(path)
	if err != nil || made || again.Reveal() != first.Reveal() {
		t.Errorf("made anew %v, %v", made, err)
	}
	other, _, err := keys.OpenUserKey(filepath.Join(t.TempDir(), "user.key"))
	if err != nil || other.Reveal() == first.Reveal() || len(first.Reveal()) != len(userText) {
		t.Errorf("two servers have one secret, or it has the wrong length: %v", err)
	}
	if left, _ := filepath.Glob(path + ".*"); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	for _, text := range shown(t, first) {
		if strings.Contains(text, first.Reveal()) {
			t.Errorf("shows the secret: %s", text)
		}
	}
}

// With half a secret, or with one that a person thought of, anybody might sign.
func TestUserKeyRefuses(t *testing.T) {
	for _, text := range []string{"", "belfry_user_", "secret", userText[len("belfry_user_"):], userText[:len(userText)-1], userText + "A", userText[:len(userText)-1] + "9", userText + "\n" + userText} {
		path := filepath.Join(t.TempDir(), "user.key")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, _, err := keys.OpenUserKey(path)
		if !errors.Is(err, belfry.ErrNotUsable) || len(text) > 12 && strings.Contains(err.Error(), text) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
