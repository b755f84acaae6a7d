//go:build linux

package main

import (
	"context"
	"errors"
	"time"

	"github.com/belfry-push/belfry/bench/rig"
)

// A large is what was seen of the large broadcast.
type large struct {
	turn
	rows  int
	few   int           // rows of the small broadcasts around it
	small []turn        // those: right before and right after it
	idle  rig.Memory    // of the server before it
	peak  rig.Memory    // and at most while it ran
	again time.Duration // from the start of a server whose forerunner was killed to the first message at the sink
	ready time.Duration // and until it listened
}

// measureLarge broadcasts to all browsers, and to few of them by the server small
// before and after. The server of all is a new one: what the import took is given
// back slowly, and would count as idle.
func (c *course) measureLarge(ctx context.Context, small *rig.Server) (l large, err error) {
	l.rows, l.few = c.many, c.few
	s, err := c.filled(ctx, manyFile, c.many)
	if err != nil {
		return l, err
	}
	defer func() { err = errors.Join(err, s.Stop()) }()
	if err := s.Stop(); err != nil {
		return l, err
	}
	if s, err = c.serve(ctx, manyFile+".data"); err != nil {
		return l, err
	}
	if err := l.takeSmall(ctx, small); err != nil {
		return l, err
	}
	l.idle = rig.MemoryOf(s.PID())
	watch := rig.WatchMemory(s.PID())
	l.turn, err = broadcast(ctx, s, c.many)
	l.peak, _ = watch()
	if err != nil {
		return l, err
	}
	if err := l.takeSmall(ctx, small); err != nil {
		return l, err
	}
	if err := c.killMidway(ctx, s); err != nil {
		return l, err
	}
	began := time.Now()
	if s, err = c.serve(ctx, manyFile+".data"); err != nil {
		return l, err
	}
	l.ready = s.Ready
	first, err := c.firstRequest(ctx)
	l.again = first.Sub(began)
	return l, err
}

func (l *large) takeSmall(ctx context.Context, s *rig.Server) error {
	t, err := broadcast(ctx, s, l.few)
	l.small = append(l.small, t)
	return err
}

// killMidway lets another broadcast come through a quarter of its audience and
// kills the server. It returns when the sink has seen the last of it.
func (c *course) killMidway(ctx context.Context, s *rig.Server) error {
	before, err := c.sink.Look()
	if err != nil {
		return err
	}
	if _, err := send(ctx, s, "--detach"); err != nil {
		return err
	}
	for seen := before; seen.Requests < before.Requests+int64(c.many/4); {
		if seen, err = c.look(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
	if err := s.Kill(); err != nil {
		return err
	}
	for before, seen := int64(-1), int64(0); before != seen; {
		before = seen
		now, err := c.look(ctx, 200*time.Millisecond)
		if err != nil {
			return err
		}
		seen = now.Requests
	}
	return nil
}

// firstRequest waits for a request at the sink, and returns when it came.
func (c *course) firstRequest(ctx context.Context) (time.Time, error) {
	for {
		seen, err := c.look(ctx, 5*time.Millisecond)
		if err != nil || !seen.First.IsZero() {
			return seen.First, err
		}
	}
}

// look asks the sink what it has seen, after a while.
func (c *course) look(ctx context.Context, after time.Duration) (rig.Seen, error) {
	select {
	case <-time.After(after):
		return c.sink.Look()
	case <-ctx.Done():
		return rig.Seen{}, ctx.Err()
	}
}
