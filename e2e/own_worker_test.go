//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/belfry-push/belfry/sender/pushtest"
)

// A site with a worker of its own, which answers requests out of a cache, takes
// Belfry's into it as the guide says. Both must work: where ours breaks theirs, the
// site is gone for whoever has no network; where theirs keeps ours out, nobody is rung.
func TestOwnWorker(t *testing.T) {
	t.Parallel()
	eachBrowser(t, func(t *testing.T, profile func(*testing.T, *Desktop, *pushtest.Service) Profile) {
		program := Build(t)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		push := startPush(t)
		desktop := NewDesktop(ctx, t)
		visitor := profile(t, desktop, push)
		act := acts(t)

		pages := http.NewServeMux()
		site := httptest.NewServer(pages)
		t.Cleanup(site.Close)
		server := program.Serve(ctx, t, t.TempDir(), "127.0.0.1:0", push, "--origin", site.URL)
		const ring = "https://ring.example.com" // in the guide
		belfry := strings.TrimSuffix(server.Page(), "/")
		worker := strings.ReplaceAll(guide(t, "existing-worker.md", "js"), ring, belfry) + ownWorker
		page := `<!doctype html><title>Shop</title><script type="module" src="` + belfry + `/elements.js"></script>` + guide(t, "existing-worker.md", "html")
		serve := func(path, kind, text string) {
			pages.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", kind)
				fmt.Fprint(w, text)
			})
		}
		serve("/service-worker.js", "text/javascript", worker)
		serve("/", "text/html", page)

		browser := visitor.Open(ctx, t)
		browser.Visit(ctx, t, site.URL+"/")
		browser.Press(ctx, t, "#subscribe")
		browser.has(ctx, t, "belfry-subscribe[state=on]")
		expect(t, "registered", server.Registered(ctx, t), 1)
		var workers []string
		if err := browser.Run(ctx, &workers, `navigator.serviceWorker.getRegistrations().then((all) => arguments[0](all.map(({ scope, active }) => scope + ' ' + active.scriptURL)))`); err != nil {
			t.Fatal(err)
		}
		if want := site.URL + "/ " + site.URL + "/service-worker.js"; len(workers) != 1 || workers[0] != want {
			t.Errorf("the workers are %q, want %q alone", workers, want)
		}
		answered := func() {
			t.Helper()
			var got string
			if err := browser.Run(ctx, &got, `fetch('/cached').then((answer) => answer.text()).then(arguments[0], arguments[0])`); err != nil || got != "out of the cache" {
				t.Errorf("the site's own worker answers %q, %v", got, err)
			}
		}
		answered()
		act("registered by the site's own worker, which answers as before")

		browser.Visit(ctx, t, "about:blank")
		server.Send(ctx, t, 1, "Own", "By the site's worker.", "--push", "always")
		shown := shows(ctx, t, desktop, "Own", "By the site's worker.")
		handled(ctx, t, browser, 1)
		desktop.Click(t, shown)
		browser.Lands(ctx, t, site.URL+"/?from=Own")
		browser.has(ctx, t, "belfry-subscribe[state=on]")
		answered()
		act("rung and come back by a click, and the worker answers as before")
		desktop.Quiet(t)
		browser.Close(ctx, t)
		server.Stop(ctx, t)
	})
}

// ownWorker is what the site had before: what it answers to /cached no server has.
const ownWorker = `
self.addEventListener('install', (event) => event.waitUntil(caches.open('shop').then((cache) => cache.put('/cached', new Response('out of the cache')))));
self.addEventListener('fetch', (event) => {
  if (new URL(event.request.url).pathname === '/cached') event.respondWith(caches.match(event.request));
});
`
