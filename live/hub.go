package live

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/belfry-push/belfry"
)

// HubConfig says how many may listen, and for how long. All of it has a default.
type HubConfig struct {
	Total      int // connections at a time, of all; default 100,000
	PerAddress int // of one address; default 1000, an office behind one; below 0 means no limit
	PerUser    int // of one user; default 5 (SEC-46); below 0 means no limit

	Log *slog.Logger // default: none
}

const (
	// pingEvery is how often a page hears of us when nothing happens, ± 20 %, so
	// that no proxy takes the stream for dead after the usual 60 s (BR-60, REL-26).
	pingEvery = 25 * time.Second
	// maxAge bounds a stream: it ends after 80 to 100 % of this, so that rights are
	// looked at again and a restart is nothing new to a page (BR-66, SEC-47).
	maxAge = 600 * time.Second
	// noticeBefore is how long before its proof expires a page is told of it.
	noticeBefore = 60 * time.Second
	// writeWithin is how long one write to one page may take (SEC-45).
	writeWithin = 5 * time.Second
	// maxWaiting and maxFrames bound what waits for a page that reads slowly (REL-12).
	maxWaiting = 64 << 10
	maxFrames  = 256
	// nudgeAfter is when a second small write follows the first: some proxies and
	// virus scanners hold the first back until there is more.
	nudgeAfter = 250 * time.Millisecond

	// drainRate is how many pages a second are sent away when the server stops, and
	// drainWithin how long that takes at most: no more come back at a time than the
	// next server lets in, and 10,000 are gone in 5 s (REL-10).
	drainRate   = 2000
	drainWithin = 7 * time.Second

	// shards share the connections: each has a lock and a goroutine of its own.
	shards = 16
)

// comeBack is how long a page stays away, in milliseconds: 1 to 12 s. BR-64 would
// end at 10, where the first and the last are less than the ten seconds apart that
// REL-11 asks for.
func comeBack() int { return 1000 + rand.IntN(11_000) }

// A Hub streams a log to whoever listens.
type Hub struct {
	HubConfig
	log      *Log
	began    time.Time
	quota    quota
	shards   [shards]*shard
	presence presence
	hangup   func() *hangups // notices who is gone; begins with the first that is kept
	line     chan arrival    // who was taken over, until an usher has time for it

	draining atomic.Bool
	stop     chan struct{} // closed when nobody is left

	took                       atomic.Uint64 // connections that were taken over and let in
	events, acknowledged, slow atomic.Uint64
	visible                    atomic.Int64
}

// A Listener is who listens, and to what. Everybody hears what is for all.
type Listener struct {
	Channels []string
	User     string       // empty for a stranger
	Until    time.Time    // when the proof of that expires; zero means never
	From     netip.Prefix // whose share of connections it takes
}

func (l Listener) groups() []group {
	all := make([]group, 1, 2+len(l.Channels))
	all[0] = everybody
	for _, c := range l.Channels {
		all = append(all, channelGroup(c))
	}
	if l.User != "" {
		all = append(all, userGroup(l.User))
	}
	return all
}

// NewHub returns a Hub that streams log. Close it before the log.
func NewHub(log *Log, cfg HubConfig) (*Hub, error) {
	for _, limit := range []struct {
		value    *int
		fallback int
	}{{&cfg.Total, 100_000}, {&cfg.PerAddress, 1000}, {&cfg.PerUser, 5}} {
		if *limit.value == 0 {
			*limit.value = limit.fallback
		}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	h := &Hub{HubConfig: cfg, log: log, began: time.Now(), line: make(chan arrival, mostInLine), stop: make(chan struct{}),
		presence: presence{pages: map[string][]look{}, messages: map[string]*published{}}}
	h.quota.open(cfg)
	h.hangup = sync.OnceValue(func() *hangups {
		watch, err := watchHangups(h.stop)
		if err != nil {
			h.Log.Warn("pages that go are noticed by the next ping only", "err", err)
		}
		return watch
	})
	for i := range h.shards {
		h.shards[i] = newShard(h)
	}
	log.mu.Lock()
	log.follow = h.publish
	log.mu.Unlock()
	b, err := log.bounds() // what is appended from here on comes by publish
	if err != nil {
		close(h.stop)
		return nil, fmt.Errorf("live: %w", err)
	}
	for _, s := range h.shards {
		s.at = b.head
		go s.work()
	}
	for range runtime.GOMAXPROCS(0) {
		go h.usher()
	}
	go h.clear()
	return h, nil
}

// publish hands events to all shards. Where one has not kept up, publishing waits
// for it: it never waits for a page.
func (h *Hub) publish(e []*entry) {
	h.events.Add(uint64(len(e)))
	h.presence.publish(e, h.now()) // first: nobody may acknowledge what is not known
	for _, s := range h.shards {
		select {
		case s.queue <- e:
		case <-h.stop:
		}
	}
}

// Why nobody is let in. What a page is told is for web to decide.
var (
	ErrDraining = errors.New("live: the server stops")
	ErrCrowded  = errors.New("live: too many listen")
	ErrTooMany  = errors.New("live: too many of one address or user listen")
	ErrUnproven = errors.New("live: nobody has proved who listens")
)

// Refused is the whole stream of a page that cannot be let in and that has no
// other way to be told when to come back: EventSource gives up for good on
// everything but 200 (BR-64).
func Refused(f Format, why error) []byte {
	reason := Quota
	switch {
	case errors.Is(why, ErrDraining):
		reason = Drain
	case errors.Is(why, ErrUnproven):
		reason = Auth
	}
	return f.control(goodbye(reason))
}

// admit gives a listener a connection of its own, not yet begun.
func (h *Hub) admit(l Listener, f Format) (*conn, error) {
	if err := h.enter(l); err != nil {
		return nil, err
	}
	id := newID()
	c := &conn{id: id, shard: h.shards[id[0]%shards], format: f, groups: l.groups(), from: l.From, user: l.User, until: never, notice: never}
	if !l.Until.IsZero() {
		c.prove(l.Until)
	}
	return c, nil
}

// enter takes a place.
func (h *Hub) enter(l Listener) error {
	if h.draining.Load() {
		return ErrDraining
	}
	if err := h.quota.take(l.From, l.User); err != nil {
		return err
	}
	if h.draining.Load() { // since we looked: who waits for all to go may not have counted it
		h.quota.give(l.From, l.User)
		return ErrDraining
	}
	return nil
}

// Hold takes a place for a connection that is open and has yet to say what it
// hears, until release: one that says nothing counts as well (SEC-46).
func (h *Hub) Hold(l Listener) (release func(), err error) {
	if err := h.enter(l); err != nil {
		return nil, err
	}
	return sync.OnceFunc(func() { h.quota.give(l.From, l.User) }), nil
}

// Room reports why a listener would not be let in, if it would not.
func (h *Hub) Room(l Listener) error {
	if h.draining.Load() {
		return ErrDraining
	}
	return h.quota.room(l.From, l.User)
}

// Stream serves a listener on a goroutine of its own, from cursor on, until ctx
// ends, the carrier fails or the hub says goodbye, for a reason.
func (h *Hub) Stream(ctx context.Context, l Listener, cursor string, f Format, to Carrier) (Reason, error) {
	c, err := h.admit(l, f)
	if err != nil {
		return "", err
	}
	err = c.serve(ctx, cursor, to)
	return c.reason(), err
}

// Keep serves a listener on a connection that was taken over from net/http,
// without a goroutine of its own where the system lets us write without waiting.
// It closes the connection in the end, and returns when the listener has all that
// there was, or waits in line because it needs nothing of that. head goes out
// before everything.
func (h *Hub) Keep(l Listener, cursor string, f Format, on net.Conn, head []byte) error {
	c, err := h.admit(l, f)
	if err != nil {
		on.Close()
		return err
	}
	k := &kept{Conn: on, head: head}
	if !k.open() {
		defer on.Close()
		return c.serve(context.Background(), cursor, k)
	}
	c.kept = k
	if cursor != "" { // to read what it missed may take as long as the page takes to hear it
		return h.letIn(c, cursor, k)
	}
	select {
	case h.line <- arrival{c, h.now()}:
	case <-h.stop:
	}
	c.dropIfStopped()
	return nil
}

// letIn begins with a connection that was taken over.
func (h *Hub) letIn(c *conn, cursor string, to Carrier) error {
	if err := c.begin(cursor, to); err != nil {
		c.shard.drop(c)
		return err
	}
	h.hangup().watch(c)
	h.took.Add(1)
	c.dropIfStopped()
	return nil
}

// dropIfStopped is for a page that nobody would send away any more.
func (c *conn) dropIfStopped() {
	select {
	case <-c.shard.hub.stop:
		c.shard.drop(c)
	default:
	}
}

// An Answer is what a poll gets.
type Answer struct {
	Cursor   string   `json:"cursor"`
	Messages []object `json:"messages"`
	Reset    *reset   `json:"reset,omitempty"`
	More     bool     `json:"more"` // ask again at once
}

// An object is JSON that is made already.
type object []byte

func (o object) MarshalJSON() ([]byte, error) { return o, nil }

// Poll answers what a listener missed since cursor, or waits for something to come,
// until ctx or the listener's proof ends.
func (h *Hub) Poll(ctx context.Context, l Listener, cursor string) (Answer, error) {
	if !l.Until.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, l.Until)
		defer cancel()
		l.Until = time.Time{}
	}
	c, err := h.admit(l, Objects)
	if err != nil {
		return Answer{}, err
	}
	defer c.shard.drop(c)
	c.wake, c.waiter = make(chan struct{}, 1), true
	b, err := h.log.bounds()
	if err != nil {
		return Answer{}, err
	}
	at, gap := b.place(cursor)
	for {
		s, err := h.log.read(at, c.groups, perPage)
		if err != nil {
			return Answer{}, err
		}
		at = s.upTo
		c.upTo = at // what it is woken by moves it on
		answer := h.answer(s)
		if gap == "" {
			gap = s.lost
		}
		if gap != "" {
			missed := newReset(gap, cursor, s.bounds)
			answer.Reset = &missed
		}
		if len(s.events) > 0 || gap != "" || ctx.Err() != nil {
			return answer, nil
		}
		if !c.attach() {
			continue // something came meanwhile
		}
		select {
		case <-c.wake:
			if h.draining.Load() {
				return answer, nil
			}
			c.shard.detach(c)
		case <-ctx.Done():
			return answer, nil
		}
	}
}

// Last answers the last n messages, or fewer, that a listener would have heard, in
// the order of the log, and the cursor behind all of them. It waits for nothing.
func (h *Hub) Last(l Listener, n int) (Answer, error) {
	if err := h.Room(l); err != nil {
		return Answer{}, err
	}
	s, err := h.log.last(l.groups(), n)
	if err != nil {
		return Answer{}, err
	}
	return h.answer(s), nil
}

// answer is a stretch as a poll gets it.
func (h *Hub) answer(s stretch) Answer {
	a := Answer{Cursor: s.cursor(s.upTo), Messages: []object{}, More: s.more}
	for _, e := range s.events {
		a.Messages = append(a.Messages, e.json(h.log.epoch))
	}
	return a
}

// An Order is what the holder of a connection wants of it. What is nil or empty
// stays as it is.
type Order struct {
	Subscribe, Unsubscribe []string
	Visible                *bool    // whether somebody looks at the page
	Device                 string   // which registered browser it is; web has seen its secret
	Ack                    []string // messages that the page has shown to somebody who looks at it
	Proof                  *Proof   // a fresh one, so that the stream goes on
}

// Obey does what the holder of a connection wants. Whoever knows the id is its holder.
func (h *Hub) Obey(id string, o Order) error {
	known, ok := parseID(id)
	if !ok {
		return noConnection()
	}
	return h.shards[known[0]%shards].obey(known, o)
}

func noConnection() error {
	return &belfry.Error{Kind: belfry.ErrNotFound, Code: "not-found", Text: "no such connection", Hint: "it has ended; connect again"}
}

// Stats are what a hub counts, from its start on.
type Stats struct {
	Connections, Visible       int
	Events, Acknowledged, Slow uint64
}

// Stats returns them as of now.
func (h *Hub) Stats() Stats {
	return Stats{h.quota.count(), int(h.visible.Load()), h.events.Load(), h.acknowledged.Load(), h.slow.Load()}
}

// Close lets nobody in any more and sends everybody away, a few at a time and no
// longer than until ctx ends.
func (h *Hub) Close(ctx context.Context) {
	if h.draining.Swap(true) {
		<-h.stop
		return
	}
	window := min(time.Duration(h.quota.count())*time.Second/drainRate, drainWithin)
	for _, s := range h.shards {
		s.drain(window)
	}
	left := time.NewTicker(10 * time.Millisecond)
	defer left.Stop()
	for h.quota.count() > 0 && ctx.Err() == nil {
		select {
		case <-left.C:
		case <-ctx.Done():
		}
	}
	close(h.stop)
	for _, s := range h.shards {
		s.abandon()
	}
	for len(h.line) > 0 {
		select {
		case a := <-h.line:
			a.conn.shard.drop(a.conn)
		default: // an usher was quicker
		}
	}
}
