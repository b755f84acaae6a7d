package web

import (
	"bufio"
	"encoding/json"
	"strings"
	"testing"

	"github.com/belfry-push/belfry"
)

// What leaves by the wire is what web-platform-tests have browsers read: no BOM in
// front, lines that LF ends, and an operator's line ends and NUL-like texts within
// one field (BR-62). live's FuzzStream reads it as a browser does; this is that
// nothing on the way to the wire adds to it.
func TestStreamOnTheWire(t *testing.T) {
	h := newHouse(t)
	s := h.listen(h.public, "GET", "/v1/events?channel=news", "")
	in := bufio.NewReader(s.Body)
	line := func() string {
		text, err := in.ReadString('\n')
		if err != nil || strings.ContainsAny(text, "\r\x00") {
			t.Fatalf("%q, %v", text, err)
		}
		return text
	}
	if got := line(); got != "event: hello\n" {
		t.Fatalf("it begins with %q", got)
	}
	want := belfry.Message{Title: "\ufeffOne\rTwo", Body: "a\r\nb\nc\r\rd\n\nevent: bye\ndata: {}\n\n\u2028"}
	text := must(json.Marshal(want))
	if got := h.do(h.socket, "POST", "/api/v1/broadcasts", `{"message":`+string(text)+`,"audience":`+newsAudience+`,"push":"never"}`); got.status != 202 {
		t.Fatal(got.status, got.body)
	}
	object := ""
	for !strings.HasPrefix(object, `{"id"`) {
		field, value, ok := strings.Cut(line(), ": ")
		if ok && field == "data" {
			object = value
		} else if ok && field != "id" && field != "retry" {
			t.Fatalf("%s: %s", field, value)
		}
	}
	var e struct{ Message belfry.Message }
	if err := json.Unmarshal([]byte(object), &e); err != nil || e.Message.Title != want.Title || e.Message.Body != want.Body {
		t.Errorf("%q, %v", object, err)
	}
	if got := line(); got != "\n" {
		t.Errorf("behind it, %q", got)
	}
}

// An EventSource of an allowed site may read the stream without credentials, and
// no other may. One that asks withCredentials is refused by its browser, since no
// answer allows it: there are no cookies here that a stranger could make use of (SEC-33).
func TestStreamAcrossOrigins(t *testing.T) {
	h := newHouse(t)
	for origin, allowed := range map[string]string{site: site, "https://evil.example": "", "null": "", "": ""} {
		headers := []string{"Cookie: session=1"}
		if origin != "" {
			headers = append(headers, "Origin: "+origin)
		}
		s := h.listen(h.public, "GET", "/v1/events?channel=news", "", headers...)
		s.until(`"conn":"`)
		if got := s.Header; got.Get("Access-Control-Allow-Origin") != allowed || got["Access-Control-Allow-Credentials"] != nil || got["Set-Cookie"] != nil || got.Get("Vary") != "Origin" {
			t.Errorf("%q: %v", origin, got)
		}
		// Behind its first connection EventSource sends its place in a header, for
		// which older browsers ask first.
		if origin == "" {
			continue
		}
		got := h.do(h.public, "OPTIONS", "/v1/events?channel=news", "", "Origin: "+origin, "Access-Control-Request-Method: GET", "Access-Control-Request-Headers: last-event-id")
		if may := strings.Contains(got.header.Get("Access-Control-Allow-Headers"), "last-event-id"); may != (allowed != "") || got.header["Access-Control-Allow-Credentials"] != nil {
			t.Errorf("%q asks: %d %v", origin, got.status, got.header)
		}
	}
}
