package belfry_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/belfry-push/belfry"

// floorPlan says what of this house each part may import; "." is the ground
// floor, the words. A part is a folder with all below it, unless what is below
// has a row of its own. Imports run downward only and never from room to room:
// what a room needs of a neighbour it declares as an interface, and cmd ties the
// knot. Rows for what is not built yet do no harm.
var floorPlan = map[string][]string{
	".": {},

	"internal":        {"."},
	"internal/config": {"."},

	"keys":            {".", "internal"},
	"sender":          {".", "internal"},
	"sender/pushtest": {"."}, // our users' tests import it too: no room comes along
	"subscriptions":   {".", "internal"},
	"broadcasts":      {".", "internal"},
	"live":            {".", "internal"},
	"tokens":          {".", "internal"},
	"webhooks":        {".", "internal"},
	"receipts":        {".", "internal"},
	"serviceworker":   {".", "internal"},

	"web": {".", "internal", "keys", "subscriptions", "broadcasts", "live", "tokens", "receipts", "serviceworker"},

	"cmd":     anything,
	"e2e":     anything,
	"faults":  anything,
	"interop": anything,
	"bench":   anything,
}

var anything = []string{"*"}

// forTests is what the tests of every part may import besides: real push
// services are slow and far, ours is not.
var forTests = []string{".", "internal", "sender/pushtest"}

// ofTests are the parts that only tests import.
var ofTests = []string{"internal/vectors", "internal/process", "internal/outbound/outboundtest"}

// tried are the rooms whose outer tests (package x_test) may try them with their
// real neighbours: what one asks of another through an interface must fit.
var tried = []string{"broadcasts"}

// kept says who alone may import a library, so that it can be exchanged in one place.
var kept = map[string][]string{
	"github.com/gin-gonic":   {"web"},
	"github.com/gin-contrib": {"web"},
	"github.com/golang-jwt":  {"keys"},
	"golang.org/x/net/http2": {"internal/h2"},
	"go.etcd.io/bbolt":       {"subscriptions", "broadcasts", "live", "tokens", "receipts", "internal/boltfile", "cmd"},

	"github.com/prometheus": {"web", "cmd"}, // rooms do not know that they are counted
}

// A part of the house as `go list` tells of it.
type part struct {
	ImportPath, Dir                    string
	Imports, TestImports, XTestImports []string
	IgnoredGoFiles                     []string
}

// The floor plan holds. A room that knows another cannot be understood, tested
// or replaced alone, and a circle is only one more import away.
func TestImportsRunDownward(t *testing.T) {
	parts := listParts(t)
	if !slices.ContainsFunc(parts, func(p part) bool { return p.ImportPath == module }) {
		t.Fatal("go list did not find the house")
	}
	for _, p := range parts {
		for _, wrong := range faults(p) {
			t.Error(wrong)
		}
	}
}

func listParts(t *testing.T) []part {
	t.Helper()
	watchTree(t)
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Dir,Imports,TestImports,XTestImports,IgnoredGoFiles", "./...")
	var told bytes.Buffer
	cmd.Stderr = &told
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v: %s", err, &told)
	}
	var parts []part
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p part
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return parts
		} else if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(p.ImportPath, "/node_modules/") {
			continue // npm packages bring Go files along
		}
		addIgnored(t, &p)
		parts = append(parts, p)
	}
}

// addIgnored adds what files for other systems import; go list leaves them out.
func addIgnored(t *testing.T, p *part) {
	t.Helper()
	for _, name := range p.IgnoredGoFiles {
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range file.Imports {
			path, _ := strconv.Unquote(spec.Path.Value)
			if strings.HasSuffix(name, "_test.go") {
				p.XTestImports = append(p.XTestImports, path)
			} else {
				p.Imports = append(p.Imports, path)
			}
		}
	}
}

// watchTree reads every folder of the house. go test keeps the result of a test
// until a file that the test opened has changed, and it does not see what go
// list opens.
func watchTree(t *testing.T) {
	t.Helper()
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() && path != "." && (d.Name() == "node_modules" || d.Name()[0] == '.' || d.Name()[0] == '_') {
			return filepath.SkipDir
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// faults says which imports of p the floor plan does not have.
func faults(p part) (wrong []string) {
	name := local(p.ImportPath)
	home, may, drawn := row(name)
	if !drawn {
		return []string{name + " is not on the floor plan: draw it there, on its floor"}
	}
	refuse := func(text, path string) { wrong = append(wrong, fmt.Sprintf("%s imports %s: %s", name, path, text)) }
	for _, path := range p.Imports {
		if target := local(path); target != "" {
			switch {
			case slices.Contains(ofTests, target):
				refuse("only tests may", path)
			case !reaches(home, may, target):
				refuse("imports run downward, and never from room to room", path)
			}
			continue
		}
		if home == "." && strings.Contains(strings.Split(path, "/")[0], ".") {
			refuse("the ground floor stands on the standard library alone", path)
		}
		for library, owners := range kept {
			if within(path, library) && !slices.ContainsFunc(owners, func(o string) bool { return within(name, o) }) {
				refuse("only "+strings.Join(owners, ", ")+" may", path)
			}
		}
	}
	if home == "web" || slices.Equal(may, anything) {
		return wrong // their tests knot the rooms together, as cmd does
	}
	tests := slices.Clone(p.TestImports)
	if !slices.Contains(tried, home) {
		tests = append(tests, p.XTestImports...)
	}
	for _, path := range tests {
		if target := local(path); target != "" && !reaches(home, slices.Concat(may, forTests), target) {
			refuse("a test of a room knows its room, the words and sender/pushtest", path)
		}
	}
	return wrong
}

// row finds the plan's row for a part: its own, or that of a folder above.
func row(name string) (home string, may []string, drawn bool) {
	for home = name; home != "" && (home != "." || name == "."); home = filepath.ToSlash(filepath.Dir(home)) {
		if may, drawn = floorPlan[home]; drawn {
			return home, may, true
		}
	}
	return "", nil, false
}

// reaches reports whether a part at home that may import may also imports target.
func reaches(home string, may []string, target string) bool {
	to, _, _ := row(target)
	switch {
	case slices.Contains(may, "*"), to == home:
		return true
	case to == "internal/config":
		return false // what was set is handed down by cmd as plain values
	}
	return slices.Contains(may, to)
}

// local is the name in the plan of what path imports, or empty for what is not ours.
func local(path string) string {
	if path == module {
		return "."
	}
	name, ours := strings.CutPrefix(path, module+"/")
	if !ours {
		return ""
	}
	return name
}

func within(path, parent string) bool { return path == parent || strings.HasPrefix(path, parent+"/") }

// The judge of the plan is tested with houses that are not built as drawn: one
// that lets everything pass would never be noticed.
func TestTheFloorPlanIsHeld(t *testing.T) {
	of := func(names ...string) (paths []string) {
		for _, name := range names {
			if name == "." {
				paths = append(paths, module)
			} else {
				paths = append(paths, module+"/"+name)
			}
		}
		return paths
	}
	bolt, gin := []string{"go.etcd.io/bbolt"}, []string{"github.com/gin-gonic/gin"}
	for _, tt := range []struct {
		name  string
		p     part
		wrong int
	}{
		{"words on the library", part{ImportPath: module, Imports: []string{"fmt", "encoding/json"}, XTestImports: of(".", "internal/vectors")}, 0},
		{"words on a room", part{ImportPath: module, Imports: of("keys")}, 1},
		{"words on internal", part{ImportPath: module, Imports: of("internal/id")}, 1},
		{"words on another's code", part{ImportPath: module, Imports: []string{"golang.org/x/time/rate"}}, 1},
		{"words tested with a room", part{ImportPath: module, XTestImports: of("sender")}, 1},
		{"a room on the words", part{ImportPath: module + "/sender", Imports: of(".", "internal/id"), XTestImports: of("sender", "sender/pushtest", "internal/vectors")}, 0},
		{"a room on two rooms", part{ImportPath: module + "/broadcasts", Imports: of("sender", "subscriptions")}, 2},
		{"a room on the front door", part{ImportPath: module + "/live", Imports: of("web")}, 1},
		{"a room on the roof", part{ImportPath: module + "/live", Imports: of("cmd/belfry")}, 1},
		{"a room on the settings", part{ImportPath: module + "/keys", Imports: of("internal/config")}, 1},
		{"a room on the vectors", part{ImportPath: module + "/keys", Imports: of("internal/vectors")}, 1},
		{"a room on its test double", part{ImportPath: module + "/sender", Imports: of("sender/pushtest")}, 1},
		{"a room's own folder", part{ImportPath: module + "/broadcasts/broadcaststest", Imports: of(".", "broadcasts")}, 0},
		{"a room's own folder on a room", part{ImportPath: module + "/broadcasts/broadcaststest", Imports: of("subscriptions")}, 1},
		{"a room tested with a room", part{ImportPath: module + "/keys", XTestImports: of("subscriptions"), TestImports: of("sender")}, 2},
		{"a room tried with its neighbours", part{ImportPath: module + "/broadcasts", XTestImports: of("subscriptions", "sender")}, 0},
		{"a room's inner test on a neighbour", part{ImportPath: module + "/broadcasts", TestImports: of("subscriptions")}, 1},
		{"the test double on its room", part{ImportPath: module + "/sender/pushtest", Imports: of("sender")}, 1},
		{"internal on a room", part{ImportPath: module + "/internal/boltfile", Imports: of(".", "keys")}, 1},
		{"the front door", part{ImportPath: module + "/web", Imports: append(of(".", "keys", "broadcasts", "live"), gin...), XTestImports: append(of("sender"), bolt...)}, 0},
		{"the front door on the sender", part{ImportPath: module + "/web", Imports: of("sender")}, 1},
		{"the front door on bbolt", part{ImportPath: module + "/web", Imports: bolt}, 1},
		{"gin in a room", part{ImportPath: module + "/live", Imports: gin}, 1},
		{"bbolt in its rooms", part{ImportPath: module + "/tokens", Imports: bolt}, 0},
		{"bbolt where it is opened", part{ImportPath: module + "/internal/boltfile", Imports: bolt}, 0},
		{"bbolt elsewhere below", part{ImportPath: module + "/internal/id", Imports: []string{"go.etcd.io/bbolt/errors"}}, 1},
		{"bbolt in keys", part{ImportPath: module + "/keys", Imports: bolt}, 1},
		{"the roof", part{ImportPath: module + "/cmd/belfry", Imports: append(of(".", "sender", "internal/config", "web"), bolt...)}, 0},
		{"a room that nobody drew", part{ImportPath: module + "/utils"}, 1},
	} {
		if got := faults(tt.p); len(got) != tt.wrong {
			t.Errorf("%s: %d faults, not %d: %q", tt.name, len(got), tt.wrong, got)
		}
	}
}

// There is no switch that skips the check of a certificate, not even a hidden
// one: it would be found and left on (SEC-07).
func TestCertificatesAreAlwaysChecked(t *testing.T) {
	found := 0
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && d.Name() == "node_modules" {
			return cmp.Or(err, fs.SkipDir)
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		source, err := os.ReadFile(path)
		if found++; bytes.Contains(source, []byte("InsecureSkip"+"Verify")) {
			t.Errorf("%s can skip the check", path)
		}
		return err
	})
	if err != nil || found < 50 {
		t.Errorf("%d files read, %v", found, err)
	}
}
