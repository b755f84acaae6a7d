package web

import (
	"net/http"

	"github.com/gin-gonic/gin"
)

// backup streams everything that a server is made of, as a tar archive. When
// something fails, the connection breaks: half a backup must not look whole.
func (s *Server) backup(c *gin.Context) error {
	if err := unlimited(c); err != nil {
		return err
	}
	s.Log.Info("a backup is being made")
	c.Header("Content-Type", "application/x-tar")
	c.Header("Cache-Control", "no-store")
	if err := s.Backup(c.Writer); err != nil {
		s.Log.Error("the backup was cut off", "err", err)
		panic(http.ErrAbortHandler)
	}
	return nil
}
