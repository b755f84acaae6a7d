package web

import (
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/gin-gonic/gin"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/internal/id"
)

const (
	chatChannel = "demo-chat"
	maxChatLine = 200 // characters
	chatPerDay  = 500 // lines of one address
)

// chatLimit is faster than somebody writes who waits for an answer.
var chatLimit = Limit{N: 20, Per: time.Minute}

// chat tells a line to every page that listens to the chat, and rings nobody.
func (s *Server) chat(c *gin.Context) error {
	if err := s.limited(c, s.chatter); err != nil {
		return err
	}
	in, err := decode[struct {
		Text string `json:"text"`
	}](c.Request.Body, maxRegistration)
	if err != nil {
		return err
	}
	if err := checkLine(in.Text); err != nil {
		return err
	}
	_, err = s.Chat.Append(c.Request.Context(), belfry.Event{ID: id.New(), Time: time.Now(),
		Audience: belfry.Audience{Channels: []string{chatChannel}}, Message: belfry.Message{Title: "Chat", Body: in.Text}})
	if err != nil {
		return err
	}
	c.Status(http.StatusNoContent)
	return nil
}

// checkLine takes what is printed, and the joiners that hold emoji and Persian
// words together. What turns the direction of text could reach beyond its line.
func checkLine(text string) error {
	printed := func(r rune) bool { return unicode.IsPrint(r) || r == '\u200c' || r == '\u200d' }
	switch {
	case strings.TrimSpace(text) == "":
		return belfry.Invalid("text", "text", "must not be empty")
	case utf8.RuneCountInString(text) > maxChatLine:
		return belfry.Invalid("text", "text", fmt.Sprintf("must be at most %d characters", maxChatLine))
	case strings.ContainsFunc(text, func(r rune) bool { return !printed(r) }):
		return belfry.Invalid("text", "text", "must be one line of printable text")
	}
	return nil
}
