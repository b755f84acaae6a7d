package web

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/belfry-push/belfry"
)

// A problem is an error as a client sees it (RFC 9457).
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	Code   string `json:"code"`
	Hint   string `json:"hint,omitempty"`
}

// statuses maps the kinds of error to HTTP. What is not here stays inside.
var statuses = []struct {
	kind   error
	status int
}{
	{belfry.ErrInvalid, http.StatusBadRequest},
	{belfry.ErrDenied, http.StatusUnauthorized},
	{errForbidden, http.StatusForbidden},
	{belfry.ErrNotFound, http.StatusNotFound},
	{errMethod, http.StatusMethodNotAllowed},
	{belfry.ErrConflict, http.StatusConflict},
	{belfry.ErrTooLarge, http.StatusRequestEntityTooLarge},
	{errMediaType, http.StatusUnsupportedMediaType},
	{errTooMany, http.StatusTooManyRequests},
	{belfry.ErrBusy, http.StatusServiceUnavailable},
	{belfry.ErrFull, http.StatusInsufficientStorage},
}

// Kinds of error that only exist over HTTP.
var (
	errForbidden = errors.New("forbidden")
	errMethod    = errors.New("method not allowed")
	errMediaType = errors.New("unsupported media type")
	errTooMany   = errors.New("too many requests")
)

// asProblem says what a client may know about err: everything of a
// [belfry.Error], which holds no secret by its promise, and nothing of others.
func asProblem(err error) problem {
	var e *belfry.Error
	if errors.As(err, &e) {
		for _, s := range statuses {
			if errors.Is(err, s.kind) {
				return problem{Type: "about:blank", Title: http.StatusText(s.status), Status: s.status, Detail: e.Error(), Code: e.Code, Hint: e.Hint}
			}
		}
	}
	const status = http.StatusInternalServerError
	return problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Code: "internal",
		Detail: "something went wrong on the server; its log says what"}
}

// refuse answers with err and logs what the client was not told. When an answer
// has begun already, the connection breaks: half of it must not look whole.
func (s *Server) refuse(c *gin.Context, err error) {
	p := asProblem(err)
	if p.Status == http.StatusInternalServerError {
		s.Log.Error("request failed", "route", c.FullPath(), "method", c.Request.Method, "err", err)
	}
	if c.Writer.Written() {
		panic(http.ErrAbortHandler)
	}
	body, _ := json.Marshal(p)
	c.Data(p.Status, "application/problem+json", body)
	c.Abort()
}
