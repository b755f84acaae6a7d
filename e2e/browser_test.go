//go:build e2e

package e2e

import (
	"context"
	"testing"
	"time"

	"github.com/belfry-push/belfry/internal/process"
	"github.com/belfry-push/belfry/sender/pushtest"
)

// A Profile is one person's browser while it is closed: what they allowed, what
// workers and subscriptions they have.
type Profile interface {
	// Open starts the browser on an empty page and takes hold of it.
	Open(ctx context.Context, t *testing.T) *Browser
}

// browsers makes, for each stock browser, the profile of a person who never was
// here before and has nothing against notifications. Their browser's push service
// is the given one, set as pushtest tells its users to.
var browsers = map[string]func(*testing.T, *Desktop, *pushtest.Service) Profile{
	"Firefox":  NewFirefox,
	"Chromium": NewChromium,
}

// patience is how long a test may take. Most are done in half a minute; what hangs
// ends some day, and nothing fails since a machine is busy.
const patience = 8 * time.Minute

// eachBrowser runs test in every stock browser at once: they have nothing in common
// but the machine, and wait most of the time.
func eachBrowser(t *testing.T, test func(t *testing.T, profile func(*testing.T, *Desktop, *pushtest.Service) Profile)) {
	for name, profile := range browsers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, profile)
		})
	}
}

// A Browser is a profile's browser while it runs.
type Browser struct {
	remote
	process *process.Process
}

// A remote is a browser's own remote control.
type remote interface {
	// Navigate opens url and waits until the page has loaded.
	Navigate(ctx context.Context, url string) error

	// Run runs an asynchronous script in the page. Its last argument is the
	// function to call with the result.
	Run(ctx context.Context, result any, script string, args ...any) error

	// Key presses one key as a person does: Tab, Enter, Escape or a space.
	Key(ctx context.Context, key string) error

	// Click scrolls to what css finds and clicks on it as a mouse would: the page
	// sees a trusted event with user activation, without which it may not ask for
	// anything. An element that is covered, hidden or missing is an error.
	Click(ctx context.Context, css string) error

	// Follow waits until the browser has opened url by itself, in whichever tab, and
	// goes there.
	Follow(ctx context.Context, url string) error

	// OpenTab opens url in a new tab and goes there.
	OpenTab(ctx context.Context, url string) error

	// CloseTab closes the tab in which it is, and goes to the one that shows url.
	CloseTab(ctx context.Context, url string) error

	// Peek makes the tab that shows url the one that scripts run in, and leaves the
	// one in front that is.
	Peek(ctx context.Context, url string) error

	// Tabs are the URLs of all tabs, sorted.
	Tabs(ctx context.Context) ([]string, error)

	// Back goes back by one page in the history of the tab.
	Back(ctx context.Context) error

	// Offline takes the network away from the browser, loopback included, or gives
	// it back.
	Offline(ctx context.Context, yes bool) error

	// Permit sets in the browser's settings whether origin may notify.
	Permit(ctx context.Context, origin string, yes bool) error

	// Handled waits until the browser is done with n pushes in the life of its
	// profile, as it is before a person can have seen what came of them. Chromium
	// looks afterwards whether there is a notification, and shows one of its own
	// where one was clicked away too fast.
	Handled(ctx context.Context, n int) error

	// Photograph returns a picture of the page in PNG, from its top and without
	// what surrounds it, in a window of the given size.
	Photograph(ctx context.Context, width, height int) ([]byte, error)

	// Quit asks the browser to end in good order, with its profile written down.
	Quit(ctx context.Context) error
}

// Visit opens url and waits until it has loaded.
func (b *Browser) Visit(ctx context.Context, t *testing.T, url string) {
	t.Helper()
	if err := b.Navigate(ctx, url); err != nil {
		t.Fatalf("%s: %v", url, err)
	}
}

// Lands waits until the browser has opened url by itself, in whichever tab.
func (b *Browser) Lands(ctx context.Context, t *testing.T, url string) {
	t.Helper()
	if err := b.Follow(ctx, url); err != nil {
		t.Fatalf("the browser does not open %s: %v", url, err)
	}
}

// Press clicks on what css finds, as soon as it is there to be clicked on.
func (b *Browser) Press(ctx context.Context, t *testing.T, css string) {
	t.Helper()
	b.until(ctx, t, css+" can be pressed", `(css) => {
		const button = find(css);
		return button && !button.disabled && button.checkVisibility() && Boolean(button.textContent || button.ariaLabel);
	}`, css)
	if err := b.Click(ctx, css); err != nil {
		t.Fatalf("press %s: %v", css, err)
	}
}

// Reads waits until the text of what css finds begins with prefix.
func (b *Browser) Reads(ctx context.Context, t *testing.T, css, prefix string) {
	t.Helper()
	b.until(ctx, t, css+" reads "+prefix, `(css, prefix) => {
		const text = find(css)?.textContent.trim();
		return text?.startsWith(prefix) && text;
	}`, css, prefix)
}

// find is a function in JavaScript that finds the first element for css, also inside
// of the page's own elements, whose insides a document does not count as its own:
// "outer >>> inner" is for what is inside of one.
const find = `
	const find = (css, root = document) => {
		const cut = css.indexOf(' >>> ');
		if (cut > 0) {
			const inside = find(css.slice(0, cut), root)?.shadowRoot;
			return inside ? find(css.slice(cut + 5), inside) : null;
		}
		let found = root.querySelector(css);
		for (const { shadowRoot } of root.querySelectorAll('*')) if (!found && shadowRoot) found = find(css, shadowRoot);
		return found;
	};`

// until waits until the page makes condition true: a function in JavaScript,
// asked now and after each change of the document or inside of its elements. It may
// call find.
func (b *Browser) until(ctx context.Context, t *testing.T, what, condition string, args ...any) {
	t.Helper()
	script := find + `
		const done = arguments[arguments.length - 1], args = [...arguments].slice(0, -1);
		const holds = ` + condition + `;
		const watched = new Set();
		const observe = (root) => {
			if (!watched.has(root)) watch.observe(root, { subtree: true, childList: true, characterData: true, attributes: true });
			watched.add(root);
			for (const { shadowRoot } of root.querySelectorAll('*')) if (shadowRoot) observe(shadowRoot);
		};
		const look = () => {
			const result = holds(...args);
			if (result) { watch.disconnect(); done(result); } else observe(document);
		};
		const watch = new MutationObserver(look);
		look();`
	if err := b.Run(ctx, new(any), script, args...); err != nil {
		var text string
		if err := b.Run(ctx, &text, `arguments[0](document.body.innerText)`); err != nil {
			t.Log(err)
		}
		t.Fatalf("%s: %v; the page reads:\n%s", what, err, text)
	}
}

// Forgets waits until the browser knows that the desktop shows no notification of
// the page's any more. Each was on the desktop before: to ask while one is being
// shown makes Chromium lose its record, and clicks on it do nothing.
func (b *Browser) Forgets(ctx context.Context, t *testing.T) {
	t.Helper()
	err := b.Run(ctx, new(any), `
		const done = arguments[0];
		const look = async () => {
			const worker = await navigator.serviceWorker.ready;
			if ((await worker.getNotifications()).length === 0) done();
			else setTimeout(look, 20);
		};
		look();`)
	if err != nil {
		t.Fatalf("the browser still holds a notification that was wiped away: %v", err)
	}
}

// Close quits the browser, as a person does who is done for the day.
func (b *Browser) Close(ctx context.Context, t *testing.T) {
	t.Helper()
	if err := b.Quit(ctx); err != nil {
		t.Fatalf("%s: %v", b.process.Name, err)
	}
	if code := b.process.End(ctx, t); code != 0 {
		t.Errorf("%s ended with %d", b.process.Name, code)
	}
}
