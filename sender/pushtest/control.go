package pushtest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/belfry-push/belfry"
)

// maxMint bounds one call; more subscriptions are more calls.
const maxMint = 100_000

// local refuses calls from web pages, which can reach a loopback address too:
// by a foreign Origin, or by a name of theirs that leads here.
func (s *Service) local(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, own, _ := strings.Cut(s.url, "://")
		host := (&url.URL{Host: r.Host}).Hostname()
		ip := net.ParseIP(host)
		ours := r.Host == own || host == "localhost" || ip != nil && ip.IsLoopback()
		if !ours || r.Header.Get("Origin") != "" {
			complain(w, http.StatusForbidden, errors.New("this is for tests and tools on this machine, not for web pages"))
			return
		}
		next(w, r)
	}
}

// mintOverHTTP is POST /pushtest/subscriptions.
func (s *Service) mintOverHTTP(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	count := 1
	if q.Has("count") {
		var err error
		if count, err = strconv.Atoi(q.Get("count")); err != nil || count < 1 || count > maxMint {
			complain(w, http.StatusBadRequest, fmt.Errorf("count must be 1 to %d", maxMint))
			return
		}
	}
	var rules []Rule
	for _, rule := range q["rule"] {
		rules = append(rules, Rule(rule))
	}
	minted, err := s.mint(count, q.Get("applicationServerKey"), rules)
	if err != nil {
		status := http.StatusInternalServerError
		if errors.Is(err, belfry.ErrInvalid) {
			status = http.StatusBadRequest
		}
		complain(w, status, err)
		return
	}
	lines := writeLines(w)
	defer lines.Flush()
	for _, sub := range minted {
		lines.write(sub.browserForm(s))
	}
}

// browserForm is what PushSubscription.toJSON() gives in a browser.
func (sub *subscription) browserForm(s *Service) belfry.PushSubscription {
	var p belfry.PushSubscription
	shown := sub.shown(s)
	p.Endpoint = shown.Endpoint.Reveal()
	p.Keys.P256dh = shown.P256dh.Reveal()
	p.Keys.Auth = shown.Auth.Reveal()
	return p
}

// forgetOverHTTP is DELETE /pushtest/browsers.
func (s *Service) forgetOverHTTP(w http.ResponseWriter, _ *http.Request) {
	s.Forget()
	w.WriteHeader(http.StatusNoContent)
}

// showLedger is GET /pushtest/ledger.
func (s *Service) showLedger(w http.ResponseWriter, _ *http.Request) {
	lines := writeLines(w)
	defer lines.Flush()
	for _, r := range s.Received() {
		lines.write(r)
	}
}

// clearLedger is DELETE /pushtest/ledger.
func (s *Service) clearLedger(w http.ResponseWriter, _ *http.Request) {
	s.ledger.clear()
	w.WriteHeader(http.StatusNoContent)
}

// showSummary is GET /pushtest/summary. With wait=<duration> it first waits
// until there are at least so many received, accepted, acknowledged, browsers
// and subscriptions as the query says, so that nobody has to poll.
func (s *Service) showSummary(w http.ResponseWriter, r *http.Request) {
	least, err := readLeast(r.URL.Query())
	if err != nil {
		complain(w, http.StatusBadRequest, err)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), least.wait)
	defer cancel()
	defer context.AfterFunc(s.alive, cancel)()
	sum, err := s.Await(ctx, least.reached)
	w.Header().Set("Content-Type", "application/json")
	if err != nil && least.wait > 0 {
		w.WriteHeader(http.StatusGatewayTimeout) // the counts as they are follow
	}
	json.NewEncoder(w).Encode(sum)
}

// least is what a caller of the summary waits for.
type least struct {
	wait                                                      time.Duration
	received, accepted, acknowledged, browsers, subscriptions int
}

func readLeast(q url.Values) (least, error) {
	var l least
	var err error
	if q.Has("wait") {
		if l.wait, err = time.ParseDuration(q.Get("wait")); err != nil || l.wait < 0 {
			return l, errors.New("wait must be a duration such as 20s")
		}
	}
	for name, n := range map[string]*int{"received": &l.received, "accepted": &l.accepted, "acknowledged": &l.acknowledged,
		"browsers": &l.browsers, "subscriptions": &l.subscriptions} {
		if !q.Has(name) {
			continue
		}
		if *n, err = strconv.Atoi(q.Get(name)); err != nil {
			return l, fmt.Errorf("%s must be a number", name)
		}
	}
	return l, nil
}

func (l least) reached(s Summary) bool {
	return s.Received >= l.received && s.Accepted >= l.accepted && s.Acknowledged[100] >= l.acknowledged &&
		s.Browsers >= l.browsers && s.Subscriptions >= l.subscriptions
}

// scriptJSON is the body of POST /pushtest/answers.
type scriptJSON struct {
	Endpoint string       `json:"endpoint"` // empty stands for all
	Answers  []answerJSON `json:"answers"`
}

type answerJSON struct {
	Status  int               `json:"status"`
	Header  map[string]string `json:"header"`
	Body    string            `json:"body"`
	DelayMS int               `json:"delayMs"`
	Fault   Fault             `json:"fault"`
}

// scriptOverHTTP is POST /pushtest/answers.
func (s *Service) scriptOverHTTP(w http.ResponseWriter, r *http.Request) {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20))
	d.DisallowUnknownFields()
	var in scriptJSON
	if err := d.Decode(&in); err != nil {
		complain(w, http.StatusBadRequest, fmt.Errorf("the script is not of its form: %w", err))
		return
	}
	answers := make([]Answer, len(in.Answers))
	for i, a := range in.Answers {
		answers[i] = Answer{Status: a.Status, Body: a.Body, Fault: a.Fault, Delay: time.Duration(a.DelayMS) * time.Millisecond, Header: http.Header{}}
		for name, value := range a.Header {
			answers[i].Header.Set(name, value)
		}
	}
	if err := checkAnswers(answers); err != nil {
		complain(w, http.StatusBadRequest, err)
		return
	}
	if in.Endpoint == "" {
		s.AnswerAny(answers...)
		w.WriteHeader(http.StatusNoContent)
		return
	}
	endpoint := belfry.StoredEndpoint(in.Endpoint)
	s.mu.Lock()
	known := s.subs[s.token(endpoint)] != nil
	s.mu.Unlock()
	if !known {
		complain(w, http.StatusNotFound, errors.New("no such endpoint at this service"))
		return
	}
	s.Answer(endpoint, answers...)
	w.WriteHeader(http.StatusNoContent)
}

// limitOverHTTP is POST /pushtest/limit.
func (s *Service) limitOverHTTP(w http.ResponseWriter, r *http.Request) {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<10))
	d.DisallowUnknownFields()
	var l Limit
	err := d.Decode(&l)
	if err == nil {
		err = l.check()
	}
	if err != nil {
		complain(w, http.StatusBadRequest, fmt.Errorf("the limit is not of its form: %w", err))
		return
	}
	s.Limit(l)
	w.WriteHeader(http.StatusNoContent)
}

// complain answers a wrong call of the control interface.
func complain(w http.ResponseWriter, status int, err error) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]any{"title": http.StatusText(status), "status": status, "detail": err.Error()})
}

// lines writes newline-delimited JSON.
type lines struct {
	*bufio.Writer
	encoder *json.Encoder
}

func writeLines(w http.ResponseWriter) lines {
	w.Header().Set("Content-Type", "application/x-ndjson")
	b := bufio.NewWriterSize(w, 64<<10)
	return lines{b, json.NewEncoder(b)}
}

// write ignores errors: the buffer keeps the first, and the client is gone then.
func (l lines) write(v any) { l.encoder.Encode(v) }
