//go:build faults

package faults

import (
	"context"
	"fmt"
	"regexp"
	"testing"
	"time"
)

// A second server on the same data ends at once and names the first, which does
// not notice; one that was killed stands in nobody's way (REL-20).
func TestSecondServer(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	s := newServer(ctx, t)
	s.run()
	longest := time.Duration(0)
	for range size(2, 10) {
		got := run(ctx, t, belfry(t, append([]string{"serve"}, s.flags...)...))
		longest = max(longest, got.took)
		if want := fmt.Sprintf(`^belfry: another belfry is already running on \S+ \(process %d\)\nhint: `, s.life.PID()); got.code != 1 || !regexp.MustCompile(want).MatchString(got.err) {
			t.Errorf("it exits with %d and says %s", got.code, got.err)
		}
		s.registered()
	}
	s.kill()
	s.run()
	s.stop()
	if longest > size(20*time.Second, 2*time.Second) {
		t.Errorf("it took %s to end", longest)
	}
	t.Logf("REL-20: a second server ends within %d ms and names the first; after kill -9 the next one starts", longest.Milliseconds())
}
