package broadcasts

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/belfry-push/belfry"
)

// topics see to it that of two broadcasts with one topic the latest wins
// (REL-29): what a Topic asks of a push service (RFC 8030 §5.4) holds for our
// own queue, too. A row that a newer one has come by is not rung by an older
// one any more, and the newer one waits where the older has an attempt in
// flight. Broadcasts without a topic have no part in it.
type topics struct {
	mu  sync.Mutex        // guards all and what is in it
	all map[string]*topic // by Topic header, those of which a broadcast is on its way
}

type topic struct {
	editions []*edition                        // the oldest first
	asked    map[belfry.Position]chan struct{} // rows with an attempt in flight; closed once it has its answer
}

// An edition is one broadcast among those of its topic. Nil is one without.
type edition struct {
	topics   *topics
	header   string
	id       string
	started  time.Time
	audience belfry.Audience
	passed   belfry.Position // its pager has come by all rows up to it
	runs     int             // that may make attempts: one, or two while it is resumed at once
}

// compare orders by start: one that was scheduled long ago is as new as when it
// begins, and one that was paused no newer than it was.
func (ed *edition) compare(other *edition) int {
	return cmp.Or(ed.started.Compare(other.started), cmp.Compare(ed.id, other.id))
}

// begin makes a broadcast that starts now the newest of its topic, and returns
// when that is, to be written down: not before the last one of those on their
// way, even if the clock was set back since.
func (ts *topics) begin(l Launch, now time.Time) (*edition, time.Time) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	header := l.Message.TopicHeader()
	if t := ts.all[header]; t != nil {
		if last := t.editions[len(t.editions)-1].started; !now.After(last) {
			now = last.Add(time.Millisecond)
		}
	}
	return ts.join(l, now, 0, 1), now
}

// resume puts a broadcast that has started back where it was, to go on or,
// without runs, for what it has come by.
func (ts *topics) resume(b Broadcast, runs int) *edition {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	return ts.join(b.Launch, *b.Started, b.After, runs)
}

func (ts *topics) join(l Launch, started time.Time, passed belfry.Position, runs int) *edition {
	header := l.Message.TopicHeader()
	if header == "" {
		return nil
	}
	t := ts.all[header]
	if t == nil {
		t = &topic{asked: map[belfry.Position]chan struct{}{}}
		ts.all[header] = t
	}
	ed := &edition{topics: ts, header: header, id: l.ID, started: started, audience: l.Audience}
	i, known := slices.BinarySearchFunc(t.editions, ed, (*edition).compare)
	if !known {
		t.editions = slices.Insert(t.editions, i, ed)
	}
	ed = t.editions[i]
	ed.passed = max(ed.passed, passed)
	ed.runs += runs
	return ed
}

// leave ends an edition's part. What it has come by counts as long as an older
// one is on its way.
func (ed *edition) leave() {
	if ed == nil {
		return
	}
	ts := ed.topics
	ts.mu.Lock()
	defer ts.mu.Unlock()
	ed.runs--
	t := ts.all[ed.header]
	for len(t.editions) > 0 && t.editions[0].runs == 0 {
		t.editions = t.editions[1:]
	}
	if len(t.editions) == 0 {
		delete(ts.all, ed.header)
	}
}

// pass notes that the pager has come by all rows up to a position. It must do so
// before any of them is tried.
func (ed *edition) pass(to belfry.Position) {
	if ed == nil {
		return
	}
	ed.topics.mu.Lock()
	defer ed.topics.mu.Unlock()
	ed.passed = to
}

// look reports whether a newer edition has come by a row, and else what closes
// once no attempt to it is in flight; nil if none is.
func (ed *edition) look(row belfry.Subscription) (overtaken bool, busy <-chan struct{}) {
	if ed == nil {
		return false, nil
	}
	ed.topics.mu.Lock()
	defer ed.topics.mu.Unlock()
	return ed.overtaken(row), ed.topics.all[ed.header].asked[row.Seq]
}

func (ed *edition) overtaken(row belfry.Subscription) bool {
	editions := ed.topics.all[ed.header].editions
	for i := len(editions) - 1; editions[i] != ed; i-- {
		if newer := editions[i]; row.Seq <= newer.passed && meant(newer.audience, row) {
			return true
		}
	}
	return false
}

// ask begins an attempt to a row, or reports that it must not begin now.
func (ed *edition) ask(row belfry.Subscription) bool {
	if ed == nil {
		return true
	}
	ed.topics.mu.Lock()
	defer ed.topics.mu.Unlock()
	asked := ed.topics.all[ed.header].asked
	if asked[row.Seq] != nil || ed.overtaken(row) {
		return false
	}
	asked[row.Seq] = make(chan struct{})
	return true
}

// answered ends an attempt to a row.
func (ed *edition) answered(row belfry.Subscription) {
	if ed == nil {
		return
	}
	ed.topics.mu.Lock()
	defer ed.topics.mu.Unlock()
	asked := ed.topics.all[ed.header].asked
	close(asked[row.Seq])
	delete(asked, row.Seq)
}

// rejoin puts a broadcast that goes on back among those of its topic, beside the
// newer ones that are over or paused.
func (r *run) rejoin(ctx context.Context, b Broadcast) error {
	e := r.engine
	if r.topic == "" {
		return nil
	}
	r.edition = e.topics.resume(b, 1) // before reading: what ends from now on stays known
	list, err := e.Journal.Topic(ctx, r.edition.header)
	for _, other := range list {
		if other.Started != nil && (&edition{id: other.ID, started: *other.Started}).compare(r.edition) > 0 {
			e.topics.resume(other, 0)
		}
	}
	return err
}
