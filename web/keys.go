package web

import (
	"maps"
	"net/http"
	"slices"

	"github.com/gin-gonic/gin"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/keys"
)

// A KeyRow is a key and how many subscriptions need it. Beside the current one
// that is how far visitors have come over since it was made (WP-50).
type KeyRow struct {
	keys.Info
	Subscriptions int  `json:"subscriptions"`
	Of            int  `json:"of"`                // all that are registered
	Missing       bool `json:"missing,omitempty"` // rows were made with it, and it is not on the ring: they cannot be rung
}

func (s *Server) listKeys(c *gin.Context) error {
	uses, err := s.Subscriptions.Keys(c.Request.Context())
	if err != nil {
		return err
	}
	all := 0
	for _, n := range uses {
		all += n
	}
	var rows []KeyRow
	for _, k := range s.Keys.List() {
		rows = append(rows, KeyRow{Info: k, Subscriptions: uses[k.ID], Of: all})
		delete(uses, k.ID)
	}
	for _, id := range slices.Sorted(maps.Keys(uses)) {
		rows = append(rows, KeyRow{Info: keys.Info{ID: id}, Subscriptions: uses[id], Of: all, Missing: true})
	}
	answerAll(c, rows)
	return nil
}

// exportKey shows a private key, to whoever may open the socket.
func (s *Server) exportKey(c *gin.Context) error {
	id := c.Param("id")
	if id == "current" {
		id = ""
	}
	pair, err := s.Keys.Export(id)
	if err != nil {
		return err
	}
	s.Log.Info("a private VAPID key was exported", "key", c.Param("id"))
	c.Header("Cache-Control", "no-store")
	c.Data(http.StatusOK, "application/json", pair.JSON())
	return nil
}

// showSecret shows what others sign or check with, to whoever may open the socket.
func (s *Server) showSecret(what string, reveal func() string) func(*gin.Context) error {
	return func(c *gin.Context) error {
		s.Log.Info("the secret of " + what + " was shown")
		c.Header("Cache-Control", "no-store")
		c.JSON(http.StatusOK, gin.H{"secret": reveal()})
		return nil
	}
}

// addKey makes a new current key of an empty object, and imports the pair of a
// full one. An imported key is current while nobody is registered; later it only
// signs for the rows that were made with it, for nobody else subscribed to it.
func (s *Server) addKey(c *gin.Context) error {
	in, err := decode[map[string]jsontext.Value](c.Request.Body, maxPublish)
	if err != nil {
		return err
	}
	var info keys.Info
	if len(in) == 0 {
		info, err = s.Keys.Rotate()
	} else {
		info, err = s.importKey(c, in)
	}
	if err != nil {
		return err
	}
	s.Log.Info("VAPID key added", "key", info.ID, "current", info.Current)
	c.JSON(http.StatusCreated, info)
	return nil
}

func (s *Server) importKey(c *gin.Context, in map[string]jsontext.Value) (keys.Info, error) {
	for name := range in {
		if name != "publicKey" && name != "privateKey" {
			return keys.Info{}, belfry.Invalid("unknown-member", "body", "holds publicKey and privateKey, or nothing")
		}
	}
	pair, err := keys.ParsePair([]byte(`{"publicKey":` + or(in["publicKey"]) + `,"privateKey":` + or(in["privateKey"]) + `}`))
	if err != nil {
		return keys.Info{}, err
	}
	n, err := s.Subscriptions.Count(c.Request.Context(), belfry.Audience{All: true})
	if err != nil {
		return keys.Info{}, err
	}
	return s.Keys.Import(pair, n == 0)
}

func or(v jsontext.Value) string {
	if v == nil {
		return `""`
	}
	return string(v)
}
