// Package serviceworker holds what runs in the browser: the worker that shows
// what is pushed (sw.js) and the page kit, which registers a browser (belfry.js,
// with its types) and hears live what is broadcast (live.js).
//
// It carries the files as they are, for web to serve. It has no behaviour of
// its own in Go, and nothing builds or shrinks the files: what you read here is
// what the browser runs.
package serviceworker

import "embed"

// Files are the kit: sw.js, belfry.js, live.js and belfry.d.ts.
//
//go:embed sw.js belfry.js live.js belfry.d.ts
var Files embed.FS
