package live

import (
	"net/netip"
	"sync"
)

// A quota counts connections, so that neither one address nor one user nor all
// together can use up the descriptors (SEC-46).
type quota struct {
	limits HubConfig

	mu    sync.Mutex // guards what follows
	total int
	from  map[netip.Prefix]int
	users map[string]int
}

func (q *quota) open(limits HubConfig) {
	q.limits, q.from, q.users = limits, map[netip.Prefix]int{}, map[string]int{}
}

// room reports why there is none for one more.
func (q *quota) room(from netip.Prefix, user string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.full(from, user)
}

func (q *quota) full(from netip.Prefix, user string) error {
	over := func(n, limit int) bool { return limit >= 0 && n >= limit }
	switch {
	case over(q.total, q.limits.Total):
		return ErrCrowded
	case over(q.from[from], q.limits.PerAddress), user != "" && over(q.users[user], q.limits.PerUser):
		return ErrTooMany
	}
	return nil
}

func (q *quota) take(from netip.Prefix, user string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.full(from, user); err != nil {
		return err
	}
	q.total++
	q.from[from]++
	if user != "" {
		q.users[user]++
	}
	return nil
}

func (q *quota) give(from netip.Prefix, user string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.total--
	less(q.from, from)
	if user != "" {
		less(q.users, user)
	}
}

// less counts one down, and forgets what comes to nothing.
func less[K comparable](counts map[K]int, of K) {
	if counts[of]--; counts[of] <= 0 {
		delete(counts, of)
	}
}

func (q *quota) count() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.total
}
