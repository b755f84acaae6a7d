package live

import (
	"slices"
	"strings"
	"testing"
)

// Whatever is written, a browser reads what was meant: no text can end a field,
// begin another or come out as two events (BR-62).
func FuzzFrame(f *testing.F) {
	f.Add("", "k3v9.17", "{}", 0)
	f.Add("ping", "a.1", "line\nline", 1500)
	f.Add("x", "y", "\r\n\r\ndata: evil\revent: bye\n\n", 1)
	f.Add("a\nb", "c", "d", -1)
	f.Add("", "1\x002", "\x00", 1)
	f.Add("", "", "\ufeff\r", 1<<31-1)
	f.Fuzz(func(t *testing.T, event, id, data string, retry int) {
		b, err := Frame{Event: event, ID: id, Retry: retry, Data: data}.Append(nil)
		if bad := strings.ContainsAny(event+id, "\r\n\x00") || retry < 0; bad != (err != nil) || bad && len(b) > 0 {
			t.Fatalf("%q %q %d: %v, %q", event, id, retry, err, b)
		}
		if err != nil {
			return
		}
		got := source{}
		got.read(string(b) + string(b))
		utf8 := func(text string) string { return strings.ToValidUTF8(text, "\ufffd") }
		want := Frame{Event: utf8(event), ID: utf8(id), Data: utf8(strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(data))}
		if got.retry != retry || !slices.Equal(got.events, []Frame{want, want}) {
			t.Fatalf("%+v and %d became %+v by %q", want, retry, got, b)
		}
	})
}

// What a page is told of the connection is the same in all formats: SSE has
// fields for the name, the place and the wait.
func TestControl(t *testing.T) {
	c := control{name: "hello", cursor: "e.1", retry: 1500, members: hello{Conn: "c", Cursor: "e.1", Earliest: "e.0", Ping: 25, Retry: 1500}}
	const members = `"conn":"c","cursor":"e.1","recovered":false,"earliest":"e.0","ping":25,"retry":1500}`
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
