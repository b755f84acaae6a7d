//go:build e2e

package e2e

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"
)

// DevTools is the remote control that Chromium has built in, the DevTools
// Protocol: JSON over a WebSocket. It knows what the test needs of it and no
// more, so that no driver has to be installed beside the browser.
type DevTools struct {
	ws      *websocket.Conn
	target  string // the page that commands are for
	session string // with it

	mu      sync.Mutex // guards what follows
	last    int        // id of the command sent last
	waiting map[int]chan answer
	pages   map[string]page // by id
	pushes  []string        // what happened to them, as the browser tells of it
	changed chan struct{}   // closed at the next change of pages or pushes
	ended   error           // why the connection ended
}

// An answer is what the browser says to one command.
type answer struct {
	result json.RawMessage
	err    error
}

// A page is a tab, as the browser tells of it.
type page struct {
	ID   string `json:"targetId"`
	Type string `json:"type"`
	URL  string `json:"url"`
}

// Inspect takes hold of the browser that listens at address, in its one page,
// and returns the browser's version.
func Inspect(ctx context.Context, address string) (*DevTools, string, error) {
	ws, _, err := websocket.Dial(ctx, address, nil)
	if err != nil {
		return nil, "", err
	}
	ws.SetReadLimit(-1) // pictures
	d := &DevTools{ws: ws, waiting: map[int]chan answer{}, pages: map[string]page{}, changed: make(chan struct{})}
	go d.listen()
	var version struct{ Product string }
	err = d.Do(ctx, "Browser.getVersion", nil, &version)
	if err == nil {
		err = d.Do(ctx, "Target.setDiscoverTargets", map[string]any{"discover": true}, nil)
	}
	if err == nil {
		err = d.Follow(ctx, "about:blank")
	}
	pushes := map[string]any{"service": "pushMessaging", "shouldRecord": true}
	if err == nil {
		err = d.Do(ctx, "BackgroundService.setRecording", pushes, nil)
	}
	if err == nil {
		delete(pushes, "shouldRecord")
		err = d.Do(ctx, "BackgroundService.startObserving", pushes, nil)
	}
	if err != nil {
		ws.CloseNow()
		return nil, "", err
	}
	return d, version.Product, nil
}

// listen hands out answers and keeps book of pages, until the connection ends.
func (d *DevTools) listen() {
	for {
		var m struct {
			ID     int
			Error  *struct{ Message string }
			Result json.RawMessage
			Method string
			Params struct {
				Info  page   `json:"targetInfo"`
				ID    string `json:"targetId"`
				Event struct {
					Name string `json:"eventName"`
				} `json:"backgroundServiceEvent"`
			}
		}
		err := wsjson.Read(context.Background(), d.ws, &m)
		d.mu.Lock()
		switch {
		case err != nil:
			d.ended = err
			for _, to := range d.waiting {
				to <- answer{err: err}
			}
			d.mu.Unlock()
			return
		case m.ID != 0:
			a := answer{result: m.Result}
			if m.Error != nil {
				a.err = fmt.Errorf("%s", m.Error.Message)
			}
			d.waiting[m.ID] <- a
			delete(d.waiting, m.ID)
		case m.Method == "Target.targetCreated", m.Method == "Target.targetInfoChanged":
			d.pages[m.Params.Info.ID] = m.Params.Info
			d.wake()
		case m.Method == "BackgroundService.backgroundServiceEventReceived":
			d.pushes = append(d.pushes, m.Params.Event.Name)
			d.wake()
		case m.Method == "Target.targetDestroyed":
			delete(d.pages, m.Params.ID)
		}
		d.mu.Unlock()
	}
}

// wake lets those who wait for a change look again. The caller holds the lock.
func (d *DevTools) wake() {
	close(d.changed)
	d.changed = make(chan struct{})
}

// until waits until holds is true of pages and pushes.
func (d *DevTools) until(ctx context.Context, holds func() bool) error {
	for {
		d.mu.Lock()
		ok, changed := holds(), d.changed
		d.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Do sends one command, to the page where there is one, and waits for its answer
// until ctx ends.
func (d *DevTools) Do(ctx context.Context, method string, params map[string]any, result any) error {
	to := make(chan answer, 1)
	d.mu.Lock()
	d.last++
	command := map[string]any{"id": d.last, "method": method, "params": params}
	if params == nil {
		command["params"] = map[string]any{}
	}
	if domain, _, _ := strings.Cut(method, "."); domain != "Target" && domain != "Browser" {
		command["sessionId"] = d.session
	}
	d.waiting[d.last] = to
	ended := d.ended
	d.mu.Unlock()
	if ended != nil {
		return ended
	}
	if err := wsjson.Write(ctx, d.ws, command); err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	select {
	case a := <-to:
		if a.err != nil {
			return fmt.Errorf("%s: %w", method, a.err)
		}
		if result == nil {
			return nil
		}
		return json.Unmarshal(a.result, result)
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", method, ctx.Err())
	}
}

// Navigate implements remote.
func (d *DevTools) Navigate(ctx context.Context, url string) error {
	var answer struct{ ErrorText string }
	err := d.Do(ctx, "Page.navigate", map[string]any{"url": url}, &answer)
	if err == nil && answer.ErrorText != "" {
		err = fmt.Errorf("%s", answer.ErrorText)
	}
	if err != nil {
		return err
	}
	return d.loaded(ctx)
}

// loaded waits until the page has.
func (d *DevTools) loaded(ctx context.Context) error {
	return d.Run(ctx, new(any), `
		const done = arguments[0];
		if (document.readyState === 'complete') done();
		else addEventListener('load', () => done());`)
}

// Run implements remote.
func (d *DevTools) Run(ctx context.Context, result any, script string, args ...any) error {
	given, err := json.Marshal(append([]any{}, args...))
	if err != nil {
		return err
	}
	var answer struct {
		Result struct {
			Value json.RawMessage `json:"value"`
		} `json:"result"`
		Exception *struct {
			Text      string
			Exception struct{ Description string }
		} `json:"exceptionDetails"`
	}
	err = d.Do(ctx, "Runtime.evaluate", map[string]any{"awaitPromise": true, "returnByValue": true,
		"expression": fmt.Sprintf("new Promise((done) => { (function () {%s\n}).apply(null, [...%s, done]); })", script, given)}, &answer)
	if err != nil {
		return err
	}
	if answer.Exception != nil {
		return fmt.Errorf("%s %s", answer.Exception.Text, answer.Exception.Exception.Description)
	}
	if answer.Result.Value == nil { // undefined
		return nil
	}
	return json.Unmarshal(answer.Result.Value, result)
}

// Click implements remote.
func (d *DevTools) Click(ctx context.Context, css string) error {
	var at *struct{ X, Y float64 }
	err := d.Run(ctx, &at, find+`
		const [css, done] = arguments, element = find(css);
		element.scrollIntoView({ block: 'center', behavior: 'instant' });
		const box = element.getBoundingClientRect(), x = box.x + box.width / 2, y = box.y + box.height / 2;
		done(element.contains(element.getRootNode().elementFromPoint(x, y)) ? { x, y } : null);`, css)
	if err != nil {
		return err
	}
	if at == nil {
		return fmt.Errorf("%s is covered", css)
	}
	for _, kind := range []string{"mousePressed", "mouseReleased"} {
		err := d.Do(ctx, "Input.dispatchMouseEvent", map[string]any{"type": kind, "x": at.X, "y": at.Y, "button": "left", "clickCount": 1}, nil)
		if err != nil {
			return err
		}
	}
	return nil
}

// Key implements remote.
func (d *DevTools) Key(ctx context.Context, key string) error {
	code, known := map[string]int{"Tab": 9, "Enter": 13, "Escape": 27, " ": 32}[key]
	if !known {
		return fmt.Errorf("nobody wrote down the code of the key %q", key)
	}
	text := map[string]string{"Enter": "\r", " ": " "}[key]
	for _, kind := range []string{"keyDown", "keyUp"} {
		err := d.Do(ctx, "Input.dispatchKeyEvent", map[string]any{"type": kind, "key": key, "windowsVirtualKeyCode": code, "text": text}, nil)
		if err != nil {
			return err
		}
		text = ""
	}
	return nil
}

// Follow implements remote.
func (d *DevTools) Follow(ctx context.Context, url string) error {
	if err := d.Peek(ctx, url); err != nil {
		return err
	}
	if err := d.Do(ctx, "Target.activateTarget", map[string]any{"targetId": d.target}, nil); err != nil {
		return err
	}
	// What is clicked on before the page knows that it is in front is lost.
	return d.Run(ctx, new(any), `
		const done = arguments[0];
		const look = () => { if (document.visibilityState === 'visible') done(); };
		document.addEventListener('visibilitychange', look);
		look();`)
}

// Peek implements remote.
func (d *DevTools) Peek(ctx context.Context, url string) error {
	var id string
	err := d.until(ctx, func() bool {
		for _, p := range d.pages {
			if p.Type == "page" && p.URL == url {
				id = p.ID
			}
		}
		return id != ""
	})
	if err != nil {
		d.mu.Lock()
		defer d.mu.Unlock()
		return fmt.Errorf("%w; there are %v", err, d.pages)
	}
	return d.attach(ctx, id)
}

// Tabs implements remote.
func (d *DevTools) Tabs(context.Context) ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var urls []string
	for _, p := range d.pages {
		if p.Type == "page" {
			urls = append(urls, p.URL)
		}
	}
	slices.Sort(urls)
	return urls, nil
}

// attach goes to a page, and leaves the one in front that is.
func (d *DevTools) attach(ctx context.Context, id string) error {
	var answer struct{ SessionID string }
	if err := d.Do(ctx, "Target.attachToTarget", map[string]any{"targetId": id, "flatten": true}, &answer); err != nil {
		return err
	}
	d.target, d.session = id, answer.SessionID
	return d.loaded(ctx)
}

// OpenTab implements remote.
func (d *DevTools) OpenTab(ctx context.Context, url string) error {
	var answer struct{ TargetID string }
	if err := d.Do(ctx, "Target.createTarget", map[string]any{"url": "about:blank"}, &answer); err != nil {
		return err
	}
	if err := d.attach(ctx, answer.TargetID); err != nil {
		return err
	}
	return d.Navigate(ctx, url)
}

// CloseTab implements remote.
func (d *DevTools) CloseTab(ctx context.Context, url string) error {
	if err := d.Do(ctx, "Target.closeTarget", map[string]any{"targetId": d.target}, nil); err != nil {
		return err
	}
	return d.Follow(ctx, url)
}

// Back implements remote.
func (d *DevTools) Back(ctx context.Context) error {
	var history struct {
		CurrentIndex int
		Entries      []struct {
			ID  int
			URL string
		}
	}
	if err := d.Do(ctx, "Page.getNavigationHistory", nil, &history); err != nil {
		return err
	}
	if history.CurrentIndex == 0 {
		return errors.New("there is nothing to go back to")
	}
	to := history.Entries[history.CurrentIndex-1]
	if err := d.Do(ctx, "Page.navigateToHistoryEntry", map[string]any{"entryId": to.ID}, nil); err != nil {
		return err
	}
	if err := d.until(ctx, func() bool { return d.pages[d.target].URL == to.URL }); err != nil {
		return err
	}
	return d.loaded(ctx)
}

// Offline implements remote, for the page where it is.
func (d *DevTools) Offline(ctx context.Context, yes bool) error {
	return d.Do(ctx, "Network.emulateNetworkConditions", map[string]any{"offline": yes, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}, nil)
}

// Permit implements remote. Pages and workers see it as if it were set by hand; the
// browser's push service does not. It would, were it set on the page of the settings,
// but that page is then in front for a moment: a Chromium whose start is not over
// waits three minutes then before it goes on with much of what it has to do.
func (d *DevTools) Permit(ctx context.Context, origin string, yes bool) error {
	setting := map[bool]string{true: "granted", false: "denied"}[yes]
	return d.Do(ctx, "Browser.setPermission", map[string]any{"origin": origin, "permission": map[string]any{"name": "notifications"}, "setting": setting}, nil)
}

// Handled implements remote. The browser's record of pushes, which it keeps with
// its profile, is told from its beginning.
func (d *DevTools) Handled(ctx context.Context, n int) error {
	err := d.until(ctx, func() bool {
		completed := 0
		for _, event := range d.pushes {
			if event == "Push event completed" {
				completed++
			}
		}
		return completed >= n
	})
	if err != nil {
		return fmt.Errorf("%w after %q", err, d.pushes)
	}
	return nil
}

// Dark has pages believe that the person likes it dark, or light.
func (d *DevTools) Dark(ctx context.Context, yes bool) error {
	scheme := map[bool]string{true: "dark", false: "light"}[yes]
	return d.Do(ctx, "Emulation.setEmulatedMedia", map[string]any{"features": []any{
		map[string]string{"name": "prefers-color-scheme", "value": scheme}, map[string]string{"name": "prefers-reduced-motion", "value": "reduce"},
	}}, nil)
}

// Photograph implements remote.
func (d *DevTools) Photograph(ctx context.Context, width, height int) ([]byte, error) {
	if err := d.Do(ctx, "Emulation.setScrollbarsHidden", map[string]any{"hidden": true}, nil); err != nil {
		return nil, err
	}
	err := d.Do(ctx, "Emulation.setDeviceMetricsOverride",
		map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false}, nil)
	if err != nil {
		return nil, err
	}
	var answer struct{ Data string }
	if err := d.Do(ctx, "Page.captureScreenshot", nil, &answer); err != nil {
		return nil, err
	}
	return base64.StdEncoding.DecodeString(answer.Data)
}

// Quit implements remote.
func (d *DevTools) Quit(ctx context.Context) error {
	defer d.ws.CloseNow()
	err := d.Do(ctx, "Browser.close", nil, nil)
	if websocket.CloseStatus(err) != -1 || err != nil && strings.Contains(err.Error(), "EOF") {
		return nil // it was faster than its answer
	}
	return err
}
