//go:build faults

package faults

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A server whose disk is full says so to whoever brings something new, at once,
// and to nobody else; whoever leaves may leave; a broadcast that cannot write
// down whom it has rung waits, and goes on by itself when there is room (REL-09,
// REL-27).
func TestDiskFull(t *testing.T) {
	t.Parallel()
	rows := size(2000, 5000)
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	push := startPushService(ctx, t, "--tls")
	s := newServer(ctx, t, push)
	s.runOnSmallDisk(size(16, 24))
	s.join(push, rows, "news")
	ids := s.ids()
	s.fill(3 << 20) // of the 4 MiB that are kept for those who leave

	longest := time.Duration(0)
	for range 10 {
		for _, try := range []func() (int, []byte){
			func() (int, []byte) { return s.register(push.mint(1, s.key())[0]) },
			func() (int, []byte) { return s.ask(http.MethodPost, "/api/v1/broadcasts", launchOf("nobody", 3600)) },
		} {
			began := time.Now()
			status, body := try()
			longest = max(longest, time.Since(began))
			if status != http.StatusInsufficientStorage {
				t.Fatalf("it is answered %d: %s", status, body)
			}
			s.mustSayFull(body)
		}
	}
	const leavers = 10
	leave := func(ids []string) {
		for _, one := range ids {
			s.call(http.StatusNoContent, http.MethodDelete, "/api/v1/subscriptions/"+one, nil, nil)
		}
	}
	leave(ids[len(ids)-leavers:])

	// Rows that grow take what is left of the disk and of the file, so that a
	// broadcast which had room to be launched cannot write down whom it rings.
	s.fill(0)
	s.exhaust(ids[:len(ids)-2*leavers])
	leave(ids[len(ids)-2*leavers : len(ids)-leavers]) // there is what nobody else can take
	s.fill(5 << 20)
	push.answer("", answer{DelayMS: 512}) // no answer comes before the disk is full
	id := s.launch("news", 3600)
	// Pages that are free within the file would do for any broadcast, since each
	// commit gives back as many as it takes; unless somebody reads what was before.
	reader := s.backUp()
	s.fill(0)
	waiting := s.settled(push)
	if b := s.show(id); b.Counts.Pending == 0 {
		t.Fatalf("it has not waited: %+v", b.Counts)
	}
	if status, body := ask(t, anyServer, http.MethodGet, s.url+"/healthz", nil, nil); status != http.StatusOK {
		t.Errorf("health is answered %d: %s", status, body)
	}
	s.mustStream(id)

	freed := time.Now()
	reader.Close()
	s.unfill()
	push.await(waiting + 1)
	idle := time.Since(freed)
	b := s.finish(id)
	had := count(push.ledger(), id)
	if b.Counts.Accepted != len(had.accepted) || b.Counts.Accepted != rows-2*leavers || again(had.tried) > 0 {
		t.Errorf("it ends with %+v, %d have the message, and %d were tried twice", b.Counts, len(had.accepted), again(had.tried))
	}
	if longest > size(20*time.Second, time.Second) || idle > size(time.Minute, 10*time.Second) {
		t.Errorf("it took %s to say that the disk is full, and %s to go on", longest, idle)
	}
	s.stopOnSmallDisk()
	s.audit().agree(t, b)
	t.Logf("REL-09: full disk: 507 with the reason to 10 of 10 registrations and launches within %d ms, %d of %d could leave then and %d of %d on a disk without an octet, the broadcast waited at %d of %d once nothing could be written and went on %d ms after there was room: %d tried twice",
		longest.Milliseconds(), leavers, leavers, leavers, leavers, waiting, rows, idle.Milliseconds(), again(had.tried))
}

// backUp begins a backup that is not read on.
func (s *server) backUp() io.Closer {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.ctx, http.MethodPost, "http://belfry/api/v1/backup", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	resp, err := s.api.Do(req)
	if err != nil || resp.StatusCode != http.StatusOK {
		s.t.Fatalf("a backup is answered %v, %v", resp, err)
	}
	return resp.Body
}

// exhaust changes rows, which takes room that is kept from new ones, until there
// is none.
func (s *server) exhaust(ids []string) {
	s.t.Helper()
	for n, id := range ids {
		var channels []string
		for i := range 20 {
			channels = append(channels, fmt.Sprintf("%d-%d-%s", n, i, strings.Repeat("x", 40)))
		}
		switch status, body := s.ask(http.MethodPut, "/api/v1/subscriptions/"+id, map[string]any{"channels": append(channels, "news")}); status {
		case http.StatusOK:
		case http.StatusInsufficientStorage:
			s.mustSayFull(body)
			return
		default:
			s.t.Fatalf("a change is answered %d: %s", status, body)
		}
	}
	s.t.Fatal("there is always room")
}

// runOnSmallDisk begins a life with a data directory of so many MiB, in a mount
// namespace of its own: making that takes no rights on this machine.
func (s *server) runOnSmallDisk(size int) {
	s.t.Helper()
	if err := os.Mkdir(s.data, 0o700); err != nil {
		s.t.Fatal(err)
	}
	mount := fmt.Sprintf(`mount -t tmpfs -o size=%dm,mode=0700 belfry "$0" && exec "$@"`, size)
	s.start("unshare", "--map-root-user", "--mount", "sh", "-c", mount, s.data)
	s.ready()
	s.data = s.seen()
	s.api = over(s.data)
	s.t.Cleanup(s.api.CloseIdleConnections)
}

// seen is the data directory as it is seen from here.
func (s *server) seen() string { return fmt.Sprintf("/proc/%d/root%s", s.life.PID(), s.data) }

func (s *server) ballast() string { return filepath.Join(s.data, "belfry.ballast") }

// fill takes all the room there is but so many octets.
func (s *server) fill(keep int64) {
	s.t.Helper()
	f, err := os.OpenFile(s.ballast(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.Close()
	for _, chunk := range []int{1 << 20, 4096} {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, chunk))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			s.t.Fatal(err)
		}
	}
	info, err := f.Stat()
	if err == nil && keep > 0 {
		err = f.Truncate(info.Size() - keep)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *server) unfill() {
	s.t.Helper()
	if err := os.Remove(s.ballast()); err != nil {
		s.t.Fatal(err)
	}
}

// register registers a browser's subscription as its page does.
func (s *server) register(line []byte) (status int, body []byte) {
	s.t.Helper()
	in, err := json.Marshal(map[string]any{"subscription": json.RawMessage(line), "channels": []string{"later"}})
	if err != nil {
		s.t.Fatal(err)
	}
	return ask(s.t, anyServer, http.MethodPost, s.url+"/v1/subscriptions", in, http.Header{"Origin": {s.url}, "Content-Type": {"application/json"}})
}

func (s *server) mustSayFull(body []byte) {
	s.t.Helper()
	var problem struct{ Code, Detail, Hint string }
	if err := json.Unmarshal(body, &problem); err != nil || problem.Code != "full" || problem.Detail == "" || problem.Hint == "" {
		s.t.Errorf("it is not said that the disk is full: %s", body)
	}
}

// mustStream demands an event of a broadcast.
func (s *server) mustStream(id string) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.ctx, http.MethodGet, "http://belfry/api/v1/broadcasts/"+id+"/events", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	resp, err := s.api.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	if line, err := bufio.NewReader(resp.Body).ReadString('\n'); err != nil || !strings.HasPrefix(line, "event: progress") {
		s.t.Errorf("the stream says %q, %v", line, err)
	}
}

// settled waits until nothing new is sent, and returns how much was.
func (s *server) settled(push *pushService) int {
	s.t.Helper()
	for last := -1; ; {
		now := push.summary().Received
		if now == last {
			return now
		}
		last = now
		select {
		case <-time.After(3 * time.Second):
		case <-s.ctx.Done():
			s.t.Fatal("it is sent on and on")
		}
	}
}

// stopOnSmallDisk ends the life and keeps the file, which goes with it.
func (s *server) stopOnSmallDisk() {
	s.t.Helper()
	file, err := os.ReadFile(filepath.Join(s.data, "belfry.db"))
	if err != nil {
		s.t.Fatal(err)
	}
	s.stop()
	s.data = temp(s.t)
	if err := os.WriteFile(filepath.Join(s.data, "belfry.db"), file, 0o600); err != nil {
		s.t.Fatal(err)
	}
}
