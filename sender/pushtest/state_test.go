package pushtest_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/sender/pushtest"
)

// restart ends a service and starts another one over the same directory.
func restart(t *testing.T, s *pushtest.Service, dir string) *pushtest.Service {
	t.Helper()
	if s != nil {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	next, err := pushtest.Start(pushtest.Config{Memory: true, Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { next.Close() })
	return next
}

// Whoever restarts the push service between two days of work finds browsers
// subscribed as before, and what they have not heard yet still waiting.
func TestStateSurvivesARestart(t *testing.T) {
	dir, site := filepath.Join(t.TempDir(), "state"), newSite(t)
	service := restart(t, nil, dir)
	minted, ended := service.Subscribe(site.publicKey(), pushtest.Constrained), service.Subscribe("")
	service.End(ended.Endpoint)
	f := connect(t, service, "")
	sub := f.register("c1", site.publicKey())
	f.leave(service)
	deliver(t, service, site, sub, "waiting", "", "600")
	service.Leave(minted.Endpoint)
	deliver(t, service, site, minted, "for the minted", "", "600")

	service = restart(t, service, dir)
	if sum := service.Summary(); sum.Subscriptions != 2 {
		t.Errorf("summary %+v", sum)
	}
	if a := do(t, service.Client(), site.request(t, ended, "hi")); a.status != 410 {
		t.Errorf("what had ended was answered %+v", a)
	}
	long := site.request(t, minted, "")
	setBody(long, seal(t, minted, make([]byte, 3000)))
	if a := do(t, service.Client(), long); a.status != 413 {
		t.Errorf("a constrained one was answered %+v", a)
	}
	if got := service.Return(minted.Endpoint); len(got) != 1 || string(got[0]) != "for the minted" {
		t.Errorf("the minted one returned to %q", got)
	}
	back := connect(t, service, f.uaid)
	if back.uaid != f.uaid {
		t.Fatal("the profile was forgotten")
	}
	if text, _ := back.take("c1"); text != "waiting" {
		t.Errorf("got %q", text)
	}
	deliver(t, service, site, sub, "fresh", "", "60")
	if text, _ := back.take("c1"); text != "fresh" {
		t.Errorf("got %q", text)
	}
}

// Subscriptions are on disk before the browser hears of them: a kill loses none.
func TestStateIsWrittenAtOnce(t *testing.T) {
	dir, site := t.TempDir(), newSite(t)
	killed := restart(t, nil, dir) // and not closed until the end of the test
	sub := connect(t, killed, "").register("c1", site.publicKey())
	service := restart(t, nil, dir)
	if a := do(t, service.Client(), site.request(t, sub, "hi")); a.status != 201 {
		t.Errorf("answer %+v", a)
	}
}

// What a browser gave up stays given up, and its channel can begin anew.
func TestStateKeepsWhatEnded(t *testing.T) {
	dir, site := t.TempDir(), newSite(t)
	service := restart(t, nil, dir)
	f := connect(t, service, "")
	f.register("c0", site.publicKey()) // keeps the profile's name
	old := f.register("c1", site.publicKey())
	f.send(frame{"messageType": "unregister", "channelID": "c1", "code": 200})
	f.read()
	first := service
	service = restart(t, service, dir)
	f = connect(t, service, f.uaid)
	if sub := f.register("c1", site.publicKey()); sub.Endpoint == old.Endpoint {
		t.Error("the channel got the endpoint again that ended")
	}
	if err := first.Close(); err != nil { // a second Close must not bring the old state back
		t.Error(err)
	}
	f.leave(service)
	if sum := restart(t, nil, dir).Summary(); sum.Subscriptions != 2 {
		t.Errorf("summary %+v", sum)
	}
}

// A file that is not ours, or no longer, is never written over.
func TestStateUnreadable(t *testing.T) {
	for name, text := range map[string]string{
		"not JSON":     "{",
		"half a row":   `{"subscriptions":[{"token":"x"}]}`,
		"lost browser": `{"subscriptions":[{"token":"x","browser":"y"}]}`,
	} {
		dir := t.TempDir()
		file := filepath.Join(dir, "pushtest.json")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := pushtest.Start(pushtest.Config{Memory: true, Dir: dir})
		var e *belfry.Error
		if !errors.As(err, &e) || e.Kind != belfry.ErrNotUsable || e.Hint == "" {
			t.Errorf("%s: %v", name, err)
		}
		if left, _ := os.ReadFile(file); string(left) != text {
			t.Errorf("%s: the file was changed", name)
		}
	}
}

// When the disk is gone, nobody is promised a subscription that would not
// survive the next restart.
func TestStateCannotBeWritten(t *testing.T) {
	dir, site := filepath.Join(t.TempDir(), "state"), newSite(t)
	service := restart(t, nil, dir)
	f := connect(t, service, "")
	f.register("c1", site.publicKey())
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	f.send(frame{"messageType": "register", "channelID": "c2", "key": site.publicKey()})
	if m := f.read(); m["status"] != 500.0 || m["pushEndpoint"] != nil {
		t.Errorf("register was answered %v", m)
	}
	f.send(frame{"messageType": "unregister", "channelID": "c1", "code": 200})
	if m := f.read(); m["status"] != 500.0 {
		t.Errorf("unregister was answered %v", m)
	}
	if status, _ := call(t, service, "POST", "/pushtest/subscriptions", ""); status != 500 {
		t.Errorf("minting was answered %d", status)
	}
	if err := service.Close(); err == nil {
		t.Error("closed as if all were written")
	}
}
