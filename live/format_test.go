package live

import (
	"bufio"
	"strings"
	"testing"
)

// parsed reads a stream as a browser does (HTML, section 9.2.6), and gives the
// events that it dispatches.
func parsed(stream string) (frames []Frame) {
	stream = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(stream)
	var f Frame
	var data []string
	id := ""
	for lines := bufio.NewReader(strings.NewReader(stream)); ; {
		line, err := lines.ReadString('\n')
		if err != nil {
			return frames
		}
		line = strings.TrimSuffix(line, "\n")
		if line == "" {
			if data != nil {
				f.ID, f.Data = id, strings.Join(data, "\n")
				frames = append(frames, f)
			}
			f, data = Frame{}, nil
			continue
		}
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "event":
			f.Event = value
		case "data":
			data = append(data, value)
		case "id":
			if !strings.Contains(value, "\x00") {
				id = value
			}
		}
	}
}

// Whatever is written, a browser reads what was meant: no text can end a field,
// begin another or come out as two events (BR-62).
func FuzzFrame(f *testing.F) {
	f.Add("", "k3v9.17", "{}")
	f.Add("ping", "a.1", "line\nline")
	f.Add("x", "y", "\r\n\r\ndata: evil\revent: bye\n\n")
	f.Add("a\nb", "c", "d")
	f.Add("", "1\x002", "\x00")
	f.Fuzz(func(t *testing.T, event, id, data string) {
		b, err := Frame{Event: event, ID: id, Data: data}.Append(nil)
		if bad := strings.ContainsAny(event+id, "\r\n\x00"); bad != (err != nil) || bad && len(b) > 0 {
			t.Fatalf("%q %q: %v, %q", event, id, err, b)
		}
		if err != nil {
			return
		}
		got := parsed(string(b) + string(b))
		want := Frame{Event: event, ID: id, Data: strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(data)}
		if len(got) != 2 || got[0] != want || got[1] != want {
			t.Fatalf("%+v became %+v by %q", want, got, b)
		}
	})
}

// What a page is told of the connection is the same in all formats: SSE has
// fields for the name, the place and the wait.
func TestControl(t *testing.T) {
	c := control{name: "hello", cursor: "e.1", retry: 1500, members: hello{Conn: "c", Cursor: "e.1", Earliest: "e.0", Ping: 25}}
	const members = `"conn":"c","cursor":"e.1","recovered":false,"earliest":"e.0","ping":25}`
	for f, want := range []string{
		SSE:     "event: hello\nid: e.1\nretry: 1500\ndata: {" + members + "\n\n",
		Lines:   `{"event":"hello",` + members + "\n",
		Objects: `{"event":"hello",` + members,
	} {
		if got := string(Format(f).control(c)); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	ping := control{name: "ping", cursor: "e.7"}
	if got := string(Lines.control(ping)); got != `{"event":"ping","cursor":"e.7"}`+"\n" {
		t.Errorf("%q", got)
	}
	if got := string(SSE.control(ping)); got != "event: ping\nid: e.7\ndata: {}\n\n" {
		t.Errorf("%q", got)
	}
	if _, err := (Frame{Retry: -1}).Append(nil); err == nil {
		t.Error("a negative wait")
	}
	if long := newReset(Unknown, strings.Repeat("x", 100), bounds{}); long.Requested != "" {
		t.Error("what is no cursor is said back")
	}
}
