package broadcasts

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"time"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/internal/id"
)

// An Audience is where subscriptions are read from.
type Audience interface {
	// Snapshot returns the last row there is now and how many rows up to it belong to a.
	Snapshot(ctx context.Context, a belfry.Audience) (until belfry.Position, targets int, err error)
	// Page returns up to limit rows of a behind after and up to until, in order,
	// and the position to go on from. It holds no transaction when it returns.
	Page(ctx context.Context, a belfry.Audience, after, until belfry.Position, limit int) (rows []belfry.Subscription, next belfry.Position, done bool, err error)
}

// A Sender makes attempts.
type Sender interface {
	// Send makes one.
	Send(ctx context.Context, s belfry.Subscription, m belfry.PushMessage) belfry.Outcome
	// Size is how many octets of body it makes of a message.
	Size(m belfry.PushMessage) (int, error)
}

// Config says what an Engine works with. Journal, Audience and Sender are required.
type Config struct {
	Journal  Journal
	Audience Audience
	Sender   Sender
	Presence Presence // default: nobody is ever present
	Live     Live     // default: none, and every launch is for devices

	// Caller tells others how a broadcast ended. Default: none, and no launch may
	// ask for it. CallbackHosts are those of them that may be in our own network.
	Caller        Caller
	CallbackHosts belfry.CallbackHosts

	// Holder is who we are among the servers that share the journal. Default:
	// whoever has its file, which is one at a time and the same after a restart.
	Holder string

	// Origins are the sites we ring for, at least one. The first is used for rows that name none.
	Origins []string

	// ClickLink is what the links of a message carry, by its id, so that who opens
	// one can be counted. Default: they carry nothing.
	ClickLink func(id string) string

	// PerHost bounds attempts in flight to one push service. Default 128: under
	// the 250 streams that an HTTP/2 server usually grants a connection.
	PerHost int

	// Pace is how many attempts may begin in the first second to a push service
	// that we know nothing of yet; it doubles each second until somebody objects.
	// 0 means as many as can. Default: 0 for all.
	Pace func(host string) float64

	// Now is the wall clock, for the times that operators read. What waits does
	// so by the monotonic one. Default: time.Now.
	Now func() time.Time

	// Log gets attempts at Debug and faults of ours at Warn. Default: none.
	Log *slog.Logger
}

// total bounds attempts in flight to all push services together, so that an
// audience spread over many hosts cannot use up the descriptors.
const total = 1024

// An Engine runs broadcasts. Close it before the journal.
type Engine struct {
	Config
	committer *committer
	stop      context.Context // ends when no new attempt may begin
	halt      context.CancelFunc
	flight    context.Context // ends attempts in flight, and the patience for commits that fail
	kill      context.CancelFunc
	running   sync.WaitGroup
	lanes     *lanes
	topics    *topics
	all       chan struct{} // held by attempts in flight to all push services
	calls     chan struct{} // held by callbacks in flight

	mu      sync.Mutex // guards live and closed
	live    map[string]*run
	closed  bool
	stirred chan struct{} // closed and replaced when a broadcast changes that nobody works on

	control sync.Mutex // held while a broadcast changes that nobody works on
}

// New returns an Engine, or says what is missing. Broadcasts that an earlier
// process left running go on.
func New(ctx context.Context, cfg Config) (*Engine, error) {
	if cfg.Journal == nil || cfg.Audience == nil || cfg.Sender == nil || len(cfg.Origins) == 0 {
		return nil, errors.New("broadcasts: Config needs Journal, Audience, Sender and Origins")
	}
	if cfg.Presence == nil {
		cfg.Presence = nobody{}
	}
	cfg.Holder = cmp.Or(cfg.Holder, "file")
	if cfg.PerHost < 0 {
		return nil, fmt.Errorf("broadcasts: PerHost is %d", cfg.PerHost)
	}
	if cfg.PerHost == 0 {
		cfg.PerHost = 128
	}
	if cfg.Pace == nil {
		cfg.Pace = func(string) float64 { return 0 }
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	e := &Engine{Config: cfg, all: make(chan struct{}, total), calls: make(chan struct{}, maxCalls), live: map[string]*run{}, stirred: make(chan struct{})}
	e.topics = &topics{all: map[string]*topic{}}
	e.lanes = &lanes{perHost: cfg.PerHost, pace: cfg.Pace, all: map[string]*lane{}}
	e.stop, e.halt = context.WithCancel(context.Background())
	e.flight, e.kill = context.WithCancel(context.Background())
	runs, err := e.unfinished(ctx)
	if err != nil {
		return nil, err
	}
	uncalled, damaged, err := e.Journal.Uncalled(ctx)
	if err != nil {
		return nil, err
	}
	e.passOver(damaged)
	e.committer = newCommitter(e.flight, cfg, e.lanes)
	for _, r := range runs {
		e.running.Add(1)
		e.enlist(r)
		e.start(r)
	}
	for _, b := range uncalled {
		e.callBack(b.Launch, b.Progress)
	}
	return e, nil
}

// unfinished prepares to go on with what an earlier process left running.
func (e *Engine) unfinished(ctx context.Context) (runs []*run, err error) {
	list, damaged, err := e.Journal.Unfinished(ctx, e.Holder, e.Now())
	if err != nil {
		return nil, err
	}
	e.passOver(damaged)
	for _, b := range list {
		if b.Handed == unknownCourse {
			b.cancelRest("restart", stamp(e.Now()))
			if err := e.Journal.Commit(ctx, []Change{{Broadcast: b}}, nil); err != nil {
				return nil, err
			}
		}
		if b.State != Running && b.State != Scheduled {
			continue
		}
		r, _, err := e.revive(ctx, b)
		if err != nil {
			return nil, err
		}
		if r == nil {
			continue
		}
		e.Log.Info("broadcast goes on after a restart", "broadcast", b.ID, "state", b.State, "pending", b.Counts.Pending)
		runs = append(runs, r)
	}
	return runs, nil
}

// passOver says which broadcasts a start does without: one that is damaged must
// not keep all others from going on.
func (e *Engine) passOver(damaged []string) {
	for _, id := range damaged {
		e.Log.Error("a broadcast is damaged and passed over: it does not go on", "broadcast", id, "hint", restoreHint)
	}
}

// again prepares to go on with a broadcast that was stopped on its way. The
// server may ring for other sites now: rows of one with which the message has
// become too long fail, and say so.
func (e *Engine) again(ctx context.Context, b Broadcast) (r *run, err error) {
	defer func() {
		if recovered := recover(); recovered != nil {
			err = newCrash(recovered)
		}
		if err != nil && r != nil {
			r.edition.leave()
			r = nil
		}
	}()
	open, err := e.Journal.Open(ctx, b.ID)
	if err != nil {
		return nil, err
	}
	payloads := map[wording][]byte{}
	for _, w := range e.wordings(b.Message) {
		p, err := e.payload(b.Launch, w)
		if err != nil {
			e.Log.Error("a broadcast cannot go on as it was launched", "broadcast", b.ID, "origin", w.origin, "err", err)
		}
		payloads[w] = p
	}
	r = newRun(e, b, open, payloads)
	if r.again = !r.waiting; r.again {
		err = r.rejoin(ctx, b)
	}
	return r, err
}

// Launch checks a message, writes the broadcast down and starts it, now or when
// it is due. When it returns without an error, the broadcast survives a power
// cut. One that was launched before with the same key is returned as it stands
// now, and said to be.
func (e *Engine) Launch(ctx context.Context, r Request) (b Broadcast, replayed bool, err error) {
	claim, err := r.claim()
	if err != nil {
		return Broadcast{}, false, err
	}
	if claim != nil { // what was taken once is answered, even if it would be refused by now
		if b, err = e.Journal.Claimed(ctx, *claim, e.Now()); !errors.Is(err, belfry.ErrNotFound) {
			return b, err == nil, err
		}
	}
	b, payloads, err := e.prepare(r)
	if err != nil {
		return Broadcast{}, false, err
	}
	if err := e.open(); err != nil {
		return Broadcast{}, false, err
	}
	if b, replayed, err = e.begin(ctx, b, payloads, claim); err != nil || replayed {
		e.running.Done()
	}
	return b, replayed, err
}

// prepare makes a broadcast of what was asked for, or says what is wrong with it.
func (e *Engine) prepare(r Request) (b Broadcast, payloads map[wording][]byte, err error) {
	audience, err := r.Audience.Check()
	if err != nil {
		return b, nil, err
	}
	if err := r.Message.Check(e.Origins); err != nil {
		return b, nil, err
	}
	callback, err := e.callback(r.Callback)
	if err != nil {
		return b, nil, err
	}
	now := stamp(e.Now())
	b = Broadcast{
		Launch: Launch{ID: id.New(), Message: r.Message, Audience: audience, Callback: callback, Options: r.Options,
			Created: now, Deadline: now.Add(r.Message.Lifetime())},
		Progress: Progress{State: Running, Started: &now, Failures: map[string]int{}, Expiries: map[string]int{}, Hosts: []Host{}},
	}
	b.Push = cmp.Or(b.Push, PushAuto)
	if err := cmp.Or(b.schedule(now), b.checkRate(), r.checkCanary(), e.checkPush(r)); err != nil {
		return b, nil, err
	}
	payloads, b.Warnings, err = e.compile(b)
	return b, payloads, err
}

// begin counts the audience, writes b down and starts it, unless another launch
// with its claim was quicker.
func (e *Engine) begin(ctx context.Context, b Broadcast, payloads map[wording][]byte, c *Claim) (made Broadcast, replayed bool, err error) {
	if b.Push != PushNever {
		if b.Until, b.Counts.Targets, err = e.Audience.Snapshot(ctx, b.Audience); err != nil {
			return Broadcast{}, false, err
		}
	}
	b.Counts.Pending, b.Lease = b.Counts.Targets, Lease{e.Holder, b.Created}
	var ed *edition
	if b.State == Running {
		ed, *b.Started = e.topics.begin(b.Launch, *b.Started)
	}
	r := newRun(e, b, nil, payloads)
	r.edition = ed
	e.enlist(r) // before anybody can read that it runs
	made, err = e.Journal.Create(ctx, b, c)
	switch {
	case err != nil:
		e.dismiss(r)
		return Broadcast{}, false, err
	case made.ID != b.ID:
		e.dismiss(r)
		return made, true, nil
	}
	e.start(r)
	return b, false, nil
}

// stamp is a moment as operators read it: UTC, with milliseconds.
func stamp(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }

// enlist makes a run the one that orders for its broadcast go to.
func (e *Engine) enlist(r *run) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.live[r.ID] = r
}

// start delivers a broadcast that was counted as running and is enlisted.
func (e *Engine) start(r *run) {
	e.stir()
	go func() {
		defer e.running.Done()
		for r != nil {
			if r.try() {
				r = e.crash(r)
				continue
			}
			e.dismiss(r)
			r.announce()
			return
		}
	}()
}

// dismiss ends a run, delivered or not.
func (e *Engine) dismiss(r *run) {
	r.halt()
	r.kill()
	r.edition.leave()
	e.forget(r)
	close(r.done)
}

// open counts one more broadcast as running, unless the engine is closing.
func (e *Engine) open() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return &belfry.Error{Kind: belfry.ErrBusy, Code: "stopping", Text: "the server is shutting down", Hint: "try again in a moment"}
	}
	e.running.Add(1)
	return nil
}

// forget drops a run that has ended, and the lanes once nobody uses them. The
// broadcast may have been resumed already, and have another run.
func (e *Engine) forget(r *run) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.live[r.ID] == r {
		delete(e.live, r.ID)
	}
	for _, other := range e.live {
		if !other.waiting {
			return
		}
	}
	e.lanes.rest()
}

// Get returns a broadcast as the last commit left it.
func (e *Engine) Get(ctx context.Context, id string) (Broadcast, error) {
	return e.Journal.Get(ctx, id)
}

// List returns broadcasts from the newest on, beginning behind the id after.
func (e *Engine) List(ctx context.Context, after string, limit int) ([]Broadcast, error) {
	return e.Journal.List(ctx, after, limit)
}

// glance is how long a watcher looks at least at how a broadcast stands before it
// is shown how it goes on. Nobody sees a hundred commits a second, and each is
// read, told and drawn.
const glance = 50 * time.Millisecond

// Watch yields a broadcast as it stands, then as commits leave it, until it has
// ended or the engine is closed. It passes over steps in between, never the last one.
func (e *Engine) Watch(ctx context.Context, id string) iter.Seq2[Broadcast, error] {
	return func(yield func(Broadcast, error) bool) {
		for paused := false; ; {
			changed, rests, over := e.next(id) // before reading, so that no commit falls between
			b, err := e.Journal.Get(ctx, id)
			still := paused && b.State == Paused // woken by what another one does
			if !still && !yield(b, err) || err != nil || over || b.Ended() {
				return
			}
			paused = b.State == Paused
			select {
			case <-changed:
			case <-rests: // it may have changed for the last time before we looked, or never begun
			case <-ctx.Done():
				return
			}
			select {
			case <-time.After(glance):
			case <-rests:
			case <-ctx.Done():
				return
			}
		}
	}
}

// next returns a channel that closes when the broadcast is written down again,
// one that closes when nobody works on it any more, and whether nobody will.
func (e *Engine) next(id string) (changed, rests <-chan struct{}, over bool) {
	e.mu.Lock()
	r, stirred, closed := e.live[id], e.stirred, e.closed
	e.mu.Unlock()
	if r == nil {
		return stirred, stirred, closed
	}
	return r.change(), r.done, false
}

// stir wakes the watchers of broadcasts that nobody works on.
func (e *Engine) stir() {
	e.mu.Lock()
	defer e.mu.Unlock()
	close(e.stirred)
	e.stirred = make(chan struct{})
}

// Close lets no new attempt begin, gives those in flight until ctx ends to
// finish, and writes down what they gave. What was not tried yet stays pending
// in the journal; the next New goes on with it.
func (e *Engine) Close(ctx context.Context) {
	e.mu.Lock()
	already := e.closed
	e.closed = true
	e.mu.Unlock()
	if already {
		<-e.committer.done
		return
	}
	e.halt()
	e.stir()
	defer context.AfterFunc(ctx, e.kill)()
	e.running.Wait()
	e.committer.close()
	e.kill()
}
