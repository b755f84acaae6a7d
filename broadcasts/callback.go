package broadcasts

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/belfry-push/belfry"
)

// A Caller tells somebody how a broadcast ended.
type Caller interface {
	// Call makes one try to hand over body, and returns the HTTP status that was
	// answered, or why there was no answer, without the callback's secrets. id is
	// the same at each try.
	Call(ctx context.Context, to belfry.Callback, id string, body []byte) (status int, err error)
}

const (
	// callFor is how long a callback is tried after its broadcast has ended.
	callFor = 24 * time.Hour

	// The first repetition comes soon, for a receiver that is just being restarted;
	// one that is down for longer is asked once an hour.
	firstRecall = 5 * time.Second
	lastRecall  = time.Hour

	// maxCalls bounds calls in flight, to all receivers together.
	maxCalls = 16
)

// callback checks the URL of a request; the zero Callback is none.
func (e *Engine) callback(raw string) (belfry.Callback, error) {
	switch {
	case raw == "":
		return belfry.Callback{}, nil
	case e.Caller == nil:
		return belfry.Callback{}, belfry.Invalid("callback", "callback", "this server calls nobody")
	}
	return e.CallbackHosts.Callback(raw)
}

// callBack tells a broadcast's receiver, if it has one, how it ended, beside all
// else that goes on. What the engine does not get to, the next one does.
func (e *Engine) callBack(l Launch, p Progress) {
	if l.Callback.Reveal() == "" || e.Caller == nil || e.open() != nil {
		return
	}
	until := time.Now().Add(callFor - e.Now().Sub(*p.Finished)) // by the monotonic clock
	c := &calling{engine: e, id: l.ID, to: l.Callback, until: until}
	go c.work()
}

// A calling is one callback's way to its receiver.
type calling struct {
	engine *Engine
	id     string
	to     belfry.Callback
	until  time.Time
	tries  int
}

// work calls until it was heard, or is given up, or the engine stops.
func (c *calling) work() {
	e := c.engine
	defer e.running.Done()
	for {
		select {
		case e.calls <- struct{}{}:
		case <-e.stop.Done():
			return
		}
		over := c.try()
		<-e.calls
		if over {
			return
		}
		select {
		case <-time.After(recall(c.tries)):
		case <-e.stop.Done():
			return
		}
	}
}

// try makes one call and reports whether it was the last (Standard Webhooks
// 1.0.0, Delivery success and failure).
func (c *calling) try() (last bool) {
	e := c.engine
	status, err := c.call()
	c.tries++
	log := e.Log.With("broadcast", c.id, "callback", c.to, "tries", c.tries, "status", status, "err", err)
	switch {
	case status/100 == 2:
		log.Info("callback delivered")
	case status == http.StatusGone:
		log.Warn("callback given up: its receiver wants none")
	case e.flight.Err() != nil:
		return true // it was cut off, and stays for the next start
	case time.Now().After(c.until):
		log.Error("callback given up: it could not be delivered for a day")
	default:
		if c.tries == 1 {
			log.Warn("a callback failed; it is tried again for a day")
		}
		return false
	}
	if err := e.Journal.Called(context.Background(), c.id); err != nil {
		e.Log.Error("cannot write down that a callback is over; it is called again after a restart", "broadcast", c.id, "err", err)
	}
	return true
}

// call tells the receiver what is on disk.
func (c *calling) call() (status int, err error) {
	defer func() {
		if recovered := recover(); recovered != nil {
			err = newCrash(recovered)
		}
	}()
	b, err := c.engine.Journal.Get(c.engine.flight, c.id)
	if err != nil {
		return 0, err
	}
	body, err := json.Marshal(b)
	if err != nil {
		return 0, err
	}
	return c.engine.Caller.Call(c.engine.flight, c.to, c.id, body)
}

// recall is how long to wait after the n-th try: about 5, 10, 20 s … 1 h, half
// of it by chance, so that what failed together does not come back together.
func recall(n int) time.Duration {
	most := min(firstRecall<<min(n-1, 16), lastRecall)
	return most/2 + rand.N(most/2)
}
