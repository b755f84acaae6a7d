package web

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/broadcasts"
	"github.com/belfry-push/belfry/sender/pushtest"
)

// A rotation costs nobody a message: ten thousand browsers that subscribed with
// the key before are rung as if nothing had happened, who comes now gets the new
// key, and who comes back moves over, until the operator reads 100 % and the key
// before is needed by nobody (WP-50). The push service refuses whatever is signed
// with another key than a browser subscribed with.
func TestRotation(t *testing.T) {
	t.Parallel()
	const rows, guests = 10_000, 100
	h := newRooms(t, pushtest.NewService(t))
	before, public := h.ring.Current(), h.web.Public()

	var visitors [rows + guests]registered
	together(rows, func(n int) { visitors[n] = h.visit(public, "POST", "", "") })
	if got := h.keyRows(); len(got) != 1 || got[0].Subscriptions != rows || got[0].Of != rows {
		t.Fatalf("before it, %+v", got)
	}

	if got := h.ask(h.web.Operators(Owner), "POST", "/api/v1/keys", `{}`); got.Code != http.StatusCreated {
		t.Fatalf("rotate: %d %s", got.Code, got.Body)
	}
	if h.ring.Current().ID == before.ID {
		t.Fatal("the key is the same")
	}
	h.ringAll(rows)
	h.moved(before.ID, 0, rows)

	together(guests, func(n int) { visitors[rows+n] = h.visit(public, "POST", "", "") })
	h.moved(before.ID, guests, rows+guests)
	for back, until := 0, 0; back < rows; back = until {
		until = min(back+4200, rows)
		together(until-back, func(n int) { h.visit(public, "PUT", "/"+visitors[back+n].ID, visitors[back+n].Secret) })
		h.moved(before.ID, guests+until, rows+guests)
	}
	h.ringAll(rows + guests)
	if n := h.count(); n != rows+guests {
		t.Errorf("%d are registered", n)
	}
}

// together calls do with each number below n, so many at a time that they share
// few transactions.
func together(n int, do func(int)) {
	numbers := make(chan int)
	var all sync.WaitGroup
	for range 512 {
		all.Go(func() {
			for i := range numbers {
				do(i)
			}
		})
	}
	for i := range n {
		numbers <- i
	}
	close(numbers)
	all.Wait()
}

// ask calls a handler without a network.
func (h *house) ask(handler http.Handler, method, path, body string, headers ...string) *httptest.ResponseRecorder {
	req := httptest.NewRequestWithContext(h.t.Context(), method, path, strings.NewReader(body))
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ": ")
		req.Header.Set(name, value)
	}
	got := httptest.NewRecorder()
	handler.ServeHTTP(got, req)
	return got
}

// visit is what the kit does on a page: it subscribes with the key that the
// server names, and registers that, anew or in the place of what was.
func (h *house) visit(public http.Handler, method, place, secret string) (r registered) {
	headers := page
	if secret != "" {
		headers = device(secret)
	}
	_, subscription := h.browser()
	got := h.ask(public, method, "/v1/subscriptions"+place, fmt.Sprintf(`{"subscription":%s,"keyId":%q}`, subscription, h.ring.Current().ID), headers...)
	if err := json.Unmarshal(got.Body.Bytes(), &r); err != nil || got.Code >= 300 {
		h.t.Errorf("%s: %d %s", method, got.Code, got.Body)
	}
	return r
}

func (h *house) keyRows() []KeyRow {
	h.t.Helper()
	got := h.ask(h.web.Operators(Owner), "GET", "/api/v1/keys", "")
	var list struct{ Items []KeyRow }
	if err := json.Unmarshal(got.Body.Bytes(), &list); err != nil {
		h.t.Fatal(err)
	}
	return list.Items
}

// moved checks how far the rotation has come, as operators read it.
func (h *house) moved(before string, n, of int) {
	h.t.Helper()
	got := h.keyRows()
	if len(got) != 2 || got[0].ID != before || got[0].Current || got[0].Subscriptions != of-n || got[0].Of != of ||
		!got[1].Current || got[1].Subscriptions != n || got[1].Of != of {
		h.t.Errorf("%d of %d have moved, and it says %+v", n, of, got)
	}
}

// ringAll rings everybody, and each must be reached.
func (h *house) ringAll(n int) {
	h.t.Helper()
	b, _, err := h.web.Broadcasts.Launch(h.t.Context(), broadcasts.Request{Message: belfry.Message{Title: "Hello"}, Audience: belfry.Audience{All: true}})
	if err != nil {
		h.t.Fatal(err)
	}
	start := time.Now()
	for step, err := range h.web.Broadcasts.Watch(h.t.Context(), b.ID) {
		if err != nil {
			h.t.Fatal(err)
		}
		b = step
	}
	if want := (broadcasts.Counts{Targets: n, Accepted: n}); b.Counts != want {
		h.t.Errorf("%s %+v %v after %v", b.State, b.Counts, b.Failures, time.Since(start))
	}
}
