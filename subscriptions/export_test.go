package subscriptions

import "context"

// IndexAll indexes what waits for it, however little.
func (s *Store) IndexAll(ctx context.Context) error {
	s.indexing.Lock()
	defer s.indexing.Unlock()
	return s.index(ctx)
}
