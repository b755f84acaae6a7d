package web

import (
	"compress/gzip"
	"io"
	"net/http"
	"strings"
	"testing"
)

// The two forms of a file hold the same and never have one tag: a cache between
// us and a browser would hand the one out for the other.
func TestKitIsCompressed(t *testing.T) {
	h := newHouse(t)
	plain := h.do(h.public, "GET", "/sw.js", "", "Accept-Encoding: identity")
	small := h.do(h.public, "GET", "/sw.js", "", "Accept-Encoding: br, gzip")
	if got := small.header.Get("Content-Encoding"); got != "gzip" || plain.header.Get("Content-Encoding") != "" {
		t.Fatalf("encoded as %q, and plain as %q", got, plain.header.Get("Content-Encoding"))
	}
	opened := must(io.ReadAll(must(gzip.NewReader(strings.NewReader(small.body)))))
	if string(opened) != plain.body || len(small.body) > len(plain.body)/2 {
		t.Errorf("%d octets open to %d, and plain it has %d", len(small.body), len(opened), len(plain.body))
	}
	for _, one := range []struct {
		answer
		encoding string
	}{{plain, "identity"}, {small, "gzip"}} {
		if got := strings.Join(one.header.Values("Vary"), ", "); got != "Origin, Accept-Encoding" {
			t.Errorf("%s varies by %q", one.encoding, got)
		}
		for _, encoding := range []string{"identity", "gzip"} {
			want := http.StatusOK
			if encoding == one.encoding {
				want = http.StatusNotModified
			}
			if got := h.do(h.public, "GET", "/sw.js", "", "Accept-Encoding: "+encoding, "If-None-Match: "+one.header.Get("ETag")); got.status != want {
				t.Errorf("%s, which has the tag of %s, gets %d, not %d", encoding, one.encoding, got.status, want)
			}
		}
	}
}

// Whoever says that it cannot open gzip must not get it (RFC 9110 §12.5.3).
func TestWhoTakesGzip(t *testing.T) {
	for accept, want := range map[string]bool{
		"": false, "gzip": true, "GZIP": true, "br, gzip;q=0.5": true, "gzip ; q=1": true, "gzip;q=0": false, "gzip; q=0.000": false,
		"gzip;q=0.001": true, "identity": false, "x-gzipped": false, "deflate, br": false,
	} {
		if got := takesGzip(http.Header{"Accept-Encoding": {accept}}); got != want {
			t.Errorf("%q: %v", accept, got)
		}
	}
}
