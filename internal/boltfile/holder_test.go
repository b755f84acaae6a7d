package boltfile

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// A sidecar that a killed process left behind must not send the operator after
// a process that is not there.
func TestHolder(t *testing.T) {
	t.Parallel()
	db := filepath.Join(t.TempDir(), "belfry.db")
	if got := holder(db); got != "" {
		t.Errorf("without a sidecar: %q", got)
	}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	here := fmt.Sprint(os.Getpid())
	for content, want := range map[string]string{
		here + " " + host + "\n":   " (process " + here + ")",
		"":                         "",
		"nonsense\n":               "",
		"12":                       "",
		"-1 " + host + "\n":        "",
		"999999999 " + host + "\n": "",
		"12 " + host + ".else\n":   " (process 12 on " + host + ".else)",
	} {
		if err := os.WriteFile(sidecar(db), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := holder(db); got != want {
			t.Errorf("sidecar %q: %q, want %q", content, got, want)
		}
	}
}
