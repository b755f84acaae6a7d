package h2

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2/hpack"
)

// A stream is one request and its answer. The connection's mu guards it until
// done is closed; from then on nobody writes to it.
type stream struct {
	id      uint32
	begun   time.Duration // since the connection's birth
	taken   int           // octets of the answer's body, with its padding
	rest    []byte        // of the body, that has not left
	window  int64         // octets that the server takes of it
	interim int           // answers that say that there will be one
	status  int           // 0 until there is an answer
	header  http.Header
	body    []byte
	err     error
	done    chan struct{}
}

func (st *stream) over() bool {
	select {
	case <-st.done:
		return true
	default:
		return false
	}
}

// response is what became of the stream. An answer that breaks off says what it
// has said: its status stands.
func (st *stream) response(req *http.Request) (*http.Response, error) {
	if st.status == 0 {
		return nil, st.err
	}
	body := io.ReadCloser(http.NoBody)
	if len(st.body) > 0 {
		body = io.NopCloser(bytes.NewReader(st.body))
	}
	return &http.Response{
		Status: strconv.Itoa(st.status) + " " + http.StatusText(st.status), StatusCode: st.status,
		Proto: "HTTP/2.0", ProtoMajor: 2, Header: st.header,
		Body: body, ContentLength: int64(len(st.body)), Request: req,
	}, nil
}

// header makes of fields what net/http makes of them.
func header(fields []hpack.HeaderField) http.Header {
	h := make(http.Header, len(fields))
	values := make([]string, len(fields)) // one piece for all
	for i, f := range fields {
		name := http.CanonicalHeaderKey(f.Name)
		values[i] = f.Value
		if h[name] == nil {
			h[name] = values[i : i+1 : i+1]
		} else {
			h[name] = append(h[name], f.Value)
		}
	}
	return h
}

// encode leaves the header block of a request in c.fields (RFC 9113 §8.3.1). An
// error leaves the connection as it was.
func (c *conn) encode(req *http.Request, length int) error {
	path := req.URL.RequestURI()
	size := len(path) + len(req.URL.Host)
	for name, values := range req.Header {
		if !httpguts.ValidHeaderFieldName(name) {
			return errors.New("h2: a header field's name is not valid")
		}
		for _, v := range values {
			if !httpguts.ValidHeaderFieldValue(v) {
				return fmt.Errorf("h2: the value of the header field %s is not valid", name)
			}
			size += len(name) + len(v) + 8
		}
	}
	if size > usualFrame/2 {
		return errors.New("h2: the header is too long")
	}
	c.fields.Reset()
	c.put(":method", req.Method)
	c.put(":scheme", "https")
	c.put(":authority", cmp.Or(req.Host, req.URL.Host))
	// A path is an endpoint: a secret, which no index on the way may keep (RFC 7541
	// §7.1.3), and which none would find again.
	c.encoder.WriteField(hpack.HeaderField{Name: ":path", Value: path, Sensitive: true})
	c.put("content-length", strconv.Itoa(length))
	for name, values := range req.Header {
		if name = lower(name); ofConnection[name] {
			continue
		}
		for _, v := range values {
			c.put(name, v)
		}
	}
	return nil
}

// ofConnection are fields of which HTTP/2 has its own, or none (RFC 9113 §8.2.2, §8.3.1).
var ofConnection = map[string]bool{"connection": true, "content-length": true, "host": true, "keep-alive": true,
	"proxy-connection": true, "transfer-encoding": true, "upgrade": true}

func (c *conn) put(name, value string) {
	c.encoder.WriteField(hpack.HeaderField{Name: name, Value: value})
}

// lower is a field's name as HTTP/2 has it.
func lower(name string) string {
	switch name { // those of every push message (RFC 8030 §5, RFC 8292 §2), for which nothing is made anew
	case "Authorization":
		return "authorization"
	case "Content-Encoding":
		return "content-encoding"
	case "Content-Type":
		return "content-type"
	case "TTL", "Ttl":
		return "ttl"
	case "Urgency":
		return "urgency"
	case "Topic":
		return "topic"
	}
	return strings.ToLower(name)
}
