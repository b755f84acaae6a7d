package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/belfry-push/belfry/bench/rig"
)

const (
	visitors  = 1000 // who register at one moment
	connected = 9    // crowds whose connections are open before
	strangers = 3    // crowds that connect first

	// settling is how long a server has to take the connections that are open
	// before: the kernel opens them in its stead.
	settling = 100 * time.Millisecond

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

func register(ctx context.Context, server string) (c crowds, err error) {
	if c.connected, err = middle(ctx, server, connected, true); err != nil {
		return c, err
	}
	c.strangers, err = middle(ctx, server, strangers, false)
	return c, err
}

func middle(ctx context.Context, server string, tries int, before bool) (crowd, error) {
	var all []crowd
	for range tries {
		c, err := newCrowd(ctx, server, before)
		if err != nil {
			return crowd{}, err
		}
		all = append(all, c)
	}
	slices.SortFunc(all, func(x, y crowd) int { return cmp.Compare(x.at(.99), y.at(.99)) })
	return all[tries/2], nil
}

// newCrowd lets all visitors register at one moment, each on a connection of
// its own. It writes and reads the connections itself: net/http's client takes
// as much of the machine as the server, and we would measure both.
func newCrowd(ctx context.Context, server string, before bool) (crowd, error) {
	u, err := url.Parse(server)
	if err != nil {
		return crowd{}, err
	}
	requests := make([][]byte, visitors)
	for i := range requests {
		if requests[i], err = registration(server); err != nil {
			return crowd{}, err
		}
	}
	// What collecting garbage takes of visitors who are on one machine would else
	// be a part of what they wait for.
	runtime.GC()
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	conns, waits, errs := make([]net.Conn, visitors), make([]time.Duration, visitors), make([]error, visitors)
	begin := make(chan struct{})
	var there, all sync.WaitGroup
	there.Add(visitors)
	for i := range visitors {
		all.Go(func() {
			if before {
				conns[i], errs[i] = new(net.Dialer).DialContext(ctx, "tcp", u.Host)
			}
			there.Done()
			<-begin
			began := time.Now()
			if !before {
				conns[i], errs[i] = new(net.Dialer).DialContext(ctx, "tcp", u.Host)
			}
			if errs[i] == nil {
				errs[i] = visit(conns[i], requests[i])
				waits[i] = time.Since(began)
			}
		})
	}
	there.Wait()
	time.Sleep(settling)
	began := time.Now()
	close(begin)
	all.Wait()
	c := crowd{waits: waits, all: time.Since(began)}
	for _, conn := range conns { // only now, as browsers do; closing would else be a part of what others wait for
		if conn != nil {
			conn.Close()
		}
	}
	slices.Sort(c.waits)
	return c, errors.Join(errs...)
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

// visit reads no more of the answer than what was decided: net/http would make
// reading it as costly as giving it.
func visit(c net.Conn, request []byte) error {
	if _, err := c.Write(request); err != nil {
		return err
	}
	answer := make([]byte, 1024)
	n, err := c.Read(answer)
	if err != nil || !bytes.HasPrefix(answer[:n], []byte("HTTP/1.1 201 ")) {
		return fmt.Errorf("a registration was answered %q %w", answer[:n], err)
	}
	return nil
}
