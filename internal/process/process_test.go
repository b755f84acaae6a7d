//go:build unix

package process_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/belfry-push/belfry/internal/process"
)

// A browser that crashes while it starts says nothing about what is tested with it.
func TestStartReady(t *testing.T) {
	been := filepath.Join(t.TempDir(), "been")
	starts := 0
	command := func() *exec.Cmd {
		starts++
		return exec.Command("sh", "-c", `if mkdir "$0" 2>/dev/null; then kill -SEGV $$; fi; echo "ready on 17"; sleep 60`, been)
	}
	_, match := process.StartReady(t.Context(), t, "sh", command, `ready on (\d+)`)
	if len(match) != 2 || match[1] != "17" || starts != 2 {
		t.Errorf("%q after %d starts", match, starts)
	}
	if _, err := os.Stat(been); err != nil {
		t.Error("it did not crash first")
	}
}
