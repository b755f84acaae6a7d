package main

import (
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"encoding/base64"
	"fmt"
	"io/fs"
	"runtime"
	"runtime/debug"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/belfry-push/belfry/serviceworker"
)

func (a *app) versionCommand() *cobra.Command {
	kit := false
	c := &cobra.Command{Use: "version", Short: "Print the version, or the files that browsers get", Args: args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			switch {
			case kit:
				return a.printKit()
			case a.json:
				return a.printJSON(map[string]string{"version": version(), "go": runtime.Version(), "os": runtime.GOOS, "arch": runtime.GOARCH})
			}
			_, err := fmt.Fprintf(a.out, "belfry %s %s %s/%s\n", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		}}
	c.Flags().BoolVar(&kit, "kit", false, "print of each file of the browser kit its size, its size gzipped, and its hash for integrity=")
	return c
}

// A kitFile is a script of the browser kit as a site refers to it.
type kitFile struct {
	Name      string `json:"name"`
	Size      int    `json:"size"`    // octets
	Gzipped   int    `json:"gzipped"` // octets, at gzip's best
	Integrity string `json:"integrity"`
}

// printKit tells a site what it lets its visitors run: a page that names the
// hash runs that very file and no other (SEC-35).
func (a *app) printKit() error {
	files, err := kitFiles()
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(map[string]any{"version": version(), "kit": files})
	}
	t := newTable(a.out)
	t.row("FILE", "SIZE", "GZIPPED", "INTEGRITY")
	for _, f := range files {
		t.row(f.Name, strconv.Itoa(f.Size), strconv.Itoa(f.Gzipped), f.Integrity)
	}
	return t.Flush()
}

func kitFiles() ([]kitFile, error) {
	kit := serviceworker.Files()
	names, err := fs.Glob(kit, "*.js")
	if err != nil {
		return nil, err
	}
	files := make([]kitFile, len(names))
	for i, name := range names {
		content, err := fs.ReadFile(kit, name)
		if err != nil {
			return nil, err
		}
		var small bytes.Buffer
		zip, err := gzip.NewWriterLevel(&small, gzip.BestCompression)
		if err != nil {
			return nil, err
		}
		zip.Write(content) // into memory: it cannot fail
		zip.Close()
		sum := sha512.Sum384(content)
		files[i] = kitFile{name, len(content), small.Len(), "sha384-" + base64.StdEncoding.EncodeToString(sum[:])}
	}
	return files, nil
}

// version is what the build recorded: a module version, else the commit.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value[:min(12, len(s.Value))]
		}
	}
	return "devel"
}
