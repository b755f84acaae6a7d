package subscriptions

import (
	"context"

	"github.com/belfry-push/belfry"
)

// Snapshot returns the last position given out and how many rows up to it
// belong to the audience: whom a broadcast is for that begins now. Where the
// count is kept, both are of one moment; where members are counted one by one,
// rows that leave meanwhile may be missing from it.
func (s *Store) Snapshot(ctx context.Context, a belfry.Audience) (until belfry.Position, targets int, err error) {
	err = s.read(ctx, func(t tables) error {
		until, targets = belfry.Position(t.rows.Sequence()), t.kept(a)
		return nil
	})
	if err != nil || targets >= 0 {
		return until, targets, wrap("snapshot", err)
	}
	targets, err = s.countMembers(ctx, a, until)
	return until, targets, wrap("snapshot", err)
}

// Count is the size of an audience now. It is one look for all, for one channel
// and for users; the rest is counted member by member, since channels overlap.
func (s *Store) Count(ctx context.Context, a belfry.Audience) (int, error) {
	_, n, err := s.Snapshot(ctx, a)
	return n, err
}

// kept is the audience's size where a counter says it, else -1.
func (t tables) kept(a belfry.Audience) int {
	switch {
	case a.All:
		return int(t.tally(tallyAll))
	case len(a.Channels) == 1:
		return int(t.tally(tallyChannel + a.Channels[0]))
	case len(a.Users) > 0:
		n := 0
		for _, u := range unique(a.Users) {
			n += int(t.tally(tallyUser + u))
		}
		return n
	}
	return -1
}

// countMembers counts up to until, a step at a time: a long read transaction
// would keep bbolt from using freed pages again.
func (s *Store) countMembers(ctx context.Context, a belfry.Audience, until belfry.Position) (n int, err error) {
	for at, more := uint64(0), true; more && err == nil; {
		more = false
		err = s.read(ctx, func(t tables) error {
			step := 0
			for seq := range t.members(a, at) {
				if seq > uint64(until) {
					break
				}
				if seq <= at { // a damaged key
					continue
				}
				if step == countStep {
					more = true
					break
				}
				step++
				at = seq
			}
			n += step
			return nil
		})
	}
	return n, err
}
