package keys_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/keys"
)

func webhookKey(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "webhook.key")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Receivers check signatures with libraries of their own. Secret, call and
// signature are from the tests that those of Standard Webhooks share.
func TestWebhookSigns(t *testing.T) {
	w, made, err := keys.OpenWebhook(webhookKey(t, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n"))
	if err != nil || made {
		t.Fatal(made, err)
	}
	got := w.Sign("msg_p5jXN8AQM9LWM0D4loKWxJek", time.Unix(1614265330, 999), []byte(`{"test": 2432232314}`))
	if got != "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=" {
		t.Error(got)
	}
	if w.Reveal() != "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" {
		t.Error(w.Reveal())
	}
	if text := fmt.Sprint(w, *w) + fmt.Sprintf("%+v %#v %+v %#v", w, w, *w, *w); strings.Contains(text, "MfKQ") || strings.Contains(text, "31f290f6") {
		t.Errorf("prints as %s", text)
	}
}

// A secret is made once: with another one after a restart, receivers would
// refuse every callback.
func TestWebhookIsMadeOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "webhook.key")
	first, made, err := keys.OpenWebhook(path)
	if err != nil || !made {
		t.Fatal(made, err)
	}
	again, made, err := keys.OpenWebhook(path)
	if err != nil || made || again.Reveal() != first.Reveal() {
		t.Errorf("made anew %v, %v", made, err)
	}
	other, _, err := keys.OpenWebhook(filepath.Join(t.TempDir(), "webhook.key"))
	if err != nil || other.Reveal() == first.Reveal() || len(first.Reveal()) != len("whsec_")+44 {
		t.Errorf("two servers have one secret, or it has the wrong length: %v", err)
	}
	if left, _ := filepath.Glob(path + ".*"); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// With half a secret, or one that anybody can read, callbacks would look signed
// and prove nothing.
func TestWebhookRefuses(t *testing.T) {
	for _, text := range []string{"", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS",
		"whsec_" + strings.Repeat("AAAA", 7), "whsec_" + strings.Repeat("AAAA", 22), "whsec_" + strings.Repeat("A-_A", 8)} {
		_, _, err := keys.OpenWebhook(webhookKey(t, text))
		if !errors.Is(err, belfry.ErrNotUsable) || len(text) > 10 && strings.Contains(err.Error(), text) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
