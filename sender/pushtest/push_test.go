package pushtest_test

import (
	"bytes"
	"crypto/ecdh"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/internal/vectors"
	"github.com/belfry-push/belfry/sender/pushtest"
)

// setBody gives a request another body.
func setBody(r *http.Request, body []byte) {
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
}

// A mistake of a sender that some push service refuses and that passes here
// costs its users their subscribers in production. Each row is one mistake.
func TestPushRefuses(t *testing.T) {
	service, site := pushtest.NewMemoryService(t), newSite(t)
	stranger := newSite(t)
	sub := service.Subscribe(site.publicKey())
	origin := sub.Endpoint.Origin()
	hour := time.Now().Add(time.Hour).Unix()
	claim := func(c map[string]any) string { return site.sign(es256, c) }
	set := func(name string, values ...string) func(*http.Request) {
		return func(r *http.Request) { r.Header[http.CanonicalHeaderKey(name)] = values }
	}
	token := func(c map[string]any) func(*http.Request) { return set("Authorization", claim(c)) }
	good := claim(map[string]any{"aud": origin, "exp": hour})
	body := func(b []byte) func(*http.Request) { return func(r *http.Request) { setBody(r, b) } }
	whole := seal(t, sub, []byte("hi"))
	type claims = map[string]any
	for _, tt := range []struct {
		name    string
		spoil   func(*http.Request)
		status  int
		errno   int
		message string
		reason  string
	}{
		{"no token", set("Authorization"), 401, 109, "Missing VAPID public key", "vapid-missing"},
		{"two tokens", set("Authorization", good, good), 401, 109, "Invalid Authentication", "vapid-form"},
		{"draft scheme", set("Authorization", strings.Replace(good, "vapid t=", "WebPush ", 1)), 401, 109, "Invalid Authentication", "vapid-form"},
		{"no k", set("Authorization", good[:strings.Index(good, ", k=")]), 401, 109, "Invalid Authentication", "vapid-form"},
		{"padded k", set("Authorization", good+"="), 401, 109, "Invalid Authentication", "vapid-form"},
		{"k first", set("Authorization", "vapid k="+site.publicKey()+", t="+good[len("vapid t="):strings.Index(good, ", k=")]), 401, 109, "Invalid Authentication", "vapid-form"},
		{"another key", set("Authorization", stranger.sign(es256, claims{"aud": origin, "exp": hour})), 401, 109, "VAPID public key mismatch", "vapid-mismatch"},
		{"another's signature", set("Authorization", strings.Replace(stranger.sign(es256, claims{"aud": origin, "exp": hour}), stranger.publicKey(), site.publicKey(), 1)), 401, 109, "InvalidSignature", "vapid-signature"},
		{"prolonged by hand", set("Authorization", splice(good, claim(claims{"aud": origin, "exp": hour + 60}))), 401, 109, "InvalidSignature", "vapid-signature"},
		{"signature in DER", set("Authorization", strings.Replace(good, ", k=", "AAAA, k=", 1)), 401, 109, "InvalidSignature", "vapid-signature"},
		{"not base64url", set("Authorization", strings.Replace(good, "vapid t=", "vapid t=e", 1)), 401, 109, "InvalidToken", "vapid-form"},
		{"algorithm none", set("Authorization", site.sign(`{"typ":"JWT","alg":"none"}`, claims{"aud": origin, "exp": hour})), 401, 109, "InvalidAlgorithm", "vapid-alg"},
		{"endpoint as audience", token(claims{"aud": sub.Endpoint.Reveal(), "exp": hour}), 401, 109, "Invalid VAPID audience", "vapid-aud"},
		{"audience with a slash", token(claims{"aud": origin + "/", "exp": hour}), 401, 109, "Invalid VAPID audience", "vapid-aud"},
		{"no audience", token(claims{"exp": hour}), 401, 109, "Invalid VAPID audience", "vapid-aud"},
		{"no expiry", token(claims{"aud": origin}), 401, 109, "Invalid VAPID expiry", "vapid-exp"},
		{"expiry in quotes", token(claims{"aud": origin, "exp": "1893456000"}), 401, 109, "Invalid VAPID expiry", "vapid-exp"},
		{"expiry with a fraction", token(claims{"aud": origin, "exp": float64(hour) + 0.5}), 401, 109, "Invalid VAPID expiry", "vapid-exp"},
		{"expired", token(claims{"aud": origin, "exp": time.Now().Add(-time.Second).Unix()}), 401, 109, "ExpiredSignature", "vapid-expired"},
		{"valid for too long", token(claims{"aud": origin, "exp": time.Now().Add(24*time.Hour + 2*time.Second).Unix()}), 401, 109, "The VAPID token expiration is too long", "vapid-exp"},
		{"bare address as subject", token(claims{"aud": origin, "exp": hour, "sub": "ops@example.com"}), 401, 109, "Invalid VAPID subject", "vapid-sub"},
		{"mailto twice", token(claims{"aud": origin, "exp": hour, "sub": "mailto:mailto:ops@example.com"}), 401, 109, "Invalid VAPID subject", "vapid-sub"},
		{"subject with a space", token(claims{"aud": origin, "exp": hour, "sub": "mailto: ops@example.com"}), 401, 109, "Invalid VAPID subject", "vapid-sub"},
		{"subject of the wrong type", token(claims{"aud": origin, "exp": hour, "sub": 7}), 401, 109, "InvalidToken", "vapid-claims"},

		{"no TTL", set("TTL"), 400, 111, "Missing TTL value", "ttl"},
		{"two TTLs", set("TTL", "1", "1"), 400, 111, "Missing TTL value", "ttl"},
		{"TTL in words", set("TTL", "1h"), 400, 111, "Missing TTL value", "ttl"},
		{"empty TTL", set("TTL", ""), 400, 111, "Missing TTL value", "ttl"},
		{"negative TTL", set("TTL", "-1"), 400, 114, "TTL must be greater than 0", "ttl"},
		{"TTL with a plus", set("TTL", "+60"), 400, 111, "Missing TTL value", "ttl"},
		{"unknown urgency", set("Urgency", "urgent"), 400, 999, "Invalid Urgency value", "urgency"},
		{"two urgencies", set("Urgency", "low", "high"), 400, 999, "Invalid Urgency value", "urgency"},
		{"two urgencies in one", set("Urgency", "low,high"), 400, 999, "Invalid Urgency value", "urgency"},
		{"topic of 33", set("Topic", strings.Repeat("a", 33)), 400, 113, "Topic must be no greater than 32 characters", "topic"},
		{"topic with a dot", set("Topic", "a.bc"), 400, 113, "Topic must be URL and Filename safe Base64 alphabet", "topic"},
		{"padded topic", set("Topic", "YWE="), 400, 113, "Topic must be URL and Filename safe Base64 alphabet", "topic"},
		{"empty topic", set("Topic", ""), 400, 113, "Topic must be URL and Filename safe Base64 alphabet", "topic"},
		{"two topics", set("Topic", "aaaa", "bbbb"), 400, 113, "Topic must be URL and Filename safe Base64 alphabet", "topic"},

		{"no coding", set("Content-Encoding"), 400, 110, "Missing Content-Encoding header", "coding"},
		{"two codings", set("Content-Encoding", "aes128gcm", "gzip"), 400, 110, "Unknown Content-Encoding header", "coding"},
		{"gzip", set("Content-Encoding", "gzip"), 400, 110, "Unknown Content-Encoding header", "coding"},
		{"with Encryption", set("Encryption", "salt=lngarbyKfMoi9Z75xYXmkg"), 400, 110, "Do not include 'Encryption' header", "coding"},
		{"with Crypto-Key", set("Crypto-Key", "p256ecdsa="+site.publicKey()), 400, 110, "Do not include 'Crypto-Key' header", "coding"},

		{"no body", body(nil), 400, 110, "Invalid encryption", "body"},
		{"one octet short", body(seal(t, sub, nil)[:102]), 400, 110, "Invalid encryption", "body"},
		{"cut", body(whole[:len(whole)-1]), 400, 110, "Invalid encryption", "body"},
		{"in clear", body(bytes.Repeat([]byte("hello "), 30)), 400, 110, "Invalid encryption", "body"},
		{"for another browser", body(seal(t, service.Subscribe(""), []byte("hi"))), 400, 110, "Invalid encryption", "body"},
		{"rs too small", body(sealing{recordSize: 19}.seal(t, sub, []byte("hi"))), 400, 110, "Invalid encryption", "body"},
		{"one octet long", body(sealing{recordSize: 8192}.seal(t, sub, make([]byte, 3994))), 413, 104, "A payload reached size limit.", "size"},
		{"very long", body(make([]byte, 1<<20)), 413, 104, "A payload reached size limit.", "size"},
		{"sealed with the signing key", body(sealedWithVAPID(t, site, sub)), 400, 110, "Invalid encryption", "body"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := service.Summary()
			r := site.request(t, sub, "hi")
			tt.spoil(r)
			a := do(t, service.Client(), r)
			if a.status != tt.status || a.Code != tt.status || a.Errno != tt.errno || a.Error == "" || a.Message != tt.message || a.More == "" {
				t.Errorf("answer %+v", a)
			}
			all := service.Received()
			if got := all[len(all)-1]; got.Reason != tt.reason || got.Status != tt.status || got.Fault == "" || got.Plaintext != nil {
				t.Errorf("ledger holds %+v", got)
			}
			after := service.Summary()
			if after.Refused[tt.reason] != before.Refused[tt.reason]+1 || after.Accepted != before.Accepted {
				t.Errorf("summary %+v", after)
			}
		})
	}
	if a := do(t, service.Client(), site.request(t, sub, "hi")); a.status != 201 {
		t.Errorf("the control was answered %+v", a)
	}
}

// splice is the token a with the claims of b.
func splice(a, b string) string {
	x, y := strings.Split(a, "."), strings.Split(b, ".")
	return x[0] + "." + y[1] + "." + x[2]
}

func sealedWithVAPID(t testing.TB, site *site, sub belfry.Subscription) []byte {
	t.Helper()
	key, err := site.key.ECDH()
	if err != nil {
		t.Fatal(err)
	}
	return sealing{key: key}.seal(t, sub, []byte("hi"))
}

// A subscription that was made without a key takes every key, but not everything.
func TestPushRefusesWhatIsNoKey(t *testing.T) {
	service, site := pushtest.NewMemoryService(t), newSite(t)
	sub := service.Subscribe("")
	for name, k := range map[string]string{"off the curve": "B" + strings.Repeat("A", 86), "compressed": "Ag" + strings.Repeat("A", 42), "not canonical": "B"} {
		r := site.request(t, sub, "hi")
		r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), site.publicKey(), k, 1))
		if a := do(t, service.Client(), r); a.status != 401 || a.Message != "Invalid VAPID public key" {
			t.Errorf("a key %s was answered %+v", name, a)
		}
	}
}

// What the specifications allow must pass: a service that refuses good requests
// makes people loosen their senders.
func TestPushAccepts(t *testing.T) {
	service, site := pushtest.NewMemoryService(t), newSite(t)
	sub := service.Subscribe(site.publicKey() + "=") // Firefox pads the key
	origin := sub.Endpoint.Origin()
	for name, change := range map[string]func(*http.Request){
		"no urgency": func(r *http.Request) { r.Header.Del("Urgency") },
		"no payload": func(r *http.Request) {
			r.Header.Del("Content-Encoding")
			setBody(r, nil)
		},
		"no subject": func(r *http.Request) {
			r.Header.Set("Authorization", site.sign(es256, map[string]any{"aud": origin, "exp": time.Now().Add(time.Hour).Unix()}))
		},
		"https subject": func(r *http.Request) {
			r.Header.Set("Authorization", site.sign(es256, map[string]any{"aud": origin, "exp": time.Now().Add(time.Hour).Unix(), "sub": "https://example.com/contact"}))
		},
		"exactly a day": func(r *http.Request) {
			r.Header.Set("Authorization", site.sign(es256, map[string]any{"aud": origin, "exp": time.Now().Add(24 * time.Hour).Unix()}))
		},
		"TTL 0":               func(r *http.Request) { r.Header.Set("TTL", "0") },
		"TTL beyond all":      func(r *http.Request) { r.Header.Set("TTL", "99999999999999999999") },
		"padded":              func(r *http.Request) { setBody(r, sealing{pad: 409}.seal(t, sub, []byte("hi"))) },
		"empty message":       func(r *http.Request) { setBody(r, seal(t, sub, nil)) },
		"longest message":     func(r *http.Request) { setBody(r, seal(t, sub, make([]byte, belfry.MaxPayload))) },
		"topic of twelve":     func(r *http.Request) { r.Header.Set("Topic", "neueangebote") },
		"topic of thirty-two": func(r *http.Request) { r.Header.Set("Topic", strings.Repeat("a", 32)) },
	} {
		t.Run(name, func(t *testing.T) {
			r := site.request(t, sub, "hi")
			change(r)
			if a := do(t, service.Client(), r); a.status != 201 {
				t.Errorf("answer %+v", a)
			}
		})
	}
}

// A longer TTL than the service keeps is shortened and said so (RFC 8030 §5.2).
func TestPushShortensTTL(t *testing.T) {
	service, site := pushtest.NewMemoryService(t), newSite(t)
	r := site.request(t, service.Subscribe(""), "hi")
	r.Header.Set("TTL", "99999999999999999999")
	if a := do(t, service.Client(), r); a.header.Get("TTL") != "2592000" {
		t.Errorf("granted %q", a.header.Get("TTL"))
	}
}

// The token of RFC 8292 §2.4 is the one that everybody can check himself by.
func TestPushTakesTheTokenOfRFC8292(t *testing.T) {
	var v struct {
		Authorization, K string
		Expires          time.Time
	}
	vectors.Load(t, "rfc8292-example", &v)
	service := pushtest.NewMemoryService(t, pushtest.Config{
		URL: "https://push.example.net",
		Now: func() time.Time { return v.Expires.Add(-time.Hour) },
	})
	sub := service.Subscribe(v.K)
	r := newSite(t).request(t, sub, "hi")
	r.Header.Set("Authorization", v.Authorization)
	if a := do(t, service.Client(), r); a.status != 201 {
		t.Errorf("answer %+v", a)
	}
	altered := r.Clone(t.Context())
	setBody(altered, seal(t, sub, []byte("hi")))
	altered.Header.Set("Authorization", strings.Replace(v.Authorization, ".i3CYb7", ".j3CYb7", 1))
	if a := do(t, service.Client(), altered); a.Message != "InvalidSignature" {
		t.Errorf("an altered token was answered %+v", a)
	}
}

// What Apple was seen to refuse is refused, what it took is taken.
func TestPushTopics(t *testing.T) {
	service, site := pushtest.NewMemoryService(t), newSite(t)
	sub := service.Subscribe("")
	var file struct {
		Observed []struct {
			Topic string
			Apple string `json:"observed_at_apple"`
		}
		Rows []struct{ Topic string }
	}
	vectors.Load(t, "topics", &file)
	send := func(topic string) int {
		r := site.request(t, sub, "hi")
		r.Header.Set("Topic", topic)
		return do(t, service.Client(), r).status
	}
	for _, row := range file.Observed {
		if got := send(row.Topic); (got == 201) != (row.Apple == "201") {
			t.Errorf("topic %q answered %d, Apple %s", row.Topic, got, row.Apple)
		}
	}
	for _, row := range file.Rows {
		if got := send(row.Topic); got != 201 {
			t.Errorf("topic %q answered %d", row.Topic, got)
		}
	}
}

// A sender tells dead subscriptions, wrong keys and its own faults apart by
// these answers; ours must be autopush's to the letter.
func TestPushAnswersAsAutopush(t *testing.T) {
	service, site := pushtest.NewMemoryService(t), newSite(t)
	keyed, phone := service.Subscribe(site.publicKey()), service.Subscribe("", pushtest.Constrained)
	ended := service.Subscribe("")
	service.End(ended.Endpoint)
	unknown := keyed
	unknown.Endpoint = belfry.StoredEndpoint(keyed.Endpoint.Reveal() + "x")
	late := site.request(t, keyed, "hi")
	late.Header.Set("Authorization", site.sign(es256, map[string]any{"aud": "https://push.test", "exp": time.Now().Add(25 * time.Hour).Unix()}))
	noTTL := site.request(t, keyed, "hi")
	noTTL.Header.Del("TTL")
	long := site.request(t, phone, "")
	setBody(long, seal(t, phone, make([]byte, 4040-103))) // 1366 octets over, as in the vector
	requests := map[string]*http.Request{
		"No such subscription":                   site.request(t, ended, "hi"),
		"Invalid token":                          site.request(t, unknown, "hi"),
		"VAPID public key mismatch":              newSite(t).request(t, keyed, "hi"),
		"The VAPID token expiration is too long": late,
		"Missing TTL value":                      noTTL,
		"This message is intended for a constrained device and is limited in size. Converted buffer is too long by 1366 bytes": long,
	}
	var file struct {
		Rows []struct {
			Service string
			Status  int
			Header  map[string]string
			Body    string
		}
	}
	vectors.Load(t, "responses", &file)
	for _, row := range file.Rows {
		var want struct {
			Code, Errno    int
			Error, Message string
		}
		if row.Service != "autopush" || json.Unmarshal([]byte(row.Body), &want) != nil || requests[want.Message] == nil {
			continue
		}
		a := do(t, service.Client(), requests[want.Message])
		delete(requests, want.Message)
		if a.status != row.Status || a.Code != want.Code || a.Errno != want.Errno || a.Error != want.Error || a.Message != want.Message {
			t.Errorf("answer %+v, autopush's %+v", a, want)
		}
		for name, value := range row.Header {
			if a.header.Get(name) != value {
				t.Errorf("%s: header %s is %q", want.Message, name, a.header.Get(name))
			}
		}
	}
	for message := range requests {
		t.Errorf("no vector for %q", message)
	}
}

// Firefox on a phone takes 3015 octets of body, and Microsoft no TTL of 0.
func TestPushRules(t *testing.T) {
	service, site := pushtest.NewMemoryService(t), newSite(t)
	phone := service.Subscribe("", pushtest.Constrained)
	for size, want := range map[int]int{3015: 201, 3016: 413} {
		r := site.request(t, phone, "")
		setBody(r, seal(t, phone, make([]byte, size-103)))
		if a := do(t, service.Client(), r); a.status != want {
			t.Errorf("%d octets to a phone: %+v", size, a)
		}
	}
	edge := service.Subscribe("", pushtest.NoTTLZero)
	r := site.request(t, edge, "hi")
	r.Header.Set("TTL", "0")
	a := do(t, service.Client(), r)
	if a.status != 400 || a.header.Get("X-WNS-Error-Description") != "Ttl value conflicts with X-WNS-Cache-Policy." || a.header.Get("X-WNS-Status") != "dropped" {
		t.Errorf("TTL 0 answered %+v", a)
	}
	if a := do(t, service.Client(), site.request(t, edge, "hi")); a.status != 201 {
		t.Errorf("TTL 60 answered %+v", a)
	}
}

// A sender of the old draft must hear which coding it should have used, also
// when its token is of the old form and its key is in Crypto-Key.
func TestPushRefusesAESGCM(t *testing.T) {
	var v struct {
		Salt       string `json:"encryption_salt"`
		DH         string `json:"crypto_key_dh"`
		Ciphertext string
	}
	vectors.Load(t, "legacy-aesgcm-draft04", &v)
	service, site := pushtest.NewMemoryService(t), newSite(t)
	r := site.request(t, service.Subscribe(""), "")
	r.Header.Set("Content-Encoding", "aesgcm")
	r.Header.Set("Encryption", "salt="+v.Salt)
	r.Header.Set("Crypto-Key", "dh="+v.DH+";p256ecdsa="+site.publicKey())
	token, _, _ := strings.Cut(r.Header.Get("Authorization"), ",")
	r.Header.Set("Authorization", strings.Replace(token, "vapid t=", "WebPush ", 1))
	setBody(r, decode(t, v.Ciphertext))
	a := do(t, service.Client(), r)
	if a.status != 400 || a.Errno != 110 || !strings.Contains(a.More, "aes128gcm") {
		t.Errorf("answer %+v", a)
	}
}

// The keys of a browser stay in the browser: a body to it is checked in form only.
func TestPushMintsWholeSubscriptions(t *testing.T) {
	service, site := pushtest.NewMemoryService(t), newSite(t)
	sub := service.Subscribe(site.publicKey())
	if _, err := ecdh.P256().NewPublicKey(sub.P256dh[:]); err != nil {
		t.Error(err)
	}
	if len(sub.KeyID) != 16 {
		t.Errorf("key id %q", sub.KeyID)
	}
	if other := service.Subscribe(""); other.Endpoint == sub.Endpoint || other.Auth == sub.Auth || other.KeyID != "" {
		t.Error("two subscriptions are alike")
	}
	for _, wrong := range []string{"x", site.publicKey()[:80]} {
		if !panics(func() { service.Subscribe(wrong) }) {
			t.Errorf("key %q passed", wrong)
		}
	}
	if !panics(func() { service.Answer(belfry.StoredEndpoint("https://push.test/elsewhere"), pushtest.Answer{}) }) {
		t.Error("a script for an endpoint that does not exist would silently never play")
	}
	if !panics(func() { service.AnswerAny(pushtest.Answer{Fault: "fire"}) }) {
		t.Error("an unknown fault would silently be a good answer")
	}
}

func panics(f func()) (did bool) {
	defer func() { did = recover() != nil }()
	f()
	return false
}

// The answer's clock is the service's, so that a sender can find out that its own is wrong.
func TestPushTellsItsClock(t *testing.T) {
	then := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	service := pushtest.NewMemoryService(t, pushtest.Config{Now: func() time.Time { return then }})
	site := newSite(t)
	site.now = func() time.Time { return then }
	if a := do(t, service.Client(), site.request(t, service.Subscribe(""), "hi")); a.status != 201 || !slices.Equal(a.header["Date"], []string{"Wed, 02 Jan 2030 03:04:05 GMT"}) {
		t.Errorf("answer %+v", a)
	}
}
