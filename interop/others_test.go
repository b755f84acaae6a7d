//go:build interop

package interop

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/belfry-push/belfry"
)

func TestMain(m *testing.M) {
	if _, err := os.Stat("node_modules/web-push"); err != nil {
		fmt.Fprintln(os.Stderr, "interop: the npm packages are not installed; make interop does that first")
		os.Exit(1)
	}
	for _, setting := range os.Environ() {
		if name, _, _ := strings.Cut(setting, "="); strings.HasPrefix(name, "BELFRY_") {
			os.Unsetenv(name) // of whoever runs the tests
		}
	}
	// The race detector would otherwise wait a second at the end of each command.
	os.Setenv("GORACE", "atexit_sleep_ms=0")
	os.Exit(m.Run())
}

// run runs a program to its end and returns what it printed.
func run(t *testing.T, in []byte, program string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	var errs bytes.Buffer
	cmd.Stdin, cmd.Stderr = bytes.NewReader(in), &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s%s", program, args, err, out, &errs)
	}
	return out
}

// ask has others.mjs do one thing: request goes in and answer comes back as JSON.
func ask(t *testing.T, verb string, request, answer any) {
	t.Helper()
	in, err := json.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	out := run(t, in, "node", "others.mjs", verb)
	if err := json.Unmarshal(out, answer); err != nil {
		t.Fatalf("others.mjs %s: %v\n%s", verb, err, out)
	}
}

// vapidKeys is what web-push prints for a new site.
func vapidKeys(t *testing.T) []byte {
	t.Helper()
	return run(t, nil, "node_modules/.bin/web-push", "generate-vapid-keys", "--json")
}

// A subscription is what web-push takes, and what its users keep.
type subscription struct {
	Endpoint       string  `json:"endpoint"`
	ExpirationTime float64 `json:"expirationTime,omitzero"`
	Keys           keys    `json:"keys"`
}

type keys struct {
	P256dh string `json:"p256dh"`
	Auth   string `json:"auth"`
}

// given is our subscription in the words of the others.
func given(s belfry.Subscription) subscription {
	return subscription{Endpoint: s.Endpoint.Reveal(), Keys: keys{s.P256dh.Reveal(), s.Auth.Reveal()}}
}
