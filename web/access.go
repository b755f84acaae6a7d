package web

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/gin-gonic/gin"

	"github.com/belfry-push/belfry"
)

// A role is the least that a caller must be. The zero value lets nobody in.
type role uint8

const (
	anyone    role = iota + 1
	publisher      // launch and watch, for its channels
	admin          // all, but private keys
	owner          // whoever may open the socket: private keys too
)

// An Identity is who calls.
type Identity struct {
	name     string // a token's id; whoever can open the socket is one caller
	role     role
	channels []string // with publisher: where it may ring

	still func() error // asks anew whether it may call at all
}

// Owner is whoever can open the Unix socket: its file mode is the credential.
func Owner(*http.Request) (Identity, error) { return Identity{name: "socket", role: owner}, nil }

const identityKey = "identity"

// identified asks who is calling before anything else is looked at.
func (s *Server) identified(identify func(*http.Request) (Identity, error)) gin.HandlerFunc {
	return func(c *gin.Context) {
		who, err := identify(c.Request)
		if err != nil {
			c.Header("WWW-Authenticate", `Bearer realm="belfry"`)
			s.refuse(c, err)
			return
		}
		r := c.Request
		who.still = func() error {
			_, err := identify(r)
			return err
		}
		c.Set(identityKey, who)
		c.Next()
	}
}

// allowed stops callers whose role is less than the route's.
func (s *Server) allowed(least role) gin.HandlerFunc {
	return func(c *gin.Context) {
		if least == 0 || least > anyone && caller(c).role < least {
			s.refuse(c, &belfry.Error{Kind: errForbidden, Code: "forbidden", Text: "this token may not do that"})
			return
		}
		c.Next()
	}
}

func caller(c *gin.Context) Identity {
	who, _ := c.Get(identityKey)
	id, _ := who.(Identity)
	return id
}

// mayRing reports whether the caller may ring the audience, or watch a broadcast to it.
func (i Identity) mayRing(a belfry.Audience) error {
	if i.role >= admin {
		return nil
	}
	if len(a.Channels) == 0 {
		return &belfry.Error{Kind: errForbidden, Code: "forbidden", Where: "audience", Text: "this token may ring channels only"}
	}
	for _, name := range a.Channels {
		if !slices.Contains(i.channels, name) {
			return &belfry.Error{Kind: errForbidden, Code: "forbidden", Where: "audience.channels", Text: fmt.Sprintf("this token may not ring %q", name)}
		}
	}
	return nil
}
