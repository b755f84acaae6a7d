//go:build faults

package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

const pageSize = 4096

// A wound is one way to damage a file. It returns what is left of it.
type wound struct {
	name   string
	damage func(file []byte) []byte
}

// wounds are those of a file: of each kind of page so many, in each way a page
// breaks, and so many of the file as a whole.
func wounds(kinds map[string][]int, each int) (all []wound) {
	ways := map[string]func(page []byte){
		"a bit flipped": func(page []byte) { page[rand.N(len(page))] ^= 1 << rand.N(8) },
		"zeroed":        func(page []byte) { clear(page) },
		"torn":          func(page []byte) { clear(page[len(page)/2:]) },
		"garbage":       noise,
	}
	for kind, pages := range kinds {
		for way, hurt := range ways {
			for range each {
				all = append(all, wound{kind + " " + way, func(file []byte) []byte {
					at := pages[rand.N(len(pages))] * pageSize
					hurt(file[at : at+pageSize])
					return file
				}})
			}
		}
	}
	for range each {
		all = append(all,
			wound{"file cut short", func(file []byte) []byte { return file[:rand.N(len(file))] }},
			wound{"file cut to whole pages", func(file []byte) []byte { return file[:rand.N(len(file)/pageSize)*pageSize] }},
			wound{"file of noise", func(file []byte) []byte { noise(file); return file }},
			wound{"file of nothing", func([]byte) []byte { return nil }})
	}
	return all
}

func noise(b []byte) {
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
}

// pagesOf are the pages of the database by their kind, as bbolt names it; what
// follows the first page of a long record is overflow.
func pagesOf(t *testing.T, path string) map[string][]int {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Second, PreLoadFreelist: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	kinds := map[string][]int{"meta0": {0}, "meta1": {1}}
	err = db.View(func(tx *bbolt.Tx) error {
		for n := 2; ; n++ {
			p, err := tx.Page(n)
			if err != nil || p == nil {
				return err
			}
			if p.Type != "free" {
				kinds[p.Type] = append(kinds[p.Type], n)
				for range p.OverflowCount {
					n++
					kinds["overflow"] = append(kinds["overflow"], n)
				}
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return kinds
}

// What a reader of the API was told of a server's data, piece by piece. A piece
// that could not be read is missing.
type truth map[string]string

// tell asks the server for all it knows.
func (s *server) tell() truth {
	told := truth{}
	for _, path := range []string{"/api/v1/subscriptions/export", "/api/v1/subscriptions?count=1", "/api/v1/broadcasts", "/api/v1/keys"} {
		req, err := http.NewRequestWithContext(s.ctx, http.MethodGet, "http://belfry"+path, nil)
		if err != nil {
			panic(err)
		}
		resp, err := s.api.Do(req)
		if err != nil {
			continue
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err == nil && resp.StatusCode == http.StatusOK {
			told[path] = string(body)
		}
	}
	return told
}

// However a file is damaged, the server either refuses it in time, with advice,
// and leaves it and the key as they are, or it serves what is whole and says so
// of what is not. What is written into it is there at the next start, or is
// refused, or the server ends with advice. It does not hang or crash, and it never
// begins anew (REL-15).
func TestDamage(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*within)
	defer cancel()
	push := startPushService(ctx, t, "--tls")
	s := newServer(ctx, t, push)
	s.run()
	s.join(push, 1000, "news")
	s.finish(s.launch("news", 3600))
	tomorrow := time.Now().Add(24 * time.Hour).Format(time.RFC3339)
	for range 2 { // long ones lie on pages with overflow, until they have ended and are wiped
		s.cli(0, "send", "--channel", "news", "--title", "long", "--body", strings.Repeat("x", 2400), "--at", tomorrow)
	}
	whole, key := s.tell(), s.key()
	for range 2 { // commits that change nothing of it: the transaction before the last, which is what is left beside a damaged meta page, tells the same
		s.cli(0, "tokens", "new", "--name", "shop", "--role", "admin")
	}
	s.stop()
	file, err := os.ReadFile(filepath.Join(s.data, "belfry.db"))
	if err != nil {
		t.Fatal(err)
	}
	kinds := pagesOf(t, filepath.Join(s.data, "belfry.db"))
	for _, kind := range []string{"meta0", "meta1", "freelist", "branch", "leaf", "overflow"} {
		if len(kinds[kind]) == 0 {
			t.Fatalf("the file has no page of the kind %s", kind)
		}
	}

	all := wounds(kinds, size(1, 250))
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	all = all[:size(len(all)/2, len(all))]
	joiners := push.mint(size(len(all), len(all)/10), key) // in the full form, the others are only read
	ends, longest, reverted := map[string]int{}, time.Duration(0), 0
	var mu sync.Mutex // guards them
	var workers sync.WaitGroup
	var next atomic.Int64
	for range runtime.NumCPU() {
		workers.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(all); i = int(next.Add(1)) - 1 {
				w := all[i]
				wounded := w.damage(slices.Clone(file))
				reverts := strings.HasPrefix(w.name, "meta") && metasDiffer(wounded, file)
				var joiner []byte
				if i < len(joiners) {
					joiner = joiners[i]
				}
				end, took := s.tryWounded(w.name, wounded, joiner, whole, reverts)
				mu.Lock()
				ends[end]++
				longest = max(longest, took)
				if reverts && end != "refused" {
					reverted++
				}
				mu.Unlock()
			}
		})
	}
	workers.Wait()
	if *full && longest > 5*time.Second {
		t.Errorf("it took %s to know", longest)
	}
	t.Logf("REL-15: %d damaged files, %d of which were written into: %v; the longest took %d ms; %d with one damaged meta page, which the log and the doctor name",
		len(all), len(joiners), ends, longest.Milliseconds(), reverted)
}

// tryWounded starts a server on a damaged copy and returns what came of it and
// how long it took to be ready or to refuse.
func (s *server) tryWounded(name string, file, joiner []byte, whole truth, reverts bool) (end string, took time.Duration) {
	tr := s.try(file)
	took = tr.start()
	if reverts && tr.isReady() {
		tr.mustTellOfMeta()
	}
	end = tr.wounded(whole, joiner)
	// Keys have no checksum, nor has bbolt's tree: damage to those can hide rows
	// without a word. It is counted, and no more can be asked for without reading
	// the whole file at each start.
	if strings.HasPrefix(end, "wrong") || strings.HasPrefix(end, "lost") || end == "crashed" || end == "hung" {
		s.t.Errorf("%s: %s\n%s", name, end, tr.said)
	}
	tr.end()
	end, _, _ = strings.Cut(end, ":")
	return end, took
}

// wounded says how a server on a damaged file fares, which is written into if
// somebody joins.
func (tr *trial) wounded(whole truth, joiner []byte) string {
	if !tr.isReady() {
		if end := tr.refusal(); end != "" {
			return end
		}
		now, err := os.ReadFile(filepath.Join(tr.data, "belfry.db"))
		if err != nil || !bytes.Equal(now, tr.file) {
			return "wrong" // what was refused is left as it is
		}
		return "refused"
	}
	asked := time.Now()
	told := tr.tell()
	if joiner == nil {
		if time.Since(asked) > patience {
			return "hung"
		}
		return whole.judge(told, tr.said.String())
	}
	acknowledged := tr.writeInto(joiner)
	if time.Since(asked) > patience {
		return "hung"
	}
	tr.api.CloseIdleConnections()
	tr.cmd.Process.Signal(syscall.SIGTERM)
	if !tr.over(patience) {
		return "hung"
	}
	if tr.cmd.ProcessState.ExitCode() != 0 {
		if end := tr.refusal(); end != "" {
			return end
		}
		return "stopped" // when it was written to
	}
	said := tr.said.String()
	if end := tr.kept(acknowledged); end != "" {
		return end
	}
	return whole.judge(told, said)
}

// refusal is what is wrong with how a server ended that does not serve its file:
// nothing, where it ended with 1 and advice.
func (tr *trial) refusal() string {
	switch {
	case !tr.over(0):
		return "hung"
	case tr.cmd.ProcessState.ExitCode() != 1 || !strings.Contains(tr.said.String(), "\nhint: "):
		return "crashed"
	}
	return ""
}

// writeInto registers somebody, rings him and removes him whom the file begins
// with, and returns where what was acknowledged is.
func (tr *trial) writeInto(joiner []byte) (there []string) {
	tr.t.Helper()
	var got struct{ ID string }
	if tr.attempt(http.MethodPost, "/api/v1/subscriptions", rowOf(tr.t, joiner, "later"), &got) == http.StatusCreated {
		there = append(there, "/api/v1/subscriptions/"+got.ID)
	}
	if tr.attempt(http.MethodPost, "/api/v1/broadcasts", launchOf("later", 3600), &got) == http.StatusAccepted {
		there = append(there, "/api/v1/broadcasts/"+got.ID)
	}
	var page struct{ Items []struct{ ID string } }
	if tr.attempt(http.MethodGet, "/api/v1/subscriptions?limit=1", nil, &page) == http.StatusOK && len(page.Items) == 1 {
		tr.attempt(http.MethodDelete, "/api/v1/subscriptions/"+page.Items[0].ID, nil, &got)
	}
	return there
}

// kept starts the server once more, and says what is wrong with what it then has
// of what was acknowledged.
func (tr *trial) kept(acknowledged []string) string {
	tr.t.Helper()
	tr.start()
	if !tr.isReady() {
		if end := tr.refusal(); end != "" {
			return end
		}
		return "stopped"
	}
	defer func() {
		tr.cmd.Process.Kill()
		<-tr.ended
	}()
	for _, path := range acknowledged {
		var got struct{ ID string }
		if status := tr.attempt(http.MethodGet, path, nil, &got); status == http.StatusNotFound {
			return "lost: " + path
		}
	}
	return ""
}

// Where what bbolt keeps of a transaction stands on a meta page, with its checksum.
const metaFrom, metaTo = 16, 80

// metasDiffer reports whether a meta page of a damaged file is not what it was.
func metasDiffer(file, whole []byte) bool {
	for _, page := range []int{0, pageSize} {
		if len(file) < page+metaTo || !bytes.Equal(file[page+metaFrom:page+metaTo], whole[page+metaFrom:page+metaTo]) {
			return true
		}
	}
	return false
}

// mustTellOfMeta demands that log and doctor say that the transaction before is used.
func (tr *trial) mustTellOfMeta() {
	tr.t.Helper()
	const words = "damaged meta page"
	if !strings.Contains(tr.said.String(), words) {
		tr.t.Errorf("the log does not tell of the meta page: %s", tr.said)
	}
	if status, found := tr.ask(http.MethodPost, "/api/v1/doctor", nil); status != http.StatusOK || !strings.Contains(string(found), words) {
		tr.t.Errorf("the doctor does not tell of the meta page: %d %s", status, found)
	}
}

// pieces are the items of a list, or the lines of what is none.
func pieces(answer string) (all []string) {
	var list struct{ Items []json.RawMessage }
	if json.Unmarshal([]byte(answer), &list) != nil || list.Items == nil {
		return slices.Collect(strings.Lines(answer))
	}
	for _, item := range list.Items {
		all = append(all, string(item))
	}
	return all
}

// judge says what a server that serves a damaged file tells: all that is true,
// or less and that it is less, or less without a word; or what was never so.
func (whole truth) judge(told truth, log string) string {
	missing := false
	for what, was := range whole {
		is, answered := told[what]
		if !answered {
			missing = true
			continue
		}
		known, left := map[string]bool{}, map[string]bool{}
		for _, piece := range pieces(was) {
			known[piece], left[piece] = true, true
		}
		for _, piece := range pieces(is) {
			if !known[piece] {
				return "wrong: " + what
			}
			delete(left, piece)
		}
		if len(left) > 0 && !strings.Contains(log, "damaged and passed over") {
			return "silent"
		}
		missing = missing || len(left) > 0
	}
	if missing {
		return "told"
	}
	return "whole"
}
