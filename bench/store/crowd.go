//go:build linux

package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"runtime"
	"runtime/debug"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/belfry-push/belfry/bench/rig"
)

const (
	visitors  = 1000 // who register at one moment
	connected = 9    // crowds whose connections are open before
	strangers = 3    // crowds that connect first

	// settling is how long a server has to take the connections that are open
	// before: the kernel opens them in its stead.
	settling = 100 * time.Millisecond

	// patience is how long nobody may be answered.
	patience = time.Minute

	registering = visitors * (connected + strangers)
)

// A crowd is how long each of its visitors waited, in order, and how long it
// took until all were through.
type crowd struct {
	waits []time.Duration
	all   time.Duration
}

func (c crowd) at(part float64) time.Duration { return c.waits[int(part*float64(len(c.waits)-1))] }

// crowds are the middle ones of those that were tried, by their slowest hundredth.
type crowds struct{ connected, strangers crowd }

func register(server string) (c crowds, err error) {
	if c.connected, err = middle(server, connected, true); err != nil {
		return c, err
	}
	c.strangers, err = middle(server, strangers, false)
	return c, err
}

func middle(server string, tries int, before bool) (crowd, error) {
	var all []crowd
	for range tries {
		c, err := newCrowd(server, before)
		if err != nil {
			return crowd{}, err
		}
		all = append(all, c)
	}
	slices.SortFunc(all, func(x, y crowd) int { return cmp.Compare(x.at(.99), y.at(.99)) })
	return all[tries/2], nil
}

// newCrowd lets all visitors register at one moment, each on a connection of its
// own. One thread writes and reads all of them, and collects no garbage meanwhile:
// net/http's client, or a goroutine for each, takes as much of the machine as the
// server, and we would measure both.
func newCrowd(server string, before bool) (c crowd, err error) {
	to, err := addressOf(server)
	if err != nil {
		return c, err
	}
	requests := make([][]byte, visitors)
	for i := range requests {
		if requests[i], err = registration(server); err != nil {
			return c, err
		}
	}
	runtime.GC()
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	door, err := newDoor(visitors)
	if err != nil {
		return c, err
	}
	defer door.close() // only when all are through, as browsers do; it would else be a part of what others wait for
	if before {
		for i := range visitors {
			if err := door.connect(i, to); err != nil {
				return c, err
			}
		}
		time.Sleep(settling)
	}
	began, sent := time.Now(), make([]time.Time, visitors)
	for i := range visitors {
		sent[i] = time.Now()
		if !before {
			if err := door.connect(i, to); err != nil {
				return c, err
			}
		}
		if _, err := unix.Write(door.conns[i], requests[i]); err != nil {
			return c, err
		}
	}
	for len(c.waits) < visitors {
		answered, err := door.wait()
		if err != nil {
			return c, err
		}
		for _, i := range answered {
			if err := decided(door.conns[i]); err != nil {
				return c, err
			}
			c.waits = append(c.waits, time.Since(sent[i]))
		}
	}
	c.all = time.Since(began)
	slices.Sort(c.waits)
	return c, nil
}

// registration is a request as a browser sends it.
func registration(server string) ([]byte, error) {
	body, err := json.Marshal(map[string]any{"subscription": rig.NewBrowser(rig.FCM), "channels": []string{"news"}, "locale": "en-GB", "timeZone": "Europe/London"})
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequest(http.MethodPost, server+"/v1/subscriptions", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Origin", server)
	var text bytes.Buffer
	err = r.Write(&text)
	return text.Bytes(), err
}

// decided reads no more of an answer than what was decided: net/http would make
// reading it as costly as giving it.
func decided(conn int) error {
	answer := make([]byte, 1024)
	n, err := unix.Read(conn, answer)
	if err != nil || !bytes.HasPrefix(answer[:n], []byte("HTTP/1.1 201 ")) {
		return fmt.Errorf("a registration was answered %q %w", answer[:max(n, 0)], err)
	}
	return nil
}
