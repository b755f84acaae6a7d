package broadcasts_test

import (
	"context"
	"testing"
	"time"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/broadcasts"
	"github.com/belfry-push/belfry/broadcasts/broadcaststest"
)

// A crowd is an audience of any size that takes no memory.
type crowd struct{ n int }

func (c crowd) Snapshot(context.Context, belfry.Audience) (belfry.Position, int, error) {
	return belfry.Position(c.n), c.n, nil
}

func (c crowd) Page(_ context.Context, _ belfry.Audience, after, until belfry.Position, limit int) ([]belfry.Subscription, belfry.Position, bool, error) {
	rows := make([]belfry.Subscription, 0, limit)
	for at := after + 1; at <= until && len(rows) < limit; at++ {
		rows = append(rows, belfry.Subscription{Seq: at, ID: "01jz0000000000000000000000", Endpoint: benchEndpoint})
	}
	next := after + belfry.Position(len(rows))
	return rows, next, next == until, nil
}

var benchEndpoint = belfry.StoredEndpoint("https://push.example/p/token")

// An instant sender accepts before it is asked.
type instant struct{}

func (instant) Send(context.Context, belfry.Subscription, belfry.PushMessage) belfry.Outcome {
	return belfry.Outcome{Verdict: belfry.Accepted, Status: 201}
}

// BenchmarkEngine is what the engine itself costs a row: paging, lanes,
// verdicts, counting and gathering, without sealing, network or disk.
func BenchmarkEngine(b *testing.B) {
	b.ReportAllocs()
	e, err := broadcasts.New(b.Context(), broadcasts.Config{Journal: broadcaststest.NewMemory(nil), Audience: crowd{b.N}, Sender: instant{}, Origins: []string{site}})
	if err != nil {
		b.Fatal(err)
	}
	defer e.Close(context.Background())
	b.ResetTimer()
	launched, _, err := e.Launch(b.Context(), broadcasts.Request{Message: hello(time.Hour), Audience: everybody})
	if err != nil {
		b.Fatal(err)
	}
	for step := range e.Watch(b.Context(), launched.ID) {
		if step.Ended() && step.Counts.Accepted != b.N {
			b.Errorf("%+v", step.Counts)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}
