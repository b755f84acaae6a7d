//go:build faults

package faults

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/belfry-push/belfry/broadcasts"
)

// A server that is killed when a launch stands in its file and before that is
// answered leaves a client that can only ask again: with the same key it gets
// the one broadcast there is, however often, and with another call a refusal
// (REL-16). Between the two bbolt flushes the page that makes its transaction valid:
// the test looks at that page of the file, kills as soon as it has changed, and
// counts who was quicker. What was written survives a kill, flushed or not.
func TestAskedAgain(t *testing.T) {
	cycles := size(6, 500)
	ctx, cancel := context.WithTimeout(t.Context(), 5*within)
	defer cancel()
	push := startPushService(ctx, t, "--tls")
	s := newServer(ctx, t, push)
	s.run()
	s.join(push, 1, "news")

	ids, between, again := map[string]string{}, 0, 0       // by title
	for between < cycles && (*full || len(ids) < cycles) { // how quick we are is not for a small form to decide
		if len(ids) == 5*cycles {
			t.Fatalf("of %d kills only %d fell between commit and answer", len(ids), between)
		}
		title := fmt.Sprintf("launch %d.", len(ids))
		key := http.Header{"Idempotency-Key": {fmt.Sprint("key-", len(ids))}}
		if s.dieLaunching(title, key) {
			between++
		}
		id := ""
		for one := range s.audit().broadcasts {
			if !slices.Contains(slices.Collect(maps.Values(ids)), one) {
				id = one
			}
		}
		ids[title] = id

		s.run()
		for range 2 {
			status, answer, err := s.launchAs(title, key)
			if err != nil || status != http.StatusAccepted || !answer.replayed || answer.ID != id {
				t.Errorf("asked again, it answers %d %+v, %v", status, answer, err)
			}
			again++
		}
		if status, answer, err := s.launchAs("another", key); err != nil || status != http.StatusConflict || answer.Code != "idempotency-key-reused" {
			t.Errorf("asked for something else, it answers %d %+v, %v", status, answer, err)
		}
		if b := s.finishQuickly(id); b.Counts != (broadcasts.Counts{Targets: 1, Accepted: 1}) {
			t.Errorf("it ends with %+v", b.Counts)
		}
	}
	s.stop()
	if n := len(s.audit().broadcasts); n != len(ids) {
		t.Errorf("%d launches made %d broadcasts", len(ids), n)
	}
	for _, r := range push.ledger() {
		var got struct {
			Notification struct {
				Title string
				Data  struct{ Belfry struct{ ID string } }
			}
		}
		if err := json.Unmarshal(r.Plaintext, &got); err != nil || ids[got.Notification.Title] != got.Notification.Data.Belfry.ID {
			t.Errorf("a message went out under an id that nobody was answered: %s", r.Plaintext)
		}
	}
	t.Logf("REL-16: %d servers killed while they launched, %d of them between commit and answer; asked again %d times: %d broadcasts, with another call 409", len(ids), between, again, len(ids))
}

// dieLaunching launches and kills the server once the launch is in the file. It
// reports whether that was before the answer.
func (s *server) dieLaunching(title string, key http.Header) (unanswered bool) {
	s.t.Helper()
	before := s.transaction()
	lost := make(chan error, 1)
	go func() {
		_, _, err := s.launchAs(title, key)
		lost <- err
	}()
	for began := time.Now(); s.transaction() == before; {
		if time.Since(began) > patience {
			s.t.Fatal("nothing is committed")
		}
		runtime.Gosched()
	}
	s.life.End(s.ctx, s.t, syscall.SIGKILL)
	s.api.CloseIdleConnections()
	return <-lost != nil
}

// transaction is the number of the last one in the file, committed or about to be flushed.
func (s *server) transaction() (last uint64) {
	s.t.Helper()
	file, err := os.Open(filepath.Join(s.data, "belfry.db"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer file.Close()
	number := make([]byte, 8)
	for _, page := range []int64{0, 1} {
		if _, err := file.ReadAt(number, page*pageSize+metaTransaction); err != nil {
			s.t.Fatal(err)
		}
		last = max(last, binary.NativeEndian.Uint64(number))
	}
	return last
}

// metaTransaction is where it stands on a meta page (bbolt/internal/common,
// version 2 of its format).
const metaTransaction = 16 + 48

// A launchReply is what a launch is answered with.
type launchReply struct {
	ID, Code string
	replayed bool
}

// launchAs launches over the socket under an idempotency key, whatever comes of it.
func (s *server) launchAs(title string, header http.Header) (status int, r launchReply, err error) {
	body, err := json.Marshal(map[string]any{"message": map[string]any{"title": title}, "audience": map[string]any{"channels": []string{"news"}}})
	if err != nil {
		return 0, r, err
	}
	req, err := http.NewRequestWithContext(s.ctx, http.MethodPost, "http://belfry/api/v1/broadcasts", bytes.NewReader(body))
	if err != nil {
		return 0, r, err
	}
	req.Header = header.Clone()
	// Without this, net/http takes the key for leave to ask again by itself.
	req.GetBody = nil
	resp, err := s.api.Do(req)
	if err != nil {
		return 0, r, err
	}
	defer resp.Body.Close()
	r.replayed = resp.Header.Get("Idempotent-Replayed") == "true"
	return resp.StatusCode, r, json.NewDecoder(resp.Body).Decode(&r)
}
