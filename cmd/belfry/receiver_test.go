package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// A receiver is told how broadcasts ended. It checks signatures as Standard
// Webhooks 1.0.0 says, by itself.
type receiver struct {
	calls chan call

	mu      sync.Mutex // guards answers
	answers []int      // the last one stays
}

type call struct {
	header http.Header
	body   []byte
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, _ := io.ReadAll(req.Body)
	r.mu.Lock()
	status := r.answers[0]
	r.answers = r.answers[min(1, len(r.answers)-1):]
	r.mu.Unlock()
	w.WriteHeader(status)
	r.calls <- call{req.Header, body}
}

func (c call) signedWith(secret string) bool {
	text, prefixed := strings.CutPrefix(secret, "whsec_")
	key, err := base64.StdEncoding.DecodeString(text)
	at, notTime := strconv.ParseInt(c.header.Get("webhook-timestamp"), 10, 64)
	if err != nil || notTime != nil || !prefixed || time.Since(time.Unix(at, 0)).Abs() > 5*time.Minute {
		return false
	}
	mac := hmac.New(sha256.New, key)
	io.WriteString(mac, c.header.Get("webhook-id")+"."+c.header.Get("webhook-timestamp")+".")
	mac.Write(c.body)
	want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	return slices.Contains(strings.Fields(c.header.Get("webhook-signature")), want)
}

type receiversKey struct{}

func receivers(ts *testscript.TestScript) map[string]*receiver {
	return ts.Value(receiversKey{}).(map[string]*receiver)
}

// receive NAME STATUS…: a receiver of callbacks whose URL is in $NAME, and what
// it answers to one call after another, to the last for ever.
func cmdReceive(ts *testscript.TestScript, _ bool, args []string) {
	r := &receiver{calls: make(chan call, 100)}
	for _, text := range args[1:] {
		status, err := strconv.Atoi(text)
		ts.Check(err)
		r.answers = append(r.answers, status)
	}
	server := httptest.NewServer(r)
	ts.Defer(server.Close)
	receivers(ts)[args[0]] = r
	ts.Setenv(args[0], server.URL)
}

// called NAME FILE KEYFILE: the receiver's next call, which must be signed with
// the secret in KEYFILE. What was said is in FILE then, and its id in $called.
func cmdCalled(ts *testscript.TestScript, _ bool, args []string) {
	select {
	case c := <-receivers(ts)[args[0]].calls:
		if !c.signedWith(strings.TrimSpace(ts.ReadFile(args[2]))) {
			ts.Fatalf("it is not signed: %v\n%s", c.header, c.body)
		}
		ts.Check(os.WriteFile(ts.MkAbs(args[1]), c.body, 0o600))
		ts.Setenv("called", c.header.Get("webhook-id"))
	case <-time.After(within):
		ts.Fatalf("%s was not called", args[0])
	}
}
