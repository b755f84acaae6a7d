package pushtest

import (
	"fmt"
	"os/exec"
	"strings"
)

// FirefoxPrefs are the lines of a user.js that make stock Firefox use the
// service at url for push. They are its vendor's own switches for tests.
func FirefoxPrefs(url string) []string {
	socket := "ws" + strings.TrimPrefix(strings.TrimSuffix(url, "/"), "http") + "/"
	return []string{
		fmt.Sprintf("user_pref(%q, %q);", "dom.push.serverURL", socket),
		fmt.Sprintf("user_pref(%q, true);", "dom.push.testing.allowInsecureServerURL"),
		// 1 allows notifications on every site, so that no prompt has to be answered.
		fmt.Sprintf("user_pref(%q, 1);", "permissions.default.desktop-notification"),
		// Firefox draws notifications itself, where no notification daemon runs.
		fmt.Sprintf("user_pref(%q, false);", "alerts.useSystemBackend"),
		// Reconnecting begins after 200 ms; the default is 5 s.
		fmt.Sprintf("user_pref(%q, 200);", "dom.push.retryBaseInterval"),
	}
}

// FirefoxCommand starts Firefox on page with the profile whose user.js holds
// the lines of FirefoxPrefs. Debian's Firefox has a name of its own.
func FirefoxCommand(profile, page string) []string {
	name := "firefox"
	if _, err := exec.LookPath(name); err != nil {
		if _, err := exec.LookPath("firefox-esr"); err == nil {
			name = "firefox-esr"
		}
	}
	return []string{name, "--profile", profile, "--no-remote", page}
}
