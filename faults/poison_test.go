//go:build faults

package faults

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// A poison is one line of testdata/poison.jsonl: a message that could do harm.
type poison struct {
	Name    string          `json:"name"`
	Message json.RawMessage `json:"message"` // as a client means it
	Raw     string          `json:"raw"`     // or octet for octet, each character one octet
	Repeat  struct {        // in raw, what stands for itself many times
		What string `json:"what"`
		N    int    `json:"n"`
	} `json:"repeat"`
	Code string `json:"code"` // of the problem that it is refused with; accepted without
}

// octets are the message as it is sent.
func (p poison) octets() []byte {
	if p.Message != nil {
		return p.Message
	}
	raw := p.Raw
	if p.Repeat.N > 0 {
		raw = strings.ReplaceAll(raw, "§", strings.Repeat(p.Repeat.What, p.Repeat.N))
	}
	var b []byte
	for _, r := range raw {
		b = append(b, byte(r))
	}
	return b
}

func poisons(t *testing.T) (all []poison) {
	t.Helper()
	file, err := os.Open("testdata/poison.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		var p poison
		d := json.NewDecoder(bytes.NewReader(lines.Bytes()))
		d.DisallowUnknownFields()
		if err := d.Decode(&p); err != nil {
			t.Fatalf("%s: %v", lines.Bytes(), err)
		}
		all = append(all, p)
	}
	return all
}

// A message that could do harm is refused at the door in one sentence, or arrives
// as it was meant, by the API and by the command; the server is not moved by it (REL-13).
func TestPoison(t *testing.T) {
	rounds := size(1, 10)
	ctx, cancel := context.WithTimeout(t.Context(), 2*within)
	defer cancel()
	push := startPushService(ctx, t, "--tls")
	s := newServer(ctx, t, push)
	s.run()
	s.join(push, 1, "news")
	s.send("news")
	corpus := poisons(t)
	files, least := s.descriptors(), 0
	refused, arrived := 0, 0
	for round := range rounds {
		for n, p := range corpus {
			ways := []func(*server) (id, code, sentence string){p.byAPI}
			if round == 0 && n%size(12, 1) == 0 { // to start a command takes longer than all else
				ways = append(ways, p.byCommand)
			}
			for _, send := range ways {
				if s.swallow(push, p, send) {
					arrived++
				} else {
					refused++
				}
			}
		}
		if round == 0 {
			least = s.memory()
		}
	}
	most := s.memory()
	s.api.CloseIdleConnections()
	if most > least*3/2+8<<10 {
		t.Errorf("the server grew from %d to %d kB", least, most)
	}
	if now := s.descriptorsWithin(files + 5); now > files+5 {
		t.Errorf("%d descriptors are open, and %d were", now, files)
	}
	s.send("news")
	routines := s.goroutines()
	if routines > 60 {
		t.Errorf("%d goroutines are left", routines)
	}
	s.audit()
	t.Logf("REL-13: %d poison messages, %d times by the API and once by the command, in the small form some of them: %d refused in one sentence, %d arrived as they were meant; RssAnon %d to %d kB, goroutines %d",
		len(corpus), rounds, refused, arrived, least, most, routines)
}

// swallow sends a poison one way and reports whether it was accepted. Then it must
// have arrived.
func (s *server) swallow(push *pushService, p poison, send func(*server) (id, code, sentence string)) (accepted bool) {
	s.t.Helper()
	id, code, sentence := send(s)
	if code != p.Code || (id == "") != (p.Code != "") {
		s.t.Errorf("%s: id %q, code %q: %s", p.Name, id, code, sentence)
		return false
	}
	if id == "" {
		if sentence == "" || strings.ContainsAny(sentence, "\n\r\x00\x1b") || len(sentence) > 300 {
			s.t.Errorf("%s is refused with %q", p.Name, sentence)
		}
		return false
	}
	s.finishQuickly(id)
	var meant struct {
		Title, Body string
		Data        map[string]any
	}
	if err := json.Unmarshal(p.octets(), &meant); err != nil {
		s.t.Fatal(p.Name, err)
	}
	for _, r := range push.ledger() {
		if !bytes.Contains(r.Plaintext, []byte(id)) {
			continue
		}
		var got struct {
			Notification struct {
				Title, Body string
				Data        map[string]any
			}
		}
		if err := json.Unmarshal(r.Plaintext, &got); err != nil {
			s.t.Errorf("%s arrives as what is not JSON: %v", p.Name, err)
		}
		n := got.Notification
		delete(n.Data, "belfry")
		if n.Title != meant.Title || n.Body != meant.Body || len(n.Data)+len(meant.Data) > 0 && !reflect.DeepEqual(n.Data, meant.Data) {
			s.t.Errorf("%s arrives as %s", p.Name, r.Plaintext)
		}
		return true
	}
	s.t.Errorf("%s does not arrive", p.Name)
	return true
}

// byAPI launches it over HTTP.
func (p poison) byAPI(s *server) (id, code, sentence string) {
	body := append(append([]byte(`{"audience":{"channels":["news"]},"message":`), p.octets()...), '}')
	status, answer := ask(s.t, s.api, http.MethodPost, "http://belfry/api/v1/broadcasts", body, nil)
	var got struct{ ID, Code, Detail string }
	if err := json.Unmarshal(answer, &got); err != nil || status != http.StatusAccepted && status/100 != 4 {
		s.t.Errorf("%s is answered %d %s", p.Name, status, answer)
	}
	return got.ID, got.Code, got.Detail
}

// byCommand launches it by belfry send: data as --data, all else as a file. An
// error of a command shows no code, so it counts as the one that is expected.
func (p poison) byCommand(s *server) (id, code, sentence string) {
	name := filepath.Join(temp(s.t), "message")
	if err := os.WriteFile(name, p.octets(), 0o600); err != nil {
		s.t.Fatal(err)
	}
	args := []string{"--message", name}
	if data, found := strings.CutPrefix(string(p.octets()), `{"title":"t","data":`); found && strings.HasPrefix(data, "{") {
		args = []string{"--title", "t", "--data", strings.TrimSuffix(data, "}")}
	}
	got := run(s.ctx, s.t, belfry(s.t, append([]string{"send", "--channel", "news", "--detach", "--data", s.data}, args...)...))
	if got.code == 0 {
		return strings.TrimSpace(got.out), "", ""
	}
	sentence, _, _ = strings.Cut(strings.TrimPrefix(got.err, "belfry: "), "\nhint: ")
	if got.code > 2 {
		s.t.Errorf("%s: belfry send exits with %d: %s", p.Name, got.code, got.err)
	}
	return "", p.Code, strings.TrimSpace(sentence)
}
