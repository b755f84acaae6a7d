package broadcasts_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/broadcasts"
	"github.com/belfry-push/belfry/broadcasts/broadcaststest"
)

const site = "https://www.example.com"

// People are an audience in a slice.
type people struct {
	takes time.Duration // how long reading a page does

	mu     sync.Mutex // guards what follows
	rows   []belfry.Subscription
	last   belfry.Position
	learnt int   // how often anything was remembered
	broken error // what reading gives instead
}

// join adds n subscriptions at host and returns their ids.
func (p *people) join(n int, host string, channels ...string) (ids []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for range n {
		p.last++
		id := fmt.Sprintf("%026d", p.last)
		ids = append(ids, id)
		p.rows = append(p.rows, belfry.Subscription{Seq: p.last, ID: id, Endpoint: endpoint(host, id), Channels: channels})
	}
	return ids
}

func endpoint(host, token string) belfry.Endpoint {
	return belfry.StoredEndpoint("https://" + host + "/p/" + token)
}

// change lets fn change a row.
func (p *people) change(id string, fn func(*belfry.Subscription)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := p.find(id); i < len(p.rows) && p.rows[i].ID == id {
		fn(&p.rows[i])
	}
}

func (p *people) forget(gone []belfry.Subscription) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rows = slices.DeleteFunc(p.rows, func(s belfry.Subscription) bool {
		return slices.ContainsFunc(gone, func(g belfry.Subscription) bool { return g.ID == s.ID && g.Endpoint == s.Endpoint })
	})
	return nil
}

func (p *people) remember(learnt []belfry.Subscription) {
	for _, l := range learnt {
		p.change(l.ID, func(s *belfry.Subscription) {
			if p.learnt++; s.Endpoint == l.Endpoint {
				s.Memory = l.Memory
			}
		})
	}
}

func (p *people) memory(id string) (m belfry.Memory) {
	p.change(id, func(s *belfry.Subscription) { m = s.Memory })
	return m
}

func (p *people) leave(ids ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rows = slices.DeleteFunc(p.rows, func(s belfry.Subscription) bool { return slices.Contains(ids, s.ID) })
}

func (p *people) there(id string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := p.find(id)
	return i < len(p.rows) && p.rows[i].ID == id
}

func (p *people) size() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.rows)
}

func (p *people) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.broken = err
}

func belongs(a belfry.Audience, s belfry.Subscription) bool {
	return a.All || slices.Contains(a.Users, s.User) || slices.Contains(a.Subscriptions, s.ID) ||
		slices.ContainsFunc(a.Channels, func(c string) bool { return slices.Contains(s.Channels, c) })
}

func (p *people) Snapshot(_ context.Context, a belfry.Audience) (until belfry.Position, targets int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.rows {
		if belongs(a, s) {
			targets++
		}
	}
	return p.last, targets, p.broken
}

func (p *people) Page(ctx context.Context, a belfry.Audience, after, until belfry.Position, limit int) (rows []belfry.Subscription, next belfry.Position, done bool, err error) {
	time.Sleep(p.takes)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := cmp.Or(ctx.Err(), p.broken); err != nil {
		return nil, after, false, err
	}
	next = after
	for _, s := range p.from(a, after) {
		switch {
		case s.Seq > until:
			return rows, next, true, nil
		case !belongs(a, s):
		case len(rows) == limit:
			return rows, next, false, nil
		default:
			rows, next = append(rows, s), s.Seq
		}
	}
	return rows, next, true, nil
}

// from returns the rows behind after where the audience's may be. Rows stand in
// the order of their positions, and ids follow from these.
func (p *people) from(a belfry.Audience, after belfry.Position) []belfry.Subscription {
	if len(a.Subscriptions) == 1 {
		i := p.find(a.Subscriptions[0])
		return p.rows[i:min(i+1, len(p.rows))]
	}
	return p.rows[p.find(fmt.Sprintf("%026d", after+1)):]
}

func (p *people) find(id string) int {
	i, _ := slices.BinarySearchFunc(p.rows, id, func(s belfry.Subscription, id string) int { return strings.Compare(s.ID, id) })
	return i
}

// A sending is one attempt that a post was asked for.
type sending struct {
	id      string
	host    string
	token   belfry.Endpoint
	at      time.Time
	until   time.Time
	message belfry.PushMessage
	outcome belfry.Outcome
}

// A post is a sender that answers by script.
type post struct {
	answers map[string][]belfry.Outcome              // by subscription id, the last one stays; accepted without
	slow    map[string]time.Duration                 // by host: how long an answer takes
	deaf    bool                                     // does not hear that nobody waits for it any more
	before  func(belfry.Subscription)                // called when an attempt begins
	rule    func(belfry.Subscription) belfry.Outcome // answers instead of the script

	mu     sync.Mutex // guards what follows, and answers
	sent   []*sending
	flying map[string]int // by host
	most   map[string]int
}

func (p *post) Send(ctx context.Context, s belfry.Subscription, m belfry.PushMessage) (o belfry.Outcome) {
	this := p.begin(s, m)
	defer func() { p.end(this, o) }()
	if p.before != nil {
		p.before(s)
	}
	if d := p.takes(s.Host()); d > 0 {
		done := ctx.Done()
		if p.deaf {
			done = nil
		}
		select {
		case <-time.After(d):
		case <-done:
			return belfry.Outcome{Verdict: belfry.Cancelled, Err: ctx.Err()}
		}
	}
	if p.rule != nil {
		return p.rule(s)
	}
	return p.answer(s.ID)
}

func (p *post) begin(s belfry.Subscription, m belfry.PushMessage) *sending {
	p.mu.Lock()
	defer p.mu.Unlock()
	this := &sending{id: s.ID, host: s.Host(), token: s.Endpoint, at: time.Now(), message: m}
	p.sent = append(p.sent, this)
	if p.flying == nil {
		p.flying, p.most = map[string]int{}, map[string]int{}
	}
	p.flying[s.Host()]++
	p.most[s.Host()] = max(p.most[s.Host()], p.flying[s.Host()])
	return this
}

func (p *post) end(s *sending, o belfry.Outcome) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.outcome, s.until = o, time.Now()
	p.flying[s.host]--
}

func (p *post) takes(host string) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.slow[host]
}

// slowly changes how long an answer takes while attempts are made.
func (p *post) slowly(host string, d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.slow[host] = d
}

func (p *post) answer(id string) belfry.Outcome {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.answers[id]
	switch len(list) {
	case 0:
		return belfry.Outcome{Verdict: belfry.Accepted, Status: 201}
	case 1:
		return list[0]
	}
	p.answers[id] = list[1:]
	return list[0]
}

func (p *post) script(id string, answers ...belfry.Outcome) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.answers == nil {
		p.answers = map[string][]belfry.Outcome{}
	}
	p.answers[id] = answers
}

// to returns the attempts for one subscription, or for all with "".
func (p *post) to(id string) (sent []sending) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.sent {
		if id == "" || s.id == id {
			sent = append(sent, *s)
		}
	}
	return sent
}

// A ledger is a journal that holds every commit against the accounting law, and
// fails when it is told to.
type ledger struct {
	*broadcaststest.Memory
	t testing.TB

	mu      sync.Mutex // guards what follows
	failing error
	commits int
	largest int // most rows settled by one commit
}

func (l *ledger) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failing = err
}

func (l *ledger) Create(ctx context.Context, b broadcasts.Broadcast, c *broadcasts.Claim) (broadcasts.Broadcast, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failing != nil {
		return b, l.failing
	}
	if b.Counts.Pending != b.Counts.Targets {
		l.t.Errorf("a launch with %+v", b.Counts)
	}
	return l.Memory.Create(ctx, b, c)
}

func (l *ledger) Commit(ctx context.Context, changes []broadcasts.Change, gone []belfry.Subscription) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failing != nil {
		return l.failing
	}
	rows, ended := 0, 0
	for _, b := range changes {
		mustAddUp(l.t, b.Broadcast)
		was, _ := l.Memory.Get(ctx, b.ID)
		ended += b.Counts.Gone - was.Counts.Gone
		if b.State != broadcasts.Cancelled {
			rows += was.Counts.Pending - b.Counts.Pending
		}
	}
	if len(gone) != ended {
		l.t.Errorf("%d are counted as gone with %d removed", ended, len(gone))
	}
	l.commits++
	l.largest = max(l.largest, rows)
	return l.Memory.Commit(ctx, changes, gone)
}

func (l *ledger) Called(ctx context.Context, id string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failing != nil {
		return l.failing
	}
	return l.Memory.Called(ctx, id)
}

// mustAddUp holds a broadcast against the law (REL-27).
func mustAddUp(t testing.TB, b broadcasts.Broadcast) {
	t.Helper()
	c := b.Counts
	if sum := c.Pending + c.Accepted + c.Suppressed + c.Expired + c.Gone + c.Left + c.Failed + c.Cancelled; sum != c.Targets {
		t.Errorf("targets %d, and the sum is %d: %+v", c.Targets, sum, c)
	}
	for _, n := range []int{c.Pending, c.Accepted, c.Suppressed, c.Expired, c.Gone, c.Left, c.Failed, c.Cancelled} {
		if n < 0 {
			t.Errorf("fewer than none: %+v", c)
		}
	}
	failures, expiries, taken := 0, 0, 0
	for _, n := range b.Failures {
		failures += n
	}
	for _, n := range b.Expiries {
		expiries += n
	}
	for _, h := range b.Hosts {
		if h.Host == "" {
			t.Errorf("a push service without a name: %+v", b.Hosts)
		}
		taken += h.Accepted
	}
	if failures != c.Failed || expiries != c.Expired || taken != c.Accepted {
		t.Errorf("%d failures and %d expiries by reason and %d accepted by host, but %+v", failures, expiries, taken, c)
	}
	if b.Ended() && (c.Pending != 0 || b.Finished == nil || b.ETA != nil) {
		t.Errorf("ended, and %+v finished %v eta %v", c, b.Finished, b.ETA)
	}
}

// A bell is an engine with doubles all around it.
type bell struct {
	*broadcasts.Engine
	t       *testing.T
	people  *people
	post    *post
	journal *ledger
	log     *record
	cfg     broadcasts.Config
}

func newBell(t *testing.T, set ...func(*broadcasts.Config)) *bell {
	b := &bell{t: t, people: &people{}, post: &post{slow: map[string]time.Duration{}}, log: &record{}}
	b.journal = &ledger{Memory: broadcaststest.NewMemory(b.people.forget), t: t}
	b.journal.Remember = b.people.remember
	b.cfg = broadcasts.Config{Journal: b.journal, Audience: b.people, Sender: b.post, Origins: []string{site}, Log: slog.New(b.log.handler())}
	for _, fn := range set {
		fn(&b.cfg)
	}
	b.start()
	t.Cleanup(func() { b.Close(context.Background()) })
	return b
}

func (b *bell) start() {
	b.t.Helper()
	var err error
	if b.Engine, err = broadcasts.New(b.t.Context(), b.cfg); err != nil {
		b.t.Fatal(err)
	}
}

// restart closes the engine with no patience and makes a new one on the same journal.
func (b *bell) restart() {
	b.t.Helper()
	b.stop()
	b.start()
}

// stop closes the engine with no patience.
func (b *bell) stop() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	b.Close(ctx)
}

var everybody = belfry.Audience{All: true}

func (b *bell) launch(m belfry.Message, a belfry.Audience) broadcasts.Broadcast {
	b.t.Helper()
	return b.request(broadcasts.Request{Message: m, Audience: a})
}

func (b *bell) request(r broadcasts.Request) broadcasts.Broadcast {
	b.t.Helper()
	got, _, err := b.Launch(b.t.Context(), r)
	if err != nil {
		b.t.Fatal(err)
	}
	return got
}

// hello launches a plain message to everybody, worth saying for so long.
func (b *bell) hello(lifetime time.Duration) broadcasts.Broadcast {
	b.t.Helper()
	return b.launch(hello(lifetime), everybody)
}

func hello(lifetime time.Duration) belfry.Message {
	ttl := int(lifetime / time.Second)
	return belfry.Message{Title: "Hello", TTL: &ttl}
}

// end watches a broadcast to its end and holds every step against the law.
func (b *bell) end(id string) (last broadcasts.Broadcast) {
	b.t.Helper()
	for step, err := range b.Watch(b.t.Context(), id) {
		if err != nil {
			b.t.Fatal(err)
		}
		mustAddUp(b.t, step)
		last = step
	}
	if !last.Ended() {
		b.t.Fatalf("the last step is %s, %+v", last.State, last.Counts)
	}
	return last
}

func (b *bell) get(id string) broadcasts.Broadcast {
	b.t.Helper()
	got, err := b.Get(b.t.Context(), id)
	if err != nil {
		b.t.Fatal(err)
	}
	mustAddUp(b.t, got)
	return got
}

// A record keeps a log's lines.
type record struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (r *record) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.buf.Write(b)
}

func (r *record) handler() slog.Handler {
	return slog.NewTextHandler(r, &slog.HandlerOptions{Level: slog.LevelDebug})
}

// count says how many lines hold all of the texts.
func (r *record) count(texts ...string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for line := range strings.Lines(r.buf.String()) {
		if !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(line, text) }) {
			n++
		}
	}
	return n
}

var errBroken = errors.New("broken")
