//go:build faults

package faults

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/belfry-push/belfry/internal/process"
	"github.com/belfry-push/belfry/sender/pushtest"
)

// A pushService is belfry pushservice while it runs.
type pushService struct {
	t   *testing.T
	url string
	ca  []byte // PEM
}

// startPushService starts one with flags, which are --tls or nothing.
func startPushService(ctx context.Context, t *testing.T, flags ...string) *pushService {
	t.Helper()
	ca := filepath.Join(temp(t), "ca.pem")
	running := process.Start(t, "belfry pushservice",
		belfry(t, append([]string{"pushservice", "--listen", "127.0.0.1:0", "--ca-out", ca}, flags...)...), listening)
	p := &pushService{t: t, url: running.Ready(ctx, t)[1]}
	var err error
	if p.ca, err = os.ReadFile(ca); err != nil {
		t.Fatal(err)
	}
	return p
}

const listening = `(?m)^belfry: listening on (\S+)$`

// host is what --push-host is given.
func (p *pushService) host() string { return strings.TrimPrefix(p.url, "https://") }

// anyServer trusts every certificate: what is asked is the test's own.
var anyServer = &http.Client{Timeout: within, Transport: &http.Transport{
	TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 16}}

func (p *pushService) ask(method, path string, body []byte) []byte {
	p.t.Helper()
	status, answer := ask(p.t, anyServer, method, p.url+path, body, nil)
	if status >= 300 {
		p.t.Fatalf("the push service answers %s %s with %d: %s", method, path, status, answer)
	}
	return answer
}

// ask makes one request and returns what was answered.
func ask(t *testing.T, client *http.Client, method, url string, body []byte, header http.Header) (int, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if header != nil {
		req.Header = header
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	return resp.StatusCode, answer
}

// mint makes n subscriptions with the server's key, one a line.
func (p *pushService) mint(n int, key string) [][]byte {
	p.t.Helper()
	lines := p.ask(http.MethodPost, fmt.Sprintf("/pushtest/subscriptions?count=%d&applicationServerKey=%s", n, key), nil)
	return bytes.Split(bytes.TrimSpace(lines), []byte("\n"))
}

// endpointOf is the endpoint of a line that mint made.
func endpointOf(t *testing.T, line []byte) string {
	t.Helper()
	var s struct{ Endpoint string }
	if err := json.Unmarshal(line, &s); err != nil || s.Endpoint == "" {
		t.Fatalf("no subscription: %s", line)
	}
	return s.Endpoint
}

func tokenOf(endpoint string) string { return endpoint[strings.LastIndexByte(endpoint, '/')+1:] }

// An answer is what a push service is told to answer; zero is its usual one.
type answer struct {
	Status  int            `json:"status,omitempty"`
	DelayMS int            `json:"delayMs,omitempty"`
	Fault   pushtest.Fault `json:"fault,omitempty"`
}

// answer scripts one endpoint, or with none all of them.
func (p *pushService) answer(endpoint string, answers ...answer) {
	p.t.Helper()
	body, err := json.Marshal(map[string]any{"endpoint": endpoint, "answers": answers})
	if err != nil {
		p.t.Fatal(err)
	}
	p.ask(http.MethodPost, "/pushtest/answers", body)
}

func (p *pushService) summary() (sum pushtest.Summary) {
	p.t.Helper()
	if err := json.Unmarshal(p.ask(http.MethodGet, "/pushtest/summary", nil), &sum); err != nil {
		p.t.Fatal(err)
	}
	return sum
}

// await waits until so many requests have come.
func (p *pushService) await(received int) {
	p.t.Helper()
	p.ask(http.MethodGet, fmt.Sprintf("/pushtest/summary?wait=60s&received=%d", received), nil)
}

// ledger is every request for delivery so far, in order.
func (p *pushService) ledger() (all []pushtest.Received) {
	p.t.Helper()
	lines := bufio.NewScanner(bytes.NewReader(p.ask(http.MethodGet, "/pushtest/ledger", nil)))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r pushtest.Received
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			p.t.Fatal(err)
		}
		all = append(all, r)
	}
	return all
}

// last is when the last request came.
func (p *pushService) last() time.Time {
	p.t.Helper()
	all := p.ledger()
	if len(all) == 0 {
		p.t.Fatal("nothing came")
	}
	return all[len(all)-1].Time
}
