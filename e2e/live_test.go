//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/belfry-push/belfry/sender/pushtest"
)

var kills = flag.Int("kills", 2, "how often the server is killed while pages listen; make faults asks for 20")

const streaming = "Connected by server-sent events."

// A page that is open hears what is sent, without a registration, by the kit and
// by a plain EventSource beside it. Whenever the server is killed in the middle
// and comes back, both have all that it took: nothing twice and nothing missing,
// and no reset, since nothing is lost (BR-61). What is written in a second window
// appears in the first. Where this breaks, people look at pages that have gone deaf.
func TestOpenPage(t *testing.T) {
	t.Parallel()
	eachBrowser(t, func(t *testing.T, profile func(*testing.T, *Desktop, *pushtest.Service) Profile) {
		program := Build(t)
		ctx, cancel := context.WithTimeout(t.Context(), patience+time.Duration(*kills)*30*time.Second)
		defer cancel()
		push := startPush(t)
		visitor := profile(t, NewDesktop(ctx, t), push)
		data := t.TempDir()
		act := acts(t)

		server := program.Serve(ctx, t, data, "127.0.0.1:0", push, "--demo-chat")
		browser := visitor.Open(ctx, t)
		browser.Visit(ctx, t, server.Page())
		browser.Reads(ctx, t, "#transport", streaming)
		browser.records(ctx, t)
		act("the page listens")

		server.Send(ctx, t, 0, "One", "It is open.", "--push", "never")
		server.Send(ctx, t, 0, "<i>Two</i>", "<script>document.title = 'ours'</script>", "--push", "never")
		hears(ctx, t, browser, "<i>Two</i>: <script>document.title = 'ours'</script>", "One: It is open.")
		act("it hears")

		taken := []string{"One", "<i>Two</i>"}
		for n := range *kills {
			var telling sync.WaitGroup
			telling.Go(func() {
				for i := 0; ; i++ { // until nobody is there
					title := fmt.Sprintf("%d-%d", n, i)
					if !server.Tell(ctx, title) {
						return
					}
					taken = append(taken, title)
				}
			})
			browser.until(ctx, t, "it hears the first of them", `(title) => window.heard.kit.includes(title)`, fmt.Sprintf("%d-0", n))
			server.process.End(ctx, t, syscall.SIGKILL)
			telling.Wait()
			browser.Reads(ctx, t, "#transport", "Not connected.")
			server = program.Serve(ctx, t, data, server.address, push, "--demo-chat")
			if title := fmt.Sprint("away-", n); server.Tell(ctx, title) {
				taken = append(taken, title)
			}
			browser.turnTo(ctx, t)
			browser.Reads(ctx, t, "#transport", streaming)
		}
		act(fmt.Sprintf("the server was killed %d times, and is back", *kills))
		browser.until(ctx, t, "both have all", `(titles) => titles.every((title) => window.heard.kit.includes(title) && window.heard.native.includes(title))`, taken)
		var heard struct{ Kit, Native []string }
		if err := browser.Run(ctx, &heard, `arguments[0](window.heard)`); err != nil {
			t.Fatal(err)
		}
		for name, all := range map[string][]string{"kit": heard.Kit, "native": heard.Native} {
			once := slices.Compact(slices.Sorted(slices.Values(all)))
			if len(once) != len(all) || slices.Contains(all, "reset") || slices.Contains(all, "") {
				t.Errorf("%s: %d of %d different: %q", name, len(once), len(all), all)
			}
		}
		act(fmt.Sprintf("%d messages were taken, and both have each once", len(taken)))
		t.Logf("BR-61: killed %d times while it streams, %d messages taken: the kit has %d, an EventSource %d (some that were cut off while they were taken), none twice, 0 missed", *kills, len(taken), len(heard.Kit), len(heard.Native))

		browser.opens(ctx, t, server.Page()+"?window=2")
		browser.Reads(ctx, t, "#transport", streaming)
		line := "<b>From the other window</b>"
		if err := browser.Run(ctx, new(any), `document.getElementById('line').value = arguments[0]; arguments[1]();`, line); err != nil {
			t.Fatal(err)
		}
		browser.Press(ctx, t, "#say")
		browser.Reads(ctx, t, "#lines li", line)
		browser.Lands(ctx, t, server.Page())
		browser.Reads(ctx, t, "#lines li", line)
		act("the first window shows what was written in the second")
		browser.Close(ctx, t)
		server.Stop(ctx, t)
	})
}

// records has the page write down whatever it hears: by the kit, with a note of
// missed messages as "" since that has no title, and by an EventSource of its own.
func (b *Browser) records(ctx context.Context, t *testing.T) {
	t.Helper()
	err := b.Run(ctx, new(any), `
		const done = arguments[0];
		window.heard = { kit: [], native: [] };
		new MutationObserver((changes) => {
			for (const { addedNodes } of changes) for (const line of addedNodes) window.heard.kit.push(line.querySelector('b').textContent);
		}).observe(document.querySelector('#heard'), { childList: true });
		const source = new EventSource('/v1/events?channel=news');
		source.onmessage = ({ data, lastEventId }) => {
			const { cursor, message } = JSON.parse(data);
			window.heard.native.push(cursor === lastEventId ? message.title : 'no cursor');
			document.body.dataset.native = window.heard.native.length; // a change of the document
		};
		source.addEventListener('reset', () => window.heard.native.push('reset'));
		source.addEventListener('hello', () => done());`)
	if err != nil {
		t.Fatal(err)
	}
}

// turnTo is what a page sees of somebody who turns to it: it does not wait for its
// next try then.
func (b *Browser) turnTo(ctx context.Context, t *testing.T) {
	t.Helper()
	if err := b.Run(ctx, new(any), `document.dispatchEvent(new Event('visibilitychange')); arguments[0]()`); err != nil {
		t.Fatal(err)
	}
}

// A page that was left and is come back to, or whose browser was offline, has what
// was said meanwhile. Eight tabs have one connection; when the tab that has it is
// closed, another takes over where it was, and all hear on (BR-63).
func TestTabs(t *testing.T) {
	t.Parallel()
	eachBrowser(t, func(t *testing.T, profile func(*testing.T, *Desktop, *pushtest.Service) Profile) {
		program := Build(t)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		push := startPush(t)
		visitor := profile(t, NewDesktop(ctx, t), push)
		act := acts(t)
		network := NewRelay(t)
		server := program.Serve(ctx, t, t.TempDir(), "127.0.0.1:0", push, "--demo", "--origin", network.Origin())
		network.LeadTo(server)
		browser := visitor.Open(ctx, t)
		tab := func(n int) string { return network.Origin() + "/?tab=" + strconv.Itoa(n) }
		browser.Visit(ctx, t, tab(0))
		browser.Reads(ctx, t, "#transport", streaming)
		act("the page listens")

		leave := func() { browser.Visit(ctx, t, network.Origin()+"/healthz") }
		var had []string
		if browser.comesBack(ctx, t, func() { leave(); server.connections(ctx, t, 0); server.tell(ctx, t, "Left") }) {
			had = []string{"Left"}
		}
		browser.Reads(ctx, t, "#transport", streaming)
		hears(ctx, t, browser, had...)
		act(fmt.Sprintf("it was left and come back to (kept as it was: %v), and has what was said to it", len(had) == 1))

		network.Dark()
		browser.offline(ctx, t, true)
		server.tell(ctx, t, "Offline")
		network.Light()
		browser.offline(ctx, t, false)
		hears(ctx, t, browser, append([]string{"Offline"}, had...)...)
		browser.Reads(ctx, t, "#transport", streaming)
		act("its network was gone, and it has what was said")

		const tabs = 8
		for n := 1; n < tabs; n++ {
			browser.opens(ctx, t, tab(n))
			browser.Reads(ctx, t, "#transport", streaming)
		}
		server.connections(ctx, t, 1)
		server.tell(ctx, t, "All")
		for n := range tabs {
			browser.Lands(ctx, t, tab(n))
			browser.Reads(ctx, t, "#heard li", "All")
		}
		act("eight tabs hear by one connection")

		browser.Lands(ctx, t, tab(0))
		began := time.Now()
		if err := browser.CloseTab(ctx, tab(1)); err != nil {
			t.Fatal(err)
		}
		server.tell(ctx, t, "Taken over")
		hears(ctx, t, browser, "Taken over", "All")
		act(fmt.Sprintf("the tab that had the connection is closed, and the next hears %.1f s later", time.Since(began).Seconds()))
		for n := 2; n < tabs; n++ {
			browser.Lands(ctx, t, tab(n))
			hears(ctx, t, browser, "Taken over", "All")
		}
		server.connections(ctx, t, 1)
		act("all others hear, too")
		browser.Close(ctx, t)
		server.Stop(ctx, t)
	})
}

// comesBack goes back in the history of a page that leave has left, and reports
// whether the browser has kept the page as it was. Firefox keeps none that has a
// lock or a stream, even if it would give them up.
func (b *Browser) comesBack(ctx context.Context, t *testing.T, leave func()) (kept bool) {
	t.Helper()
	err := b.Run(ctx, new(any), `window.kept = true; arguments[0]()`)
	if err == nil {
		leave()
		err = b.Back(ctx)
	}
	if err == nil {
		err = b.Run(ctx, &kept, `arguments[0](window.kept === true)`)
	}
	if err != nil {
		t.Fatal(err)
	}
	return kept
}

func (b *Browser) opens(ctx context.Context, t *testing.T, url string) {
	t.Helper()
	if err := b.OpenTab(ctx, url); err != nil {
		t.Fatalf("%s in a new tab: %v", url, err)
	}
}

func (b *Browser) offline(ctx context.Context, t *testing.T, yes bool) {
	t.Helper()
	if err := b.Offline(ctx, yes); err != nil {
		t.Fatalf("offline: %v", err)
	}
}

// operators speaks to the server over the operators' socket.
func (s *Server) operators() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(s.data, "belfry.sock"))
	}}}
}

// Tell says something to open pages alone, and reports whether the server took it.
// It is quicker than a command.
func (s *Server) Tell(ctx context.Context, title string) bool {
	body, err := json.Marshal(map[string]any{"message": map[string]any{"title": title}, "audience": map[string]any{"channels": []string{"news"}}, "push": "never"})
	if err != nil {
		panic(err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://belfry/api/v1/broadcasts", bytes.NewReader(body))
	if err != nil {
		panic(err)
	}
	resp, err := s.operators().Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusAccepted
}

func (s *Server) tell(ctx context.Context, t *testing.T, title string) {
	t.Helper()
	if !s.Tell(ctx, title) {
		t.Fatalf("the server does not take %s", title)
	}
}

var connected = regexp.MustCompile(`(?m)^belfry_live_connections (\d+)$`)

// connections waits until so many pages are connected.
func (s *Server) connections(ctx context.Context, t *testing.T, want int) {
	t.Helper()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://belfry/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := s.operators().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		got := connected.FindSubmatch(text)
		if got != nil && string(got[1]) == strconv.Itoa(want) {
			return
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("%q pages are connected, want %d", got, want)
		}
	}
}

// hears waits until the page shows these messages and no others, the last first.
func hears(ctx context.Context, t *testing.T, browser *Browser, lines ...string) {
	t.Helper()
	want := strings.Join(lines, "\n")
	browser.until(ctx, t, "heard: "+want, `(want) => {
		const lines = [...document.querySelectorAll('#heard li')].map((line) => line.firstChild.textContent + line.childNodes[1].textContent);
		return lines.join('\n') === want;
	}`, want)
}
