package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"io/fs"
	"net/http"
	"path"
	"strings"

	"github.com/gin-gonic/gin"
)

// kitPolicy binds the worker, which obeys the policy it came with: it talks to
// its own server and runs no script from elsewhere (BR-34, SEC-35).
const kitPolicy = "default-src 'self'; img-src *"

// kitRoutes serves the browser kit.
func (s *Server) kitRoutes() []route { return filesOf(s.Kit, kitPolicy) }

// filesOf makes a route for each file of a folder.
func filesOf(folder fs.FS, policy string) (routes []route) {
	entries, err := fs.ReadDir(folder, ".")
	if err != nil {
		panic(err) // the folder is embedded
	}
	for _, entry := range entries {
		content, err := fs.ReadFile(folder, entry.Name())
		if err != nil {
			panic(err)
		}
		routes = append(routes, route{http.MethodGet, "/" + entry.Name(), anyone, serveFile(entry.Name(), content, policy)})
	}
	return routes
}

// serveFile answers with a script or page that a browser must ask for anew each
// time (BR-32): a worker that is cached could not be mended.
//
// It is compressed once, and each of its two forms has a tag of its own (RFC 9110 §8.8.3.3).
func serveFile(name string, content []byte, policy string) func(*gin.Context) error {
	sum := sha256.Sum256(content)
	hash := base64.RawURLEncoding.EncodeToString(sum[:12])
	kind, small := contentType(name), gzipped(content)
	return func(c *gin.Context) error {
		tag, content := `"`+hash+`"`, content
		c.Writer.Header().Add("Vary", "Accept-Encoding")
		if takesGzip(c.Request.Header) && len(small) < len(content) {
			tag, content = `"`+hash+`.gz"`, small
			c.Header("Content-Encoding", "gzip")
		}
		c.Header("Cache-Control", "no-cache")
		c.Header("Content-Security-Policy", policy)
		c.Header("Service-Worker-Allowed", "/")
		c.Header("ETag", tag)
		if strings.Contains(c.GetHeader("If-None-Match"), tag) {
			c.Status(http.StatusNotModified)
			return nil
		}
		c.Data(http.StatusOK, kind, content)
		return nil
	}
}

func gzipped(content []byte) []byte {
	var small bytes.Buffer
	zip, err := gzip.NewWriterLevel(&small, gzip.BestCompression)
	if err != nil {
		panic(err) // the level is one of gzip's own
	}
	zip.Write(content) // into memory: it cannot fail
	zip.Close()
	return small.Bytes()
}

// takesGzip reports whether a client names gzip and gives it weight (RFC 9110 §12.5.3).
func takesGzip(header http.Header) bool {
	for _, coding := range strings.Split(strings.Join(header.Values("Accept-Encoding"), ","), ",") {
		name, weight, _ := strings.Cut(strings.ReplaceAll(coding, " ", ""), ";")
		if strings.EqualFold(name, "gzip") {
			return strings.Trim(weight, "q=0.") != "" || weight == ""
		}
	}
	return false
}

// contentType does not ask the machine, whose tables differ: a worker with the
// wrong type is refused by every browser.
func contentType(name string) string {
	switch path.Ext(name) {
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".ts":
		return "text/plain; charset=utf-8"
	case ".webmanifest":
		return "application/manifest+json"
	case ".html":
		return "text/html; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".png":
		return "image/png"
	}
	panic("web: " + name + " has a type that nobody wrote down") // the files are embedded
}
