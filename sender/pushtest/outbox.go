package pushtest

import (
	"context"
	"sync"
)

// An outbox holds frames for one browser, in order, so that nobody who holds the
// service's lock waits for a slow browser.
type outbox struct {
	wake chan struct{} // capacity 1: there is something in queue

	mu    sync.Mutex // guards queue
	queue [][]byte
}

func newOutbox() *outbox { return &outbox{wake: make(chan struct{}, 1)} }

func (o *outbox) put(frame []byte) {
	o.mu.Lock()
	o.queue = append(o.queue, frame)
	o.mu.Unlock()
	select {
	case o.wake <- struct{}{}:
	default: // it is awake already
	}
}

// drain writes frame after frame until ctx ends or one cannot be written.
func (o *outbox) drain(ctx context.Context, write func(frame []byte) error) error {
	for {
		select {
		case <-o.wake:
		case <-ctx.Done():
			return nil
		}
		o.mu.Lock()
		queue := o.queue
		o.queue = nil
		o.mu.Unlock()
		for _, frame := range queue {
			if err := write(frame); err != nil {
				return err
			}
		}
	}
}
