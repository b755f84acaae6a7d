package serviceworker_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/serviceworker"
)

func file(t *testing.T, name string) string {
	t.Helper()
	b, err := fs.ReadFile(serviceworker.Files(), name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

var comment = regexp.MustCompile(`(?s:/\*.*?\*/)|(?m:^\s*//.*$)`)

// code is the file without its comments, which may speak of what code may not do.
func code(t *testing.T, name string) string { return comment.ReplaceAllString(file(t, name), "") }

// command is what go generate runs, as embed.go says.
func command(t *testing.T) []string {
	t.Helper()
	source, err := os.ReadFile("embed.go")
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^//go:generate (go tool esbuild .* --outdir=)kit( .*)$`).FindSubmatch(source)
	if line == nil {
		t.Fatal("embed.go does not say how the kit is printed")
	}
	return strings.Fields(string(line[1]) + t.TempDir() + string(line[2]))
}

// A source that was changed alone would change nothing in any browser, and one
// reads here what runs nowhere.
func TestKitIsPrintedFromItsSources(t *testing.T) {
	args := command(t)
	if out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	out := ""
	for _, arg := range args {
		if folder, found := strings.CutPrefix(arg, "--outdir="); found {
			out = folder
		}
	}
	want, err := filepath.Glob(filepath.Join(out, "*.js"))
	if err != nil {
		t.Fatal(err)
	}
	printed, err := fs.Glob(serviceworker.Files(), "*.js")
	if err != nil || len(printed) != len(want) {
		t.Errorf("kit holds %q, and the sources give %d files, %v", printed, len(want), err)
	}
	for _, path := range want {
		now, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if name := filepath.Base(path); file(t, name) != string(now) {
			t.Errorf("kit/%s is not what %s gives: run make kit", name, name)
		}
	}
}

// A site loads these for every visitor, and many weigh what they load.
func TestFilesStaySmall(t *testing.T) {
	limits := map[string]int{"sw.js": 4 << 10, "belfry.js": 8 << 10, "live.js": 6<<10 + 512, "elements.js": 6 << 10}
	names, err := fs.Glob(serviceworker.Files(), "*.js")
	if err != nil || len(names) < 3 {
		t.Fatalf("%q, %v", names, err)
	}
	for _, name := range names {
		var small bytes.Buffer
		zip, err := gzip.NewWriterLevel(&small, gzip.BestCompression)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(zip, file(t, name))
		zip.Close()
		if small.Len() > limits[name] {
			t.Errorf("%s has %d octets gzipped, and may have %d", name, small.Len(), limits[name])
		}
	}
}

// Without one of these a site could not be registered, not be rung, or not listen.
func TestFilesAreThere(t *testing.T) {
	for _, name := range []string{"sw.js", "belfry.js", "live.js", "elements.js", "belfry.d.ts", "elements.d.ts"} {
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
		"belfry.js": `\beval\b|\bFunction\(|\bimport\s*[({'"*]|\bimport\s+[\w$]|new Notification\(|getNotifications|innerHTML|` +
			`insertAdjacentHTML|document\.write|localStorage|cookie|EventSource|WebSocket|__|[tT]esting|ForTest|[hH]ook`,
		"live.js": `\beval\b|\bFunction\(|\bimport\b|Notification|innerHTML|insertAdjacentHTML|document\.write|sessionStorage|indexedDB|` +
			`cookie|__|[tT]esting|ForTest|[hH]ook`,
		"elements.js": `\beval\b|\bFunction\(|\bimport\(|requestPermission|innerHTML|insertAdjacentHTML|document\.write|cssText|\.style\b|'style'|sessionStorage|` +
			`indexedDB|cookie|EventSource|WebSocket|__|[tT]esting|ForTest|[hH]ook`,
		"belfry.d.ts":   `[hH]ook`,
		"elements.d.ts": `[hH]ook`,
	}
	// The one file that a page may load by itself, from where belfry.js is.
	ours := regexp.MustCompile("import\\([\"`]\\./live\\.js")
	if n := len(ours.FindAllString(code(t, "belfry.js"), -1)); n != 2 {
		t.Errorf("belfry.js loads live.js at %d places", n)
	}
	for name, pattern := range forbidden {
		if found := regexp.MustCompile(pattern).FindString(ours.ReplaceAllString(code(t, name), "")); found != "" {
			t.Errorf("%s holds %q", name, found)
		}
	}
}

// The worker must listen from its first turn, or a browser that starts it for
// one push finds nobody at home (BR-23).
func TestWorkerListens(t *testing.T) {
	for _, event := range []string{"install", "activate", "push", "notificationclick", "notificationclose", "pushsubscriptionchange", "sync"} {
		if !strings.Contains(code(t, "sw.js"), `addEventListener("`+event+`"`) {
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
