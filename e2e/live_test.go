//go:build e2e

package e2e

import (
	"context"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/belfry-push/belfry/sender/pushtest"
)

// A page that is open hears what is sent, without a registration. The server is
// killed and comes back: what is sent then comes, too, nothing twice and nothing
// missing. What is written in a second window appears in the first. Where this
// breaks, people look at pages that have gone deaf.
func TestOpenPage(t *testing.T) {
	eachBrowser(t, func(t *testing.T, profile func(*testing.T, *Desktop, *pushtest.Service) Profile) {
		program := Build(t)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		push := startPush(t)
		visitor := profile(t, NewDesktop(ctx, t), push)
		data := t.TempDir()
		act := acts(t)

		server := program.Serve(ctx, t, data, "127.0.0.1:0", push, "--demo-chat")
		browser := visitor.Open(ctx, t)
		browser.Visit(ctx, t, server.Page())
		browser.Reads(ctx, t, "#transport", "Connected by server-sent events.")
		act("the page listens")

		tell := func(title, body string) {
			server.Send(ctx, t, 0, title, body, "--push", "never")
		}
		tell("One", "It is open.")
		tell("<i>Two</i>", "<script>document.title = 'ours'</script>")
		hears(ctx, t, browser, "<i>Two</i>: <script>document.title = 'ours'</script>", "One: It is open.")
		act("it hears")

		server.process.End(ctx, t, syscall.SIGKILL)
		browser.Reads(ctx, t, "#transport", "Not connected.")
		server = program.Serve(ctx, t, data, server.address, push, "--demo-chat")
		tell("Three", "It may be away.") // and have it from the log
		tell("Four", "It is back.")
		hears(ctx, t, browser, "Four: It is back.", "Three: It may be away.", "<i>Two</i>: <script>document.title = 'ours'</script>", "One: It is open.")
		browser.Reads(ctx, t, "#transport", "Connected by server-sent events.")
		act("it hears a server that was killed and started again")

		secondWindow(ctx, t, browser, server.Page()+"?window=2")
		browser.Reads(ctx, t, "#transport", "Connected by server-sent events.")
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

// secondWindow opens url beside the page, by a click on a link, and goes there.
func secondWindow(ctx context.Context, t *testing.T, browser *Browser, url string) {
	t.Helper()
	err := browser.Run(ctx, new(any), `
		const [url, done] = arguments, link = document.createElement('a');
		Object.assign(link, { id: 'second', target: '_blank', href: url, textContent: 'A second window' });
		document.querySelector('main').append(link);
		done();`, url)
	if err != nil {
		t.Fatal(err)
	}
	browser.Press(ctx, t, "#second")
	browser.Lands(ctx, t, url)
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
