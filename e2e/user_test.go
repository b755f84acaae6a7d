//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/belfry-push/belfry/sender/pushtest"
)

// A site that says who is signed in, on another origin than its Belfry: Ann's page
// and Ann's browser are told what is for her, by tickets and headers that the
// browser must let through. Where this breaks, nobody can be rung alone, or the
// wrong person is.
func TestUser(t *testing.T) {
	t.Parallel()
	eachBrowser(t, func(t *testing.T, profile func(*testing.T, *Desktop, *pushtest.Service) Profile) {
		program := Build(t)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		push := startPush(t)
		desktop := NewDesktop(ctx, t)
		visitor := profile(t, desktop, push)

		site, server := openShop(ctx, t, program, push, `<button id="notify">Notify me</button> <output id="state"></output> <output id="transport"></output> <ul id="heard"></ul>
<script type="module">
  import { connect } from '%s/belfry.js';
  const belfry = connect({ userToken: () => fetch('/token', { cache: 'no-store' }).then((answer) => answer.text()) });
  const show = (id, text) => { document.getElementById(id).textContent = text; };
  belfry.addEventListener('state', () => show('state', belfry.state));
  belfry.addEventListener('transport', ({ detail }) => show('transport', detail.transport));
  belfry.listen(['private-club'], ({ message }) => {
    const line = document.createElement('li');
    line.append(message.title + ': ', message.body);
    document.getElementById('heard').prepend(line);
  });
  document.getElementById('notify').onclick = () => belfry.subscribe(['private-club']).catch((error) => show('state', error.code + error.message));
</script>`)
		var key struct{ Secret string }
		server.Ask(ctx, t, &key, "keys", "user")
		site.pages.HandleFunc("/token", func(w http.ResponseWriter, _ *http.Request) {
			token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"aud": site.belfry, "sub": "ann", "channels": []string{"private-club"},
				"exp": time.Now().Unix() + 300}).SignedString([]byte(key.Secret))
			if err != nil {
				panic(err)
			}
			fmt.Fprint(w, token)
		})

		browser := visitor.Open(ctx, t)
		browser.Visit(ctx, t, site.URL+"/")
		browser.Reads(ctx, t, "#transport", "sse")
		tell := func(title string, more ...string) {
			t.Helper()
			var sent struct{ State string }
			server.Ask(ctx, t, &sent, append([]string{"send", "--title", title, "--body", "It is hers."}, more...)...)
			if sent.State != "done" {
				t.Fatalf("%s is %s", title, sent.State)
			}
		}
		tell("For Bob", "--user", "bob", "--push", "never")
		tell("For Ann", "--user", "ann", "--push", "never")
		tell("For her club", "--channel", "private-club", "--push", "never")
		hears(ctx, t, browser, "For her club: It is hers.", "For Ann: It is hers.")

		browser.Press(ctx, t, "#notify")
		browser.Reads(ctx, t, "#state", "on")
		var got struct{ Count int }
		server.Ask(ctx, t, &got, "subscriptions", "count", "--user", "ann")
		expect(t, "Ann's", got.Count, 1)
		browser.Close(ctx, t)
		tell("To Ann's browser", "--user", "ann")
		browser = visitor.Open(ctx, t)
		shows(ctx, t, desktop, "To Ann's browser", "It is hers.")
		browser.Close(ctx, t)
		server.Stop(ctx, t)
	})
}
