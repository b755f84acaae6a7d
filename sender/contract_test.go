package sender_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/internal/vectors"
	"github.com/belfry-push/belfry/sender"
	"github.com/belfry-push/belfry/sender/pushtest"
)

// The contract: what holds for every engine. Each test of this file runs on
// both, so that an operator may change the engine and notice nothing.

// eachEngine runs test on every engine.
func eachEngine(t *testing.T, test func(t *testing.T, engine string)) {
	for _, engine := range []string{"native", "webpush-go"} {
		t.Run(engine, func(t *testing.T) { test(t, engine) })
	}
}

// A signer vouches with one VAPID key and knows no other (RFC 8292).
type signer struct {
	key *ecdsa.PrivateKey
	now func() time.Time

	mu     sync.Mutex // guards tokens
	tokens map[string]string
}

func newSigner(t testing.TB) *signer {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &signer{key: key, now: time.Now, tokens: map[string]string{}}
}

func (s *signer) public() string {
	point, _ := s.key.PublicKey.Bytes()
	return base64.RawURLEncoding.EncodeToString(point)
}

func (s *signer) id() string {
	point, _ := s.key.PublicKey.Bytes()
	sum := sha256.Sum256(point)
	return hex.EncodeToString(sum[:8])
}

func (s *signer) Authorization(audience, keyID string) (string, error) {
	if keyID != "" && keyID != s.id() {
		return "", &belfry.Error{Kind: belfry.ErrNotFound, Code: "unknown-key", Text: "there is no key " + keyID}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tokens[audience] == "" {
		b64 := base64.RawURLEncoding
		token := b64.EncodeToString([]byte(`{"typ":"JWT","alg":"ES256"}`)) + "." + b64.EncodeToString(fmt.Appendf(nil,
			`{"aud":%q,"exp":%d,"sub":"https://www.example.com"}`, audience, s.now().Add(12*time.Hour).Unix()))
		digest := sha256.Sum256([]byte(token))
		r, v, err := ecdsa.Sign(rand.Reader, s.key, digest[:])
		if err != nil {
			return "", err
		}
		signature := make([]byte, 64)
		r.FillBytes(signature[:32])
		v.FillBytes(signature[32:])
		s.tokens[audience] = "vapid t=" + token + "." + b64.EncodeToString(signature) + ", k=" + s.public()
	}
	return s.tokens[audience], nil
}

// start returns a sender that reaches service and nothing else of our own.
func start(t testing.TB, engine string, service *pushtest.Service, sign sender.Signer) *sender.Sender {
	t.Helper()
	s, err := sender.New(sender.Config{Signer: sign, Engine: engine, Hosts: service.Hosts(), RootCAs: service.RootCAs()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// A recorder stands for the network: it takes every request and keeps it.
type recorder struct {
	mu       sync.Mutex // guards what follows
	requests []*http.Request
	bodies   [][]byte
}

func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests, r.bodies = append(r.requests, req), append(r.bodies, body)
	return &http.Response{StatusCode: http.StatusCreated, Header: http.Header{}, Body: http.NoBody, Request: req}, nil
}

func record(t testing.TB, engine string, sign sender.Signer, pushHosts ...string) (*sender.Sender, *recorder) {
	t.Helper()
	hosts, err := belfry.NewPushHosts(pushHosts)
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{}
	s, err := sender.New(sender.Config{Signer: sign, Engine: engine, Hosts: hosts, Transport: r})
	if err != nil {
		t.Fatal(err)
	}
	return s, r
}

// browser makes a subscription at endpoint whose private key the test holds.
func browser(t testing.TB, endpoint string) (belfry.Subscription, *ecdh.PrivateKey) {
	t.Helper()
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sub := belfry.Subscription{ID: "01jx0000000000000000000000", Endpoint: belfry.StoredEndpoint(endpoint),
		P256dh: belfry.PublicKey(key.PublicKey().Bytes())}
	rand.Read(sub.Auth[:])
	return sub, key
}

const fcm = "https://fcm.googleapis.com/fcm/send/dPbdd5rh7fs:APA91bHun4MxP5egoKMwt2KZFBaFUH"

// What was said is what the browser reads, whatever it consists of, and its
// body is as long as the next bucket: the last octet that Firefox for Android
// takes, and the last that anyone does, lie at edges where one octet more is a
// message lost (WP-32, WP-34, PS-12).
func TestMessageArrives(t *testing.T) {
	sizes := []struct{ plaintext, padded int }{
		{0, 512}, {1, 512}, {41, 512}, {409, 512}, {410, 1024}, {921, 1024}, {922, 2048}, {1945, 2048}, {1946, 2744},
		{2641, 2744}, {2642, 2745}, {2820, 2923}, {3992, 4095}, {3993, 4096},
	}
	texts := []string{"", "\x00", "\x02", "\x02\x00\x00", "a\x00", "\x01\x00", `{"web_push":8030}`, "é€𝄞", "\xff\xfe", "\r\n"}
	eachEngine(t, func(t *testing.T, engine string) {
		service, sign := pushtest.NewService(t), newSigner(t)
		s, sub := start(t, engine, service, sign), service.Subscribe(sign.public())
		check := func(payload []byte, unpadded bool, length int) {
			t.Helper()
			o := s.Send(t.Context(), sub, belfry.PushMessage{Payload: payload, TTL: time.Hour, Unpadded: unpadded})
			received := service.Received()
			if len(received) == 0 {
				t.Fatalf("nothing arrived: %+v", o)
			}
			got := received[len(received)-1]
			if o.Verdict != belfry.Accepted || !bytes.Equal(got.Plaintext, payload) || got.Length != length || got.Proto != "HTTP/2.0" {
				t.Errorf("%d octets: %v %s, %d octets of body over %s, decrypts to %.40q (%s)",
					len(payload), o.Verdict, o.Reason, got.Length, got.Proto, got.Plaintext, got.Fault)
			}
		}
		for _, size := range sizes {
			payload := bytes.Repeat([]byte("a"), size.plaintext)
			check(payload, false, size.padded)
			check(payload, true, size.plaintext+103)
		}
		for _, text := range texts {
			check([]byte(text), false, 512)
			check([]byte(text), true, len(text)+103)
		}
		before := len(service.Received())
		for _, unpadded := range []bool{false, true} {
			o := s.Send(t.Context(), sub, belfry.PushMessage{Payload: make([]byte, 3994), Unpadded: unpadded})
			if o.Verdict != belfry.Refused || !strings.Contains(o.Reason, "4097") || len(service.Received()) != before {
				t.Errorf("3994 octets: %+v, and %d requests", o, len(service.Received())-before)
			}
		}
	})
}

// A push service sees nothing of a message but its length, and of that no more
// than the bucket (WP-34). Inside is exactly one record with room to spare in
// its stated size (WP-21, WP-23).
func TestBodySizes(t *testing.T) {
	eachEngine(t, func(t *testing.T, engine string) {
		s, r := record(t, engine, newSigner(t))
		sub, key := browser(t, fcm)
		for range 10_000 {
			payload := make([]byte, mathrand.IntN(belfry.MobilePayload+1))
			rand.Read(payload)
			s.Send(t.Context(), sub, belfry.PushMessage{Payload: payload})
			body := r.bodies[len(r.bodies)-1]
			if !slices.Contains([]int{512, 1024, 2048, 2744}, len(body)) {
				t.Fatalf("%d octets make a body of %d", len(payload), len(body))
			}
			if rs := int(binary.BigEndian.Uint32(body[16:])); rs <= len(body)-86 || rs > 4096 || body[20] != 65 {
				t.Fatalf("record size %d over %d octets, key of %d", rs, len(body), body[20])
			}
			if got, err := pushtest.Open(body, key, sub.Auth); err != nil || !bytes.Equal(got, payload) {
				t.Fatalf("%d octets: %v", len(payload), err)
			}
		}
	})
}

// A key pair or salt used twice tells whoever stores messages what two of them
// have in common, and the signing key must not be one of them (WP-25, WP-31).
func TestKeysAndSaltsAreFresh(t *testing.T) {
	const sends = 10_000
	eachEngine(t, func(t *testing.T, engine string) {
		sign := newSigner(t)
		s, r := record(t, engine, sign)
		sub, _ := browser(t, fcm)
		msg := belfry.PushMessage{Payload: []byte("hi")}
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				for range sends / 4 {
					s.Send(t.Context(), sub, msg)
				}
			})
		}
		all.Wait()
		salts, keys := map[string]bool{sign.public(): true}, map[string]bool{}
		for _, body := range r.bodies {
			salts[string(body[:16])] = true
			keys[base64.RawURLEncoding.EncodeToString(body[21:86])] = true
		}
		if len(salts) != sends+1 || len(keys) != sends || keys[sign.public()] {
			t.Errorf("%d sends, %d salts, %d keys, the signing key among them: %v", sends, len(salts)-1, len(keys), keys[sign.public()])
		}
	})
}

// A row whose key cannot seal must not take the whole broadcast down, nor send
// what its browser cannot read (WP-26).
func TestKeysThatCannotSeal(t *testing.T) {
	var v struct {
		Rows []struct{ P256dh, Auth, Expect, Why string }
	}
	vectors.Load(t, "subscription-keys", &v)
	eachEngine(t, func(t *testing.T, engine string) {
		s, r := record(t, engine, newSigner(t))
		tried := 0
		for _, row := range v.Rows {
			point, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(row.P256dh, "="))
			if err != nil || len(point) != 65 || row.Expect == "auth" {
				continue // no [65]byte can hold it
			}
			tried++
			sub, _ := browser(t, fcm)
			sub.P256dh = belfry.PublicKey(point)
			before := len(r.requests)
			o := s.Send(t.Context(), sub, belfry.PushMessage{Payload: []byte("hi")})
			sent := len(r.requests) - before
			switch {
			case strings.Contains(row.P256dh, "\n"): // Go's decoder skipped it: a good key
			case row.Expect == "ok" && (o.Verdict != belfry.Accepted || sent != 1):
				t.Errorf("%s: %+v", row.Why, o)
			case row.Expect != "ok" && (o.Verdict != belfry.Refused || o.Reason == "" || sent != 0):
				t.Errorf("%s: %+v, %d requests", row.Why, o, sent)
			}
		}
		sub, _ := browser(t, fcm)
		sub.P256dh = belfry.PublicKey{}
		if o := s.Send(t.Context(), sub, belfry.PushMessage{}); o.Verdict != belfry.Refused || tried < 6 {
			t.Errorf("no key at all: %+v; %d rows tried", o, tried)
		}
	})
}

// One payload serves a whole broadcast. An engine that wrote into it would send
// parts of one message to the readers of another (LIB-04).
func TestSharedPayload(t *testing.T) {
	eachEngine(t, func(t *testing.T, engine string) {
		service, sign := pushtest.NewService(t), newSigner(t)
		s := start(t, engine, service, sign)
		text := []byte("one message for all|and what lies behind it in memory: " + strings.Repeat("x", 4096))
		want := bytes.Clone(text)
		payload := text[:19] // with spare capacity, which belongs to somebody else
		var all sync.WaitGroup
		for range 32 {
			sub := service.Subscribe(sign.public())
			all.Go(func() {
				if o := s.Send(t.Context(), sub, belfry.PushMessage{Payload: payload, TTL: time.Hour}); o.Verdict != belfry.Accepted {
					t.Errorf("%+v", o)
				}
			})
		}
		all.Wait()
		if !bytes.Equal(text, want) {
			t.Error("the payload was written to, or what lies behind it")
		}
		received := service.Received()
		for _, got := range received {
			if string(got.Plaintext) != "one message for all" {
				t.Errorf("decrypts to %.60q", got.Plaintext)
			}
		}
		if len(received) != 32 {
			t.Errorf("%d requests for 32 messages", len(received))
		}
	})
}

// A request holds what the RFCs ask for and nothing else: a second Urgency, a
// header of the old drafts, or one that names our software would be refused by
// one push service or noted by another (WP-03, WP-08, WP-09, WP-12, PS-15).
func TestHeaders(t *testing.T) {
	tests := []struct {
		name           string
		urgency        belfry.Urgency
		topic, refused string
	}{
		{"bare", "", "", ""},
		{"very low", belfry.UrgencyVeryLow, "", ""},
		{"low", belfry.UrgencyLow, "", ""},
		{"normal", belfry.UrgencyNormal, "", ""},
		{"high, with topic", belfry.UrgencyHigh, belfry.Message{Topic: "news"}.TopicHeader(), ""},
		{"short topic", "", "news", ""},
		{"unknown urgency", "urgent", "", "urgency: must be very-low, low, normal or high"},
		{"urgency in capitals", "High", "", "urgency: must be very-low, low, normal or high"},
		{"two urgencies", "high, low", "", "urgency: must be very-low, low, normal or high"},
		{"header in urgency", "high\r\nX-Evil: 1", "", "urgency: must be very-low, low, normal or high"},
		{"long topic", "", strings.Repeat("a", 33), "topic: must be at most 32 characters of base64url (RFC 8030 §5.4)"},
		{"padded topic", "", "bmV3cw==", "topic: must be at most 32 characters of base64url (RFC 8030 §5.4)"},
		{"topic with umlaut", "", "grüße", "topic: must be at most 32 characters of base64url (RFC 8030 §5.4)"},
		{"header in topic", "", "a\r\nX-Evil: 1", "topic: must be at most 32 characters of base64url (RFC 8030 §5.4)"},
	}
	eachEngine(t, func(t *testing.T, engine string) {
		service, sign := pushtest.NewService(t), newSigner(t)
		s, sub := start(t, engine, service, sign), service.Subscribe(sign.public())
		for _, tt := range tests {
			before := len(service.Received())
			o := s.Send(t.Context(), sub, belfry.PushMessage{Payload: []byte("hi"), TTL: time.Hour, Urgency: tt.urgency, Topic: tt.topic})
			received := service.Received()[before:]
			if tt.refused != "" {
				if o.Verdict != belfry.Refused || o.Reason != tt.refused || len(received) != 0 {
					t.Errorf("%s: %+v, %d requests", tt.name, o, len(received))
				}
				continue
			}
			authorization, _ := sign.Authorization(service.URL(), "")
			want := http.Header{"Authorization": {authorization}, "Content-Encoding": {"aes128gcm"}, "Content-Length": {"512"},
				"Content-Type": {"application/octet-stream"}, "Ttl": {"3600"}}
			if tt.urgency != "" {
				want.Set("Urgency", string(tt.urgency))
			}
			if tt.topic != "" {
				want.Set("Topic", tt.topic)
			}
			if o.Verdict != belfry.Accepted || len(received) != 1 {
				t.Errorf("%s: %+v, %d requests", tt.name, o, len(received))
			} else if got := fmt.Sprint(received[0].Header); got != fmt.Sprint(want) {
				t.Errorf("%s: header\n got %s\nwant %s", tt.name, got, want)
			}
		}
	})
}

// A TTL that a push service refuses is a message lost: none, a negative one,
// more than four weeks, and for Microsoft and Apple even zero (WP-03, WP-04,
// PS-08, PS-25, PS-31).
func TestTTL(t *testing.T) {
	const day = 24 * time.Hour
	tests := []struct {
		host string
		left time.Duration
		want string
	}{
		{"fcm.googleapis.com", 0, "0"},
		{"fcm.googleapis.com", -time.Hour, "0"},
		{"fcm.googleapis.com", -1 << 63, "0"},
		{"fcm.googleapis.com", time.Second - 1, "0"},
		{"fcm.googleapis.com", 1900 * time.Millisecond, "1"},
		{"fcm.googleapis.com", 28 * day, "2419200"},
		{"fcm.googleapis.com", 28*day + time.Second, "2419200"},
		{"fcm.googleapis.com", 1<<63 - 1, "2419200"},
		{"wns2-par02p.notify.windows.com", 0, "60"},
		{"wns2-par02p.notify.windows.com", -time.Second, "60"},
		{"wns2-par02p.notify.windows.com", 59 * time.Second, "60"},
		{"wns2-par02p.notify.windows.com", 61 * time.Second, "61"},
		{"web.push.apple.com", 0, "1"},
		{"web.push.apple.com", 2 * time.Second, "2"},
		{"updates.push.services.mozilla.com", 0, "0"},
		{"notify.windows.com.example.com:8443", 0, "0"},
	}
	eachEngine(t, func(t *testing.T, engine string) {
		s, r := record(t, engine, newSigner(t), "notify.windows.com.example.com:8443")
		for _, tt := range tests {
			sub, _ := browser(t, "https://"+tt.host+"/p")
			if o := s.Send(t.Context(), sub, belfry.PushMessage{TTL: tt.left}); o.Verdict != belfry.Accepted {
				t.Fatalf("%s: %+v", tt.host, o)
			}
			if got := r.requests[len(r.requests)-1].Header["Ttl"]; len(got) != 1 || got[0] != tt.want {
				t.Errorf("%s, %v: TTL %q, want %s", tt.host, tt.left, got, tt.want)
			}
		}
	})
}

// The push resource is the whole URL as the browser gave it. Microsoft's token
// is in the query; a path escaped anew is another resource (WP-02).
func TestRequestTarget(t *testing.T) {
	const alphabet = "abcXYZ019-._~!$&'()*+,;=:@/?|^`{}[]"
	targets := []string{"/fcm/send/a:b", "/w/?token=AwYAAA%3d%3d", "/%7E%7e%2F%2f", "/a//b", "/a/./../b", "/?", "/a?", "/a??b", "/p|q?r|s", "/%C3%A9"}
	for range 1000 {
		var target strings.Builder
		target.WriteByte('/')
		for range 1 + mathrand.IntN(40) {
			if mathrand.IntN(8) == 0 {
				fmt.Fprintf(&target, []string{"%%%02x", "%%%02X"}[mathrand.IntN(2)], mathrand.IntN(256))
			} else {
				target.WriteByte(alphabet[mathrand.IntN(len(alphabet))])
			}
		}
		targets = append(targets, target.String())
	}
	eachEngine(t, func(t *testing.T, engine string) {
		s, r := record(t, engine, newSigner(t))
		sub, _ := browser(t, "")
		for _, target := range targets {
			before := len(r.requests)
			sub.Endpoint = belfry.StoredEndpoint("https://FCM.googleapis.com:443" + target)
			o := s.Send(t.Context(), sub, belfry.PushMessage{})
			if o.Verdict != belfry.Accepted {
				if len(r.requests) != before || o.Reason != "endpoint: must hold a path" && o.Reason != "endpoint: cannot be posted to exactly as it is stored" {
					t.Errorf("%q: %+v, %d requests", target, o, len(r.requests)-before)
				}
				continue
			}
			req := r.requests[before]
			if got := req.URL.RequestURI(); got != target || req.Host != "fcm.googleapis.com" || req.URL.Host != "fcm.googleapis.com" || req.Method != "POST" {
				t.Errorf("%s %q at %q, want %q", req.Method, got, req.Host, target)
			}
		}
		if accepted := len(r.requests); accepted < 900 {
			t.Errorf("only %d of %d posted", accepted, len(targets))
		}
	})
}

// A push service takes a message only with a token for itself, signed by the
// key that the subscription was made with (WP-41, WP-49). Endpoints written
// down in another form must not change whom we sign for (LIB-06).
func TestAuthorization(t *testing.T) {
	eachEngine(t, func(t *testing.T, engine string) {
		service := pushtest.NewService(t, pushtest.Config{URL: "https://updates.push.services.mozilla.com"})
		sign, other := newSigner(t), newSigner(t)
		s := start(t, engine, service, sign)
		send := func(sub belfry.Subscription) belfry.Outcome {
			return s.Send(t.Context(), sub, belfry.PushMessage{Payload: []byte("hi")})
		}
		sub := service.Subscribe(sign.public())
		if o := send(sub); o.Verdict != belfry.Accepted {
			t.Errorf("own key: %+v", o)
		}
		loud := sub
		loud.Endpoint = belfry.StoredEndpoint(strings.Replace(sub.Endpoint.Reveal(), "updates.push.services.mozilla.com", "Updates.Push.Services.Mozilla.COM:443", 1))
		if o := send(loud); o.Verdict != belfry.Accepted {
			t.Errorf("host in capitals, with port: %+v", o)
		}
		mismatched := service.Subscribe(other.public())
		mismatched.KeyID = "" // a row that says nothing of its key gets the current one
		if o := send(mismatched); o.Verdict != belfry.WrongKey || o.Status != 401 {
			t.Errorf("made with another key: %+v", o)
		}
		before := len(service.Received())
		sub.KeyID = "lost"
		if o := send(sub); o.Verdict != belfry.WrongKey || o.Status != 0 || len(service.Received()) != before {
			t.Errorf("key that we do not have: %+v", o)
		}
		for _, got := range service.Received() {
			if n := len(got.Header["Authorization"]); n != 1 {
				t.Errorf("%d Authorization headers", n)
			}
		}
	})
}

// Everything that push services answer means the same over the wire as it does
// to the judge, whichever engine asked.
func TestAnswers(t *testing.T) {
	var v struct {
		Clock time.Time
		Rows  []struct {
			Service, Action, Why, Body string
			Status                     int
			Header                     map[string]string
			WaitSeconds                int `json:"wait_seconds"`
		}
	}
	vectors.Load(t, "responses", &v)
	verdicts := map[string]belfry.Verdict{
		"accepted": belfry.Accepted, "delete": belfry.Gone, "fail-message": belfry.Refused,
		"pause-host": belfry.OurFault, "rekey": belfry.WrongKey, "retry": belfry.Later,
		"wait": belfry.Later, "shrink-once": belfry.TooLarge,
	}
	eachEngine(t, func(t *testing.T, engine string) {
		// The service lives at the vectors' date, so what its dates say is to be
		// understood by its clock, not by ours.
		clock := func() time.Time { return v.Clock }
		service, sign := pushtest.NewService(t, pushtest.Config{Now: clock}), newSigner(t)
		sign.now = clock
		// Its certificate has that date too.
		via := service.Client().Transport.(*http.Transport)
		via.TLSClientConfig.Time = clock
		s, err := sender.New(sender.Config{Signer: sign, Engine: engine, Hosts: service.Hosts(), Transport: via})
		if err != nil {
			t.Fatal(err)
		}
		sub := service.Subscribe(sign.public())
		for _, row := range v.Rows {
			h := http.Header{}
			for name, value := range row.Header {
				h.Set(name, value)
			}
			service.Answer(sub.Endpoint, pushtest.Answer{Status: row.Status, Header: h, Body: row.Body})
			before := len(service.Received())
			o := s.Send(t.Context(), sub, belfry.PushMessage{Payload: []byte("hi"), TTL: time.Hour})
			wait := time.Duration(row.WaitSeconds) * time.Second
			if o.Verdict != verdicts[row.Action] || o.Status != row.Status || o.RetryAfter != wait || o.Err != nil {
				t.Errorf("%s %d: %+v, want %v after %v (%s)", row.Service, row.Status, o, verdicts[row.Action], wait, row.Why)
			}
			if n := len(service.Received()) - before; n != 1 {
				t.Errorf("%s %d: %d requests for one attempt", row.Service, row.Status, n)
			}
			skew := time.Until(v.Clock)
			if o.Verdict == belfry.Accepted {
				skew = 0
			}
			if o.Skew < skew-time.Minute || o.Skew > skew+time.Minute {
				t.Errorf("skew %v, want about %v", o.Skew, skew)
			}
		}
	})
}
