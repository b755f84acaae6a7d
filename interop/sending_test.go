//go:build interop

package interop

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/sender/pushtest"
)

type options map[string]any

// A letter is one call of web-push's sendNotification.
type letter struct {
	Subscription subscription `json:"subscription"`
	Text         string       `json:"text"` // without one, there is no payload
	Options      options      `json:"options"`
}

type answer struct {
	Status int
	Body   string
}

// A site sends with web-push and its own key.
type site struct{ PublicKey, PrivateKey string }

func newSite(t *testing.T) (s site) {
	t.Helper()
	if err := json.Unmarshal(vapidKeys(t), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// write makes a letter as the documentation of web-push shows it; more adds to
// its options or replaces them.
func (s site) write(sub belfry.Subscription, text string, more options) letter {
	l := letter{given(sub), text, options{"vapidDetails": s.as("mailto:ops@example.com")}}
	for name, value := range more {
		l.Options[name] = value
	}
	return l
}

// as names whom a push service may complain to.
func (s site) as(subject string) map[string]string {
	return map[string]string{"subject": subject, "publicKey": s.PublicKey, "privateKey": s.PrivateKey}
}

func send(t *testing.T, service *pushtest.Service, letters ...letter) (answers []answer) {
	t.Helper()
	ask(t, "send", map[string]any{"ca": string(service.CA()), "letters": letters}, &answers)
	if len(answers) != len(letters) || len(service.Received()) != len(letters) {
		t.Fatalf("%d letters, %d requests, %d answers", len(letters), len(service.Received()), len(answers))
	}
	return answers
}

// A push service for tests that takes only what Belfry sends tests nothing:
// what web-push sends, real ones take, and so must ours.
func TestTheySend(t *testing.T) {
	service, site := pushtest.NewService(t), newSite(t)
	sub := service.Subscribe(site.PublicKey)
	const fourWeeks = 28 * 24 * time.Hour // what web-push asks for unless told otherwise
	tests := []struct {
		text           string
		options        options
		ttl            time.Duration
		urgency, topic string
	}{
		{"as it comes", nil, fourWeeks, "normal", ""},
		{"with everything", options{"TTL": 60, "urgency": "high", "topic": "weather"}, time.Minute, "high", "weather"},
		{"now or never", options{"TTL": 0, "urgency": "very-low"}, 0, "very-low", ""},
		{"signed for a page", options{"vapidDetails": site.as("https://www.example.com/contact")}, fourWeeks, "normal", ""},
		{"Es läutet 🔔", nil, fourWeeks, "normal", ""},
		{strings.Repeat("a", belfry.MaxPayload), nil, fourWeeks, "normal", ""},
		{"", nil, fourWeeks, "normal", ""},
	}
	var letters []letter
	for _, tt := range tests {
		letters = append(letters, site.write(sub, tt.text, tt.options))
	}
	for i, a := range send(t, service, letters...) {
		tt, got := tests[i], service.Received()[i]
		if a.Status != 201 || string(got.Plaintext) != tt.text || (got.Length > 0) != (tt.text != "") || got.TTL != tt.ttl || got.Urgency != tt.urgency || got.Topic != tt.topic {
			t.Errorf("%.20s: %+v; TTL %s, urgency %q, topic %q, %.60q", tt.text, a, got.TTL, got.Urgency, got.Topic, got.Plaintext)
		}
	}
}

// What web-push lets through and some push service does not, ours refuses, and
// says in words what would have been right. The draft is told from its coding:
// its token too has an old form, and to hear of that alone helps nobody.
func TestTheySendWrongly(t *testing.T) {
	service, site := pushtest.NewService(t), newSite(t)
	sub := service.Subscribe(site.PublicKey)
	tests := []struct {
		name   string
		letter letter
		status int
		reason string
		words  []string
	}{
		{"the draft", site.write(sub, "hi", options{"contentEncoding": "aesgcm"}), 400, "coding", []string{"aesgcm", "aes128gcm"}},
		{"too long", site.write(sub, strings.Repeat("a", belfry.MaxPayload+1), nil), 413, "size", []string{"4097", "4096"}},
		{"a topic of five", site.write(sub, "hi", options{"topic": "sales"}), 400, "topic", []string{"Apple"}},
		{"a space in the subject", site.write(sub, "hi", options{"vapidDetails": site.as("mailto: ops@example.com")}), 401, "vapid-sub", []string{"mailto:"}},
		{"no token", site.write(sub, "hi", options{"vapidDetails": nil}), 401, "vapid-missing", []string{"Authorization"}},
		{"another's key", newSite(t).write(sub, "hi", nil), 401, "vapid-mismatch", []string{"another key"}},
	}
	var letters []letter
	for _, tt := range tests {
		letters = append(letters, tt.letter)
	}
	for i, a := range send(t, service, letters...) {
		tt, got := tests[i], service.Received()[i]
		if a.Status != tt.status || got.Reason != tt.reason {
			t.Errorf("%s: %+v, refused for %q", tt.name, a, got.Reason)
		}
		var told struct {
			More string `json:"more_info"`
		}
		if err := json.Unmarshal([]byte(a.Body), &told); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		for _, word := range tt.words {
			if !strings.Contains(told.More, word) {
				t.Errorf("%s: %q does not say %q", tt.name, told.More, word)
			}
		}
	}
}
