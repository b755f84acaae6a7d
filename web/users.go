package web

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/keys"
)

// userHeader brings a user token where Authorization may hold a device's secret.
const userHeader = "Belfry-User"

// user is who calls by Authorization: Bearer, or nil for a stranger.
func (s *Server) user(c *gin.Context) (*keys.User, error) {
	header := c.GetHeader("Authorization")
	if header == "" {
		return nil, nil
	}
	scheme, token, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return nil, unproven("Authorization must be Bearer and a user token", "leave it out where everybody may listen")
	}
	return s.proven(strings.TrimSpace(token))
}

// proven is whom a user token names. It is the only way to be somebody: a name in
// a body is never believed (SEC-11).
func (s *Server) proven(token string) (*keys.User, error) {
	u, err := s.UserKey.Check(token, s.Audience, time.Now())
	if err != nil {
		return nil, err
	}
	return &u, nil
}

// mayHear reports whether u, or a stranger, may hear channels, now or as a device.
func mayHear(u *keys.User, channels []string) error {
	for _, name := range channels {
		switch {
		case u.Opens(name):
		case u == nil:
			return unproven(fmt.Sprintf("%.80q is a private channel, and nobody has proved that they may listen", name), "send a user token of the site that opens it, or choose a name that does not begin with "+belfry.PrivatePrefix)
		default:
			return &belfry.Error{Kind: errForbidden, Code: "private-channel", Where: "channels", Text: fmt.Sprintf("%.80q is a private channel that the user token does not open", name),
				Hint: "let the site name it in channels of the token"}
		}
	}
	return nil
}

func unproven(text, hint string) error {
	return &belfry.Error{Kind: belfry.ErrDenied, Code: "unauthorised", Text: text, Hint: hint}
}

// ticket gives a ticket to whoever has a user token, for the one client that
// cannot send a header.
func (s *Server) ticket(c *gin.Context) error {
	u, err := s.user(c)
	if err != nil {
		return err
	}
	if u == nil {
		return unproven("a ticket is for who brings a user token", "send it as Authorization: Bearer")
	}
	text, expires, err := s.tickets.issue(*u)
	if err != nil {
		return s.refusal(c, err)
	}
	c.Header("Cache-Control", "no-store")
	c.JSON(http.StatusOK, gin.H{"ticket": text, "expires": expires.UTC().Truncate(time.Millisecond)})
	return nil
}
