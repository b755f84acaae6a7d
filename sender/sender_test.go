package sender_test

import (
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/sender"
)

// A signer vouches with a fixed text.
type signer struct{}

func (signer) Authorization(audience, keyID string) (string, error) {
	if keyID == "unknown" {
		return "", &belfry.Error{Kind: belfry.ErrNotFound, Code: "unknown-key", Text: "no such key"}
	}
	return "vapid t=" + audience + ", k=" + keyID, nil
}

// One message goes out as one request with the headers of RFC 8030 and no others.
func TestSendRequest(t *testing.T) {
	var got *http.Request
	service := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		w.Header().Set("TTL", "50")
		w.WriteHeader(http.StatusCreated)
	}))
	service.EnableHTTP2 = true
	service.StartTLS()
	defer service.Close()
	hosts, err := belfry.NewPushHosts([]string{service.Listener.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(service.Certificate())
	s, err := sender.New(sender.Config{Signer: signer{}, Hosts: hosts, RootCAs: roots})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	key, _ := belfry.ParsePublicKey("BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4")
	sub := belfry.Subscription{Endpoint: belfry.StoredEndpoint(service.URL + "/p/%7E|x?a=b%2fc"), P256dh: key, KeyID: "k"}

	o := s.Send(t.Context(), sub, belfry.PushMessage{Payload: []byte("hi"), TTL: time.Minute, Urgency: "high", Topic: "news"})
	if o.Verdict != belfry.Accepted || o.Status != 201 || o.TTL != 50*time.Second || o.Err != nil {
		t.Fatalf("outcome %+v", o)
	}
	want := http.Header{"Authorization": {"vapid t=" + service.URL + ", k=k"}, "Content-Encoding": {"aes128gcm"},
		"Content-Type": {"application/octet-stream"}, "Ttl": {"60"}, "Urgency": {"high"}, "Topic": {"news"}, "Content-Length": {"512"}}
	for name := range got.Header {
		if _, ok := want[name]; !ok {
			t.Errorf("sends %s: %s", name, got.Header.Get(name))
		}
	}
	for name := range want {
		if len(got.Header[name]) != 1 || got.Header.Get(name) != want.Get(name) {
			t.Errorf("%s: %q, want %q", name, got.Header[name], want.Get(name))
		}
	}
	if got.ProtoMajor != 2 || got.RequestURI != "/p/%7E|x?a=b%2fc" {
		t.Errorf("%s %s", got.Proto, got.RequestURI)
	}
}
