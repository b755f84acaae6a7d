package pushtest

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/belfry-push/belfry"
)

// A Received is one request for delivery, as the ledger holds it.
type Received struct {
	Endpoint  belfry.Endpoint
	Token     string        // the endpoint's last part
	Message   string        // the id given to an accepted message; the version that a browser acknowledges
	Time      time.Time     // when the request came
	Proto     string        // HTTP/1.1 or HTTP/2.0
	Status    int           // what was answered; 0 when the connection was left or cut without an answer
	Reason    string        // short name of the check that refused it; empty when none did
	Fault     string        // what was wrong with it, or the fault that was played; empty when all was well
	Header    http.Header   // as sent
	Length    int           // of the body, in octets
	Plaintext []byte        // nil where only a browser can read it, or where there is none
	Topic     string        // header field, may be empty
	Urgency   string        // header field, may be empty
	TTL       time.Duration // as asked for
	Ack       int           // a browser's last word: 100 shown to its worker, 101 undecryptable, 102 not delivered, 301 and 302 the worker failed; 0 none yet
}

// hungUp is the Reason of a request whose client did not wait for the answer.
const hungUp = "hung-up"

// Accepted reports whether the answer was a 2xx.
func (r Received) Accepted() bool { return r.Status/100 == 2 }

// maxEntries bounds the ledger; after that the oldest entries go. The counts of
// the summary do not forget.
const maxEntries = 200_000

// A Summary counts.
type Summary struct {
	Received      int            `json:"received"`      // requests for delivery
	Accepted      int            `json:"accepted"`      // answered 2xx
	Refused       map[string]int `json:"refused"`       // by the check that refused them
	Scripted      map[string]int `json:"scripted"`      // by the status or fault that was scripted, 2xx left out
	HungUp        int            `json:"hungUp"`        // left by the client before the answer
	Decrypted     int            `json:"decrypted"`     // accepted, and read
	Endpoints     int            `json:"endpoints"`     // different ones that accepted at least one
	HTTP2         int            `json:"http2"`         // requests over HTTP/2
	Subscriptions int            `json:"subscriptions"` // that have not ended
	Browsers      int            `json:"browsers"`      // connected now
	Acknowledged  map[int]int    `json:"acknowledged"`  // messages by the code of the browser's last word
	Unregistered  map[int]int    `json:"unregistered"`  // by the code that the browser gave
}

// The ledger of a service.
type ledger struct {
	mu        sync.Mutex // guards all
	entries   []*Received
	endpoints map[string]bool
	counts    Summary
	changed   chan struct{} // closed at the next change
}

// note writes one entry. An entry never changes afterwards: ack replaces it.
func (l *ledger) note(r Received) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.entries) >= maxEntries {
		l.entries = slices.Clone(l.entries[maxEntries/2:])
	}
	l.entries = append(l.entries, &r)
	l.counts.Received++
	if r.Proto == "HTTP/2.0" {
		l.counts.HTTP2++
	}
	switch {
	case r.Reason == hungUp:
		l.counts.HungUp++
	case r.Reason != "":
		count(&l.counts.Refused, r.Reason)
	case r.Accepted():
		l.counts.Accepted++
		if r.Plaintext != nil {
			l.counts.Decrypted++
		}
		if l.endpoints == nil {
			l.endpoints = map[string]bool{}
		}
		l.endpoints[r.Token] = true
	case r.Fault != "":
		count(&l.counts.Scripted, r.Fault)
	default:
		count(&l.counts.Scripted, strconv.Itoa(r.Status))
	}
	l.wake()
}

func count[K comparable](m *map[K]int, k K) {
	if *m == nil {
		*m = map[K]int{}
	}
	(*m)[k]++
}

// ack notes a browser's word on a message. Browsers may change their mind: a
// worker that throws is acknowledged and then reported.
func (l *ledger) ack(message string, code int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, r := range slices.Backward(l.entries) {
		if r.Message != message {
			continue
		}
		if r.Ack != 0 {
			l.counts.Acknowledged[r.Ack]--
		}
		changed := *r
		changed.Ack = code
		l.entries[i] = &changed
		count(&l.counts.Acknowledged, code)
		l.wake()
		return
	}
}

func (l *ledger) unregistered(code int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	count(&l.counts.Unregistered, code)
	l.wake()
}

// touch wakes those who wait, after a change outside the ledger that the summary shows.
func (l *ledger) touch() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wake()
}

func (l *ledger) wake() {
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

// next is closed at the next change.
func (l *ledger) next() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.changed == nil {
		l.changed = make(chan struct{})
	}
	return l.changed
}

func (l *ledger) clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries, l.endpoints, l.counts = nil, nil, Summary{}
	l.wake()
}

// Received is the ledger: every request for delivery so far, in order.
func (s *Service) Received() []Received {
	s.ledger.mu.Lock()
	entries := slices.Clone(s.ledger.entries)
	s.ledger.mu.Unlock()
	all := make([]Received, len(entries))
	for i, r := range entries {
		all[i] = *r
	}
	return all
}

// Summary counts what the ledger holds.
func (s *Service) Summary() Summary {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ledger.mu.Lock()
	defer s.ledger.mu.Unlock()
	sum := s.ledger.counts
	// A reader of the JSON finds objects, never null.
	sum.Refused, sum.Scripted = filled(sum.Refused), filled(sum.Scripted)
	sum.Acknowledged, sum.Unregistered = filled(sum.Acknowledged), filled(sum.Unregistered)
	sum.Endpoints = len(s.ledger.endpoints)
	sum.Subscriptions, sum.Browsers = s.live, s.present
	return sum
}

func filled[K comparable](m map[K]int) map[K]int {
	m = maps.Clone(m)
	if m == nil {
		m = map[K]int{}
	}
	maps.DeleteFunc(m, func(_ K, n int) bool { return n == 0 })
	return m
}

// Await waits until the summary is as the caller wants it. It sleeps between
// changes, never by the clock.
func (s *Service) Await(ctx context.Context, done func(Summary) bool) (Summary, error) {
	for {
		changed := s.ledger.next()
		if sum := s.Summary(); done(sum) {
			return sum, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return s.Summary(), ctx.Err()
		}
	}
}

// Wait waits until n requests have come, and returns the ledger.
func (s *Service) Wait(ctx context.Context, n int) ([]Received, error) {
	_, err := s.Await(ctx, func(sum Summary) bool { return sum.Received >= n })
	return s.Received(), err
}

// receivedJSON is a line of the ledger over HTTP. Endpoints print as a hash
// everywhere else in the house; here they are what was asked for.
type receivedJSON struct {
	Endpoint  string      `json:"endpoint"`
	Token     string      `json:"token"`
	Message   string      `json:"message,omitempty"`
	Time      time.Time   `json:"time"`
	Proto     string      `json:"proto"`
	Status    int         `json:"status"`
	Reason    string      `json:"reason,omitempty"`
	Fault     string      `json:"fault,omitempty"`
	Header    http.Header `json:"header"`
	Length    int         `json:"length"`
	Plaintext *string     `json:"plaintext,omitempty"`       // where it is UTF-8
	Binary    []byte      `json:"plaintextBase64,omitempty"` // where it is not
	Topic     string      `json:"topic,omitempty"`
	Urgency   string      `json:"urgency,omitempty"`
	TTL       int64       `json:"ttl"` // seconds
	Ack       int         `json:"ack,omitempty"`
}

// MarshalJSON writes the line that GET /pushtest/ledger gives.
func (r Received) MarshalJSON() ([]byte, error) {
	line := receivedJSON{
		Endpoint: r.Endpoint.Reveal(), Token: r.Token, Message: r.Message, Time: r.Time.UTC(), Proto: r.Proto,
		Status: r.Status, Reason: r.Reason, Fault: r.Fault, Header: r.Header, Length: r.Length,
		Topic: r.Topic, Urgency: r.Urgency, TTL: int64(r.TTL / time.Second), Ack: r.Ack,
	}
	switch {
	case r.Plaintext == nil:
	case utf8.Valid(r.Plaintext):
		text := string(r.Plaintext)
		line.Plaintext = &text
	default:
		line.Binary = r.Plaintext
	}
	return json.Marshal(line)
}

// UnmarshalJSON reads such a line, for a test that watches another process.
func (r *Received) UnmarshalJSON(b []byte) error {
	var line receivedJSON
	if err := json.Unmarshal(b, &line); err != nil {
		return err
	}
	*r = Received{
		Endpoint: belfry.StoredEndpoint(line.Endpoint), Token: line.Token, Message: line.Message, Time: line.Time, Proto: line.Proto,
		Status: line.Status, Reason: line.Reason, Fault: line.Fault, Header: line.Header, Length: line.Length, Plaintext: line.Binary,
		Topic: line.Topic, Urgency: line.Urgency, TTL: time.Duration(line.TTL) * time.Second, Ack: line.Ack,
	}
	if line.Plaintext != nil {
		r.Plaintext = []byte(*line.Plaintext)
	}
	return nil
}
