package main

import (
	"bytes"
	"crypto/sha512"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"belfry": main})
}

// Each script is one story that an operator lives through; its first comment
// says what would go wrong for them. The commands that it knows besides those of
// testscript are below.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Values[startedKey{}] = map[string]*process{}
			e.Values[receiversKey{}] = map[string]*receiver{}
			e.Setenv("GORACE", raceOptions)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"start": cmdStart, "halt": cmdHalt, "slay": cmdSlay, "exits": cmdExits, "fetch": cmdFetch,
			"mint": cmdMint, "mode": cmdMode, "repeat": cmdRepeat, "leaks": cmdLeaks, "pick": cmdPick, "certify": cmdCertify,
			"answer": cmdAnswer, "await": cmdAwait, "damage": cmdDamage, "blot": cmdBlot, "join": cmdJoin, "write": cmdWrite,
			"receive": cmdReceive, "called": cmdCalled, "vouch": cmdVouch, "intact": cmdIntact,
		},
	})
}

// raceOptions keeps the race detector from waiting for a second at the end of
// every process. A race ends the process with a code that no script expects.
const raceOptions = "atexit_sleep_ms=10 exitcode=66"

// A process is a belfry that runs while the script goes on.
type process struct {
	*exec.Cmd
	log    *log
	exited chan error
}

type startedKey struct{}

func started(ts *testscript.TestScript) map[string]*process {
	return ts.Value(startedKey{}).(map[string]*process)
}

// A log is what a process wrote, and tells when a line has come.
type log struct {
	mu   sync.Mutex // guards what follows
	text []byte
	wait *regexp.Regexp
	seen chan string // gets what the first group of wait matches, once
	file *os.File
}

func (l *log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, b...)
	l.look()
	return l.file.Write(b)
}

// look tells who waits. The caller holds the lock.
func (l *log) look() {
	if l.wait == nil {
		return
	}
	if m := l.wait.FindSubmatch(l.text); m != nil {
		l.wait = nil
		l.seen <- string(m[1])
	}
}

// await returns a channel that gets the first group of pattern once a line is like it.
func (l *log) await(pattern *regexp.Regexp) <-chan string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wait, l.seen = pattern, make(chan string, 1)
	l.look()
	return l.seen
}

func (l *log) all() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.text)
}

var (
	listening = regexp.MustCompile(`(?m)^belfry: listening on (\S+)$`)
	operators = regexp.MustCompile(`operators can reach the server with a token","address":"([^"]+)"`)
)

// within is how long anything here may take: far more than it does.
const within = 30 * time.Second

// launch starts a belfry in dir, with its stderr in dir/NAME.log and its stdout
// in dir/NAME.out, and returns it with its URL once it is ready.
func launch(dir, name string, env []string, args ...string) (*process, string, error) {
	path, err := exec.LookPath("belfry")
	if err != nil {
		return nil, "", err
	}
	file, err := os.OpenFile(filepath.Join(dir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, "", err
	}
	out, err := os.Create(filepath.Join(dir, name+".out"))
	if err != nil {
		return nil, "", err
	}
	l := &log{file: file}
	ready := l.await(listening)
	p := &process{exec.Command(path, args...), l, make(chan error, 1)}
	p.Dir, p.Env, p.Stdout, p.Stderr = dir, env, out, l
	if err := p.Start(); err != nil {
		return nil, "", err
	}
	go func() {
		p.exited <- p.Wait()
		out.Close()
		file.Close()
	}()
	select {
	case url := <-ready:
		return p, url, nil
	case err := <-p.exited:
		return nil, "", fmt.Errorf("%s ended before it was ready: %v\n%s", name, err, l.all())
	case <-time.After(within):
		p.Process.Kill()
		return nil, "", fmt.Errorf("%s was not ready in %s\n%s", name, within, l.all())
	}
}

// stop asks the process to end and returns how it did.
func (p *process) stop(signal os.Signal) error {
	p.Process.Signal(signal)
	select {
	case err := <-p.exited:
		return err
	case <-time.After(within):
		p.Process.Kill()
		return errors.New("it did not stop")
	}
}

// start [VAR=value…] NAME args…: a belfry in the background. When the line says
// so that it is ready, its URL is in $NAME, and the operators' address in $NAME_ops.
func cmdStart(ts *testscript.TestScript, _ bool, args []string) {
	env := []string{"PATH=" + ts.Getenv("PATH"), "HOME=" + ts.Getenv("HOME"), "TMPDIR=" + ts.Getenv("TMPDIR"), "GORACE=" + raceOptions}
	for len(args) > 0 && strings.Contains(args[0], "=") {
		env, args = append(env, args[0]), args[1:]
	}
	name := args[0]
	p, url, err := launch(ts.MkAbs("."), name, env, args[1:]...)
	ts.Check(err)
	started(ts)[name] = p
	ts.Setenv(name, url)
	if m := operators.FindSubmatch(p.log.all()); m != nil {
		ts.Setenv(name+"_ops", string(m[1]))
	}
	ts.Defer(func() {
		if started(ts)[name] == p {
			finish(ts, name, syscall.SIGKILL)
		}
	})
}

// finish ends a process and looks for secrets in what it wrote.
func finish(ts *testscript.TestScript, name string, signal os.Signal) error {
	p := started(ts)[name]
	if p == nil {
		ts.Fatalf("%s is not running", name)
	}
	delete(started(ts), name)
	err := p.stop(signal)
	if leaked := leaks(ts.Getenv("WORK"), p.log.all()); leaked != "" {
		ts.Fatalf("the log of %s holds %s\n%s", name, leaked, p.log.all())
	}
	return err
}

// await NAME REGEXP: until the log of NAME holds a match.
func cmdAwait(ts *testscript.TestScript, _ bool, args []string) {
	l := started(ts)[args[0]].log
	select {
	case <-l.await(regexp.MustCompile("(" + args[1] + ")")):
	case <-time.After(within):
		ts.Fatalf("nothing in the log of %s is like %s\n%s", args[0], args[1], l.all())
	}
}

// halt NAME: SIGTERM, and it must end well.
func cmdHalt(ts *testscript.TestScript, neg bool, args []string) {
	if err := finish(ts, args[0], syscall.SIGTERM); (err != nil) != neg {
		ts.Fatalf("%s ended with: %v", args[0], err)
	}
}

// slay NAME: SIGKILL, as when the power fails.
func cmdSlay(ts *testscript.TestScript, _ bool, args []string) {
	finish(ts, args[0], syscall.SIGKILL)
}

// exits CODE [SECONDS] program args…: runs a program that must exit with CODE,
// and within SECONDS.
func cmdExits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	args = args[1:]
	most := within
	if seconds, err := strconv.ParseFloat(args[0], 64); err == nil {
		most, args = time.Duration(seconds*float64(time.Second)), args[1:]
	}
	began, got := time.Now(), 0
	var ended *exec.ExitError
	if err := ts.Exec(args[0], args[1:]...); errors.As(err, &ended) {
		got = ended.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("exit code %d, not %d", got, want)
	}
	if took := time.Since(began); took > most {
		ts.Fatalf("it took %s", took)
	}
}

// anyServer trusts every certificate: what is fetched is the test's own.
var anyServer = &http.Client{Timeout: within, Transport: &http.Transport{
	TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}}

// fetch [-status N] [-header 'Name: value']… METHOD URL OUT [BODY]: one request.
// OUT gets the answer's body; BODY is a file.
func cmdFetch(ts *testscript.TestScript, _ bool, args []string) {
	want, header := 0, http.Header{}
	for strings.HasPrefix(args[0], "-") {
		switch args[0] {
		case "-status":
			var err error
			want, err = strconv.Atoi(args[1])
			ts.Check(err)
		case "-header":
			name, value, _ := strings.Cut(args[1], ": ")
			header.Set(name, value)
		default:
			ts.Fatalf("unknown flag %s", args[0])
		}
		args = args[2:]
	}
	var body io.Reader
	if len(args) > 3 {
		body = strings.NewReader(ts.ReadFile(args[3]))
	}
	req, err := http.NewRequest(args[0], args[1], body)
	ts.Check(err)
	req.Header = header
	resp, err := anyServer.Do(req)
	ts.Check(err)
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[2]), answer, 0o600))
	if want == 0 && resp.StatusCode >= 300 || want != 0 && resp.StatusCode != want {
		ts.Fatalf("%s: %s\n%s", args[1], resp.Status, answer)
	}
}

// intact FILE INTEGRITY: what a browser checks before it runs a script.
func cmdIntact(ts *testscript.TestScript, _ bool, args []string) {
	sum := sha512.Sum384([]byte(ts.ReadFile(args[0])))
	if got := "sha384-" + base64.StdEncoding.EncodeToString(sum[:]); got != args[1] {
		ts.Fatalf("%s is %s, not %s", args[0], got, args[1])
	}
}

// mint URL N FILE [KEY]: N subscriptions of the push service at URL, as browsers
// would make them, with the server's key.
func cmdMint(ts *testscript.TestScript, _ bool, args []string) {
	url := args[0] + "/pushtest/subscriptions?count=" + args[1]
	if len(args) > 3 {
		url += "&applicationServerKey=" + args[3]
	}
	cmdFetch(ts, false, []string{"POST", url, args[2]})
}

// answer URL ENDPOINT STATUS [DELAYMS]: what the push service at URL answers from
// now on, for one endpoint or, with "all", for every one.
func cmdAnswer(ts *testscript.TestScript, _ bool, args []string) {
	status, err := strconv.Atoi(args[2])
	ts.Check(err)
	answer := map[string]any{"status": status}
	if len(args) > 3 {
		delay, err := strconv.Atoi(args[3])
		ts.Check(err)
		answer["delayMs"] = delay
	}
	in := map[string]any{"answers": []any{answer}}
	if args[1] != "all" {
		in["endpoint"] = args[1]
	}
	body, err := json.Marshal(in)
	ts.Check(err)
	resp, err := anyServer.Post(args[0]+"/pushtest/answers", "application/json", bytes.NewReader(body))
	ts.Check(err)
	resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		ts.Fatalf("the push service takes no such answer: %s", resp.Status)
	}
}

// mode MODE FILE…: the files have exactly this mode.
func cmdMode(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args[1:] {
		info, err := os.Stat(ts.MkAbs(name))
		ts.Check(err)
		if got := fmt.Sprintf("%04o", info.Mode().Perm()); got != args[0] {
			ts.Fatalf("%s has mode %s", name, got)
		}
	}
}

// repeat TEXT N FILE: a message whose body is TEXT N times over.
func cmdRepeat(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	b, err := json.Marshal(map[string]string{"title": "t", "body": strings.Repeat(args[0], n)})
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[2]), b, 0o600))
}

// join OUT FILE…: OUT is the files one after another.
func cmdJoin(ts *testscript.TestScript, _ bool, args []string) {
	var all strings.Builder
	for _, name := range args[1:] {
		all.WriteString(ts.ReadFile(name))
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(all.String()), 0o600))
}

// write FILE TEXT: a file of one line, for text with variables in it.
func cmdWrite(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(args[1]+"\n"), 0o600))
}

// pick NAME FILE REGEXP: puts the first group that matches in FILE (or stdout,
// stderr) into $NAME.
func cmdPick(ts *testscript.TestScript, _ bool, args []string) {
	m := regexp.MustCompile(args[2]).FindStringSubmatch(ts.ReadFile(args[1]))
	if m == nil {
		ts.Fatalf("nothing in %s is like %s", args[1], args[2])
	}
	ts.Setenv(args[0], m[1])
}

// leaks FILE… (or stdout, stderr): with !, they hold no secret of any
// subscription or key that is a file of this script.
func cmdLeaks(ts *testscript.TestScript, neg bool, args []string) {
	for _, name := range args {
		if got := leaks(ts.Getenv("WORK"), []byte(ts.ReadFile(name))); (got != "") == neg {
			ts.Fatalf("%s holds: %q", name, got)
		}
	}
}

// leaks names the first secret of the files under dir that text holds.
func leaks(dir string, text []byte) string {
	for what, secret := range secrets(dir) {
		if bytes.Contains(text, []byte(secret)) {
			return what
		}
	}
	return ""
}

// secrets are all endpoints, browser keys, private VAPID keys and tokens in the
// files under dir: subscriptions in *.ndjson, key rings in vapid.json, tokens in
// *.token (SEC-20).
func secrets(dir string) map[string]string {
	found := map[string]string{}
	filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		text, _ := os.ReadFile(path)
		switch name := filepath.Base(path); {
		case filepath.Ext(name) == ".ndjson":
			for i, line := range bytes.Split(text, []byte("\n")) {
				var s struct {
					Endpoint string
					Keys     struct{ P256dh, Auth string }
				}
				if json.Unmarshal(line, &s) != nil || s.Keys.Auth == "" {
					continue
				}
				where := fmt.Sprintf(" of line %d in %s", i+1, name)
				// A push service's host is no secret: the path is.
				found["the endpoint"+where] = s.Endpoint[strings.LastIndexByte(s.Endpoint, '/')+1:]
				found["p256dh"+where], found["auth"+where] = s.Keys.P256dh, s.Keys.Auth
			}
		case name == "webhook.key":
			found["the secret of callbacks in "+path] = strings.TrimSpace(string(text))
		case name == "user.key":
			found["the secret of user tokens in "+path] = strings.TrimSpace(string(text))
		case name == "vapid.json":
			for _, m := range regexp.MustCompile(`"privateKey": "([^"]+)"`).FindAllSubmatch(text, -1) {
				found["a private key of "+path] = string(m[1])
			}
		case filepath.Ext(name) == ".token":
			found["the token of "+path] = strings.TrimSpace(string(text))
		}
		return nil
	})
	for what, secret := range found {
		if len(secret) < 16 {
			delete(found, what) // too short to mean anything
		}
	}
	return found
}
