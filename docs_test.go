package belfry_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Programs act on the codes of errors, so the list in the documentation must be
// all of them and nothing else.
func TestCodesAreDocumented(t *testing.T) {
	page, err := os.ReadFile("docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(page), "\n## Codes of errors\n")
	if !found {
		t.Fatal("docs/protocol.md has no section for codes")
	}
	var documented []string
	for _, m := range regexp.MustCompile("`([a-z0-9_-]+)`").FindAllStringSubmatch(section, -1) {
		documented = append(documented, m[1])
	}
	used := codesIn(t, ".")
	for code, where := range used {
		if !slices.Contains(documented, code) {
			t.Errorf("%s is used in %s and not documented", code, where)
		}
	}
	for _, code := range documented {
		if used[code] == "" {
			t.Errorf("%s is documented and used nowhere", code)
		}
	}
}

var codeSites = []*regexp.Regexp{
	regexp.MustCompile(`Code:\s+"([a-z0-9_-]*[a-z0-9])"[,}\s]`),
	regexp.MustCompile(`\bInvalid\("([a-z0-9_-]+)"`),
	regexp.MustCompile(`\brefuse\("([a-z0-9_-]+)"`),
}

func codesIn(t *testing.T, root string) map[string]string {
	t.Helper()
	codes := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "node_modules" || d.Name() == "pushtest" || d.Name() == ".git") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, site := range codeSites {
			for _, m := range site.FindAllSubmatch(source, -1) {
				codes[string(m[1])] = path
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return codes
}
