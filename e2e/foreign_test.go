//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/belfry-push/belfry/sender/pushtest"
)

// A site on another origin than its Belfry, put together as the README says: a
// worker file of two lines, and a page that imports the kit. When CORS, the
// worker's import or the kit's idea of its server is wrong, no site but our own
// demo can be rung for.
func TestForeignSite(t *testing.T) {
	t.Parallel()
	eachBrowser(t, func(t *testing.T, profile func(*testing.T, *Desktop, *pushtest.Service) Profile) {
		program := Build(t)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		push := startPush(t)
		desktop := NewDesktop(ctx, t)
		visitor := profile(t, desktop, push)

		site, server := openShop(ctx, t, program, push, `<button id="notify">Notify me</button> <output id="state"></output>
<script type="module">
  import { connect } from '%s/belfry.js';
  const belfry = connect();
  const state = document.getElementById('state');
  belfry.addEventListener('state', () => { state.textContent = belfry.state; });
  document.getElementById('notify').onclick = () => belfry.subscribe(['news']).catch((error) => { state.textContent = error.code; });
</script>`)

		browser := visitor.Open(ctx, t)
		browser.Visit(ctx, t, site.URL+"/")
		browser.Press(ctx, t, "#notify")
		browser.Reads(ctx, t, "#state", "on")
		expect(t, "registered", server.Registered(ctx, t), 1)
		browser.Close(ctx, t)

		server.Send(ctx, t, 1, "Hello", "From another origin.")
		browser = visitor.Open(ctx, t)
		desktop.Click(t, shows(ctx, t, desktop, "Hello", "From another origin."))
		// The click must open the site, not Belfry: the message's path belongs to whoever registered.
		browser.Lands(ctx, t, site.URL+"/?from=Hello")
		browser.Close(ctx, t)
		server.Stop(ctx, t)
	})
}

// A shop is a site on another origin than its Belfry, put together as the README
// says. It can have more pages than the one.
type shop struct {
	URL    string
	belfry string // its server's address, without a slash at the end
	pages  *http.ServeMux
}

// openShop starts a shop and its server. page is the text of its one page, in which
// %s stands for the server's address.
func openShop(ctx context.Context, t *testing.T, program Program, push *pushtest.Service, page string) (shop, *Server) {
	t.Helper()
	pages := http.NewServeMux()
	site := httptest.NewServer(pages)
	t.Cleanup(site.Close)
	server := program.Serve(ctx, t, t.TempDir(), "127.0.0.1:0", push, "--origin", site.URL)
	belfry := server.Page()[:len(server.Page())-1]
	serve := func(path, kind, text string) {
		pages.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			fmt.Fprintf(w, text, belfry)
		})
	}
	serve("/sw.js", "text/javascript", "self.BELFRY = '%s';\nimportScripts(BELFRY + '/sw.js');\n")
	serve("/", "text/html", "<!doctype html><title>Shop</title>\n"+page)
	return shop{site.URL, belfry, pages}, server
}
