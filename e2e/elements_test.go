//go:build e2e

package e2e

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/belfry-push/belfry/sender/pushtest"
)

// strict is the policy under which the kit claims to work (BR-34), with a place for complaints.
const strict = "default-src 'none'; script-src 'self'; worker-src 'self'; connect-src 'self'; img-src 'self'; manifest-src 'self'; report-uri /reports"

// A stage is a site that has Belfry on its own origin, and pages of the test's.
type stage struct {
	URL     string
	server  *Server
	mu      sync.Mutex // guards reports
	reports []string
}

// openStage starts a server, and a site in front of it.
func openStage(ctx context.Context, t *testing.T, push *pushtest.Service) *stage {
	t.Helper()
	mux := http.NewServeMux()
	front := httptest.NewUnstartedServer(mux)
	s := &stage{URL: "http://" + strings.Replace(front.Listener.Addr().String(), "127.0.0.1", "localhost", 1)}
	s.server = Build(t).Serve(ctx, t, t.TempDir(), "127.0.0.1:0", push, "--origin", s.URL, "--demo", "--demo-chat")
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: s.server.address})
	proxy.FlushInterval = -1
	proxy.ErrorHandler = func(http.ResponseWriter, *http.Request, error) {} // pages go while they listen
	mux.Handle("/", proxy)
	mux.HandleFunc("POST /reports", func(w http.ResponseWriter, r *http.Request) {
		report, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.reports = append(s.reports, string(report))
	})
	front.Start()
	t.Cleanup(front.Close)
	s.serve(mux, "/axe.js", "text/javascript", axe(t))
	s.serve(mux, "/judge.js", "text/javascript", judge)
	s.serve(mux, "/stage.css", "text/css", stageStyle)
	for name, stub := range environments {
		s.serve(mux, "/"+name+".js", "text/javascript", stub)
	}
	show := func(name, body string) {
		s.serve(mux, "/strict/"+name, "text/html", "<title>"+name+"</title>"+body)
		s.serve(mux, "/shown/"+name, "text/html", `<title>`+name+`</title><link rel="stylesheet" href="/stage.css">`+body)
	}
	for name, body := range pages {
		show(name, body)
	}
	for _, name := range states {
		show(name, stateOf(name))
	}

	return s
}

func (s *stage) serve(mux *http.ServeMux, path, kind, text string) {
	if kind == "text/html" {
		text = `<!doctype html><html lang="en"><meta name="viewport" content="width=device-width, initial-scale=1">` + text
	}
	mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind+"; charset=utf-8")
		if strings.HasPrefix(path, "/strict/") {
			w.Header().Set("Content-Security-Policy", strict)
		}
		io.WriteString(w, text)
	})
}

// complaints are the violations of the policy that browsers have reported.
func (s *stage) complaints() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reports
}

const (
	elements = `<script type="module" src="/elements.js"></script>`
	towns    = `<data value="news">News from the town</data><data value="sport">Sport</data>`
)

// pages are served under the strict policy, and without it in clothes of their own.
var pages = map[string]string{
	"guilty": `<main><h1 style="color: red">Not allowed</h1></main>`,
	"bells": elements + `<main><h1>Bells</h1><belfry-subscribe kind="bell" channels="news sport">` + towns + `</belfry-subscribe>
<belfry-inbox kind="bell" channels="news"></belfry-inbox><div><belfry-subscribe id="second" channels="news"></belfry-subscribe></div></main>`,
	"prompt": elements + `<main><h1>Prompt</h1><belfry-subscribe prompt channels="news sport">` + towns + `</belfry-subscribe></main>`,
	"list":   elements + `<main><h1>List</h1><belfry-inbox channels="news"></belfry-inbox></main>`,
	"foreign": `<script type="module" src="/foreign.js"></script><main lang="ar" dir="rtl"><h1>أخبار</h1><belfry-subscribe kind="bell" channels="news sport">
<data value="news">أخبار</data><data value="sport">رياضة</data></belfry-subscribe><div><belfry-inbox channels="news"></belfry-inbox></div></main>`,
}

// stateOf is a page with the element in one of its states.
func stateOf(name string) string {
	return `<script src="/` + name + `.js"></script>` + elements + `<main><h1>` + name + `</h1><belfry-subscribe channels="news sport">` + towns + `</belfry-subscribe></main>`
}

// environments are what a page finds in place of the browser's own, in the states
// that a stock browser with an open-minded person in front of it does not have.
var environments = map[string]string{
	"unsupported":   `delete window.PushManager;`,
	"insecure":      `Object.defineProperty(window, 'isSecureContext', { value: false });`,
	"needs-install": `delete window.PushManager; Object.defineProperty(navigator, 'userAgent', { value: 'iPhone' });`,
	"private-mode":  `delete Navigator.prototype.serviceWorker;`,
	"denied":        `Object.defineProperty(Notification, 'permission', { value: 'denied' });`,
	"dismissed":     `Object.defineProperty(Notification, 'permission', { value: 'default' }); Notification.requestPermission = async () => 'default';`,
	"off":           ``,
	"busy":          `Object.defineProperty(Notification, 'permission', { value: 'default' }); Notification.requestPermission = () => new Promise(() => {});`,
	"on":            ``,
	"stale":         `PushManager.prototype.getSubscription = async () => null; window.fetch = async () => { throw new TypeError('no network'); };`,
	"foreign": `import('/elements.js').then(({ translate }) => translate('ar', { title: 'الإشعارات', promise: 'سيسألك متصفحك مرة أخرى.', choice: 'أخبرني عن',
		subscribe: 'أخبرني', inbox: 'الرسائل', save: 'حفظ', unsubscribe: 'إيقاف', on: 'هذا المتصفح يتلقى الإشعارات.', unread: '{n} جديدة', empty: 'لا شيء بعد.' }));`,
}

// states in the order in which one browser can come by them.
var states = []string{"unsupported", "insecure", "needs-install", "private-mode", "denied", "off", "busy", "dismissed", "on", "stale"}

const stageStyle = `:root { color-scheme: light dark; font: 16px/1.5 system-ui, "DejaVu Sans", sans-serif; }
body { margin: 0; padding: 1rem; }
h1 { margin: 0 0 .5rem; font-size: .875rem; font-weight: 400; }`

// axe is the text of axe-core, which looks for what keeps people with
// disabilities from a page.
func axe(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../serviceworker/node_modules/axe-core/axe.min.js")
	if err != nil {
		t.Fatalf("%v: make setup installs it", err)
	}
	return string(text)
}

// judge has axe look at the page whenever it is asked to.
const judge = `document.addEventListener('judge', async () => {
	const { violations, passes } = await axe.run(document);
	document.documentElement.dataset.verdict = JSON.stringify({ passes: passes.length,
		violations: violations.map(({ id, help, nodes }) => id + ': ' + help + ' ' + nodes.map(({ html, any }) => html + ' ' + any.map(({ message }) => message).join(' ')).join(' | ')) });
});`

// A page that uses the elements is used by keyboard alone, under the strictest
// policy: bell, choice, registration, inbox. Whoever cannot use a mouse would
// otherwise be left out, and a site with a strict policy would see nothing at all.
func TestElements(t *testing.T) {
	t.Parallel()
	eachBrowser(t, func(t *testing.T, profile func(*testing.T, *Desktop, *pushtest.Service) Profile) {
		Build(t)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		push := startPush(t)
		visitor := profile(t, NewDesktop(ctx, t), push)
		act := acts(t)
		site := openStage(ctx, t, push)
		browser := visitor.Open(ctx, t)

		browser.Visit(ctx, t, site.URL+"/strict/guilty")
		for len(site.complaints()) == 0 {
			select {
			case <-time.After(20 * time.Millisecond):
			case <-ctx.Done():
				t.Fatal("a page that breaks the policy is not reported, so none would be")
			}
		}
		site.mu.Lock()
		site.reports = nil
		site.mu.Unlock()
		act("what breaks the policy is reported")

		site.server.tell(ctx, t, "Before")
		browser.Visit(ctx, t, site.URL+"/strict/prompt")
		browser.has(ctx, t, "belfry-subscribe >>> .card [part=question]:not([hidden])")
		browser.judged(ctx, t, "the soft prompt")
		browser.Press(ctx, t, "#later")
		browser.has(ctx, t, "belfry-subscribe >>> .panel:not(.card)")
		browser.focused(ctx, t, "subscribe")
		browser.Visit(ctx, t, site.URL+"/strict/prompt")
		browser.Reads(ctx, t, "#subscribe", "Notify me")
		browser.has(ctx, t, "belfry-subscribe >>> .panel:not(.card)")
		act("the prompt was waved away, and is gone on the next page")

		browser.Visit(ctx, t, site.URL+"/strict/bells")
		browser.has(ctx, t, "belfry-inbox[unread='0'] >>> li")
		keys := func(want string, keys ...string) {
			t.Helper()
			for _, key := range keys {
				if err := browser.Key(ctx, key); err != nil {
					t.Fatal(err)
				}
			}
			browser.focused(ctx, t, want)
		}
		keys("open", "Tab")
		keys("panel", "Enter")
		browser.judged(ctx, t, "the open bell")
		keys("panel", "Escape", "Enter")
		keys("news", "Tab")
		keys("sport", "Tab")
		keys("subscribe", " ", "Tab")
		keys("save", "Enter")
		browser.has(ctx, t, "belfry-subscribe[kind=bell][state=on]")
		browser.has(ctx, t, "#second[state=on]")
		var got struct{ Count int }
		site.server.Ask(ctx, t, &got, "subscriptions", "count", "--channel", "news")
		expect(t, "registered for news", got.Count, 1)
		site.server.Ask(ctx, t, &got, "subscriptions", "count", "--channel", "sport")
		expect(t, "registered for sport, which was not chosen", got.Count, 0)
		keys("open", "Escape")
		act("registered by keyboard alone")

		site.tells(ctx, t, "<b>After</b>", "It is open.")
		browser.has(ctx, t, "belfry-inbox[unread='1']")
		keys("open", "Tab")
		browser.Reads(ctx, t, "belfry-inbox >>> .badge", "1")
		keys("panel", "Enter")
		browser.has(ctx, t, "belfry-inbox[unread='0']")
		browser.Reads(ctx, t, "belfry-inbox >>> li.new", "<b>After</b>")
		browser.Reads(ctx, t, "belfry-inbox >>> li:nth-child(2)", "Before")
		browser.judged(ctx, t, "the open inbox")
		keys("", "Tab") // the first message's link
		keys("open", "Escape")
		act("the inbox has what was said before and after")

		for _, name := range []string{"list", "foreign", "bells"} {
			browser.Visit(ctx, t, site.URL+"/strict/"+name)
			browser.has(ctx, t, "belfry-inbox[unread='0'] >>> li")
			browser.judged(ctx, t, name)
		}
		for _, name := range states {
			browser.Visit(ctx, t, site.URL+"/strict/"+name)
			browser.reach(ctx, t, name, true)
			browser.judged(ctx, t, name)
		}
		browser.Visit(ctx, t, site.URL+"/")
		browser.has(ctx, t, "belfry-subscribe[state=on]")
		browser.judged(ctx, t, "the demo page")
		act("axe finds nothing on any page")

		if all := site.complaints(); len(all) > 0 {
			t.Errorf("%d violations of the policy: %s", len(all), all)
		}
		browser.Close(ctx, t)
		site.server.Stop(ctx, t)
	})
}

// reach brings the element of a page for a state into it. registered says whether
// the browser is, before.
func (b *Browser) reach(ctx context.Context, t *testing.T, state string, registered bool) {
	t.Helper()
	if registered && (state == "off" || state == "on") {
		b.has(ctx, t, "belfry-subscribe[state=on]")
		return
	}
	switch state {
	case "on", "dismissed":
		b.Press(ctx, t, "#subscribe")
	case "busy":
		b.Press(ctx, t, "#subscribe")
		b.has(ctx, t, "belfry-subscribe[busy]")
		return
	}
	b.has(ctx, t, "belfry-subscribe[state="+state+"]")
}

// has waits until the page has what css finds.
func (b *Browser) has(ctx context.Context, t *testing.T, css string) {
	t.Helper()
	b.until(ctx, t, "there is "+css, `(css) => find(css) !== null`, css)
}

// focused waits until the keyboard is in the element with this id or value, in
// whichever of the page's own elements.
func (b *Browser) focused(ctx context.Context, t *testing.T, want string) {
	t.Helper()
	b.until(ctx, t, fmt.Sprintf("the keyboard is in %q", want), `(want) => {
		let at = document.activeElement;
		while (at?.shadowRoot?.activeElement) at = at.shadowRoot.activeElement;
		return at && (at.id || (at.type === 'checkbox' ? at.value : '')) === want;
	}`, want)
}

// judged has axe look at the page as it is.
func (b *Browser) judged(ctx context.Context, t *testing.T, what string) {
	t.Helper()
	if err := b.Run(ctx, new(any), `
		const done = arguments[0];
		delete document.documentElement.dataset.verdict;
		const load = (src) => new Promise((loaded) => {
			const script = document.createElement('script');
			script.src = src;
			script.onload = loaded;
			document.head.append(script);
		});
		(async () => {
			if (!document.querySelector('script[src="/judge.js"]')) {
				await load('/axe.js');
				await load('/judge.js');
			}
			document.dispatchEvent(new Event('judge'));
			done();
		})();`); err != nil {
		t.Fatal(err)
	}
	b.until(ctx, t, "axe has looked", `() => document.documentElement.dataset.verdict`)
	var verdict struct {
		Passes     int
		Violations []string
	}
	if err := b.Run(ctx, &verdict, `arguments[0](JSON.parse(document.documentElement.dataset.verdict))`); err != nil {
		t.Fatal(err)
	}
	if verdict.Passes < 5 {
		t.Errorf("axe on %s: only %d rules were asked for", what, verdict.Passes)
	}
	for _, v := range verdict.Violations {
		t.Errorf("axe on %s: %s", what, v)
	}
}

// A site on another origin than its Belfry places the elements as the guide says.
func TestElementsForeignSite(t *testing.T) {
	t.Parallel()
	eachBrowser(t, func(t *testing.T, profile func(*testing.T, *Desktop, *pushtest.Service) Profile) {
		program := Build(t)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		push := startPush(t)
		visitor := profile(t, NewDesktop(ctx, t), push)
		site, server := openShop(ctx, t, program, push, strings.ReplaceAll(guide(t, "static-site.md", "html"), "https://ring.example.com", "%[1]s"))
		server.tell(ctx, t, "Before")
		browser := visitor.Open(ctx, t)
		browser.Visit(ctx, t, site.URL+"/")
		browser.has(ctx, t, "belfry-inbox >>> li")
		browser.Press(ctx, t, "belfry-subscribe >>> #open")
		browser.Press(ctx, t, "belfry-subscribe >>> #subscribe")
		browser.has(ctx, t, "belfry-subscribe[state=on]")
		expect(t, "registered", server.Registered(ctx, t), 1)
		browser.Close(ctx, t)
		server.Stop(ctx, t)
	})
}

// A site that has Belfry on its own origin, behind nginx with the lines of the guide.
// All that a page needs must come through, and what operators use must not.
func TestElementsBehindNginx(t *testing.T) {
	t.Parallel()
	program := Build(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	push := startPush(t)
	visitor := NewChromium(t, NewDesktop(ctx, t), push)
	proxy := NewProxy(t)
	server := program.Serve(ctx, t, t.TempDir(), "127.0.0.1:0", push, "--origin", proxy.Origin(), "--trusted-proxy", "127.0.0.1")
	site := t.TempDir()
	page := `<!doctype html><html lang="en"><title>Town</title><script type="module" src="/elements.js"></script>
<belfry-subscribe channels="news"></belfry-subscribe> <belfry-inbox channels="news"></belfry-inbox>`
	if err := os.WriteFile(filepath.Join(site, "index.html"), []byte(page), 0o644); err != nil {
		t.Fatal(err)
	}
	proxy.Nginx(t, server, "/unused/", "} root "+site+"; "+strings.ReplaceAll(guide(t, "own-origin.md", "nginx"), "127.0.0.1:8080", server.address)+" location /nothing/ {")
	browser := visitor.Open(ctx, t)
	browser.Visit(ctx, t, proxy.Origin()+"/index.html")
	browser.has(ctx, t, "belfry-inbox[unread='0']")
	server.tell(ctx, t, "Through it")
	browser.Reads(ctx, t, "belfry-inbox >>> li", "Through it")
	browser.Press(ctx, t, "#subscribe")
	browser.has(ctx, t, "belfry-subscribe[state=on]")
	var way string
	if err := browser.Run(ctx, &way, `arguments[0](JSON.parse(localStorage.getItem('belfry.transport')).way)`); err != nil || way != "sse" {
		t.Errorf("it listens by %q, %v", way, err)
	}
	for path, want := range map[string]int{"/sw.js": 200, "/v1/config": 200, "/metrics": 404, "/api/v1/broadcasts": 404} {
		resp, err := http.Get(proxy.Origin() + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
	browser.Close(ctx, t)
	server.Stop(ctx, t)
}

// guide is the first block of a language in one of the guides: what is read there is
// what is tested here.
func guide(t *testing.T, name, language string) string {
	t.Helper()
	text, err := os.ReadFile("../docs/guides/" + name)
	if err != nil {
		t.Fatal(err)
	}
	_, block, _ := strings.Cut(string(text), "```"+language+"\n")
	block, _, found := strings.Cut(block, "\n```")
	if !found {
		t.Fatalf("%s has no block in %s", name, language)
	}
	return block
}

// Pictures of the elements and of the demo page, light and dark, go into the folder
// that BELFRY_SCREENSHOTS names, if it does: they are those in docs. axe looks at
// each of them, at the colours of the night too.
func TestElementsPictures(t *testing.T) {
	t.Parallel()
	for _, look := range []string{"light", "dark"} {
		t.Run(look, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			push := startPush(t)
			site := openStage(ctx, t, push)
			browser := NewChromium(t, NewDesktop(ctx, t), push).Open(ctx, t)
			if err := browser.remote.(*DevTools).Dark(ctx, look == "dark"); err != nil {
				t.Fatal(err)
			}
			shoot := func(width, height int) image.Image {
				t.Helper()
				picture, err := browser.Photograph(ctx, width, height)
				if err != nil {
					t.Fatal(err)
				}
				img, err := png.Decode(bytes.NewReader(picture))
				if err != nil {
					t.Fatal(err)
				}
				return img
			}
			site.tells(ctx, t, "The bridge is open again", "Both lanes, from tonight on.")
			site.tells(ctx, t, "Sunday: market day", "")

			browser.Visit(ctx, t, site.URL+"/shown/prompt")
			browser.has(ctx, t, "belfry-subscribe >>> .card")
			browser.judged(ctx, t, "the soft prompt, "+look)
			hang(t, "prompt-"+look+".png", shoot(400, 350))

			var all []image.Image
			for _, name := range states {
				browser.Visit(ctx, t, site.URL+"/shown/"+name)
				browser.reach(ctx, t, name, false)
				browser.judged(ctx, t, name+", "+look)
				all = append(all, shoot(400, 270))
			}
			hang(t, "states-"+look+".png", sheet(all, 2))

			browser.Visit(ctx, t, site.URL+"/shown/bells")
			browser.has(ctx, t, "belfry-inbox[unread='0'] >>> li:nth-child(2)")
			site.tells(ctx, t, "The library closes at five", "On account of the storm.")
			browser.has(ctx, t, "belfry-inbox[unread='1']")
			browser.Press(ctx, t, "belfry-inbox >>> #open")
			browser.judged(ctx, t, "the inbox, "+look)
			hang(t, "inbox-"+look+".png", shoot(600, 420))
			hang(t, "inbox-phone-"+look+".png", shoot(390, 560))
			browser.Press(ctx, t, "belfry-subscribe >>> #open")
			browser.judged(ctx, t, "the bell, "+look)
			hang(t, "bell-"+look+".png", shoot(600, 420))

			browser.Visit(ctx, t, site.URL+"/shown/foreign")
			browser.Press(ctx, t, "belfry-subscribe >>> #open")
			browser.judged(ctx, t, "from right to left, "+look)
			hang(t, "right-to-left-"+look+".png", shoot(600, 400))

			browser.Visit(ctx, t, site.URL+"/")
			browser.has(ctx, t, "belfry-subscribe[state=on]")
			browser.Reads(ctx, t, "#transport", streaming)
			site.tells(ctx, t, "Hello", "The page is open.")
			hears(ctx, t, browser, "Hello: The page is open.")
			browser.judged(ctx, t, "the demo page, "+look)
			hang(t, "demo-phone-"+look+".png", shoot(390, 1180))
			hang(t, "demo-desktop-"+look+".png", shoot(1280, 1000))
			browser.Close(ctx, t)
			site.server.Stop(ctx, t)
		})
	}
}

// tells says something to open pages, with a link.
func (s *stage) tells(ctx context.Context, t *testing.T, title, body string) {
	t.Helper()
	s.server.Ask(ctx, t, new(any), "send", "--channel", "news", "--title", title, "--body", body, "--url", "/news", "--push", "never")
}

// sheet puts pictures of one size beside and below each other.
func sheet(all []image.Image, columns int) image.Image {
	size := all[0].Bounds().Size()
	whole := image.NewRGBA(image.Rect(0, 0, columns*size.X, (len(all)+columns-1)/columns*size.Y))
	for i, one := range all {
		at := image.Pt(i%columns*size.X, i/columns*size.Y)
		draw.Draw(whole, image.Rectangle{at, at.Add(size)}, one, one.Bounds().Min, draw.Src)
	}
	return whole
}

// hang writes a picture into the folder for them, if there is one, in the 256 colours
// that it has most of: the others are where letters end, and nobody sees them.
func hang(t *testing.T, name string, picture image.Image) {
	t.Helper()
	folder := os.Getenv("BELFRY_SCREENSHOTS")
	if folder == "" {
		return
	}
	count := map[color.RGBA]int{}
	size := picture.Bounds()
	for y := size.Min.Y; y < size.Max.Y; y++ {
		for x := size.Min.X; x < size.Max.X; x++ {
			count[color.RGBAModel.Convert(picture.At(x, y)).(color.RGBA)]++
		}
	}
	most := slices.SortedFunc(maps.Keys(count), func(a, b color.RGBA) int {
		return cmp.Or(count[b]-count[a], cmp.Compare(fmt.Sprint(a), fmt.Sprint(b)))
	})
	var colours color.Palette
	for _, c := range most[:min(256, len(most))] {
		colours = append(colours, c)
	}
	small := image.NewPaletted(size, colours)
	draw.Draw(small, size, picture, size.Min, draw.Src)
	var b bytes.Buffer
	err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&b, small)
	if err == nil {
		err = os.MkdirAll(folder, 0o755)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(folder, name), b.Bytes(), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}
