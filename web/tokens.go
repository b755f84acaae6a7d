package web

import (
	"net/http"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/tokens"
)

// Bearer says who calls by the token in Authorization, and by nothing else: a
// token in a query would stand in every log on the way (SEC-16).
func (s *Server) Bearer(r *http.Request) (Identity, error) {
	for _, name := range []string{"access_token", "token"} {
		if r.URL.Query().Has(name) {
			return Identity{}, belfry.Invalid("token-in-query", name, "must not be in the query; send Authorization: Bearer, and revoke this token, since it may stand in a log")
		}
	}
	scheme, text, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return Identity{}, &belfry.Error{Kind: belfry.ErrDenied, Code: "unauthorised", Text: "this call needs Authorization: Bearer"}
	}
	info, err := s.Tokens.Check(r.Context(), tokens.Parse(strings.TrimSpace(text)))
	if err != nil {
		return Identity{}, err
	}
	if info.Role == tokens.Admin {
		return Identity{name: info.ID, role: admin}, nil
	}
	return Identity{name: info.ID, role: publisher, channels: info.Channels}, nil
}

// makeToken makes a token and shows it, this once.
func (s *Server) makeToken(c *gin.Context) error {
	type call struct {
		Name     string      `json:"name"`
		Role     tokens.Role `json:"role"`
		Channels []string    `json:"channels"`
		Expires  int64       `json:"expires"` // seconds from now; 0 means never
	}
	in, err := decode[call](c.Request.Body, maxPublish)
	if err != nil {
		return err
	}
	const tenYears = 10 * 365 * 24 * 3600
	if in.Expires < 0 || in.Expires > tenYears {
		return belfry.Invalid("expires", "expires", "must be 0 seconds, which means never, to ten years")
	}
	info, token, err := s.Tokens.Make(c.Request.Context(), in.Name, in.Role, in.Channels, time.Duration(in.Expires)*time.Second)
	if err != nil {
		return err
	}
	type shown struct {
		tokens.Info
		Token string `json:"token"`
	}
	s.Log.Info("token made", "id", info.ID, "name", info.Name, "role", info.Role)
	c.Header("Cache-Control", "no-store")
	c.JSON(http.StatusCreated, shown{info, token.Reveal()})
	return nil
}

func (s *Server) listTokens(c *gin.Context) error {
	list, err := s.Tokens.List(c.Request.Context())
	if err != nil {
		return err
	}
	answerAll(c, list)
	return nil
}

func (s *Server) revokeToken(c *gin.Context) error {
	if err := s.Tokens.Revoke(c.Request.Context(), c.Param("id")); err != nil {
		return err
	}
	s.Log.Info("token revoked", "id", c.Param("id"))
	c.Status(http.StatusNoContent)
	return nil
}

// answerAll answers a list that is never long enough for pages.
func answerAll[T any](c *gin.Context, items []T) {
	if items == nil {
		items = []T{}
	}
	c.JSON(http.StatusOK, gin.H{"items": items, "next": nil})
}
