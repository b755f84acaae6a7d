package web

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/keys"
	"github.com/belfry-push/belfry/live"
)

// maxOrder bounds what a page says to a stream of its own, in octets (SEC-41).
const maxOrder = 8 << 10

// listener says who listens to what, as u or, where that is nil, as a stranger.
// It is the only place that does.
func (s *Server) listener(c *gin.Context, u *keys.User, channels []string) (live.Listener, error) {
	names, err := belfry.CheckChannels(channels)
	if err != nil {
		return live.Listener{}, err
	}
	if err := mayHear(u, names); err != nil {
		return live.Listener{}, err
	}
	l := live.Listener{Channels: names}
	if u != nil {
		l.User, l.Until = u.ID, u.Expires
	}
	l.From, err = shareOf(cmp.Or(c.ClientIP(), c.RemoteIP()))
	return l, err
}

// events streams to an EventSource. It cannot be told of overload by a status:
// it would stop for good (BR-64). So it is with a ticket that is no good, since
// it comes back by itself with the one that it has used.
func (s *Server) events(c *gin.Context) error {
	c.Header("Cache-Control", "no-store") // the refusals are 200, too
	u, err := s.user(c)
	if err != nil {
		return err
	}
	if ticket, given := c.GetQuery("ticket"); given {
		if u = s.tickets.use(ticket); u == nil {
			c.Data(http.StatusOK, streamType[live.SSE], live.Refused(live.SSE, live.ErrUnproven))
			return nil
		}
	}
	l, err := s.listener(c, u, c.QueryArray("channel"))
	if err != nil {
		return err
	}
	err = s.stream(c, l, cmp.Or(c.GetHeader("Last-Event-ID"), c.Query("last_event_id")), live.SSE)
	if isRefusal(err) {
		c.Data(http.StatusOK, streamType[live.SSE], live.Refused(live.SSE, err))
		return nil
	}
	return err
}

// streamEvents is the same for fetch, which reads a status, and may want lines of JSON.
func (s *Server) streamEvents(c *gin.Context) error {
	in, err := decode[struct {
		Channels []string `json:"channels"`
		Cursor   string   `json:"cursor"`
	}](c.Request.Body, maxOrder)
	if err != nil {
		return err
	}
	u, err := s.user(c)
	if err != nil {
		return err
	}
	l, err := s.listener(c, u, in.Channels)
	if err != nil {
		return err
	}
	format := live.SSE
	if strings.Contains(c.GetHeader("Accept"), "ndjson") {
		format = live.Lines
	}
	return s.refusal(c, s.stream(c, l, in.Cursor, format))
}

var streamType = map[live.Format]string{live.SSE: "text/event-stream; charset=utf-8", live.Lines: "application/x-ndjson; charset=utf-8"}

// stream streams until the page goes, or hands its connection over to the hub.
func (s *Server) stream(c *gin.Context, l live.Listener, cursor string, f live.Format) error {
	if err := s.Live.Room(l); err != nil {
		return err
	}
	c.Header("Content-Type", streamType[f])
	c.Header("Cache-Control", "no-store, no-transform") // or a proxy compresses it, and holds it back (BR-60)
	c.Header("X-Accel-Buffering", "no")
	if c.Request.Method == http.MethodHead {
		c.Status(http.StatusOK)
		return nil
	}
	if c.Request.ProtoMajor == 1 && c.Request.TLS == nil {
		if conn, _, err := c.Writer.Hijack(); err == nil {
			s.ended(s.Live.Keep(l, cursor, f, conn, head(c.Writer.Header())))
			return nil
		}
	}
	if err := unlimited(c); err != nil {
		return err
	}
	_, err := s.Live.Stream(c.Request.Context(), l, cursor, f, &response{c.Writer, http.NewResponseController(c.Writer)})
	if isRefusal(err) && !c.Writer.Written() {
		return err
	}
	s.ended(err)
	return nil
}

// ended logs why a stream broke, which mostly is a page that went.
func (s *Server) ended(err error) {
	if err != nil {
		s.Log.Debug("a stream broke", "err", err)
	}
}

// head is the answer's head on a connection that is taken over. Its end is the
// answer's: neither HTTP/1.0 proxies nor we have to count.
func head(h http.Header) []byte {
	var b bytes.Buffer
	h.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	h.Set("Connection", "close")
	b.WriteString("HTTP/1.1 200 OK\r\n")
	h.Write(&b)
	b.WriteString("\r\n")
	return b.Bytes()
}

// A response is an answer that is written a few frames at a time.
type response struct {
	gin.ResponseWriter
	out *http.ResponseController
}

func (r *response) Write(frames ...[]byte) error {
	if err := r.out.SetWriteDeadline(time.Now().Add(writeWithin)); err != nil {
		return err
	}
	for _, f := range frames {
		if _, err := r.ResponseWriter.Write(f); err != nil {
			return err
		}
	}
	if err := r.out.Flush(); err != nil {
		return err
	}
	// Over HTTP/2 a deadline ends the stream when it passes, also while nothing
	// is being written: between events there is none.
	return r.out.SetWriteDeadline(time.Time{})
}

func isRefusal(err error) bool {
	return errors.Is(err, live.ErrDraining) || errors.Is(err, live.ErrCrowded) || errors.Is(err, live.ErrTooMany)
}

// refusal is why nobody is let in, as a client that reads a status is told.
func (s *Server) refusal(c *gin.Context, err error) error {
	if !isRefusal(err) {
		return err
	}
	c.Header("Retry-After", strconv.Itoa(1+rand.IntN(12))) // not all in one moment (REL-11)
	const hint = "come back when Retry-After says"
	switch {
	case errors.Is(err, live.ErrCrowded):
		return &belfry.Error{Kind: belfry.ErrBusy, Code: "crowded", Text: "too many pages listen", Hint: hint}
	case errors.Is(err, live.ErrTooMany):
		return &belfry.Error{Kind: errTooMany, Code: "too-many", Text: "too many pages listen from this address, or of this user", Hint: hint}
	}
	return &belfry.Error{Kind: belfry.ErrBusy, Code: "stopping", Text: "the server is shutting down", Hint: hint}
}

const (
	usualWait = 25 // seconds that a poll waits, under what proxies wait for an answer
	maxWait   = 50
)

// maxLast bounds how far back a page can look at once.
const maxLast = 50

// poll answers what is new, or waits for it; with last, what was there before.
func (s *Server) poll(c *gin.Context) error {
	wait, err := strconv.Atoi(c.DefaultQuery("wait", strconv.Itoa(usualWait)))
	if err != nil || wait < 0 || wait > maxWait {
		return belfry.Invalid("wait", "wait", fmt.Sprintf("must be 0 to %d seconds", maxWait))
	}
	u, err := s.user(c)
	if err != nil {
		return err
	}
	l, err := s.listener(c, u, c.QueryArray("channel"))
	if err != nil {
		return err
	}
	c.Header("Cache-Control", "no-store")
	if last, given := c.GetQuery("last"); given {
		return s.pollLast(c, l, last)
	}
	if wait > 0 {
		if err := unlimited(c); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(c.Request.Context(), time.Duration(wait)*time.Second)
	defer cancel()
	answer, err := s.Live.Poll(ctx, l, c.Query("cursor"))
	if err != nil {
		return s.refusal(c, err)
	}
	if wait > 0 {
		if err := http.NewResponseController(c.Writer).SetWriteDeadline(time.Now().Add(writeWithin)); err != nil {
			return err
		}
	}
	c.Header("Belfry-Cursor", answer.Cursor)
	if len(answer.Messages) == 0 && answer.Reset == nil {
		c.Status(http.StatusNoContent)
		return nil
	}
	c.JSON(http.StatusOK, answer)
	return nil
}

// pollLast answers the last messages at once, also where there are none.
func (s *Server) pollLast(c *gin.Context, l live.Listener, last string) error {
	n, err := strconv.Atoi(last)
	if err != nil || n < 1 || n > maxLast {
		return belfry.Invalid("last", "last", fmt.Sprintf("must be 1 to %d messages", maxLast))
	}
	if c.Query("cursor") != "" {
		return belfry.Invalid("last", "last", "goes without a cursor")
	}
	answer, err := s.Live.Last(l, n)
	if err != nil {
		return s.refusal(c, err)
	}
	c.Header("Belfry-Cursor", answer.Cursor)
	c.JSON(http.StatusOK, answer)
	return nil
}

// maxAcks bounds how many messages a page acknowledges at once.
const maxAcks = 50

// order does what the holder of a stream wants of it: its id is 128 random bits.
func (s *Server) order(c *gin.Context) error {
	in, err := decode[struct {
		Ack         []string `json:"ack"`
		Visible     *bool    `json:"visible"`
		Subscribe   []string `json:"subscribe"`
		Unsubscribe []string `json:"unsubscribe"`
		Device      *struct {
			ID     string `json:"id"`
			Secret string `json:"secret"`
		} `json:"device"`
	}](c.Request.Body, maxOrder)
	if err != nil {
		return err
	}
	u, err := s.user(c)
	if err != nil {
		return err
	}
	l, err := s.listener(c, u, in.Subscribe)
	if err != nil {
		return belfry.At("subscribe", err)
	}
	if len(in.Ack) > maxAcks || slices.ContainsFunc(in.Ack, func(id string) bool { return len(id) != 26 }) {
		return belfry.Invalid("ack", "ack", fmt.Sprintf("must be at most %d message ids", maxAcks))
	}
	o := live.Order{Subscribe: l.Channels, Unsubscribe: in.Unsubscribe, Visible: in.Visible, Ack: in.Ack}
	if u != nil {
		o.Proof = &live.Proof{User: u.ID, Opens: u.Channels, Until: u.Expires}
	}
	if in.Device != nil {
		secret, err := belfry.ParseDeviceSecret(in.Device.Secret)
		if err != nil {
			return denied()
		}
		if err := s.Subscriptions.Authorize(c.Request.Context(), in.Device.ID, secret); err != nil {
			return err
		}
		o.Device = in.Device.ID
	}
	if err := s.Live.Obey(c.Param("conn"), o); err != nil {
		return err
	}
	c.Status(http.StatusNoContent)
	return nil
}
