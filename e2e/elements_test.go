//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/draw"
	"image/png"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
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
	for name, body := range pages {
		s.serve(mux, "/strict/"+name, "text/html", "<title>"+name+"</title>"+body)
	}
	for _, name := range states {
		s.serve(mux, "/state/"+name, "text/html", `<title>`+name+`</title><link rel="stylesheet" href="/stage.css"><script src="/`+name+`.js"></script>
<script type="module" src="/elements.js"></script><main><h1>`+name+`</h1>
<belfry-subscribe channels="news sport"><data value="news">News</data><data value="sport">Sport</data></belfry-subscribe></main>`)
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

const channelNames = `<data value="news">News from the town</data><data value="sport">Sport</data>`

// pages are served under the strict policy.
var pages = map[string]string{
	"guilty":  `<main><h1 style="color: red">Not allowed</h1></main>`,
	"bells":   `<script type="module" src="/elements.js"></script><main><h1>Bells</h1><belfry-subscribe kind="bell" channels="news sport">` + channelNames + `</belfry-subscribe> <belfry-inbox kind="bell" channels="news"></belfry-inbox> <belfry-subscribe id="second" channels="news sport"></belfry-subscribe></main>`,
	"prompt":  `<script type="module" src="/elements.js"></script><main><h1>Prompt</h1><belfry-subscribe prompt channels="news sport">` + channelNames + `</belfry-subscribe></main>`,
	"list":    `<script type="module" src="/elements.js"></script><main><h1>List</h1><belfry-inbox channels="news"></belfry-inbox></main>`,
	"foreign": `<script type="module" src="/foreign.js"></script><main lang="ar" dir="rtl"><h1>أخبار</h1><belfry-subscribe kind="bell" channels="news sport"><data value="news">أخبار</data><data value="sport">رياضة</data></belfry-subscribe> <belfry-inbox channels="news"></belfry-inbox></main>`,
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
		subscribe: 'أخبرني', inbox: 'الرسائل', unread: '{n} جديدة', empty: 'لا شيء بعد.' }));`,
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
	eachBrowser(t, func(t *testing.T, profile func(*testing.T, *Desktop, *pushtest.Service) Profile) {
		Build(t)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
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

		site.server.Ask(ctx, t, new(any), "send", "--channel", "news", "--title", "<b>After</b>", "--url", "/after", "--push", "never")
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
			browser.Visit(ctx, t, site.URL+"/state/"+name)
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

// Pictures of the elements and of the demo page, in light and dark, for docs/screenshots.
func TestElementsPictures(t *testing.T) {
	folder := os.Getenv("BELFRY_SCREENSHOTS")
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	push := startPush(t)
	for _, dark := range []bool{false, true} {
		look := map[bool]string{false: "light", true: "dark"}[dark]
		site := openStage(ctx, t, push)
		browser := NewChromium(t, NewDesktop(ctx, t), push).Open(ctx, t)
		devtools := browser.remote.(*DevTools)
		if err := devtools.Dark(ctx, dark); err != nil {
			t.Fatal(err)
		}
		shoot := func(name string, width, height int) image.Image {
			t.Helper()
			picture, err := browser.Photograph(ctx, width, height)
			if err != nil {
				t.Fatal(err)
			}
			img, err := png.Decode(bytes.NewReader(picture))
			if err != nil {
				t.Fatal(err)
			}
			if name != "" {
				hang(t, folder, name+"-"+look+".png", img)
			}
			return img
		}
		browser.Visit(ctx, t, site.URL+"/")
		browser.has(ctx, t, "belfry-subscribe[state=off]")
		browser.judged(ctx, t, "the demo page, "+look)
		shoot("demo-phone", 390, 844)
		shoot("demo-desktop", 1280, 900)
		var all []image.Image
		for _, name := range states {
			browser.Visit(ctx, t, site.URL+"/state/"+name)
			browser.reach(ctx, t, name, false)
			browser.judged(ctx, t, name+", "+look)
			all = append(all, shoot("", 400, 260))
		}
		hang(t, folder, "states-"+look+".png", sheet(all, 2))
		browser.Close(ctx, t)
		site.server.Stop(ctx, t)
	}
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

// hang writes a picture into the folder, if there is one.
func hang(t *testing.T, folder, name string, picture image.Image) {
	t.Helper()
	if folder == "" {
		return
	}
	var b bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&b, picture); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, name), b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}
