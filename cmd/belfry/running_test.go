package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/broadcasts"
	"github.com/belfry-push/belfry/sender/pushtest"
)

// background starts a belfry in dir for one test and returns it with its URL.
func background(t *testing.T, dir, name string, args ...string) (*process, string) {
	t.Helper()
	p, url, err := launch(dir, name, append(os.Environ(), "GORACE="+raceOptions), args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Process.Kill() // does nothing where the test has stopped it
		if leaked := leaks(dir, p.log.all()); leaked != "" {
			t.Errorf("the log of %s holds %s", name, leaked)
		}
	})
	return p, url
}

// A result is what one run of the program did.
type result struct {
	code     int
	out, err string
}

// belfryIn runs the program in this process, with the data directory of dir.
func belfryIn(ctx context.Context, dir string, args ...string) result {
	var out, errs bytes.Buffer
	getenv := func(name string) string {
		return map[string]string{"BELFRY_DATA": filepath.Join(dir, "belfry-data")}[name]
	}
	code := run(ctx, args, getenv, strings.NewReader(""), &out, &errs)
	return result{code, out.String(), errs.String()}
}

func (r result) must(t *testing.T) result {
	t.Helper()
	if r.code != 0 {
		t.Fatalf("exit code %d: %s", r.code, r.err)
	}
	return r
}

// get returns what is at url.
func get(t *testing.T, method, url string) []byte {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := anyServer.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode >= 300 {
		t.Fatalf("%s %s: %s, %v", method, url, resp.Status, err)
	}
	return b
}

// minted writes n subscriptions of the push service to a file of dir, made with
// the server's key, and returns its name.
func minted(t *testing.T, dir, push, server, n string) string {
	t.Helper()
	var config struct{ VapidPublicKey string }
	if err := json.Unmarshal(get(t, http.MethodGet, server+"/v1/config"), &config); err != nil {
		t.Fatal(err)
	}
	rows := get(t, http.MethodPost, push+"/pushtest/subscriptions?count="+n+"&applicationServerKey="+config.VapidPublicKey)
	name := filepath.Join(dir, "subscriptions.ndjson")
	if err := os.WriteFile(name, rows, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// Who schedules a broadcast and goes home can rely on it, though the machine
// loses its power before it is due.
func TestScheduledOverAPowerCut(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, push := background(t, dir, "push", "pushservice", "--listen", "127.0.0.1:0")
	args := []string{"serve", "--listen", "127.0.0.1:0", "--push-host", push}
	first, server := background(t, dir, "srv", args...)
	belfryIn(t.Context(), dir, "subscriptions", "import", minted(t, dir, push, server, "3")).must(t)

	due := time.Now().Add(3 * time.Second)
	sent := belfryIn(t.Context(), dir, "send", "--title", "Later", "--all", "--at", due.Format(time.RFC3339Nano)).must(t)
	id := strings.TrimSpace(sent.out)
	if !strings.Contains(sent.err, "it starts at 20") || !strings.Contains(sent.err, "`belfry broadcasts cancel "+id+"` stops it") {
		t.Errorf("it says %q", sent.err)
	}
	first.Process.Kill()
	<-first.exited
	background(t, dir, "srv2", args...)
	if got := belfryIn(t.Context(), dir, "broadcasts", "watch", id).must(t); got.out != id+" done: 3 of 3 accepted\n" {
		t.Errorf("it ended as %q", got.out)
	}
	var b broadcasts.Broadcast
	shown := belfryIn(t.Context(), dir, "broadcasts", "show", id, "--json").must(t)
	if err := json.Unmarshal([]byte(shown.out), &b); err != nil || b.Started.Before(*b.Starts) {
		t.Errorf("started %v, %v", b.Started, err)
	}
}

// A site of ten thousand visitors is rung whole: over HTTPS and HTTP/2, against
// a push service in another process that is as strict as the strictest, every
// single browser gets the message, and can read it.
func TestTenThousand(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	service, push := background(t, dir, "push", "pushservice", "--listen", "127.0.0.1:0", "--tls", "--ca-out", "ca.pem")
	_, server := background(t, dir, "srv", "serve", "--listen", "127.0.0.1:0", "--push-host", strings.TrimPrefix(push, "https://"), "--push-ca", "ca.pem")

	rows := minted(t, dir, push, server, "10000")
	got := belfryIn(t.Context(), dir, "subscriptions", "import", rows, "--channel", "news").must(t)
	if got.out != "imported 10000, updated 0, refused 0\n" || got.err != "" {
		t.Fatalf("import said %q and %q", got.out, got.err)
	}
	got = belfryIn(t.Context(), dir, "send", "--title", "Ten thousand", "--body", "Grüße an alle 🔔", "--all", "--json").must(t)
	var b broadcasts.Broadcast
	if err := json.Unmarshal([]byte(got.out), &b); err != nil {
		t.Fatal(err)
	}
	if want := (broadcasts.Counts{Targets: 10000, Accepted: 10000}); b.Counts != want || b.State != broadcasts.Done {
		t.Fatalf("the broadcast is %s with %+v", b.State, b.Counts)
	}

	var sum pushtest.Summary
	if err := json.Unmarshal(get(t, http.MethodGet, push+"/pushtest/summary"), &sum); err != nil {
		t.Fatal(err)
	}
	if sum.Received != 10000 || sum.Accepted != 10000 || sum.Endpoints != 10000 || sum.Decrypted != 10000 || sum.HTTP2 != 10000 || len(sum.Refused) > 0 {
		t.Errorf("the push service counts %+v", sum)
	}
	want, err := belfry.Message{Title: "Ten thousand", Body: "Grüße an alle 🔔"}.Payload(b.ID, "", server)
	if err != nil {
		t.Fatal(err)
	}
	lines, n := bufio.NewScanner(bytes.NewReader(get(t, http.MethodGet, push+"/pushtest/ledger"))), 0
	lines.Buffer(nil, 1<<20)
	for ; lines.Scan(); n++ {
		var r pushtest.Received
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(r.Plaintext, want) {
			t.Fatalf("a browser reads %s\nnot %s", r.Plaintext, want)
		}
	}
	if n != 10000 {
		t.Errorf("the ledger holds %d requests", n)
	}
	if err := service.stop(syscall.SIGTERM); err != nil {
		t.Errorf("the push service ended with: %v", err)
	}
}
