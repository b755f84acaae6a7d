package main

import (
	"bytes"
	"fmt"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/belfry-push/belfry/broadcasts"
)

// A broadcast that waits looks like one that hangs, unless somebody says for whom
// it waits: once for each time, not for each of the hundred events between, and
// not beside JSON.
func TestNotices(t *testing.T) {
	host := func(state, reason string) string {
		return fmt.Sprintf(`{"host":"fcm.googleapis.com","state":%q,"reason":"%s","suspect":7},{"host":"example.com","state":"open"}`, state, reason)
	}
	event := func(state, reason, hosts string) string {
		return fmt.Sprintf(`{"id":%q,"state":%q,"reason":%s,"counts":{"targets":9,"pending":9},"hosts":[%s]}`, someID, state, reason, hosts)
	}
	slow, late := host("waiting", "it asked us to slow down (429)"), host("waiting", `it fails (\u001b[31m503)`)
	stream := []string{
		event("running", "null", host("open", "")),
		event("running", "null", slow), event("running", "null", slow), event("running", "null", late),
		event("running", "null", host("open", "")), event("running", "null", host("open", "")),
		event("running", "null", host("paused", "it refuses our token")), event("paused", `"operator"`, host("paused", "it refuses our token")),
		event("running", "null", host("open", "")),
		event("paused", `"fcm.googleapis.com says something"`, host("open", "")), event("paused", `"canary"`, host("open", "")),
		event("done", "null", slow),
	}
	dir := t.TempDir()
	acting(t, dir, func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/events") {
			fmt.Fprint(w, stream[0])
			return
		}
		for _, e := range stream {
			fmt.Fprintf(w, "event: progress\ndata: %s\n\n", e)
		}
	})
	got := belfryIn(t.Context(), dir, "broadcasts", "watch", someID)
	want := strings.ReplaceAll(`belfry: fcm.googleapis.com waits: it asked us to slow down (429)
belfry: fcm.googleapis.com waits: it fails (`+"\ufffd"+`[31m503)
belfry: fcm.googleapis.com takes messages again
belfry: fcm.googleapis.com is paused: it refuses our token
belfry: it is paused; ^belfry broadcasts resume ID^ lets it go on
belfry: it goes on
belfry: fcm.googleapis.com takes messages again
belfry: it is paused, since fcm.googleapis.com says that 7 more subscribers are gone, which are too many to believe: ^belfry broadcasts confirm ID^ removes them, ^belfry broadcasts dismiss ID^ keeps them
belfry: that was the canary; ^belfry broadcasts resume ID^ rings the rest, ^belfry broadcasts cancel ID^ does not
`, "ID", someID)
	if want = strings.ReplaceAll(want, "^", "`"); got.code != 0 || got.err != want {
		t.Errorf("%d, told\n%s\nnot\n%s", got.code, got.err, want)
	}
	if got := belfryIn(t.Context(), dir, "broadcasts", "watch", someID, "--json"); got.code != 0 || got.err != "" {
		t.Errorf("beside JSON: %+v", got)
	}
}

// A push service that calls everybody gone must not empty the store, and whoever
// waits for the broadcast must hear that it waits for them, and what to type.
func TestNoticeOfSuspects(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, push := background(t, dir, "push", "pushservice", "--listen", "127.0.0.1:0", "--ca-out", filepath.Join(dir, "ca.pem"))
	_, server := background(t, dir, "srv", "serve", "--listen", "127.0.0.1:0", "--push-host", push)
	belfryIn(t.Context(), dir, "subscriptions", "import", minted(t, dir, push, server, "400")).must(t)
	resp, err := anyServer.Post(push+"/pushtest/answers", "application/json", strings.NewReader(`{"answers":[{"status":410}]}`))
	if err != nil || resp.StatusCode != http.StatusNoContent {
		t.Fatal(err, resp)
	}
	resp.Body.Close()

	var errs bytes.Buffer
	dismiss := regexp.MustCompile("`belfry broadcasts confirm ([0-9a-z]{26})` removes them, `belfry broadcasts dismiss ([0-9a-z]{26})` keeps them\n$")
	typed := ""
	a := &app{getenv: func(string) string { return "" }, in: strings.NewReader(""), out: new(bytes.Buffer), err: writer(func(b []byte) (int, error) {
		errs.Write(b)
		if m := dismiss.FindSubmatch(b); m != nil {
			typed = string(m[2])
			belfryIn(t.Context(), dir, "broadcasts", "dismiss", typed).must(t)
		}
		return len(b), nil
	})}
	root := a.root()
	root.SetArgs([]string{"send", "--title", "T", "--all", "--data", filepath.Join(dir, "belfry-data")})
	if code := a.explain(root.ExecuteContext(t.Context())); code != exitSomeFail {
		t.Errorf("ended with %d", code)
	}
	told := strings.Split(strings.TrimSpace(errs.String()), "\n")
	if len(told) != 2 || !strings.Contains(told[0], "more subscribers are gone") || told[1] != "belfry: it goes on" || typed == "" {
		t.Errorf("told\n%s", errs.String())
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }

// A line under the bar that is longer than the terminal is wide would make two of
// it, and the bar would climb up the screen.
func TestWrap(t *testing.T) {
	long := "fcm.googleapis.com waits: it fails (一个非常长的原因，没有任何空格而且还要更长一点) and is asked once a second " + strings.Repeat("x", 90)
	for width := 20; width < 220; width++ {
		lines := wrap(long, width)
		for i, line := range lines {
			columns := 0
			for _, r := range line {
				if columns++; r > 0x1100 {
					columns++
				}
			}
			if columns > width || i > 0 && !strings.HasPrefix(line, "  ") {
				t.Errorf("width %d: %q takes %d", width, line, columns)
			}
		}
		strip := func(s string) string { return strings.ReplaceAll(s, " ", "") }
		if got := strip(strings.Join(lines, "")); got != strip(long) {
			t.Errorf("width %d: %q", width, got)
		}
	}
	if got := strings.Join(wrap("it is paused; `belfry broadcasts resume x` lets it go on", 24), "\n"); got != "it is paused; `belfry\n  broadcasts resume x`\n  lets it go on" {
		t.Errorf("%q", got)
	}
}

// What a narrow terminal has no room for beside the bar stands under it, and few
// lines are taken however many push services wait.
func TestUnderTheBar(t *testing.T) {
	b := broadcasts.Broadcast{Launch: broadcasts.Launch{ID: someID}, Progress: broadcasts.Progress{State: broadcasts.Running}}
	if lines := under(b, nil, 80); len(lines) > 0 {
		t.Errorf("%q", lines)
	}
	for i := range 8 {
		b.Hosts = append(b.Hosts, broadcasts.Host{Host: fmt.Sprint("h", i), State: "waiting", Reason: "r"})
	}
	want := "3s left, 9/s\nh0 waits: r\nh1 waits: r\nh2 waits: r\nh3 waits: r\nh4 waits: r\nand 3 more; see `belfry broadcasts show " + someID + "`"
	if got := strings.Join(under(b, []string{"3s left", "9/s"}, 80), "\n"); got != want {
		t.Errorf("%s", got)
	}
}

// The bar fits, however narrow the terminal, and leaves the last column free.
func TestBarLine(t *testing.T) {
	for columns := 12; columns < 220; columns++ {
		for _, c := range []broadcasts.Counts{{}, {Targets: 1_000_000, Pending: 1_000_000}, {Targets: 1_000_000, Pending: 333_333}, {Targets: 1_000_000}} {
			text, more := beside(progressText(broadcasts.Broadcast{Progress: broadcasts.Progress{Counts: c}}), columns)
			line := barLine(c, text, columns)
			if n := utf8.RuneCountInString(line); n >= columns || text == "" && len(more) == 0 {
				t.Errorf("%d columns of %d: %q, %q", n, columns, line, more)
			}
		}
	}
	if got := barLine(broadcasts.Counts{Targets: 120, Pending: 90}, "30 of 120", 40); got != "  25% |█████                | 30 of 120" {
		t.Errorf("%q", got)
	}
}
