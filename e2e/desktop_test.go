//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/godbus/dbus/v5"

	"github.com/belfry-push/belfry/internal/process"
)

const (
	notifications     = "org.freedesktop.Notifications"
	notificationsPath = dbus.ObjectPath("/org/freedesktop/Notifications")
)

// A Desktop is where notifications come up: a D-Bus session of its own and the
// notification service that a browser finds in it (Desktop Notifications
// Specification 1.2). What it is told to show, it hands to the test, which can
// then do what a person would: click, or wipe away.
type Desktop struct {
	Address string // of the session, for DBUS_SESSION_BUS_ADDRESS

	shown chan Notification
	conn  *dbus.Conn
	last  atomic.Uint32 // id given last; calls come side by side
}

// A Notification is one that came up on the desktop.
type Notification struct {
	ID      uint32
	App     string
	Summary string
	Body    string
	Actions []string // pairs of key and label
}

// busConfig describes a session that starts nothing by itself: the machine's own
// would offer services of its desktop.
const busConfig = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:path=%s</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
`

// NewDesktop starts a session and its notification service.
func NewDesktop(ctx context.Context, t *testing.T) *Desktop {
	t.Helper()
	// t.TempDir holds the test's name and may grow past the 108 octets of a socket path.
	dir, err := os.MkdirTemp("", "desk")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	config := filepath.Join(dir, "session.conf")
	if err := os.WriteFile(config, fmt.Appendf(nil, busConfig, filepath.Join(dir, "bus")), 0o600); err != nil {
		t.Fatal(err)
	}
	bus := process.Start(t, "dbus-daemon",
		exec.Command("dbus-daemon", "--config-file="+config, "--nofork", "--nopidfile", "--print-address"),
		`(?m)^(unix:\S+)\n`)
	line := bus.Ready(ctx, t)

	d := &Desktop{Address: line[1], shown: make(chan Notification, 16)}
	if d.conn, err = dbus.Connect(d.Address, dbus.WithContext(ctx)); err != nil {
		t.Fatalf("desktop: %v", err)
	}
	t.Cleanup(func() { d.conn.Close() })
	if err := d.conn.Export((*service)(d), notificationsPath, notifications); err != nil {
		t.Fatalf("desktop: %v", err)
	}
	reply, err := d.conn.RequestName(notifications, dbus.NameFlagDoNotQueue)
	if err != nil || reply != dbus.RequestNameReplyPrimaryOwner {
		t.Fatalf("desktop: the name is taken: %v, %v", reply, err)
	}
	return d
}

// Next waits for the next notification that comes up.
func (d *Desktop) Next(ctx context.Context, t *testing.T) Notification {
	t.Helper()
	select {
	case n := <-d.shown:
		return n
	case <-ctx.Done():
		t.Fatal("no notification came up in time")
		return Notification{}
	}
}

// Quiet checks that nothing more came up than the test has seen: a notification
// that comes twice is as wrong as one that does not come.
func (d *Desktop) Quiet(t *testing.T) {
	t.Helper()
	select {
	case n := <-d.shown:
		t.Errorf("one notification more than was sent: %+v", n)
	default:
	}
}

// Click clicks on the notification itself, not on one of its buttons.
func (d *Desktop) Click(t *testing.T, n Notification) {
	t.Helper()
	d.emit(t, "ActionInvoked", n.ID, "default")
	d.Dismiss(t, n)
}

// Press clicks on the button of that label.
func (d *Desktop) Press(t *testing.T, n Notification, label string) {
	t.Helper()
	for i := 0; i+1 < len(n.Actions); i += 2 {
		if n.Actions[i+1] == label {
			d.emit(t, "ActionInvoked", n.ID, n.Actions[i])
			d.Dismiss(t, n)
			return
		}
	}
	t.Fatalf("no button %q, but %q", label, n.Actions)
}

// Dismiss wipes the notification away. Desktops say the same after a click.
func (d *Desktop) Dismiss(t *testing.T, n Notification) {
	t.Helper()
	const dismissed = uint32(2)
	d.emit(t, "NotificationClosed", n.ID, dismissed)
}

func (d *Desktop) emit(t *testing.T, signal string, values ...any) {
	t.Helper()
	if err := d.conn.Emit(notificationsPath, notifications+"."+signal, values...); err != nil {
		t.Fatalf("desktop: %s: %v", signal, err)
	}
}

// answer tells the browser the notification's id before the test sees it: a click
// that overtakes the answer is on a notification that the browser does not know. The
// bus lets through the first answer to a call, and not the one that follows.
func (s *service) answer(call dbus.Message, id uint32) error {
	return s.conn.Send(&dbus.Message{Type: dbus.TypeMethodReply, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldDestination: call.Headers[dbus.FieldSender],
		dbus.FieldReplySerial: dbus.MakeVariant(call.Serial()),
		dbus.FieldSignature:   dbus.MakeVariant(dbus.SignatureOf(id)),
	}, Body: []any{id}}, nil).Err
}

// A service is the desktop as programs see it over D-Bus. Its exported methods
// are those of the specification.
type service Desktop

func (s *service) GetCapabilities() ([]string, *dbus.Error) {
	return []string{"actions", "body", "persistence"}, nil
}

func (s *service) GetServerInformation() (name, vendor, version, spec string, err *dbus.Error) {
	return "desk", "Belfry", "1", "1.2", nil
}

func (s *service) Notify(call dbus.Message, app string, replaces uint32, icon, summary, body string,
	actions []string, hints map[string]dbus.Variant, expires int32) (uint32, *dbus.Error) {
	id := replaces
	if id == 0 {
		id = s.last.Add(1)
	}
	if err := s.answer(call, id); err != nil {
		return 0, dbus.MakeFailedError(err)
	}
	select {
	case s.shown <- Notification{ID: id, App: app, Summary: summary, Body: body, Actions: actions}:
		return id, nil
	default:
		return 0, dbus.MakeFailedError(fmt.Errorf("%d notifications and nobody looks", cap(s.shown)))
	}
}

func (s *service) CloseNotification(id uint32) *dbus.Error {
	const closedByCall = uint32(3)
	if err := s.conn.Emit(notificationsPath, notifications+".NotificationClosed", id, closedByCall); err != nil {
		return dbus.MakeFailedError(err)
	}
	return nil
}

// String shows a notification as a person would tell of it.
func (n Notification) String() string {
	return strings.Join([]string{n.App, n.Summary, n.Body}, " | ")
}
