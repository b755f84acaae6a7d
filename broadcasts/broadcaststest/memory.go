// Package broadcaststest holds what every journal of broadcasts must do, and a
// journal in memory that does it, for tests of what is built on one.
package broadcaststest

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/broadcasts"
)

// A Memory is a journal in memory. What is written in it is JSON, so that
// nobody can change it from outside, and times and maps come back as they would
// from a disk.
type Memory struct {
	forget func(gone []belfry.Subscription) error

	// Remember writes what was learnt of subscriptions. Nil remembers nothing.
	Remember func(learnt []belfry.Subscription)

	mu      sync.Mutex // guards what follows and what is in it
	records map[string]*record
	claims  map[broadcasts.Key]broadcasts.Claimed
}

type record struct {
	launch, progress []byte
	until            belfry.Position
	callback         string // the URL, until it is called
	course           broadcasts.Course
	lines            map[broadcasts.HostID][]broadcasts.OpenRow // sorted
	running          bool
}

// NewMemory returns an empty journal. forget removes subscriptions, all of them
// or, with an error, none; nil removes nothing.
func NewMemory(forget func(gone []belfry.Subscription) error) *Memory {
	if forget == nil {
		forget = func([]belfry.Subscription) error { return nil }
	}
	return &Memory{forget: forget, records: map[string]*record{}, claims: map[broadcasts.Key]broadcasts.Claimed{}}
}

// Create writes a new broadcast, unless its claim has made one.
func (m *Memory) Create(_ context.Context, b broadcasts.Broadcast, c *broadcasts.Claim) (broadcasts.Broadcast, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c != nil {
		if earlier, err := m.claimed(*c, b.Created); !errors.Is(err, belfry.ErrNotFound) {
			return earlier, err
		}
		m.claims[c.Key] = broadcasts.NewClaimed(*c, b)
	}
	m.records[b.ID] = &record{until: b.Until, callback: b.Callback.Reveal(), lines: map[broadcasts.HostID][]broadcasts.OpenRow{}}
	if err := m.records[b.ID].keep(b.Launch); err != nil {
		return b, err
	}
	return b, m.write(broadcasts.Change{Broadcast: b})
}

// Claimed returns the broadcast that a claim has made.
func (m *Memory) Claimed(_ context.Context, c broadcasts.Claim, now time.Time) (broadcasts.Broadcast, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.claimed(c, now)
}

func (m *Memory) claimed(c broadcasts.Claim, now time.Time) (broadcasts.Broadcast, error) {
	maps.DeleteFunc(m.claims, func(_ broadcasts.Key, was broadcasts.Claimed) bool { return !was.Stands(now) })
	was, there := m.claims[c.Key]
	if !there {
		return broadcasts.Broadcast{}, unknown()
	}
	if _, err := was.Answers(c, now); err != nil {
		return broadcasts.Broadcast{}, err
	}
	return m.read(was.ID)
}

func unknown() error {
	return &belfry.Error{Kind: belfry.ErrNotFound, Code: "not-found", Text: "no such broadcast"}
}

// Commit writes changes, and forgets who is gone first, since that may fail.
func (m *Memory) Commit(_ context.Context, changes []broadcasts.Change, gone []belfry.Subscription) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(gone) > 0 {
		if err := m.forget(gone); err != nil {
			return err
		}
	}
	for _, c := range changes {
		if len(c.Learnt) > 0 && m.Remember != nil {
			m.Remember(c.Learnt)
		}
		if err := m.write(c); err != nil {
			return err
		}
	}
	return nil
}

func (m *Memory) write(c broadcasts.Change) (err error) {
	r := m.records[c.ID]
	r.running, r.course = !c.Ended(), c.Course
	for turn, try := range c.Rows {
		line := r.lines[turn.Host]
		i, there := slices.BinarySearchFunc(line, turn, compare)
		switch {
		case try == nil && there:
			r.lines[turn.Host] = slices.Delete(line, i, i+1)
		case try != nil && there:
			line[i].Try = *try
		case try != nil:
			r.lines[turn.Host] = slices.Insert(line, i, broadcasts.OpenRow{Turn: turn, Try: *try})
		}
	}
	if c.Ended() {
		clear(r.lines)
		if err := r.keep(c.Launch.Wiped()); err != nil {
			return err
		}
	}
	r.progress, err = json.Marshal(c.Progress)
	return err
}

func (r *record) keep(l broadcasts.Launch) (err error) {
	r.launch, err = json.Marshal(l)
	return err
}

// Open counts the open rows of a broadcast.
func (m *Memory) Open(_ context.Context, id string) (map[broadcasts.HostID]int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	open := map[broadcasts.HostID]int{}
	if r := m.records[id]; r != nil {
		for host, line := range r.lines {
			if len(line) > 0 {
				open[host] = len(line)
			}
		}
	}
	return open, nil
}

// Turns returns the first in the line of one push service.
func (m *Memory) Turns(_ context.Context, id string, host broadcasts.HostID, limit int) (rows []broadcasts.OpenRow, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r := m.records[id]; r != nil {
		rows = slices.Clone(r.lines[host][:min(limit, len(r.lines[host]))])
	}
	return rows, nil
}

func compare(a broadcasts.OpenRow, b broadcasts.Turn) int {
	return cmp.Or(cmp.Compare(a.Next, b.Next), cmp.Compare(a.At, b.At))
}

// Get returns one broadcast.
func (m *Memory) Get(_ context.Context, id string) (broadcasts.Broadcast, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.read(id)
}

func (m *Memory) read(id string) (b broadcasts.Broadcast, err error) {
	r := m.records[id]
	if r == nil {
		return b, unknown()
	}
	if err := json.Unmarshal(r.launch, &b.Launch); err != nil {
		return b, err
	}
	b.Until, b.Course = r.until, r.course
	if r.running && r.callback != "" {
		b.Callback = belfry.StoredCallback(r.callback)
	}
	return b, json.Unmarshal(r.progress, &b.Progress)
}

// List returns broadcasts from the newest on.
func (m *Memory) List(_ context.Context, after string, limit int) ([]broadcasts.Broadcast, error) {
	return m.newest(limit, func(id string, _ *record) bool { return after == "" || id < after })
}

// Unfinished returns the broadcasts that have not ended and are free for holder.
func (m *Memory) Unfinished(_ context.Context, holder string, now time.Time) (list []broadcasts.Broadcast, damaged []string, err error) {
	list, err = m.newest(math.MaxInt, func(_ string, r *record) bool { return r.running && r.course.Lease.Free(holder, now) })
	return list, nil, err
}

// Topic returns the broadcasts of a topic.
func (m *Memory) Topic(_ context.Context, header string) ([]broadcasts.Broadcast, error) {
	list, err := m.newest(math.MaxInt, func(string, *record) bool { return true })
	return slices.DeleteFunc(list, func(b broadcasts.Broadcast) bool { return b.Message.TopicHeader() != header }), err
}

// Uncalled returns the broadcasts whose callback is not over.
func (m *Memory) Uncalled(context.Context) (list []broadcasts.Broadcast, damaged []string, err error) {
	list, err = m.newest(math.MaxInt, func(_ string, r *record) bool { return !r.running && r.callback != "" })
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range list {
		list[i].Callback = belfry.StoredCallback(m.records[list[i].ID].callback)
	}
	return list, nil, err
}

// Called forgets a callback.
func (m *Memory) Called(_ context.Context, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r := m.records[id]; r != nil {
		r.callback = ""
	}
	return nil
}

func (m *Memory) newest(limit int, wanted func(string, *record) bool) (list []broadcasts.Broadcast, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var ids []string
	for id, r := range m.records {
		if wanted(id, r) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	slices.Reverse(ids)
	for _, id := range ids[:min(limit, len(ids))] {
		b, err := m.read(id)
		if err != nil {
			return nil, err
		}
		list = append(list, b)
	}
	return list, nil
}
