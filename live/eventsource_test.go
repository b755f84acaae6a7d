package live

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/belfry-push/belfry"
)

// A source reads a stream as a browser's EventSource does, by the letter of the
// HTML standard (sections 9.2.5 and 9.2.6).
type source struct {
	retry  int    // milliseconds, the last that the stream said; -1 before
	lastID string // what it would come back with
	events []Frame
}

// read reads a whole stream. What has no empty line behind it is discarded.
func (s *source) read(stream string) {
	stream = strings.TrimPrefix(strings.ToValidUTF8(stream, "\ufffd"), "\ufeff")
	var event, data string
	id := s.lastID
	for {
		end := strings.IndexAny(stream, "\r\n")
		if end < 0 {
			return
		}
		line := stream[:end]
		stream = strings.TrimPrefix(strings.TrimPrefix(stream[end:], "\r"), "\n") // CR, LF or both
		if line == "" {
			s.lastID = id
			if data != "" {
				s.events = append(s.events, Frame{Event: event, ID: id, Data: strings.TrimSuffix(data, "\n")})
			}
			event, data = "", ""
			continue
		}
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "event":
			event = value
		case "data":
			data += value + "\n"
		case "id":
			if !strings.Contains(value, "\x00") {
				id = value
			}
		case "retry":
			if digits.MatchString(value) {
				s.retry, _ = strconv.Atoi(value)
			}
		}
	}
}

var digits = regexp.MustCompile(`^[0-9]+$`)

// parsed is what a browser makes of a stream.
func parsed(stream string) []Frame {
	s := source{retry: -1}
	s.read(stream)
	return s.events
}

// The reader that all streams here are held against is a browser: it passes what
// web-platform-tests demand of one (eventsource/format-*).
func TestSource(t *testing.T) {
	message := func(data ...string) (events []Frame) {
		for _, d := range data {
			events = append(events, Frame{Data: d})
		}
		return events
	}
	for stream, want := range map[string]source{
		"\ufeffdata:1\n\n\ufeffdata:2\n\ndata:3\n\n":                  {retry: -1, events: message("1", "3")},
		"\ufeff\ufeffdata:1\n\ndata:2\n\n":                            {retry: -1, events: message("2")},
		"data:1\r:\x00\n:\r\ndata:2\n:long\rdata:3\n:data:fail\r\n\n": {retry: -1, events: message("1\n2\n3")},
		"retry:1000\ndata:1\n\nid:test\ndata:2":                       {retry: 1000, events: message("1")},
		"retry:1000\ndata:1\n\nid:test\ndata:2\n":                     {retry: 1000, events: message("1")},
		"data:\n\ndata\ndata\n\ndata:test\n\n":                        {retry: -1, events: message("", "\n", "test")},
		"event:test\ndata:x\n\ndata:x\n\n":                            {retry: -1, events: []Frame{{Event: "test", Data: "x"}, {Data: "x"}}},
		"event: \ndata:x\n\nevent:lost\n\n\n":                         {retry: -1, events: message("x")},
		"id:1\ndata:a\n\ndata:b\n\nid\ndata:c\n\n":                    {retry: -1, events: []Frame{{ID: "1", Data: "a"}, {ID: "1", Data: "b"}, {Data: "c"}}},
		"id:1\n\n":                        {retry: -1, lastID: "1"},
		"id:1\ndata:a\nid:2\x00\n\n":      {retry: -1, lastID: "1", events: []Frame{{ID: "1", Data: "a"}}},
		"retry:3000\nretry:1000x\n\n":     {retry: 3000},
		"retry\nretry:\nretry:-1\n\n":     {retry: -1},
		"data:\ttest\rdata: \ndata:x\n\n": {retry: -1, events: message("\ttest\n\nx")},
		"data:x\r\ndata\ndata:x\r\n\r\n":  {retry: -1, events: message("x\n\nx")},
		"data:x\r\ndata:y\r\r":            {retry: -1, events: message("x\ny")},
		"data:\x00\n\n\n\n":               {retry: -1, events: message("\x00")},
		"data:a\xe2\x82z\n\n":             {retry: -1, events: message("a\ufffdz")},
		"data:\x00\ndata:  2\rData:1\ndata\x00:2\ndata:1\r\x00data:4\nda-ta:3\rdata_5\ndata:3\rdata:\r\n data:32\ndata:4\n\n": {retry: -1, events: message("\x00\n 2\n1\n3\n\n4")},
		"data:x\n data\ndata\nfoobar:x\njusttext\n:comment\ndata:x\n\n":                                                       {retry: -1, events: message("x\n\nx")},
	} {
		got := source{retry: -1}
		got.read(stream)
		if got.retry != want.retry || want.lastID != "" && got.lastID != want.lastID || !slices.Equal(got.events, want.events) {
			t.Errorf("%q: %+v, want %+v", stream, got, want)
		}
	}
}

// ours are the lines that we write: no others, and none that only some readers
// understand (BR-62, SEC-48). An id has 32 octets at most; the standard's readers
// send it back in a header.
var ours = regexp.MustCompile(`^(event: (hello|ping|reset|bye)|id: [0-9a-z]+\.[0-9]{1,20}|retry: [1-9][0-9]{3,4}|data: \{.*\}|:|)$`)

// Whatever an operator says, in whatever channels, and whatever cursor a page
// makes up: a browser that reads the stream has these events and no others, with
// these texts, and would come back with our cursor alone (BR-62).
func FuzzStream(f *testing.F) {
	f.Add("01arz3ndektsv4rrffq69g5fav", "news", "Hello", "It rings.", `{"a":1}`, "k3v9000000.17", uint64(18))
	f.Add("", "", "", "", "", "", uint64(0))
	f.Add("x", "news", "a\rb\nc\r\nd", "\n\ndata: evil\n\nevent: bye\n\n", "{\r\n\"a\" :\t[ 1,\n2 ]\n}", "id\r\nid: evil", ^uint64(0))
	f.Add("x", "news", "\ufeffBOM", "NUL \x00, \u2028, \u2029, \u0085", `{"a":"\u000d"}`, "\x00", uint64(1))
	f.Add("x", "news", "\xff\xe2\x82", "</script>&", "null", "e.<script>", uint64(1))
	f.Fuzz(func(t *testing.T, id, channel, title, body, data, requested string, seq uint64) {
		e := belfry.Event{ID: id, Audience: belfry.Audience{Channels: []string{channel}}, Message: belfry.Message{Title: title, Body: body}}
		if json.Valid([]byte(data)) && utf8.ValidString(data) {
			e.Message.Data = json.RawMessage(data)
		}
		entry, err := newEntry(e)
		if err != nil {
			t.Fatal(err)
		}
		b := bounds{epoch: newEpoch(), head: seq}
		entry.seq = seq
		place := b.cursor(seq)
		stream := string(SSE.control(control{name: "hello", cursor: b.cursor(0), retry: comeBack(), members: hello{Cursor: b.cursor(0)}})) +
			string(SSE.control(control{name: "reset", cursor: b.cursor(0), members: newReset(Unknown, requested, b)})) + ":\n\n" +
			string(entry.form(SSE, b.epoch)) +
			string(SSE.control(control{name: "ping", cursor: place})) +
			string(SSE.control(goodbye(Slow)))

		if !utf8.ValidString(stream) {
			t.Errorf("not in UTF-8: %q", stream)
		}
		for _, line := range strings.Split(stream, "\n") {
			if len(line) > len("id: ")+32 && strings.HasPrefix(line, "id: ") || !ours.MatchString(line) {
				t.Errorf("this line is none of ours: %q", line)
			}
		}
		got := source{retry: -1}
		got.read(stream)
		var names []string
		for _, e := range got.events {
			names = append(names, e.Event+" "+e.ID)
		}
		want := fmt.Sprintf("[hello %[1]s reset %[1]s  %[2]s ping %[2]s bye %[2]s]", b.cursor(0), place)
		if fmt.Sprint(names) != want || got.lastID != place || got.retry < 1000 || got.retry > 12_000 {
			t.Fatalf("%q: %q, comes back from %q after %d ms; want %s", stream, names, got.lastID, got.retry, want)
		}
		said := members[struct {
			ID       string
			Channels []string
			Time     time.Time
			Cursor   string
			Message  belfry.Message
		}](got.events[2])
		// An octet that is not UTF-8 becomes U+FFFD; what operators say is checked for them.
		if said.ID != asUTF8(id) || said.Cursor != place || !slices.Equal(said.Channels, []string{asUTF8(channel)}) ||
			said.Message.Title != asUTF8(title) || said.Message.Body != asUTF8(body) || !alike(said.Message.Data, e.Message.Data) {
			t.Errorf("%+v became %+v", e, said)
		}
	})
}

func asUTF8(text string) string { return string([]rune(text)) }

// alike reports whether two JSON texts say the same.
func alike(a, b json.RawMessage) bool {
	var values [2]any
	for i, text := range []json.RawMessage{a, b} {
		if text != nil && json.Unmarshal(text, &values[i]) != nil {
			return false
		}
	}
	return fmt.Sprint(values[0]) == fmt.Sprint(values[1])
}
