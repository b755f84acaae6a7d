// Package vectors holds the exact test vectors that the house is held against:
// RFC examples, sizes, keys, endpoints, topics, answers, declarative payloads.
// Only tests read it.
package vectors

import (
	"embed"
	"encoding/json"
	"testing"
)

//go:embed *.json
var files embed.FS

// Load reads name.json into v, or ends the test.
func Load(t testing.TB, name string, v any) {
	t.Helper()
	b, err := files.ReadFile(name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatalf("vectors: %s: %v", name, err)
	}
}
