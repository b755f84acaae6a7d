package web

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/broadcasts"
)

// maxPublish bounds an operator's message, in octets (SEC-41). It is four times
// what a push can carry, so that there is room for variants and that "too large"
// can name the measured size.
const maxPublish = 16 << 10

// launch starts a broadcast. 202 means that it is on disk.
func (s *Server) launch(c *gin.Context) error {
	in, err := decode[broadcasts.Request](c.Request.Body, maxPublish)
	if err != nil {
		return err
	}
	if err := caller(c).mayRing(in.Audience); err != nil {
		return err
	}
	if in.Key, err = keyOf(c); err != nil {
		return err
	}
	if dry, err := dryRun(c); err != nil {
		return err
	} else if dry {
		return s.estimate(c, in)
	}
	b, replayed, err := s.Broadcasts.Launch(c.Request.Context(), in)
	if err != nil {
		return err
	}
	if replayed {
		c.Header("Idempotent-Replayed", "true")
	}
	c.Header("Location", "/api/v1/broadcasts/"+b.ID)
	s.answerBroadcast(c, http.StatusAccepted, b)
	return nil
}

// dryRun reads ?dryRun=1. Whoever wrote it in another way does not want
// everybody to be rung, so all else is refused.
func dryRun(c *gin.Context) (bool, error) {
	q := c.Request.URL.Query()
	if dry := slices.Equal(q["dryRun"], []string{"1"}); len(q) == 0 || len(q) == 1 && dry {
		return dry, nil
	}
	return false, belfry.Invalid("dry-run", "query", "may hold nothing but dryRun=1")
}

// estimate answers what a launch would be.
func (s *Server) estimate(c *gin.Context, in broadcasts.Request) error {
	if err := unlimited(c); err != nil { // to count an audience takes as long as it is large
		return err
	}
	est, err := s.Broadcasts.Estimate(c.Request.Context(), in)
	if err != nil {
		return err
	}
	c.PureJSON(http.StatusOK, est)
	return nil
}

// keyOf reads the header Idempotency-Key; nil without one. An empty one is
// refused, and so are several: whoever sent them believes to be safe.
func keyOf(c *gin.Context) (*broadcasts.Key, error) {
	given, there := c.Request.Header["Idempotency-Key"]
	if !there {
		return nil, nil
	}
	key, err := broadcasts.NewKey(caller(c).name, strings.Join(given, " "))
	return key, belfry.At("Idempotency-Key", err)
}

// listBroadcasts answers from the newest on. A publisher sees its own channels'.
func (s *Server) listBroadcasts(c *gin.Context) error {
	limit, err := limitOf(c)
	if err != nil {
		return err
	}
	all, err := s.Broadcasts.List(c.Request.Context(), c.Query("after"), limit)
	if err != nil {
		return err
	}
	items := make([]broadcasts.Broadcast, 0, len(all))
	for _, b := range all {
		if caller(c).mayRing(b.Audience) == nil {
			items = append(items, b)
		}
	}
	var next *string
	if len(all) == limit {
		next = &all[limit-1].ID
	}
	c.PureJSON(http.StatusOK, gin.H{"items": s.withReceipts(c.Request.Context(), items...), "next": next})
	return nil
}

func (s *Server) showBroadcast(c *gin.Context) error {
	b, err := s.broadcast(c)
	if err != nil {
		return err
	}
	s.answerBroadcast(c, http.StatusOK, b)
	return nil
}

// broadcast returns the one that the path names, if the caller may see it. One
// that it may not see is answered like one that is not there.
func (s *Server) broadcast(c *gin.Context) (broadcasts.Broadcast, error) {
	b, err := s.Broadcasts.Get(c.Request.Context(), c.Param("id"))
	if err == nil && caller(c).mayRing(b.Audience) != nil {
		err = &belfry.Error{Kind: belfry.ErrNotFound, Code: "not-found", Text: "no such broadcast"}
	}
	return b, err
}

// ordered lets an operator change the state of a broadcast. The answer shows it
// as it is then.
func (s *Server) ordered(order func(ctx context.Context, id string) (broadcasts.Broadcast, error)) func(*gin.Context) error {
	return func(c *gin.Context) error {
		b, err := order(c.Request.Context(), c.Param("id"))
		if err != nil {
			return err
		}
		s.answerBroadcast(c, http.StatusOK, b)
		return nil
	}
}

// writeWithin is how long one event may take to leave: a reader that is stuck
// is let go, and asks again (SEC-45).
const writeWithin = 5 * time.Second

// beat is how often a stream says that it is still there. Proxies cut one that
// says nothing for 60 s (REL-26).
const beat = 15 * time.Second

// rightsEvery is how often it is looked at whether who reads a stream still may: a
// token that is revoked ends it (SEC-47).
const rightsEvery = time.Second

// watchBroadcast streams a broadcast's progress over server-sent events, from
// how it stands to its end.
func (s *Server) watchBroadcast(c *gin.Context) error {
	if _, err := s.broadcast(c); err != nil {
		return err
	}
	s.counts.watchers.Inc()
	defer s.counts.watchers.Dec()
	c.Header("Content-Type", "text/event-stream; charset=utf-8")
	c.Header("Cache-Control", "no-store, no-transform")
	c.Header("X-Accel-Buffering", "no")
	ctx, stop := context.WithCancel(c.Request.Context())
	events := s.progress(ctx, c.Param("id"))
	defer func() {
		stop()
		for range events {
		}
	}()
	silence, rights := time.NewTicker(beat), time.NewTicker(rightsEvery)
	defer silence.Stop()
	defer rights.Stop()
	for {
		var err error
		select {
		case e, more := <-events:
			if !more {
				return nil
			}
			err = say(c.Writer, e)
			silence.Reset(beat)
		case <-silence.C:
			err = say(c.Writer, ":\n\n")
		case <-rights.C:
			err = caller(c).still()
		}
		if err != nil {
			return nil // the reader has gone, or may not read any more
		}
	}
}

// progress is a broadcast as events, until it has ended or ctx has. What goes
// wrong ends it too: the stream has begun, and no more can be said.
func (s *Server) progress(ctx context.Context, id string) <-chan string {
	events := make(chan string)
	go func() {
		defer close(events)
		for b, err := range s.Broadcasts.Watch(ctx, id) {
			if err != nil {
				return
			}
			body, err := json.Marshal(s.withReceipts(ctx, b)[0])
			if err != nil {
				return
			}
			select {
			case events <- fmt.Sprintf("event: progress\ndata: %s\n\n", body):
			case <-ctx.Done():
				return
			}
		}
	}()
	return events
}

// say writes part of a stream.
func say(w http.ResponseWriter, text string) error {
	out := http.NewResponseController(w)
	if err := out.SetWriteDeadline(time.Now().Add(writeWithin)); err != nil {
		return err
	}
	io.WriteString(w, text)
	if err := out.Flush(); err != nil {
		return err
	}
	// Over HTTP/2 a deadline ends the stream when it passes, also while
	// nothing is being written: between events there is none.
	return out.SetWriteDeadline(time.Time{})
}

// limitOf reads ?limit=, from 1 to 1000, 100 by default.
func limitOf(c *gin.Context) (int, error) {
	raw := c.DefaultQuery("limit", "100")
	n, err := strconv.Atoi(raw)
	if err != nil || n < 1 || n > 1000 {
		return 0, belfry.Invalid("limit", "limit", "must be a number from 1 to 1000")
	}
	return n, nil
}
