package serviceworker_test

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/serviceworker"
)

func file(t *testing.T, name string) string {
	t.Helper()
	b, err := serviceworker.Files.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

var comment = regexp.MustCompile(`(?s:/\*.*?\*/)|(?m:^\s*//.*$|\s//\s.*$)`)

// code is the file without its comments, which may speak of what code may not do.
func code(t *testing.T, name string) string { return comment.ReplaceAllString(file(t, name), "") }

// Without one of these a site could not be registered, not be rung, or not listen.
func TestFilesAreThere(t *testing.T) {
	for _, name := range []string{"sw.js", "belfry.js", "live.js", "belfry.d.ts"} {
		if len(file(t, name)) < 1000 {
			t.Errorf("%s is too short to be itself", name)
		}
	}
	if got := code(t, "belfry.js"); !strings.Contains(got, "export function connect(") {
		t.Error("belfry.js does not export connect, which every page imports")
	}
}

// What the files may not hold. Each of these would break a promise in somebody's
// browser: code from elsewhere (SEC-35), a text that becomes HTML (SEC-30), a
// notification that Android refuses (BR-30), a lost click (getNotifications while
// one is being shown), a page load that waits for us (BR-33).
func TestFilesHoldNoneOf(t *testing.T) {
	forbidden := map[string]string{
		"sw.js": `\beval\b|\bFunction\(|importScripts|\bimport\b|new Notification\(|getNotifications|innerHTML|` +
			`['"]fetch['"]|['"]message['"]|\bcaches\b|localStorage|__|[tT]esting|ForTest|[hH]ook`,
		"belfry.js": `\beval\b|\bFunction\(|\bimport\s*[({'"]|\bimport\b.*\bfrom\b|new Notification\(|getNotifications|innerHTML|` +
			`insertAdjacentHTML|document\.write|localStorage|cookie|EventSource|WebSocket|__|[tT]esting|ForTest|[hH]ook`,
		"live.js": `\beval\b|\bFunction\(|\bimport\b|Notification|innerHTML|insertAdjacentHTML|document\.write|sessionStorage|indexedDB|` +
			`cookie|__|[tT]esting|ForTest|[hH]ook`,
		"belfry.d.ts": `[hH]ook`,
	}
	// The one file that a page may load by itself, from where belfry.js is.
	const ours = "import(`./live.js${"
	if n := strings.Count(code(t, "belfry.js"), ours); n != 1 {
		t.Errorf("belfry.js loads live.js at %d places", n)
	}
	for name, pattern := range forbidden {
		if found := regexp.MustCompile(pattern).FindString(strings.Replace(code(t, name), ours, "", 1)); found != "" {
			t.Errorf("%s holds %q", name, found)
		}
	}
}

// The worker must listen from its first turn, or a browser that starts it for
// one push finds nobody at home (BR-23).
func TestWorkerListens(t *testing.T) {
	for _, event := range []string{"install", "activate", "push", "notificationclick", "pushsubscriptionchange"} {
		if !strings.Contains(code(t, "sw.js"), "addEventListener('"+event+"'") {
			t.Errorf("sw.js does not listen for %s", event)
		}
	}
}

// A payload that Go writes, sw.js reads: both are tested against one file. If
// this fails the compiler has changed what it writes; look at what the worker
// makes of the new payload before putting it into the file.
func TestPayloadsAreWhatGoWrites(t *testing.T) {
	b, err := os.ReadFile("testdata/payloads.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Rows []struct {
			Why, Origin, ID, Channel, Payload string
			Message                           belfry.Message
		}
	}
	if err := json.Unmarshal(b, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Rows) < 5 {
		t.Fatalf("only %d rows", len(file.Rows))
	}
	for _, row := range file.Rows {
		t.Run(row.Why, func(t *testing.T) {
			if err := row.Message.Check([]string{row.Origin, "https://shop.example"}); err != nil {
				t.Fatal(err)
			}
			got, err := row.Message.Payload(row.ID, row.Channel, row.Origin)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != row.Payload {
				t.Errorf("Go writes\n%s\nthe file has\n%s", got, row.Payload)
			}
		})
	}
}
