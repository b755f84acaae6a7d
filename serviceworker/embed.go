// Package serviceworker holds what runs in the browser: the worker that shows
// what is pushed (sw.js) and the page kit, which registers a browser (belfry.js,
// with its types), hears live what is broadcast (live.js) and shows both in elements
// to place on a page (elements.js).
//
// It carries the files for web to serve, and has no other behaviour in Go. They
// are printed into the folder kit from the sources beside this file, without
// their comments and with their names (docs/decisions/0022). Only who changes
// the kit needs that step.
package serviceworker

import (
	"embed"
	"io/fs"
)

//go:generate go tool esbuild sw.js belfry.js live.js elements.js --outdir=kit --minify-whitespace --minify-syntax --target=es2022 --charset=utf8 --legal-comments=inline --log-level=warning

//go:embed kit/*.js kit/*.d.ts
var printed embed.FS

// Files returns the kit as browsers get it: scripts and their types, in one
// flat folder. What npm wants besides lies in the same folder and is left out.
func Files() fs.FS {
	files, err := fs.Sub(printed, "kit")
	if err != nil {
		panic(err) // the folder is embedded
	}
	return files
}
