package sender

import (
	"context"
	"net/http/httptrace"
	"testing"
	"testing/synctest"
	"time"
)

// What an attempt waits for others is given to it on top, whenever that ends,
// and nothing that comes later gives it more.
func TestPatience(t *testing.T) {
	const never = -1
	tests := []struct {
		name          string
		queued, begun time.Duration // since the attempt's beginning
		again         time.Duration // queued and begun once more
		ended         time.Duration
	}{
		{name: "no trace", queued: never, begun: never, again: never, ended: timeLimit},
		{name: "at once", queued: 0, begun: 0, again: never, ended: timeLimit},
		{name: "just before it looks", queued: 0, begun: timeLimit - 1, again: never, ended: 2*timeLimit - 1},
		{name: "just after it looked", queued: 0, begun: timeLimit + 1, again: never, ended: 2*timeLimit + 1},
		{name: "after a long wait", queued: 0, begun: 115 * time.Second, again: never, ended: 125 * time.Second},
		{name: "never", queued: 0, begun: never, again: never, ended: queueLimit},
		{name: "never, and late", queued: 3 * time.Second, begun: never, again: never, ended: queueLimit + 3*time.Second},
		{name: "replayed", queued: 0, begun: 3 * time.Second, again: 9 * time.Second, ended: 13 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				limited, stop := withPatience(t.Context())
				defer stop()
				trace := httptrace.ContextClientTrace(limited)
				for i, at := range []time.Duration{tt.queued, tt.begun, tt.again, tt.again} {
					if at == never {
						continue
					}
					time.Sleep(at - time.Since(began))
					if i%2 == 0 {
						trace.GetConn("")
					} else {
						trace.GotConn(httptrace.GotConnInfo{})
					}
				}
				<-limited.Done()
				if took := time.Since(began); took != tt.ended || context.Cause(limited) != context.DeadlineExceeded {
					t.Errorf("ended after %v by %v, want %v", took, context.Cause(limited), tt.ended)
				}
			})
		})
	}
}
