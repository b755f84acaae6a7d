//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// A Marionette is the remote control that Firefox has built in: JSON arrays over
// TCP, each with its length in front. It knows what the test needs of it and no
// more, so that no driver has to be installed beside the browser.
type Marionette struct {
	conn net.Conn
	in   *bufio.Reader
	last int // id of the command sent last
}

// Connect takes hold of the browser that listens on port, opens a session and
// returns the browser's version.
func Connect(ctx context.Context, port string) (*Marionette, string, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		return nil, "", err
	}
	m := &Marionette{conn: conn, in: bufio.NewReader(conn)}
	m.limit(ctx)
	var hello struct {
		Protocol int `json:"marionetteProtocol"`
	}
	err = m.read(&hello)
	if err == nil && hello.Protocol != 3 {
		err = fmt.Errorf("marionette: protocol %d, and we speak 3", hello.Protocol)
	}
	if err != nil {
		conn.Close()
		return nil, "", err
	}
	var session struct {
		Capabilities struct {
			BrowserVersion string `json:"browserVersion"`
		} `json:"capabilities"`
	}
	// Scripts wait until their context ends; by itself they had 30 s each.
	patient := map[string]any{"timeouts": map[string]any{"script": time.Hour.Milliseconds()}}
	if err := m.Do(ctx, "WebDriver:NewSession", patient, &session); err != nil {
		conn.Close()
		return nil, "", err
	}
	return m, session.Capabilities.BrowserVersion, nil
}

// Do sends one command and waits for its answer, until ctx ends.
func (m *Marionette) Do(ctx context.Context, command string, params, result any) error {
	m.limit(ctx)
	m.last++
	frame, err := json.Marshal([]any{0, m.last, command, params})
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(m.conn, "%d:%s", len(frame), frame); err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	var answer [4]json.RawMessage // 1, id, error, result
	if err := m.read(&answer); err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	if id := string(answer[1]); id != strconv.Itoa(m.last) {
		return fmt.Errorf("%s: answer %s to command %d", command, id, m.last)
	}
	var refused *struct{ Error, Message string }
	if err := json.Unmarshal(answer[2], &refused); err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	if refused != nil {
		return fmt.Errorf("%s: %s: %s", command, refused.Error, refused.Message)
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal(answer[3], result)
}

// Navigate implements remote.
func (m *Marionette) Navigate(ctx context.Context, url string) error {
	return m.Do(ctx, "WebDriver:Navigate", map[string]any{"url": url}, nil)
}

// Context says where scripts run from now on: in the page ("content") or in the
// browser's own window ("chrome").
func (m *Marionette) Context(ctx context.Context, where string) error {
	return m.Do(ctx, "Marionette:SetContext", map[string]any{"value": where}, nil)
}

// SwitchTo makes the tab that shows url the one that commands are for, and brings
// it to the front.
func (m *Marionette) SwitchTo(ctx context.Context, url string) error {
	return m.find(ctx, url, true)
}

// Peek implements remote.
func (m *Marionette) Peek(ctx context.Context, url string) error {
	return m.find(ctx, url, false)
}

func (m *Marionette) find(ctx context.Context, url string, front bool) error {
	var handles []string
	if err := m.Do(ctx, "WebDriver:GetWindowHandles", map[string]any{}, &handles); err != nil {
		return err
	}
	for _, handle := range handles {
		if err := m.Do(ctx, "WebDriver:SwitchToWindow", map[string]any{"handle": handle, "focus": front}, nil); err != nil {
			return err
		}
		var at struct{ Value string }
		if err := m.Do(ctx, "WebDriver:GetCurrentURL", map[string]any{}, &at); err != nil {
			return err
		}
		if at.Value == url {
			return nil
		}
	}
	return fmt.Errorf("none of %d tabs shows %s", len(handles), url)
}

// Run implements remote.
func (m *Marionette) Run(ctx context.Context, result any, script string, args ...any) error {
	var answer struct {
		Value json.RawMessage `json:"value"`
	}
	params := map[string]any{"script": script, "args": append([]any{}, args...)} // null is no list
	if err := m.Do(ctx, "WebDriver:ExecuteAsyncScript", params, &answer); err != nil {
		return err
	}
	return json.Unmarshal(answer.Value, result)
}

// Click implements remote.
func (m *Marionette) Click(ctx context.Context, css string) error {
	var found map[string]string // one pair: the constant key of WebDriver §12.1, and the reference
	if err := m.Run(ctx, &found, find+`arguments[1](find(arguments[0]))`, css); err != nil {
		return err
	}
	for _, element := range found {
		return m.Do(ctx, "WebDriver:ElementClick", map[string]any{"id": element}, nil)
	}
	return fmt.Errorf("%s: no such element", css)
}

// Key implements remote. Keys that print nothing have a character of their own
// (WebDriver §17.4.2).
func (m *Marionette) Key(ctx context.Context, key string) error {
	if special, ok := map[string]string{"Tab": "\uE004", "Enter": "\uE007", "Escape": "\uE00C"}[key]; ok {
		key = special
	}
	actions := []any{map[string]any{"type": "key", "id": "keyboard", "actions": []any{
		map[string]any{"type": "keyDown", "value": key}, map[string]any{"type": "keyUp", "value": key},
	}}}
	return m.Do(ctx, "WebDriver:PerformActions", map[string]any{"actions": actions}, nil)
}

// Follow implements remote. It asks the browser's own window, since no page can
// see another's tab.
func (m *Marionette) Follow(ctx context.Context, url string) error {
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
	if err := m.Context(ctx, "chrome"); err != nil {
		return err
	}
	if err := m.Run(ctx, new(any), opened, url); err != nil {
		return err
	}
	if err := m.Context(ctx, "content"); err != nil {
		return err
	}
	return m.SwitchTo(ctx, url)
}

// OpenTab implements remote.
func (m *Marionette) OpenTab(ctx context.Context, url string) error {
	var tab struct{ Handle string }
	if err := m.Do(ctx, "WebDriver:NewWindow", map[string]any{"type": "tab", "focus": true}, &tab); err != nil {
		return err
	}
	if err := m.Do(ctx, "WebDriver:SwitchToWindow", map[string]any{"handle": tab.Handle}, nil); err != nil {
		return err
	}
	return m.Navigate(ctx, url)
}

// CloseTab implements remote.
func (m *Marionette) CloseTab(ctx context.Context, url string) error {
	if err := m.Do(ctx, "WebDriver:CloseWindow", map[string]any{}, nil); err != nil {
		return err
	}
	return m.SwitchTo(ctx, url)
}

// Tabs implements remote.
func (m *Marionette) Tabs(ctx context.Context) ([]string, error) {
	if err := m.Context(ctx, "chrome"); err != nil {
		return nil, err
	}
	var urls []string
	err := m.Run(ctx, &urls, `arguments[0]([...Services.wm.getEnumerator('navigator:browser')]
		.flatMap(({ gBrowser }) => gBrowser.tabs.map((tab) => tab.linkedBrowser.currentURI.spec)).sort())`)
	if err != nil {
		return nil, err
	}
	return urls, m.Context(ctx, "content")
}

// Back implements remote.
func (m *Marionette) Back(ctx context.Context) error {
	return m.Do(ctx, "WebDriver:Back", map[string]any{}, nil)
}

// Offline implements remote. By itself Firefox reaches this machine also offline.
func (m *Marionette) Offline(ctx context.Context, yes bool) error {
	if err := m.Context(ctx, "chrome"); err != nil {
		return err
	}
	err := m.Run(ctx, new(any), `
		const [yes, done] = arguments;
		Services.prefs.setBoolPref('network.disable-localhost-when-offline', true);
		Services.io.offline = yes;
		done();`, yes)
	if err != nil {
		return err
	}
	return m.Context(ctx, "content")
}

// Permit implements remote.
func (m *Marionette) Permit(ctx context.Context, origin string, yes bool) error {
	if err := m.Context(ctx, "chrome"); err != nil {
		return err
	}
	err := m.Run(ctx, new(any), `
		const [origin, yes, done] = arguments;
		const site = Services.scriptSecurityManager.createContentPrincipalFromOrigin(origin);
		Services.perms.addFromPrincipal(site, 'desktop-notification', yes ? Services.perms.ALLOW_ACTION : Services.perms.DENY_ACTION);
		done();`, origin, yes)
	if err != nil {
		return err
	}
	return m.Context(ctx, "content")
}

// Handled implements remote: Firefox does not care how fast one clicks.
func (m *Marionette) Handled(context.Context, int) error { return nil }

// Photograph implements remote.
func (m *Marionette) Photograph(ctx context.Context, width, height int) ([]byte, error) {
	err := m.Do(ctx, "WebDriver:SetWindowRect", map[string]any{"width": width, "height": height}, nil)
	if err != nil {
		return nil, err
	}
	if err := m.Run(ctx, new(any), `scrollTo(0, 0); requestAnimationFrame(() => arguments[0]())`); err != nil {
		return nil, err
	}
	var answer struct {
		Value string `json:"value"`
	}
	params := map[string]any{"id": nil, "full": false, "hash": false}
	if err := m.Do(ctx, "WebDriver:TakeScreenshot", params, &answer); err != nil {
		return nil, err
	}
	return base64.StdEncoding.DecodeString(answer.Value)
}

// Quit implements remote.
func (m *Marionette) Quit(ctx context.Context) error {
	defer m.conn.Close()
	err := m.Do(ctx, "Marionette:Quit", map[string]any{"flags": []string{"eAttemptQuit"}}, nil)
	if errors.Is(err, io.EOF) {
		return nil // it was faster than its answer
	}
	return err
}

// limit makes reads and writes end when ctx does.
func (m *Marionette) limit(ctx context.Context) {
	deadline, _ := ctx.Deadline() // the zero time means no limit to both
	m.conn.SetDeadline(deadline)
}

// read reads one frame: its length in decimal, a colon, that many octets of JSON.
func (m *Marionette) read(into any) error {
	length, err := m.in.ReadString(':')
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(strings.TrimSuffix(length, ":"))
	if err != nil {
		return fmt.Errorf("marionette: not a frame: %w", err)
	}
	frame := make([]byte, n)
	if _, err := io.ReadFull(m.in, frame); err != nil {
		return err
	}
	return json.Unmarshal(frame, into)
}
