//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/belfry-push/belfry/sender/pushtest"
)

// preferences of the profile, beside those that lead it to the push service: all
// hooks of the vendor's own, none of which changes what a worker can see or do.
var preferences = map[string]any{
	// Notifications come up on the desktop, not in a window of the browser's own.
	"alerts.useSystemBackend": true,

	// Marionette takes a free port and says which, on the standard output that a
	// released browser keeps shut. What it would set for the comfort of tests
	// turns push off.
	"marionette.port":                 0,
	"browser.dom.window.dump.enabled": true,
	"remote.prefs.recommended":        false,

	// A click counts at once. A browser otherwise ignores the first half second
	// of a page, so that nobody is tricked into a click.
	"dom.input_events.security.minNumTicks":        0,
	"dom.input_events.security.minTimeElapsedInMS": 0,

	// Nothing moves, so that two pictures of one page are alike.
	"ui.prefersReducedMotion": 1,

	// Everything beyond loopback goes to a proxy that does not exist, host names
	// included, so that nothing leaves the machine whatever the browser thinks of.
	"network.proxy.type":                     1,
	"network.proxy.http":                     "127.0.0.1",
	"network.proxy.http_port":                9, // discard: nobody listens
	"network.proxy.ssl":                      "127.0.0.1",
	"network.proxy.ssl_port":                 9,
	"network.proxy.failover_direct":          false,
	"network.proxy.allow_bypass":             false,
	"network.proxy.no_proxies_on":            "localhost, 127.0.0.1",
	"network.captive-portal-service.enabled": false,
	"network.connectivity-service.enabled":   false,
	"network.trr.mode":                       5, // no DNS over HTTPS
	"network.prefetch-next":                  false,

	// No first run, no updates, no reports, no questions at the end.
	"app.update.disabledForTesting":              true,
	"app.normandy.enabled":                       false,
	"app.shield.optoutstudies.enabled":           false,
	"browser.aboutwelcome.enabled":               false,
	"browser.newtabpage.enabled":                 false,
	"browser.safebrowsing.malware.enabled":       false,
	"browser.safebrowsing.phishing.enabled":      false,
	"browser.safebrowsing.update.enabled":        false,
	"browser.search.update":                      false,
	"browser.sessionstore.resume_from_crash":     false,
	"browser.shell.checkDefaultBrowser":          false,
	"browser.startup.homepage_override.mstone":   "ignore",
	"browser.startup.page":                       0,
	"browser.tabs.warnOnClose":                   false,
	"datareporting.healthreport.uploadEnabled":   false,
	"datareporting.policy.dataSubmissionEnabled": false,
	"extensions.systemAddon.update.enabled":      false,
	"extensions.update.enabled":                  false,
	"media.gmp-manager.updateEnabled":            false,
	"services.settings.loglevel":                 "off", // it would report each thing that it could not fetch
	"termsofuse.bypassNotification":              true,
	"toolkit.telemetry.reportingpolicy.firstRun": false,
	"toolkit.startup.max_resumed_crashes":        -1,
}

// A Profile is one person's browser while it is closed: what they allowed, what
// workers and subscriptions they have.
type Profile struct {
	dir     string
	program string
	desktop *Desktop
}

// NewProfile makes the profile of a person who never was here before and has
// nothing against notifications. Their browser's push service is the one at
// pushURL, set as pushtest tells its users to.
func NewProfile(t *testing.T, desktop *Desktop, pushURL string) *Profile {
	t.Helper()
	p := &Profile{dir: t.TempDir(), program: firefox(t), desktop: desktop}
	lines := pushtest.FirefoxPrefs(pushURL)
	for name, value := range preferences { // after those: the last word counts
		js, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, fmt.Sprintf("user_pref(%q, %s);", name, js))
	}
	user := strings.Join(lines, "\n") + "\n"
	if err := os.WriteFile(filepath.Join(p.dir, "user.js"), []byte(user), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

// firefox finds the browser: BELFRY_FIREFOX where it is set, else the first of
// Debian's names for it.
func firefox(t *testing.T) string {
	t.Helper()
	if program := os.Getenv("BELFRY_FIREFOX"); program != "" {
		return program
	}
	for _, name := range []string{"firefox-esr", "firefox"} {
		if program, err := exec.LookPath(name); err == nil {
			return program
		}
	}
	t.Fatal("no Firefox here: make setup installs it, or BELFRY_FIREFOX=/path/to/firefox names one")
	return ""
}

// A Firefox is a profile's browser while it runs.
type Firefox struct {
	*Marionette
	process *process
}

// Open starts the browser on an empty page and takes hold of it.
func (p *Profile) Open(ctx context.Context, t *testing.T) *Firefox {
	t.Helper()
	cmd := exec.Command(p.program, "--profile", p.dir, "--no-remote", "--headless",
		"--marionette", "--remote-allow-system-access", "about:blank")
	cmd.Env = append(os.Environ(),
		"HOME="+p.dir, // caches and settings beside the profile go with it
		"XDG_RUNTIME_DIR="+p.dir,
		"DBUS_SESSION_BUS_ADDRESS="+p.desktop.Address,
		"MOZ_CRASHREPORTER_DISABLE=1",
		"MOZ_DISABLE_AUTO_SAFE_MODE=1",
		"LANG=C.UTF-8",
	)
	process, line := start(ctx, t, "firefox", cmd, `(?m)Marionette\s+INFO\s+Listening on port (\d+)\s*\n`)
	m, version, err := Connect(ctx, line[1])
	if err != nil {
		t.Fatalf("firefox: %v", err)
	}
	t.Logf("Firefox %s", version)
	return &Firefox{m, process}
}

// Visit opens url and waits until it has loaded.
func (f *Firefox) Visit(ctx context.Context, t *testing.T, url string) {
	t.Helper()
	if err := f.Navigate(ctx, url); err != nil {
		t.Fatalf("%s: %v", url, err)
	}
}

// Follow waits until the browser has opened url by itself in a new tab, and goes
// there. It asks the browser's own window, since no page can see another's tab.
func (f *Firefox) Follow(ctx context.Context, t *testing.T, url string) {
	t.Helper()
	const opened = `
		const [url, done] = arguments;
		const look = () => {
			const tab = gBrowser.tabs.find(({ linkedBrowser: { currentURI, webProgress } }) => currentURI.spec === url && !webProgress.isLoadingDocument);
			if (!tab) return;
			gBrowser.removeTabsProgressListener(listener);
			done();
		};
		const listener = { onStateChange: look, onLocationChange: look };
		gBrowser.addTabsProgressListener(listener);
		look();`
	if err := f.follow(ctx, opened, url); err != nil {
		t.Fatalf("the browser does not open %s: %v", url, err)
	}
}

func (f *Firefox) follow(ctx context.Context, opened, url string) error {
	if err := f.Context(ctx, "chrome"); err != nil {
		return err
	}
	if err := f.Run(ctx, new(any), opened, url); err != nil {
		return err
	}
	if err := f.Context(ctx, "content"); err != nil {
		return err
	}
	return f.SwitchTo(ctx, url)
}

// Press clicks on what css finds, as soon as it is there to be clicked on.
func (f *Firefox) Press(ctx context.Context, t *testing.T, css string) {
	t.Helper()
	f.until(ctx, t, css+" can be pressed", `(css) => {
		const button = document.querySelector(css);
		return button && !button.disabled && button.checkVisibility() && button.textContent;
	}`, css)
	if err := f.Click(ctx, css); err != nil {
		t.Fatalf("press %s: %v", css, err)
	}
}

// Reads waits until the text of what css finds begins with prefix.
func (f *Firefox) Reads(ctx context.Context, t *testing.T, css, prefix string) {
	t.Helper()
	f.until(ctx, t, css+" reads "+prefix, `(css, prefix) => {
		const text = document.querySelector(css)?.textContent.trim();
		return text?.startsWith(prefix) && text;
	}`, css, prefix)
}

// until waits until the page makes condition true: a function in JavaScript,
// asked now and after each change of the document.
func (f *Firefox) until(ctx context.Context, t *testing.T, what, condition string, args ...any) {
	t.Helper()
	script := `
		const done = arguments[arguments.length - 1], args = [...arguments].slice(0, -1);
		const holds = ` + condition + `;
		const look = () => {
			const result = holds(...args);
			if (result) { watch.disconnect(); done(result); }
		};
		const watch = new MutationObserver(look);
		watch.observe(document, { subtree: true, childList: true, characterData: true, attributes: true });
		look();`
	if err := f.Run(ctx, new(any), script, args...); err != nil {
		var text string
		if err := f.Run(ctx, &text, `arguments[0](document.body.innerText)`); err != nil {
			t.Log(err)
		}
		t.Fatalf("%s: %v; the page reads:\n%s", what, err, text)
	}
}

// Close quits the browser, as a person does who is done for the day.
func (f *Firefox) Close(ctx context.Context, t *testing.T) {
	t.Helper()
	if err := f.Quit(ctx); err != nil {
		t.Fatalf("firefox: %v", err)
	}
	if code := f.process.end(ctx, t); code != 0 {
		t.Errorf("firefox ended with %d", code)
	}
}
