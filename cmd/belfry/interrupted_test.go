package main

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// acting listens where a server would in dir, and answers as handler does: what
// a real server does only when something breaks.
func acting(t *testing.T, dir string, handler http.HandlerFunc) {
	t.Helper()
	data := filepath.Join(dir, "belfry-data")
	if err := os.MkdirAll(data, 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(data, "belfry.sock"))
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(handler)
	s.Listener.Close()
	s.Listener = l
	s.Start()
	t.Cleanup(s.Close)
}

const someID = "01k6zv3e6h3j5m7p9r1t3v5x7z"

func aBroadcast(state string) string {
	return fmt.Sprintf(`{"id":%q,"state":%q,"counts":{"targets":9,"pending":9}}`, someID, state)
}

// Ctrl-C while a broadcast runs leaves it running and tells how to find it
// again, wherever in its life it comes. An id that is lost is a broadcast that
// nobody can stop.
func TestInterruptedSendPrintsTheID(t *testing.T) {
	for name, when := range map[string]string{"during the launch": http.MethodPost, "while watching": http.MethodGet} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			ctx, interrupt := context.WithCancel(t.Context())
			acting(t, dir, func(w http.ResponseWriter, r *http.Request) {
				if r.Method == when {
					interrupt()
				}
				if r.Method == http.MethodPost {
					w.WriteHeader(http.StatusAccepted)
					fmt.Fprint(w, aBroadcast("running"))
					return
				}
				fmt.Fprintf(w, "event: progress\ndata: %s\n\n", aBroadcast("running"))
				w.(http.Flusher).Flush()
				<-r.Context().Done()
			})
			got := belfryIn(ctx, dir, "send", "--title", "t", "--all")
			if got.code != 0 || got.out != someID+"\n" || !strings.Contains(got.err, "belfry broadcasts watch "+someID) {
				t.Errorf("%+v", got)
			}
		})
	}
}

// Interrupted before it began, send sends nothing.
func TestInterruptedBeforeTheLaunch(t *testing.T) {
	dir := t.TempDir()
	acting(t, dir, func(http.ResponseWriter, *http.Request) { t.Error("it was launched") })
	ctx, interrupt := context.WithCancel(t.Context())
	interrupt()
	if got := belfryIn(ctx, dir, "send", "--title", "t", "--all"); got.code != exitFailed || got.err != "belfry: interrupted\n" || got.out != "" {
		t.Errorf("%+v", got)
	}
}

// A server that goes away while somebody watches must not look like a broadcast
// that is done.
func TestWatchLosesTheServer(t *testing.T) {
	dir := t.TempDir()
	acting(t, dir, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/events") {
			fmt.Fprintf(w, "data: %s\n\n", aBroadcast("running"))
			return
		}
		fmt.Fprint(w, aBroadcast("running"))
	})
	got := belfryIn(t.Context(), dir, "broadcasts", "watch", someID)
	if got.code != exitFailed || got.out != "" || !strings.HasPrefix(got.err, "belfry: lost sight of broadcast "+someID+": ") {
		t.Errorf("%+v", got)
	}
}

// Half an export must not be taken for the whole, or the other half is lost when
// it is imported elsewhere.
func TestExportCutOff(t *testing.T) {
	dir := t.TempDir()
	acting(t, dir, func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, `{"endpoint":"https://example.com/1"}`)
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	got := belfryIn(t.Context(), dir, "subscriptions", "export")
	if got.code != exitFailed || !strings.HasPrefix(got.err, "belfry: the export is not whole: ") {
		t.Errorf("%+v", got)
	}
}

// A list whose second page fails must not look like one that ends.
func TestListCutOff(t *testing.T) {
	dir := t.TempDir()
	acting(t, dir, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("after") {
			panic(http.ErrAbortHandler)
		}
		fmt.Fprint(w, `{"items":[{"id":"1"}],"next":"b"}`)
	})
	got := belfryIn(t.Context(), dir, "subscriptions", "list", "--json")
	if got.code != exitFailed || json.Valid([]byte(got.out)) {
		t.Errorf("%+v", got)
	}
	if got = belfryIn(t.Context(), dir, "subscriptions", "list"); got.code != exitFailed {
		t.Errorf("%+v", got)
	}
}

// An import whose server goes away has no sums, and one that stops says where.
func TestImportCutOff(t *testing.T) {
	for name, tt := range map[string]struct{ answer, out, err string }{
		"away":    {`{"line":1,"reason":"r"}` + "\n", "", "line 1: r\nbelfry: the server went away during the import\n"},
		"stopped": {`{"stopped":"the disk is full","line":7,"imported":5,"updated":0,"refused":1}` + "\n", "imported 5, updated 0, refused 1\n", "belfry: the import stopped at line 7: the disk is full\n"},
		"garbage": {"<html>\n", "", "belfry: the server's answer cannot be read: "},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			acting(t, dir, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, tt.answer) })
			got := belfryIn(t.Context(), dir, "subscriptions", "import", "-")
			if got.code != exitFailed || got.out != tt.out || !strings.HasPrefix(got.err, tt.err) {
				t.Errorf("%+v", got)
			}
		})
	}
}

// A backup that did not come whole, or holds what no backup holds, leaves
// nothing behind: a directory that is there is a backup that can be started.
func TestBackupOfNoUse(t *testing.T) {
	type file struct {
		name, text string
		kind       byte
	}
	const whole, early, late = 0, 1, 2 // when the connection breaks: late is behind the archive's end
	for name, tt := range map[string]struct {
		files []file
		cut   int
		want  string
	}{
		"cut off":      {[]file{{"belfry.db", "x", tar.TypeReg}}, early, "the server broke off"},
		"cut at end":   {[]file{{"belfry.db", "x", tar.TypeReg}, {"vapid.json", "{}", tar.TypeReg}, {"webhook.key", "x", tar.TypeReg}, {"user.key", "x", tar.TypeReg}}, early, "the server broke off"},
		"cut late":     {[]file{{"belfry.db", "x", tar.TypeReg}, {"vapid.json", "{}", tar.TypeReg}, {"webhook.key", "x", tar.TypeReg}, {"user.key", "x", tar.TypeReg}}, late, "the server broke off"},
		"no keys":      {[]file{{"belfry.db", "x", tar.TypeReg}}, whole, "the server sent no vapid.json"},
		"no secret":    {[]file{{"belfry.db", "x", tar.TypeReg}, {"vapid.json", "{}", tar.TypeReg}}, whole, "the server sent no webhook.key"},
		"no user key":  {[]file{{"belfry.db", "x", tar.TypeReg}, {"vapid.json", "{}", tar.TypeReg}, {"webhook.key", "x", tar.TypeReg}}, whole, "the server sent no user.key"},
		"nothing":      {nil, whole, "the server sent no belfry.db"},
		"outside":      {[]file{{"../vapid.json", "{}", tar.TypeReg}}, whole, `the server sent "../vapid.json"`},
		"root":         {[]file{{"/tmp/vapid.json", "{}", tar.TypeReg}}, whole, `the server sent "/tmp/vapid.json"`},
		"other":        {[]file{{"notes.txt", "x", tar.TypeReg}}, whole, `the server sent "notes.txt"`},
		"link":         {[]file{{"belfry.db", "", tar.TypeSymlink}}, whole, `the server sent "belfry.db"`},
		"directory":    {[]file{{"belfry.db", "", tar.TypeDir}}, whole, "which is no part of a backup"},
		"twice":        {[]file{{"belfry.db", "x", tar.TypeReg}, {"belfry.db", "x", tar.TypeReg}}, whole, `the server sent "belfry.db"`},
		"broken files": {[]file{{"belfry.db", "x", tar.TypeReg}, {"vapid.json", "{}", tar.TypeReg}, {"webhook.key", "x", tar.TypeReg}, {"user.key", "x", tar.TypeReg}}, whole, "the backup is of no use: "},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			acting(t, dir, func(w http.ResponseWriter, _ *http.Request) {
				out := tar.NewWriter(w)
				for _, f := range tt.files {
					out.WriteHeader(&tar.Header{Name: f.name, Size: int64(len(f.text)), Mode: 0o666, Typeflag: f.kind, Linkname: "/etc/passwd"})
					fmt.Fprint(out, f.text)
				}
				out.Flush()
				if tt.cut != early {
					out.Close()
				}
				w.(http.Flusher).Flush()
				if tt.cut != whole {
					panic(http.ErrAbortHandler)
				}
			})
			got := belfryIn(t.Context(), dir, "backup", filepath.Join(dir, "copies", "monday"))
			if got.code != exitFailed || got.out != "" || !strings.Contains(got.err, tt.want) {
				t.Errorf("%+v", got)
			}
			if left, err := os.ReadDir(filepath.Join(dir, "copies")); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

// A list is followed to its last page, and no further than --limit; a page too
// many would be a row twice, one too few a visitor overlooked.
func TestListFollowsPages(t *testing.T) {
	dir := t.TempDir()
	var asked []string
	acting(t, dir, func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		asked = append(asked, q.Get("after")+"/"+q.Get("limit"))
		next := map[string]string{"": `"b"`, "b": `"c"`, "c": "null"}[q.Get("after")]
		fmt.Fprintf(w, `{"items":[{"id":"1%s"},{"id":"2%s"}],"next":%s}`, q.Get("after"), q.Get("after"), next)
	})
	for _, tt := range []struct{ limit, ids, asked string }{
		{"0", "1 2 1b 2b 1c 2c", "/1000 b/1000 c/1000"},
		{"4", "1 2 1b 2b", "/4 b/2"},
		{"3", "1 2 1b", "/3 b/1"},
		{"2", "1 2", "/2"},
	} {
		asked = nil
		got := belfryIn(t.Context(), dir, "subscriptions", "list", "--limit", tt.limit).must(t)
		var ids []string
		for _, line := range strings.Split(strings.TrimSpace(got.out), "\n")[1:] {
			ids = append(ids, strings.Fields(line)[0])
		}
		if strings.Join(ids, " ") != tt.ids || strings.Join(asked, " ") != tt.asked {
			t.Errorf("--limit %s: %v, asked %v", tt.limit, ids, asked)
		}
	}
}

// What strangers wrote is shown in a terminal: it must not move the cursor,
// colour the screen or pretend to be another line (SEC-48).
func TestTablesShowNoControlCharacters(t *testing.T) {
	dir := t.TempDir()
	acting(t, dir, func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"items":[{"id":%q,"message":{"title":"a\u001b[31mb\nc\td\u202ee\u0007"}}],"next":null}`, someID)
	})
	got := belfryIn(t.Context(), dir, "broadcasts", "list").must(t)
	if lines := strings.Split(got.out, "\n"); len(lines) != 3 || strings.ContainsAny(got.out, "\x1b\a\t\u202e") || !strings.Contains(lines[1], "b c d") {
		t.Errorf("%q", got.out)
	}
}

// pushing is a push service that tells of each message that has arrived, and
// answers none before it is told to. Its CA is in ca.pem of dir.
func pushing(t *testing.T, dir string) (url string, arrived <-chan struct{}, answer chan<- struct{}) {
	t.Helper()
	in, out := make(chan struct{}, 1000), make(chan struct{})
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		in <- struct{}{}
		select {
		case <-out:
			w.WriteHeader(http.StatusCreated)
		case <-r.Context().Done():
		}
	}))
	s.EnableHTTP2 = true // over HTTP/1.1 only a few could be under way at a time
	s.StartTLS()
	t.Cleanup(s.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := os.WriteFile(filepath.Join(dir, "ca.pem"), ca, 0o600); err != nil {
		t.Fatal(err)
	}
	return s.URL, in, out
}

// ringing starts a server with n subscriptions at a push service, sends to all
// and returns once as many messages are under way as may be.
func ringing(t *testing.T, dir, push string, arrived <-chan struct{}, n, under int) (*process, string) {
	t.Helper()
	srv, _ := background(t, dir, "srv", "serve", "--listen", "127.0.0.1:0", "--push-host", strings.TrimPrefix(push, "https://"), "--push-ca", "ca.pem")
	var rows bytes.Buffer
	for i := range n {
		fmt.Fprintf(&rows, `{"endpoint":"%s/%024d","keys":{"p256dh":"BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4","auth":"BTBZMqHH6r4Tts7J_aSIgg"}}`+"\n", push, i)
	}
	name := filepath.Join(dir, "subscriptions.txt") // all have one key, which is no secret
	if err := os.WriteFile(name, rows.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	belfryIn(t.Context(), dir, "subscriptions", "import", name).must(t)
	id := strings.TrimSpace(belfryIn(t.Context(), dir, "send", "--title", "t", "--all", "--detach").must(t).out)
	for range under {
		select {
		case <-arrived:
		case <-time.After(within):
			t.Fatal("the messages did not arrive")
		}
	}
	return srv, id
}

// A restart in the middle of a broadcast loses nothing and repeats nothing: what
// push services were asked is waited for and counted, and the rest is asked by
// the next server.
func TestStopFinishesWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	const rows, perHost = 200, 128
	dir := t.TempDir()
	push, arrived, answer := pushing(t, dir)
	srv, id := ringing(t, dir, push, arrived, rows, perHost)
	srv.Process.Signal(syscall.SIGTERM)
	for got := (result{}); !strings.Contains(got.err, "the server is shutting down"); {
		got = belfryIn(t.Context(), dir, "send", "--title", "t", "--channel", "nobody", "--detach")
		if t.Context().Err() != nil || strings.Contains(got.err, "no server") {
			t.Fatalf("it has not waited: %+v", got)
		}
	}
	close(answer)
	if err := <-srv.exited; err != nil {
		t.Fatalf("it ended with: %v\n%s", err, srv.log.all())
	}
	if _, err := os.Stat(filepath.Join(dir, "belfry-data", "belfry.sock")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
	if more := len(arrived); more > 0 {
		t.Errorf("%d more were asked", more)
	}
	background(t, dir, "again", "serve", "--listen", "127.0.0.1:0", "--push-host", strings.TrimPrefix(push, "https://"), "--push-ca", "ca.pem")
	got := belfryIn(t.Context(), dir, "broadcasts", "watch", id)
	if want := fmt.Sprintf("%s done: %d of %d accepted\n", id, rows, rows); got.code != 0 || got.out != want {
		t.Errorf("%+v\nnot %s", got, want)
	}
	if more := len(arrived); more != rows-perHost {
		t.Errorf("after the restart %d were asked, and %d were left", more, rows-perHost)
	}
}

// A push service that never answers does not keep a server from stopping: ten
// seconds, and whoever waits for the restart has it.
func TestStopDoesNotWaitForever(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	push, arrived, _ := pushing(t, dir)
	srv, _ := ringing(t, dir, push, arrived, 3, 3)
	began := time.Now()
	if err := srv.stop(syscall.SIGTERM); err != nil {
		t.Fatalf("it ended with: %v\n%s", err, srv.log.all())
	}
	if took := time.Since(began); took > finishWithin+5*time.Second {
		t.Errorf("it took %s", took)
	}
}
