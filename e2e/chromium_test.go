//go:build e2e

package e2e

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/belfry-push/belfry/internal/process"
	"github.com/belfry-push/belfry/sender/pushtest"
)

// flags beside those that lead the browser to the push service: all hooks of the
// vendor's own, none of which changes what a worker can see or do.
var flags = []string{
	"--headless=new", // the old one, chromium-headless-shell, denies every permission
	"--remote-debugging-port=0",
	"--disable-gpu",
	"--disable-dev-shm-usage", // a container's is small

	// Everything beyond loopback goes to a proxy that does not exist, host names
	// included, so that nothing leaves the machine whatever the browser thinks of.
	"--proxy-server=127.0.0.1:9", // discard: nobody listens
	"--disable-component-update",
	"--disable-sync",
	"--disable-default-apps",
	"--no-default-browser-check",
	"--no-pings",
	"--password-store=basic", // none of the desktop's, which ours does not have
}

// A chromiumProfile is a Profile of Chromium.
type chromiumProfile struct {
	dir     string
	command []string
	desktop *Desktop
}

// NewChromium makes a profile of Chromium.
func NewChromium(t *testing.T, desktop *Desktop, push *pushtest.Service) Profile {
	t.Helper()
	online(t)
	p := &chromiumProfile{dir: t.TempDir(), desktop: desktop}
	if err := os.Mkdir(filepath.Join(p.dir, "Default"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(p.dir, "Default", "Preferences"), []byte(pushtest.ChromiumPreferences), 0o600); err != nil {
		t.Fatal(err)
	}
	p.command = push.ChromiumCommand(p.dir, "about:blank")
	p.command[0] = program(t, "BELFRY_CHROMIUM", "chromium", "chromium-browser", "google-chrome")
	p.command = slices.Insert(p.command, 1, flags...)
	if os.Getuid() == 0 {
		p.command = slices.Insert(p.command, 1, "--no-sandbox") // which root cannot have
	}
	return p
}

// online checks what Chromium does before it looks for its push service: with no
// network but loopback it believes that it is offline, and a subscription would
// wait for ever.
func online(t *testing.T) {
	t.Helper()
	all, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(all, func(i net.Interface) bool { return i.Flags&net.FlagLoopback == 0 && i.Flags&net.FlagUp != 0 }) {
		t.Fatal("Chromium needs a network interface besides loopback that is up; any will do: " +
			"ip link add bell type veth peer name bell0 && ip link set bell up && ip link set bell0 up")
	}
}

// Open implements Profile.
func (p *chromiumProfile) Open(ctx context.Context, t *testing.T) *Browser {
	t.Helper()
	command := func() *exec.Cmd {
		cmd := exec.Command(p.command[0], p.command[1:]...)
		cmd.Env = append(os.Environ(),
			"HOME="+p.dir,
			"XDG_RUNTIME_DIR="+p.dir,
			"DBUS_SESSION_BUS_ADDRESS="+p.desktop.Address,
			"LANG=C.UTF-8",
		)
		return cmd
	}
	running, line := process.StartReady(ctx, t, "chromium", command, `(?m)^DevTools listening on (ws://\S+)\s*\n`)
	d, version, err := Inspect(ctx, line[1])
	if err != nil {
		t.Fatalf("chromium: %v", err)
	}
	t.Log(version)
	return &Browser{d, running}
}
