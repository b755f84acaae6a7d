package live

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/belfry-push/belfry"
)

// A Format is how events are written on a connection.
type Format uint8

const (
	SSE     Format = iota // server-sent events (HTML, section 9.2)
	Lines                 // one JSON object a line, application/x-ndjson
	Objects               // JSON objects, which a carrier frames itself: WebSocket

	formats
)

// event writes an event.
func (f Format) event(cursor string, object []byte) []byte {
	switch f {
	case SSE:
		b, _ := Frame{ID: cursor, Data: string(object)}.Append(nil) // a cursor is of [0-9a-z.]
		return b
	case Lines:
		return append(object, '\n')
	}
	return object
}

// control writes an event about the connection itself. SSE has a field for its
// name, its position and how long to stay away; elsewhere they are members.
func (f Format) control(c control) []byte {
	object := c.members
	if object == nil {
		object = struct{}{}
	}
	text, err := json.Marshal(object)
	if err != nil {
		panic(err) // they are our own structs of strings and numbers
	}
	if f == SSE {
		b, _ := Frame{Event: c.name, ID: c.cursor, Retry: c.retry, Data: string(text)}.Append(nil) // all of it is ours
		return b
	}
	head := `{"event":"` + c.name + `"`
	if c.name == "ping" {
		head += `,"cursor":"` + c.cursor + `"`
	}
	if len(text) > 2 {
		head += ","
	}
	text = append([]byte(head), text[1:]...)
	if f == Lines {
		text = append(text, '\n')
	}
	return text
}

// A control is an event about the connection itself.
type control struct {
	name    string
	cursor  string // a page that comes back goes on from here; may be empty
	retry   int    // milliseconds; 0 says nothing of it
	members any
}

// hello begins a stream.
type hello struct {
	Conn      string `json:"conn"`      // whoever knows it may post to the connection
	Cursor    string `json:"cursor"`    // the stream goes on from here
	Recovered bool   `json:"recovered"` // a cursor was given, and everything behind it follows
	Earliest  string `json:"earliest"`  // the log reaches back to here
	Ping      int    `json:"ping"`      // seconds between pings, on average
	Retry     int    `json:"retry"`     // milliseconds: when to come back if the stream is cut off
}

// reset says that something was missed for good.
type reset struct {
	Reason    Gap    `json:"reason"`
	Requested string `json:"requested"`
	Earliest  string `json:"earliest"`
	Latest    string `json:"latest"`
}

func newReset(g Gap, requested string, b bounds) reset {
	if len(requested) > maxRequested || strings.ContainsFunc(requested, func(r rune) bool { return r < ' ' || r > '~' }) {
		requested = "" // no cursor of ours; who sent it knows what it was
	}
	return reset{g, requested, b.cursor(b.floor), b.cursor(b.head)}
}

// maxRequested bounds what is said back of a cursor, in octets.
const maxRequested = 64

// expiring says that the stream ends unless a fresh proof comes.
type expiring struct {
	Left int `json:"left"` // seconds
}

// A Reason is why a stream is ended by the server.
type Reason string

const (
	Drain  Reason = "drain"   // the server stops
	MaxAge Reason = "max_age" // streams end now and then, so that a restart is nothing new
	Slow   Reason = "slow"    // it does not read
	Quota  Reason = "quota"   // too many are open
	Auth   Reason = "auth"    // the proof of who listens has expired, or was none
)

// bye is the last of a stream.
type bye struct {
	Reason Reason `json:"reason"`
	Retry  int    `json:"retry"` // milliseconds, as SSE has them: when to come back
}

func goodbye(r Reason) control {
	wait := comeBack()
	return control{name: "bye", retry: wait, members: bye{r, wait}}
}

// A Frame is one event of a stream in SSE.
type Frame struct {
	Event string // empty means message
	ID    string
	Retry int // milliseconds; 0 means none
	Data  string
}

// Append appends the frame to b. What ends a line or is NUL would end a field or
// void it, so neither can stand in a name or an id; data is split into lines,
// which the reader joins again (BR-62).
func (f Frame) Append(b []byte) ([]byte, error) {
	switch {
	case strings.ContainsAny(f.Event, "\r\n\x00"):
		return b, belfry.Invalid("text", "event", "must not hold CR, LF or NUL")
	case strings.ContainsAny(f.ID, "\r\n\x00"):
		return b, belfry.Invalid("text", "id", "must not hold CR, LF or NUL")
	case f.Retry < 0:
		return b, belfry.Invalid("text", "retry", fmt.Sprintf("must not be negative, as %d is", f.Retry))
	}
	if f.Event != "" {
		b = append(append(append(b, "event: "...), f.Event...), '\n')
	}
	if f.ID != "" {
		b = append(append(append(b, "id: "...), f.ID...), '\n')
	}
	if f.Retry > 0 {
		b = append(strconv.AppendInt(append(b, "retry: "...), int64(f.Retry), 10), '\n')
	}
	data := []byte(f.Data)
	for more := true; more; {
		var line []byte
		line, data, more = cutLine(data)
		b = append(append(append(b, "data: "...), line...), '\n')
	}
	return append(b, '\n'), nil
}

// cutLine cuts b behind its first line, which CR, LF or both end.
func cutLine(b []byte) (line, rest []byte, more bool) {
	i := bytes.IndexAny(b, "\r\n")
	if i < 0 {
		return b, nil, false
	}
	if bytes.HasPrefix(b[i:], []byte("\r\n")) {
		return b[:i], b[i+2:], true
	}
	return b[:i], b[i+1:], true
}
