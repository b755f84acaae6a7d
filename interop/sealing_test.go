//go:build interop

package interop

import (
	"crypto/ecdh"
	"crypto/rand"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/sender"
	"github.com/belfry-push/belfry/sender/pushtest"
)

// texts are of the lengths where bodies change: nothing, one octet, what just
// fits each length that bodies are padded to, its neighbours, and the longest.
var texts = func() []string {
	all := []string{"Es läutet um ½ 3 — 鐘が鳴る 🔔", "\x00\x02\x00"}
	for _, n := range []int{0, 1, 408, 409, 410, 920, 921, 922, 1944, 1945, 1946, 2640, 2641, 2642, 3992, belfry.MaxPayload} {
		all = append(all, strings.Repeat("a", n))
	}
	return all
}()

// newBrowser makes a browser that has its key pair and nothing else of one.
func newBrowser(t *testing.T) (belfry.Subscription, *ecdh.PrivateKey) {
	t.Helper()
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sub := belfry.Subscription{Endpoint: belfry.StoredEndpoint("https://updates.push.services.mozilla.com/wpush/v2/gAAAAABk"),
		P256dh: belfry.PublicKey(key.PublicKey().Bytes())}
	rand.Read(sub.Auth[:])
	return sub, key
}

// What either of our engines seals, http_ece opens. Our own decoder was written
// by those who wrote the engine, and could share a mistake with it.
func TestTheyOpenOurs(t *testing.T) {
	for _, engine := range []string{"native", "webpush-go"} {
		t.Run(engine, func(t *testing.T) {
			sub, key := newBrowser(t)
			var net keeper
			s, err := sender.New(sender.Config{Signer: nobody{}, Engine: engine, Transport: &net})
			if err != nil {
				t.Fatal(err)
			}
			for _, unpadded := range []bool{false, true} {
				for _, text := range texts {
					msg := belfry.PushMessage{Payload: []byte(text), Unpadded: unpadded}
					if o := s.Send(t.Context(), sub, msg); o.Verdict != belfry.Accepted {
						t.Fatalf("%d octets: %+v", len(text), o)
					}
				}
			}
			var opened [][]byte
			ask(t, "open", map[string]any{"privateKey": key.Bytes(), "auth": sub.Auth.Reveal(), "bodies": net.bodies}, &opened)
			same(t, opened, slices.Concat(texts, texts))
		})
	}
}

// A keeper stands for the network: it takes every request and keeps its body.
type keeper struct{ bodies [][]byte }

func (k *keeper) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	k.bodies = append(k.bodies, body)
	return &http.Response{StatusCode: http.StatusCreated, Body: http.NoBody}, err
}

// nobody signs: the requests reach no push service.
type nobody struct{}

func (nobody) Authorization(string, string) (string, error) { return "", nil }

// What web-push seals, our strict decoder opens: it refuses mistakes and not
// merely what we would have done otherwise.
func TestWeOpenTheirs(t *testing.T) {
	sub, key := newBrowser(t)
	var opened [][]byte
	for _, body := range theirs(t, sub, "aes128gcm") {
		text, err := pushtest.Open(body, key, sub.Auth)
		if err != nil {
			t.Error(err)
		}
		opened = append(opened, text)
	}
	same(t, opened, texts)
}

// The draft that web-push still offers looks like no message of today, whatever
// its length.
func TestWeOpenNoDraft(t *testing.T) {
	sub, key := newBrowser(t)
	for _, body := range theirs(t, sub, "aesgcm") {
		if text, err := pushtest.Open(body, key, sub.Auth); err == nil {
			t.Errorf("%d octets opened as %.60q", len(body), text)
		}
	}
}

// theirs are the bodies that web-push makes of texts.
func theirs(t *testing.T, sub belfry.Subscription, coding string) (bodies [][]byte) {
	t.Helper()
	ask(t, "seal", map[string]any{"keys": given(sub).Keys, "coding": coding, "texts": texts}, &bodies)
	if len(bodies) != len(texts) {
		t.Fatalf("%d bodies of %d texts", len(bodies), len(texts))
	}
	return bodies
}

func same(t *testing.T, got [][]byte, want []string) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d messages of %d", len(got), len(want))
	}
	for i, text := range want {
		if string(got[i]) != text {
			t.Errorf("message of %d octets: %.60q", len(text), got[i])
		}
	}
}
