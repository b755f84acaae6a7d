package pushtest

import (
	"os/exec"
)

// ChromiumPreferences is the file Default/Preferences in the profile of a
// Chromium: 1 allows notifications on every site, so that no prompt has to be
// answered.
const ChromiumPreferences = `{"profile":{"default_content_setting_values":{"notifications":1}}}`

// ChromiumFlags make stock Chromium use this service for push. They are its
// vendor's own switches for tests. The last lets it trust our authority, which
// belfry is told of by --push-ca. There are none for a service in memory.
func (s *Service) ChromiumFlags() []string {
	if s.secure == nil {
		return nil
	}
	base := "http://"
	if s.listener == s.secure {
		base = "https://"
	}
	base += reach(s.listener)
	return []string{
		"--gcm-checkin-url=" + base + "/checkin",
		"--gcm-registration-url=" + base + "/register",
		"--gcm-mcs-endpoint=https://" + reach(s.secure),
		"--ignore-certificate-errors-spki-list=" + s.authority.fingerprint(),
	}
}

// ChromiumCommand starts Chromium on page with a profile whose preferences are
// ChromiumPreferences. Chrome takes the same flags.
func (s *Service) ChromiumCommand(profile, page string) []string {
	name := "chromium"
	for _, other := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if _, err := exec.LookPath(other); err == nil {
			name = other
			break
		}
	}
	command := []string{name, "--user-data-dir=" + profile, "--no-first-run", "--disable-quic"}
	return append(append(command, s.ChromiumFlags()...), page)
}
