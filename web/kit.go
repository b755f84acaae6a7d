package web

import (
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"io/fs"
	"net/http"
	"path"
	"strings"

	"github.com/gin-gonic/gin"
)

//go:embed demo
var demo embed.FS

// kitPolicy binds the worker, which obeys the policy it came with: it talks to
// its own server and runs no script from elsewhere (BR-34, SEC-35).
const kitPolicy = "default-src 'self'; img-src *"

// demoPolicy is as strict as the kit claims to work under (BR-34).
const demoPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; " +
	"worker-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// kitRoutes serves the browser kit and, where it is wanted, the demo page.
func (s *Server) kitRoutes() []route {
	routes := filesOf(s.Kit, kitPolicy)
	if s.Demo {
		page, err := fs.Sub(demo, "demo")
		if err != nil {
			panic(err) // the folder is embedded
		}
		routes = append(routes, filesOf(page, demoPolicy)...)
	}
	return routes
}

// filesOf makes a route for each file of a folder; index.html stands at /.
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
		at := "/" + entry.Name()
		if entry.Name() == "index.html" {
			at = "/"
		}
		routes = append(routes, route{http.MethodGet, at, anyone, serveFile(entry.Name(), content, policy)})
	}
	return routes
}

// serveFile answers with a script or page that a browser must ask for anew each
// time (BR-32): a worker that is cached could not be mended.
func serveFile(name string, content []byte, policy string) func(*gin.Context) error {
	sum := sha256.Sum256(content)
	tag := `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`
	kind := contentType(name)
	return func(c *gin.Context) error {
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
