package subscriptions

import "context"

// IndexAll indexes what waits for it, however little.
func (s *Store) IndexAll(ctx context.Context) error {
	s.importing.Lock()
	defer s.importing.Unlock()
	return s.index(ctx)
}
