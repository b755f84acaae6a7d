package web

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/belfry-push/belfry"
)

// doctor looks at everything and answers what it found; with ?rebuild=1 it puts
// right what can be made anew first. With a million subscriptions it takes a
// minute, so it ends when nobody waits for the answer any more.
func (s *Server) doctor(c *gin.Context) error {
	rebuild := c.Query("rebuild")
	if rebuild != "" && rebuild != "1" {
		return belfry.Invalid("rebuild", "rebuild", "must be 1 or left out")
	}
	if err := unlimited(c); err != nil {
		return err
	}
	found, err := s.Doctor(c.Request.Context(), rebuild != "")
	if err != nil {
		return err
	}
	s.Log.Info("the doctor was here", "findings", len(found.Findings), "rebuild", rebuild != "")
	if found.Findings == nil {
		found.Findings = []belfry.Finding{}
	}
	c.JSON(http.StatusOK, found)
	return nil
}
