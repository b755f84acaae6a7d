package web

import (
	"mime"
	"net/http"
	"slices"

	"github.com/gin-gonic/gin"

	"github.com/belfry-push/belfry"
)

// cors lets the allowed origins in, exactly, and nobody else: an origin is
// never reflected unseen and "null" is never allowed (SEC-33).
func (s *Server) cors(c *gin.Context) {
	c.Writer.Header().Add("Vary", "Origin")
	origin := c.GetHeader("Origin")
	allowed := slices.Contains(s.Origins, origin)
	if allowed {
		c.Header("Access-Control-Allow-Origin", origin)
		c.Header("Access-Control-Expose-Headers", "Belfry-Cursor, Retry-After")
	}
	if c.Request.Method != http.MethodOptions {
		c.Next()
		return
	}
	if !allowed {
		s.refuse(c, foreign())
		return
	}
	c.Header("Access-Control-Allow-Methods", "GET, POST, PUT, DELETE")
	c.Header("Access-Control-Allow-Headers", "authorization, content-type, last-event-id, belfry-user")
	c.Header("Access-Control-Max-Age", "600") // SEC-33: at most ten minutes, so that a change of the list is soon felt
	c.AbortWithStatus(http.StatusNoContent)
}

func foreign() error {
	return &belfry.Error{Kind: errForbidden, Code: "origin", Text: "this page's origin is not one that the server rings for",
		Hint: "start the server with --origin for that site"}
}

// browserWrite stops writes that a foreign page or a plain form could have sent
// (SEC-34): they need an allowed Origin and, where there is a body, JSON.
func (s *Server) browserWrite(c *gin.Context) {
	switch c.Request.Method {
	case http.MethodGet, http.MethodHead:
		c.Next()
		return
	}
	if !slices.Contains(s.Origins, c.GetHeader("Origin")) {
		s.refuse(c, foreign())
		return
	}
	kind, _, _ := mime.ParseMediaType(c.GetHeader("Content-Type"))
	if c.Request.Method != http.MethodDelete && kind != "application/json" {
		s.refuse(c, &belfry.Error{Kind: errMediaType, Code: "media-type", Text: "the body must be application/json"})
		return
	}
	c.Next()
}
