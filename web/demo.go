package web

import (
	"embed"
	"html/template"
	"io/fs"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"
)

var (
	//go:embed demo/index.html
	demoPage string
	//go:embed demo/*.js demo/*.css demo/*.png demo/*.webmanifest
	demoFiles embed.FS
)

// demoPolicy is as strict as the kit claims to work under (BR-34).
const demoPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; " +
	"worker-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// demoRoutes serves the demo page, where it is wanted, and what belongs to it.
func (s *Server) demoRoutes() []route {
	if !s.Demo {
		return nil
	}
	files, err := fs.Sub(demoFiles, "demo")
	if err != nil {
		panic(err) // the folder is embedded
	}
	routes := append(filesOf(files, demoPolicy), route{http.MethodGet, "/", anyone, s.showDemo()})
	if s.Chat != nil {
		routes = append(routes, route{http.MethodPost, "/demo/chat", anyone, s.chat})
	}
	return routes
}

// showDemo serves the page itself, which has a chat only where there is one.
func (s *Server) showDemo() func(*gin.Context) error {
	var page strings.Builder
	if err := template.Must(template.New("index.html").Parse(demoPage)).Execute(&page, struct{ Chat bool }{s.Chat != nil}); err != nil {
		panic(err) // the page is embedded
	}
	return serveFile("index.html", []byte(page.String()), demoPolicy)
}
