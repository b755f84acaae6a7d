//go:build e2e

package e2e

import (
	"context"
	"slices"
	"testing"

	"github.com/belfry-push/belfry/sender/pushtest"
)

// What a page of the shop knows of itself: whether it is the one in front.
const window = `<button id="notify">Notify me</button> <output id="state"></output>
<script type="module">
  import { connect } from '%s/belfry.js';
  const belfry = connect();
  const show = () => { document.getElementById('state').textContent = belfry.state; };
  belfry.addEventListener('state', show);
  document.getElementById('notify').onclick = () => belfry.subscribe(['news']).catch((error) => { document.getElementById('state').textContent = error.code; });
  const look = () => { document.body.dataset.front = document.visibilityState === 'visible'; };
  document.addEventListener('visibilitychange', look);
  look();
</script>`

// A click on a message brings the person to its page and leaves all else as it was:
// the window that shows it comes to the front; else one of the site's is taken there;
// else one is opened (BR-25). Whatever breaks here, people lose what they had open,
// or have one more window after each click.
func TestWindows(t *testing.T) {
	t.Parallel()
	eachBrowser(t, func(t *testing.T, profile func(*testing.T, *Desktop, *pushtest.Service) Profile) {
		program := Build(t)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		push := startPush(t)
		desktop := NewDesktop(ctx, t)
		visitor := profile(t, desktop, push)
		act := acts(t)
		const elsewhere = "about:blank" // the window that no site has
		site, server := openShop(ctx, t, program, push, window)

		browser := visitor.Open(ctx, t)
		browser.opens(ctx, t, site.URL+"/")
		browser.Press(ctx, t, "#notify")
		browser.Reads(ctx, t, "#state", "on")
		if err := browser.CloseTab(ctx, elsewhere); err != nil {
			t.Fatal(err)
		}
		sent := 0
		click := func(title, url string) {
			t.Helper()
			server.Send(ctx, t, 1, title, "Click.", "--url", url, "--push", "always")
			shown := shows(ctx, t, desktop, title, "Click.")
			sent++
			handled(ctx, t, browser, sent)
			desktop.Click(t, shown)
		}

		click("None", "/none")
		browser.Lands(ctx, t, site.URL+"/none")
		browser.tabs(ctx, t, elsewhere, site.URL+"/none")
		act("none was open, and one was opened")

		browser.mark(ctx, t)
		click("Another", "/another")
		browser.Lands(ctx, t, site.URL+"/another")
		browser.tabs(ctx, t, elsewhere, site.URL+"/another")
		browser.marked(ctx, t, "tab")
		act("another page was open, and was taken there")

		browser.mark(ctx, t)
		browser.Lands(ctx, t, elsewhere)
		browser.back(ctx, t, site.URL+"/another")
		click("Exact", "/another")
		browser.front(ctx, t, site.URL+"/another")
		browser.tabs(ctx, t, elsewhere, site.URL+"/another")
		browser.marked(ctx, t, "tab", "page")
		act("the very page was open, and came to the front")

		for _, page := range []string{"/second", "/third"} {
			browser.opens(ctx, t, site.URL+page)
			browser.mark(ctx, t)
		}
		browser.back(ctx, t, site.URL+"/another")
		click("Three", "/another")
		browser.front(ctx, t, site.URL+"/another")
		browser.tabs(ctx, t, elsewhere, site.URL+"/another", site.URL+"/second", site.URL+"/third")
		for _, page := range []string{"/second", "/third"} {
			browser.back(ctx, t, site.URL+page)
			browser.marked(ctx, t, "tab", "page")
		}
		act("three were open, and the very one came to the front")
		desktop.Quiet(t)
		browser.Close(ctx, t)
		server.Stop(ctx, t)
	})
}

// tabs checks which tabs there are.
func (b *Browser) tabs(ctx context.Context, t *testing.T, want ...string) {
	t.Helper()
	got, err := b.Tabs(ctx)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("there are the tabs %q, want %q", got, want)
	}
}

// front waits until the tab that shows url is in front, and back until it is not.
func (b *Browser) front(ctx context.Context, t *testing.T, url string) {
	t.Helper()
	b.peek(ctx, t, url, "body[data-front=true]")
}

func (b *Browser) back(ctx context.Context, t *testing.T, url string) {
	t.Helper()
	b.peek(ctx, t, url, "body[data-front=false]")
}

func (b *Browser) peek(ctx context.Context, t *testing.T, url, css string) {
	t.Helper()
	if err := b.Peek(ctx, url); err != nil {
		t.Fatal(err)
	}
	b.has(ctx, t, css)
}

// mark leaves one mark on the tab, which stays whatever it shows, and one on the page.
func (b *Browser) mark(ctx context.Context, t *testing.T) {
	t.Helper()
	if err := b.Run(ctx, new(any), `sessionStorage.mark = 'tab'; window.mark = 'page'; arguments[0]()`); err != nil {
		t.Fatal(err)
	}
}

// marked checks which of the marks are there.
func (b *Browser) marked(ctx context.Context, t *testing.T, want ...string) {
	t.Helper()
	var got []string
	if err := b.Run(ctx, &got, `arguments[0]([sessionStorage.mark, window.mark].filter(Boolean))`); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, want) {
		t.Errorf("the marks left are on %q, want %q", got, want)
	}
}
