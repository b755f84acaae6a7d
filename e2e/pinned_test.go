//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"testing"

	"github.com/belfry-push/belfry/sender/pushtest"
)

// A page that names the hashes which belfry version --kit prints runs those files
// and no others (SEC-35): the one of its script tag by that, what this imports by an
// import map. A wrong hash that is let through would protect nobody; a right one
// that is refused would take the kit from every site that was careful.
func TestPinnedKit(t *testing.T) {
	t.Parallel()
	eachBrowser(t, func(t *testing.T, profile func(*testing.T, *Desktop, *pushtest.Service) Profile) {
		program := Build(t)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		push := startPush(t)
		visitor := profile(t, NewDesktop(ctx, t), push)
		site, server := openShop(ctx, t, program, push, "<!-- %s -->")
		hash := kitHashes(t, program)
		page := func(path, elements, kit string) {
			text := fmt.Sprintf(`<!doctype html><title>Shop</title><body>
<script type="importmap">{"integrity": {"%[1]s/belfry.js": "%[3]s", "%[1]s/live.js": "%[4]s"}}</script>
<script type="module" src="%[1]s/elements.js" integrity="%[2]s" onload="document.body.dataset.kit = 'runs'" onerror="document.body.dataset.kit = 'refused'"></script>
<belfry-subscribe channels="news"></belfry-subscribe> <belfry-inbox channels="news"></belfry-inbox>`, site.belfry, elements, kit, hash["live.js"])
			site.pages.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/html")
				fmt.Fprint(w, text)
			})
		}
		page("/right", hash["elements.js"], hash["belfry.js"])
		page("/wrong", hash["sw.js"], hash["belfry.js"])
		page("/wrong-import", hash["elements.js"], hash["sw.js"])

		browser := visitor.Open(ctx, t)
		for _, path := range []string{"/wrong", "/wrong-import"} {
			browser.Visit(ctx, t, site.URL+path)
			browser.has(ctx, t, "body[data-kit=refused]")
		}
		browser.Visit(ctx, t, site.URL+"/right")
		browser.has(ctx, t, "body[data-kit=runs]")
		browser.Press(ctx, t, "#subscribe")
		browser.has(ctx, t, "belfry-subscribe[state=on]")
		server.tell(ctx, t, "Pinned") // which live.js has to hear
		browser.Reads(ctx, t, "belfry-inbox >>> li", "Pinned")
		browser.Close(ctx, t)
		server.Stop(ctx, t)
	})
}

// kitHashes are what belfry version --kit prints, by file.
func kitHashes(t *testing.T, program Program) map[string]string {
	t.Helper()
	out, err := program.command("version", "--kit", "--json").Output()
	if err != nil {
		t.Fatal(err)
	}
	var printed struct {
		Kit []struct{ Name, Integrity string }
	}
	if err := json.Unmarshal(out, &printed); err != nil {
		t.Fatal(err)
	}
	hashes := map[string]string{}
	for _, file := range printed.Kit {
		hashes[file.Name] = file.Integrity
	}
	return hashes
}
