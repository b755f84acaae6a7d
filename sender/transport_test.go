package sender

import (
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/internal/outbound/outboundtest"
)

// vouch is a signer that needs no key.
type vouch struct{}

func (vouch) Authorization(audience, keyID string) (string, error) { return "vapid t=t, k=k", nil }

// --push-host opens one host. A subscription must not be able to use it to get
// at that host's other ports, its siblings, or another name that leads there.
func TestOpenedHost(t *testing.T) {
	hits := map[string]int{}
	service := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hits[r.Host]++
		w.WriteHeader(http.StatusCreated)
	}))
	service.StartTLS()
	defer service.Close()
	_, port, _ := net.SplitHostPort(service.Listener.Addr().String())
	// httptest's certificate is for example.com and 127.0.0.1.
	tests := []struct {
		name, open, endpoint string
		verdict              belfry.Verdict
		reason               string
	}{
		{"opened, found at a private address", "example.com:" + port, "https://example.com:" + port + "/p", belfry.Accepted, ""},
		{"opened, dialled elsewhere", "example.com=127.0.0.1:" + port, "https://example.com/p", belfry.Accepted, ""},
		{"opened by address", "127.0.0.1:" + port, "https://127.0.0.1:" + port + "/p", belfry.Accepted, ""},
		{"its other port", "example.com:" + port, "https://example.com:1/p", belfry.Blocked, "endpoint: must use port 443"},
		{"its sibling", "example.com:" + port, "https://www.example.com/p", belfry.Blocked, "endpoint: is not at a push service that this server speaks to"},
		{"a push service led there", "example.com=127.0.0.1:" + port, "https://web.push.apple.com/p", belfry.Later, "its address is not public"},
		{"plain http", "example.com:" + port, "http://example.com:" + port + "/p", belfry.Blocked, "endpoint: must begin with https://"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			clear(hits)
			hosts, err := belfry.NewPushHosts([]string{tt.open})
			if err != nil {
				t.Fatal(err)
			}
			s, err := New(Config{Signer: vouch{}, Hosts: hosts, Resolver: outboundtest.Names("127.0.0.1"),
				RootCAs: service.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			_, _, sub := example(t)
			sub.Endpoint = belfry.StoredEndpoint(tt.endpoint)
			got := s.Send(t.Context(), sub, belfry.PushMessage{})
			if got.Verdict != tt.verdict || got.Reason != tt.reason {
				t.Errorf("%+v, want %v %q", got, tt.verdict, tt.reason)
			}
			if accepted := tt.verdict == belfry.Accepted; (len(hits) > 0) != accepted {
				t.Errorf("requests arrived: %v", hits)
			}
		})
	}
}
