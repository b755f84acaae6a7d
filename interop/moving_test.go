//go:build interop

package interop

import (
	"bufio"
	"encoding/json"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Who moves here from web-push brings the key pair and the subscribers along,
// and can leave again with both. A pair that changed on the way would cut a
// site off from all its visitors, a changed endpoint or key from one.
func TestMovingInAndOut(t *testing.T) {
	program, data := filepath.Join(t.TempDir(), "belfry"), t.TempDir()
	// A container often owns the source by another user than git expects.
	run(t, nil, "go", "build", "-race", "-buildvcs=false", "-o", program, "../cmd/belfry")
	belfry := func(in []byte, args ...string) string {
		return string(run(t, in, program, append(args, "--data", data)...))
	}
	pair, stored := vapidKeys(t), theirSubscriptions(t)

	belfry(pair, "keys", "import", "-")
	serve(t, program, data)
	if said := belfry([]byte(stored), "subscriptions", "import", "-"); said != "imported 8, updated 0, refused 0\n" {
		t.Errorf("import: %s", said)
	}
	if belfry(nil, "keys", "export") != string(pair) {
		t.Error("the exported pair is another")
	}
	if got, want := parse(t, belfry(nil, "subscriptions", "export")), parse(t, stored); !slices.Equal(got, want) {
		t.Errorf("exported\n%+v\nof\n%+v", got, want)
	}
}

// theirSubscriptions are lines as a user of web-push keeps them, at endpoints
// of the forms that push services give out: none may be tidied.
func theirSubscriptions(t *testing.T) string {
	t.Helper()
	var lines []string
	ask(t, "subscribe", map[string]any{"endpoints": []string{
		"https://fcm.googleapis.com/fcm/send/dPbdd5rh7fs:APA91bHun4MxP5egoKMwt2KZFBaFUH-1RYqx_yIDgZ",
		"https://fcm.googleapis.com/fcm/send/c9mBT7L2Xqk:APA91bF0pW8JNl3hGf9VxQ2RzUoSaYd-7tEkC_iMbH",
		"https://fcm.googleapis.com/wp/dHkQ4pXvR0s:APA91bGm2YtZ8cWjLr5nUeSo",
		"https://updates.push.services.mozilla.com/wpush/v2/gAAAAABmX0aQ7Kx-2v_9nLrTqYc3FpHdWsEzUo",
		"https://updates.push.services.mozilla.com/wpush/v1/gAAAAABmX0aR8Ly-3w_0oMsUrZd4GqIeXtFaVp==",
		"https://web.push.apple.com/QGq5mO3xRkZ7tYvB1nHcLpWdEjSfUaKi-g_2",
		"https://wns2-par02p.notify.windows.com/w/?token=BQYAAAC0%2bXo1%2fTn7Rk%3d",
		"https://sg2p.notify.windows.com/w/?token=AwYAAAD%2B9f%3D%3D",
	}}, &lines)
	return strings.Join(lines, "\n")
}

// parse reads lines of subscriptions, in order of their endpoints, with the keys
// in one form of base64.
func parse(t *testing.T, lines string) (all []subscription) {
	t.Helper()
	for line := range strings.Lines(lines) {
		var s subscription
		if err := json.Unmarshal([]byte(line), &s); err != nil {
			t.Fatal(err)
		}
		urlSafe := strings.NewReplacer("+", "-", "/", "_", "=", "")
		s.Keys = keys{urlSafe.Replace(s.Keys.P256dh), urlSafe.Replace(s.Keys.Auth)}
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b subscription) int { return strings.Compare(a.Endpoint, b.Endpoint) })
	return all
}

// serve starts the server and waits until it listens.
func serve(t *testing.T, program, data string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, "serve", "--listen", "127.0.0.1:0", "--data", data)
	pipe, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Wait() }) // the context of the test has ended it by then
	var said strings.Builder
	for lines := bufio.NewScanner(io.TeeReader(pipe, &said)); lines.Scan(); {
		if strings.Contains(lines.Text(), "listening on ") {
			go io.Copy(io.Discard, pipe)
			return
		}
	}
	t.Fatalf("belfry serve ended before it listened:\n%s", &said)
}
