package web

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/coder/websocket"
	"github.com/gin-gonic/gin"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/live"
)

// subprotocol is what we speak over WebSocket.
const subprotocol = "belfry.v1"

// A greeting is the first frame of a client. It has no other: what it wants of
// the stream later, it posts to its connection.
type greeting struct {
	Channels []string `json:"channels"`
	Cursor   string   `json:"cursor"`
	Token    string   `json:"token"`
}

// socket streams over WebSocket, for pages behind something that holds back streams.
func (s *Server) socket(c *gin.Context) error {
	// A page of any site may open a WebSocket: no browser asks us first (SEC-33).
	if origin := c.GetHeader("Origin"); origin != "" && !slices.Contains(s.Origins, origin) {
		return foreign()
	}
	u, err := s.user(c)
	if err != nil {
		return err
	}
	l, err := s.listener(c, u, nil)
	if err != nil {
		return err
	}
	release, err := s.Live.Hold(l)
	if err != nil {
		return s.refusal(c, err)
	}
	defer release()
	r := c.Request.Clone(c.Request.Context())
	r.Header.Del("Origin") // it was looked at, exactly; the library knows patterns only
	ws, err := websocket.Accept(c.Writer, r, &websocket.AcceptOptions{Subprotocols: []string{subprotocol}})
	if err != nil {
		return nil // which has answered
	}
	defer ws.CloseNow()
	if ws.Subprotocol() != subprotocol {
		ws.Close(websocket.StatusProtocolError, "the subprotocol is "+subprotocol)
		return nil
	}
	ws.SetReadLimit(maxOrder)
	in, err := greet(ws)
	if err == nil && in.Token != "" {
		u, err = s.proven(in.Token)
	}
	if err == nil {
		l, err = s.listener(c, u, in.Channels)
	}
	if err != nil {
		ws.Close(websocket.StatusPolicyViolation, asProblem(err).Code)
		return nil
	}
	release() // for the one that it takes now, as who it has proved to be
	reason, err := s.Live.Stream(ws.CloseRead(context.Background()), l, in.Cursor, live.Objects, &wire{Conn: ws, alive: time.Now()})
	s.ended(err)
	ws.Close(closeCode(reason, err), string(reason))
	return nil
}

// greet waits for the first frame, no longer than for a request's head (SEC-45).
func greet(ws *websocket.Conn) (in greeting, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, b, err := ws.Read(ctx)
	if err != nil {
		return in, belfry.Invalid("body", "body", "did not come")
	}
	return decode[greeting](bytes.NewReader(b), maxOrder)
}

// closeCode is why we close, in RFC 6455 (section 7.4.1) and IANA's list.
func closeCode(r live.Reason, err error) websocket.StatusCode {
	switch {
	case r == live.Slow, isRefusal(err):
		return websocket.StatusTryAgainLater
	case r == live.Auth:
		return websocket.StatusPolicyViolation
	case r != "":
		return websocket.StatusGoingAway
	case err != nil:
		return websocket.StatusInternalError
	}
	return websocket.StatusNormalClosure
}

// probeAfter is how long a peer is believed to be there. The hub writes at least
// every 30 s; a peer that is dead by then is noticed 5 s later.
const probeAfter = 15 * time.Second

// A wire carries frames over WebSocket.
type wire struct {
	*websocket.Conn
	alive time.Time // when the peer was last heard of
}

func (w *wire) Write(frames ...[]byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), writeWithin)
	defer cancel()
	for _, f := range frames {
		if err := w.Conn.Write(ctx, websocket.MessageText, f); err != nil {
			return err
		}
	}
	if time.Since(w.alive) < probeAfter {
		return nil
	}
	if err := w.Ping(ctx); err != nil {
		return errors.Join(errors.New("the peer does not answer a ping"), err)
	}
	w.alive = time.Now()
	return nil
}
