//go:build faults

package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/belfry-push/belfry/broadcasts"
	"github.com/belfry-push/belfry/internal/process"
)

// A server is belfry serve with its data directory, over any number of lives.
type server struct {
	t     *testing.T
	ctx   context.Context
	data  string
	flags []string
	api   *http.Client // over the operators' socket
	life  *process.Process
	began time.Time // when this life did
	url   string    // where browsers reach it in this life, once it is ready
}

// newServer prepares a server that rings through push services. It does not run yet.
func newServer(ctx context.Context, t *testing.T, push ...*pushService) *server {
	t.Helper()
	dir := temp(t)
	s := &server{t: t, ctx: ctx, data: filepath.Join(dir, "data")}
	s.flags = []string{"--data", s.data, "--listen", "127.0.0.1:0", "--register-limit", "off"}
	var pem bytes.Buffer
	for _, p := range push {
		pem.Write(p.ca)
		s.flags = append(s.flags, "--push-host", p.host())
	}
	if pem.Len() > 0 {
		s.trust(pem.Bytes())
	}
	s.api = over(s.data)
	t.Cleanup(s.api.CloseIdleConnections)
	return s
}

// trust lets the server believe the authorities of push services.
func (s *server) trust(pem []byte) {
	s.t.Helper()
	ca := filepath.Join(filepath.Dir(s.data), "ca.pem")
	if err := os.WriteFile(ca, pem, 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.flags = append(s.flags, "--push-ca", ca)
}

// over reaches the operators' socket in dir.
func over(dir string) *http.Client {
	return &http.Client{Timeout: within, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", filepath.Join(dir, "belfry.sock"))
	}}}
}

// start begins a life, under the command that under names where it names one,
// and does not wait for it to be ready.
func (s *server) start(under ...string) {
	s.t.Helper()
	cmd := belfry(s.t, append([]string{"serve"}, s.flags...)...)
	if len(under) > 0 {
		env := cmd.Env
		cmd = exec.Command(under[0], slices.Concat(under[1:], cmd.Args)...)
		cmd.Env = env
	}
	s.began, s.url = time.Now(), ""
	s.life = process.Start(s.t, "belfry serve", cmd, listening)
}

// ready waits until the server takes requests.
func (s *server) ready() {
	s.t.Helper()
	s.url = s.life.Ready(s.ctx, s.t)[1]
}

func (s *server) run() {
	s.t.Helper()
	s.start()
	s.ready()
}

// kill is kill -9.
func (s *server) kill() {
	s.t.Helper()
	s.api.CloseIdleConnections()
	s.life.End(s.ctx, s.t, syscall.SIGKILL)
}

// stop is what systemd does; the server must end well.
func (s *server) stop() {
	s.t.Helper()
	s.api.CloseIdleConnections()
	if code := s.life.End(s.ctx, s.t, syscall.SIGTERM); code != 0 {
		s.t.Fatalf("belfry serve ended with %d after SIGTERM", code)
	}
}

// cli runs a command against the server and demands its exit code.
func (s *server) cli(code int, args ...string) string {
	s.t.Helper()
	got := run(s.ctx, s.t, belfry(s.t, append(args, "--data", s.data)...))
	if got.code != code {
		s.t.Fatalf("belfry %s: exit code %d, not %d\n%s%s", strings.Join(args, " "), got.code, code, got.out, got.err)
	}
	return got.out
}

// ask is one request of the operators' API.
func (s *server) ask(method, path string, in any) (status int, answer []byte) {
	s.t.Helper()
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			s.t.Fatal(err)
		}
	}
	return ask(s.t, s.api, method, "http://belfry"+path, body, nil)
}

// call is a request that must be answered with status.
func (s *server) call(status int, method, path string, in, out any) {
	s.t.Helper()
	got, answer := s.ask(method, path, in)
	if got != status {
		s.t.Fatalf("%s %s answers %d, not %d: %s", method, path, got, status, answer)
	}
	if out == nil {
		return
	}
	if err := json.Unmarshal(answer, out); err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
}

// attempt is a request that may be refused, or cut off by the end of the server;
// then its status is 0.
func (s *server) attempt(method, path string, in, out any) (status int) {
	s.t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		s.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(s.ctx, method, "http://belfry"+path, bytes.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	resp, err := s.api.Do(req)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	if json.NewDecoder(resp.Body).Decode(out) != nil {
		return 0
	}
	return resp.StatusCode
}

// key is what browsers subscribe with.
func (s *server) key() string {
	s.t.Helper()
	var config struct{ VapidPublicKey string }
	_, answer := ask(s.t, anyServer, http.MethodGet, s.url+"/v1/config", nil, nil)
	if err := json.Unmarshal(answer, &config); err != nil {
		s.t.Fatal(err)
	}
	return config.VapidPublicKey
}

// join registers n browsers of a push service as an import does, for channel,
// and returns their lines.
func (s *server) join(p *pushService, n int, channel string) [][]byte {
	s.t.Helper()
	lines := p.mint(n, s.key())
	s.load(lines, channel)
	return lines
}

// load imports lines.
func (s *server) load(lines [][]byte, channel string) {
	s.t.Helper()
	name := filepath.Join(temp(s.t), "lines")
	if err := os.WriteFile(name, bytes.Join(lines, []byte("\n")), 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.cli(0, "subscriptions", "import", name, "--channel", channel)
}

// launch rings a channel and returns the id of what is on disk by then.
func (s *server) launch(channel string, ttl int) string {
	s.t.Helper()
	var b broadcasts.Broadcast
	s.call(http.StatusAccepted, http.MethodPost, "/api/v1/broadcasts", launchOf(channel, ttl), &b)
	return b.ID
}

func launchOf(channel string, ttl int) map[string]any {
	return map[string]any{"message": map[string]any{"title": "The bell rings", "body": "and rings", "ttl": ttl},
		"audience": map[string]any{"channels": []string{channel}}}
}

// show is a broadcast as the API tells of it, which must add up.
func (s *server) show(id string) broadcasts.Broadcast {
	s.t.Helper()
	var b broadcasts.Broadcast
	s.call(http.StatusOK, http.MethodGet, "/api/v1/broadcasts/"+id, nil, &b)
	mustAddUp(s.t, "the API", id, b.Counts)
	return b
}

// finish waits for the end of a broadcast and returns how it is told of, in the
// same words by every way there is to ask (REL-27).
func (s *server) finish(id string) broadcasts.Broadcast {
	s.t.Helper()
	code := 0
	line := run(s.ctx, s.t, belfry(s.t, "broadcasts", "watch", id, "--data", s.data))
	b := s.show(id)
	switch {
	case b.State == broadcasts.Cancelled:
		code = 4
	case b.Counts.Failed > 0:
		code = 3
	}
	if want := fmt.Sprintf(": %d of %d accepted", b.Counts.Accepted, b.Counts.Targets); line.code != code || !strings.HasPrefix(line.out, id+" "+string(b.State)) || !strings.Contains(line.out, want) {
		s.t.Errorf("belfry broadcasts watch exits with %d and says %s%snot %d and %s", line.code, line.out, line.err, code, want)
	}
	var shown broadcasts.Broadcast
	if err := json.Unmarshal([]byte(s.cli(0, "broadcasts", "show", id, "--json")), &shown); err != nil {
		s.t.Fatal(err)
	}
	if shown.Counts != b.Counts {
		s.t.Errorf("belfry broadcasts show says %+v, the API %+v", shown.Counts, b.Counts)
	}
	return b
}

// send rings a channel by the command, which waits for the end.
func (s *server) send(channel string) broadcasts.Broadcast {
	s.t.Helper()
	var sent broadcasts.Broadcast
	if err := json.Unmarshal([]byte(s.cli(0, "send", "--channel", channel, "--title", "The bell rings", "--json")), &sent); err != nil {
		s.t.Fatal(err)
	}
	b := s.finish(sent.ID)
	if sent.Counts != b.Counts {
		s.t.Errorf("belfry send says %+v, and then it is %+v", sent.Counts, b.Counts)
	}
	return b
}

// ids are those of all subscriptions, in order of creation.
func (s *server) ids() (ids []string) {
	s.t.Helper()
	for path := "/api/v1/subscriptions?limit=1000"; ; {
		var page struct {
			Items []struct{ ID string }
			Next  *string
		}
		s.call(http.StatusOK, http.MethodGet, path, nil, &page)
		for _, item := range page.Items {
			ids = append(ids, item.ID)
		}
		if page.Next == nil {
			return ids
		}
		path = "/api/v1/subscriptions?limit=1000&after=" + url.QueryEscape(*page.Next)
	}
}

// registered is how many subscriptions there are.
func (s *server) registered() int {
	s.t.Helper()
	var got struct{ Count int }
	s.call(http.StatusOK, http.MethodGet, "/api/v1/subscriptions?count=1", nil, &got)
	return got.Count
}
