package pushtest

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/belfry-push/belfry"
)

// An Answer is what a test wants an endpoint to answer instead of its own
// judgement. It is given only to requests that pass the strict checks: a wrong
// request is refused whatever the script says. The zero Answer is the service's
// usual one.
type Answer struct {
	Status int           // default 201
	Header http.Header   // added to the answer
	Body   string        //
	Delay  time.Duration // before all else
	Fault  Fault         // instead of Status, Header and Body, or on top of them
}

// A Fault is a way for an answer to go wrong.
type Fault string

const (
	Hang          Fault = "hang"           // no answer, until the client gives up
	Reset         Fault = "reset"          // connection reset before the body is read: the message was certainly not taken
	ResetUnclear  Fault = "reset-unclear"  // the same after the whole body was read: the client cannot know
	CutAnswer     Fault = "cut-answer"     // connection reset in the middle of the answer's body
	EndlessHeader Fault = "endless-header" // header fields without end
	EndlessBody   Fault = "endless-body"   // Status, and a body without end
	Close         Fault = "close"          // the usual answer, then the connection is closed (GOAWAY in HTTP/2)
)

// checkAnswers refuses what could not be played.
func checkAnswers(answers []Answer) error {
	for i, a := range answers {
		switch a.Fault {
		case "", Hang, Reset, ResetUnclear, CutAnswer, EndlessHeader, EndlessBody, Close:
		default:
			return belfry.Invalid("answers", fmt.Sprintf("answers[%d]", i), fmt.Sprintf("%+q is not a fault", string(a.Fault)))
		}
		if a.Status != 0 && (a.Status < 200 || a.Status > 599) || a.Delay < 0 {
			return belfry.Invalid("answers", fmt.Sprintf("answers[%d]", i), "the status must be 200 to 599, and the delay not negative")
		}
	}
	return nil
}

// mustPlay is checkAnswers for a test, which has nowhere to take an error to.
func mustPlay(answers []Answer) {
	if err := checkAnswers(answers); err != nil {
		panic("pushtest: " + err.Error())
	}
}

// A script is a list of answers of which the last one stays.
type script struct {
	answers []Answer
	version int // a new script for all begins anew for everybody
}

// Answer scripts what the endpoint answers from now on: the answers in order,
// and then the last one for ever. Without answers it is itself again.
func (s *Service) Answer(e belfry.Endpoint, answers ...Answer) {
	mustPlay(answers)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mustKnow("Answer", e).script = script{answers: answers}
}

// AnswerAny scripts every endpoint that has no script of its own, each one as
// if Answer had been called for it.
func (s *Service) AnswerAny(answers ...Answer) {
	mustPlay(answers)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.any = script{answers: answers, version: s.any.version + 1}
}

// answer takes the next answer from the script that applies. With only given,
// it takes it only if it is that fault.
func (s *Service) answer(sub *subscription, only ...Fault) Answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	own := len(sub.script.answers) > 0
	list, at := sub.script.answers, 0
	if !own {
		if sub.anyOf != s.any.version {
			sub.anyOf, sub.anyPlayed = s.any.version, 0
		}
		list, at = s.any.answers, sub.anyPlayed
	}
	if len(list) == 0 {
		return Answer{}
	}
	at = min(at, len(list)-1)
	next := list[at]
	if len(only) > 0 && next.Fault != only[0] {
		return Answer{}
	}
	switch {
	case !own:
		sub.anyPlayed++
	case len(list) > 1:
		sub.script.answers = list[1:]
	}
	return next
}

// pause waits as a slow service does; false when the client or the service went away.
func (s *Service) pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
	case <-s.alive.Done():
	}
	return false
}

// abort cuts the connection without another word: a TCP reset in HTTP/1.1, a
// stream reset in HTTP/2.
func abort(w http.ResponseWriter) {
	if h, ok := w.(http.Hijacker); ok {
		if conn, _, err := h.Hijack(); err == nil {
			reset(conn)
			return
		}
	}
	panic(http.ErrAbortHandler)
}

func reset(conn net.Conn) {
	under := conn
	if t, ok := conn.(interface{ NetConn() net.Conn }); ok {
		under = t.NetConn()
	}
	if tcp, ok := under.(*net.TCPConn); ok {
		tcp.SetLinger(0) // makes Close send RST instead of FIN
	}
	under.Close()
}

// fail plays a fault that leaves no usable answer.
func (s *Service) fail(w http.ResponseWriter, r *http.Request, a Answer) {
	switch a.Fault {
	case Hang:
		select {
		case <-r.Context().Done():
		case <-s.alive.Done():
		}
		abort(w)
	case Reset, ResetUnclear:
		abort(w)
	case CutAnswer:
		a.write(w, cmp.Or(a.Status, http.StatusCreated), 1<<20)
		io.WriteString(w, "half a sentence and th")
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	case EndlessHeader:
		s.endlessHeader(r.Context(), w)
	case EndlessBody:
		a.write(w, cmp.Or(a.Status, http.StatusCreated), 0)
		s.endless(w, "and so on ")
	}
}

// write sends status and header fields; length promises a body.
func (a Answer) write(w http.ResponseWriter, status, length int) {
	for name, values := range a.Header {
		w.Header()[http.CanonicalHeaderKey(name)] = values
	}
	if length > 0 {
		w.Header().Set("Content-Length", fmt.Sprint(length))
	}
	w.WriteHeader(status)
}

// endlessHeader never comes to the end of the header. Go's server cannot send
// one piecemeal: over HTTP/1.1 we write to the connection ourselves, and over
// HTTP/2 we send interim answers, which a client must count as header too.
func (s *Service) endlessHeader(ctx context.Context, w http.ResponseWriter) {
	if h, ok := w.(http.Hijacker); ok {
		conn, _, err := h.Hijack()
		if err != nil {
			return
		}
		defer reset(conn)
		stop := context.AfterFunc(s.alive, func() { conn.Close() })
		defer stop()
		io.WriteString(conn, "HTTP/1.1 200 OK\r\n")
		s.endless(conn, "X-Endless: "+strings.Repeat("a", 1000)+"\r\n")
		return
	}
	w.Header().Set("X-Endless", strings.Repeat("a", 1000))
	for s.alive.Err() == nil && ctx.Err() == nil {
		w.WriteHeader(http.StatusEarlyHints)
	}
	panic(http.ErrAbortHandler)
}

// endless writes text until nobody takes it any more.
func (s *Service) endless(w io.Writer, text string) {
	chunk := []byte(strings.Repeat(text, 1+4096/len(text)))
	for s.alive.Err() == nil {
		if _, err := w.Write(chunk); err != nil {
			return
		}
	}
}
