package web

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"
)

// Half an answer must not look whole: an export that ends in the middle, with
// an error behind it, would be taken for all there is.
func TestHalfAnAnswerBreaks(t *testing.T) {
	h := newHouse(t)
	e := h.web.engine()
	h.web.mount(e, []route{
		{http.MethodGet, "/error", anyone, func(c *gin.Context) error {
			io.WriteString(c.Writer, "half")
			return errors.New("the disk is on fire")
		}},
		{http.MethodGet, "/panic", anyone, func(c *gin.Context) error {
			io.WriteString(c.Writer, "half")
			panic("the disk is on fire")
		}},
	})
	s := h.serve(e)
	for _, path := range []string{"/error", "/panic"} {
		resp, err := s.Client().Get(s.URL + path)
		if err == nil {
			var got []byte
			got, err = io.ReadAll(resp.Body)
			resp.Body.Close()
			if strings.Contains(string(got), "problem") || strings.Contains(string(got), "internal") {
				t.Errorf("%s: an error follows what was written: %q", path, got)
			}
		}
		if err == nil {
			t.Errorf("%s looks whole", path)
		}
	}
	if n := strings.Count(h.log.String(), "the disk is on fire"); n != 2 {
		t.Errorf("the log has %d of 2 faults: %s", n, h.log)
	}
}

// Whatever can be got can be asked about: monitors ask with HEAD (RFC 9110 §9.1).
func TestHead(t *testing.T) {
	h := newHouse(t)
	h.web.Live.Close(t.Context()) // or a stream would not end
	for _, r := range h.web.publicRoutes() {
		if r.method != http.MethodGet {
			continue
		}
		get, head := h.do(h.public, "GET", r.path, ""), h.do(h.public, "HEAD", r.path, "")
		if head.status != get.status || head.body != "" || fmt.Sprint(head.header["Content-Type"]) != fmt.Sprint(get.header["Content-Type"]) {
			t.Errorf("HEAD %s: %d %q, GET %d", r.path, head.status, head.body, get.status)
		}
	}
}
