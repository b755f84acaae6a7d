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

	"github.com/belfry-push/belfry/internal/process"
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

// A firefoxProfile is a Profile of Firefox.
type firefoxProfile struct {
	dir     string
	program string
	desktop *Desktop
}

// NewFirefox makes a profile of Firefox.
func NewFirefox(t *testing.T, desktop *Desktop, push *pushtest.Service) Profile {
	t.Helper()
	p := &firefoxProfile{dir: t.TempDir(), program: program(t, "BELFRY_FIREFOX", "firefox-esr", "firefox"), desktop: desktop}
	lines := pushtest.FirefoxPrefs(push.URL())
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

// program finds a browser: the one that the environment variable names where it
// is set, else the first of its usual names that there is.
func program(t *testing.T, variable string, names ...string) string {
	t.Helper()
	if program := os.Getenv(variable); program != "" {
		return program
	}
	for _, name := range names {
		if program, err := exec.LookPath(name); err == nil {
			return program
		}
	}
	t.Fatalf("no %s here: make setup installs it, or %s=/path/to/it names one", names[0], variable)
	return ""
}

func (p *firefoxProfile) command() *exec.Cmd {
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
	return cmd
}

// Open implements Profile.
func (p *firefoxProfile) Open(ctx context.Context, t *testing.T) *Browser {
	t.Helper()
	running, line := process.StartReady(ctx, t, "firefox", p.command, `(?m)Marionette\s+INFO\s+Listening on port (\d+)\s*\n`)
	m, version, err := Connect(ctx, line[1])
	if err != nil {
		t.Fatalf("firefox: %v", err)
	}
	t.Logf("Firefox %s", version)
	return &Browser{m, running}
}
