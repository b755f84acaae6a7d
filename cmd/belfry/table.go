package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"
)

// A table lines up its columns. What a person wrote is shown in a cell, so a
// cell holds no character that would move the cursor (SEC-48).
type table struct{ *tabwriter.Writer }

func newTable(w io.Writer) table { return table{tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)} }

func (t table) row(cells ...string) {
	for i, c := range cells {
		cells[i] = plain(c)
	}
	fmt.Fprintln(t, strings.TrimRight(strings.Join(cells, "\t"), "\t"))
}

// plain replaces what is not text: tabs and line ends by a space, other control
// characters and broken UTF-8 by a mark.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			return ' '
		case r != ' ' && !unicode.IsPrint(r):
			return utf8.RuneError
		}
		return r
	}, s)
}

// short cuts what would make a line of a table too long to read.
func short(s string, most int) string {
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	return string([]rune(s)[:most-1]) + "…"
}

// stamp is a time as tables show it, or a dash for none.
func stamp(t *time.Time) string {
	if t == nil || t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}

// names is a list in one cell, or a dash for none.
func names(list []string) string {
	if len(list) == 0 {
		return "-"
	}
	return strings.Join(list, ",")
}

// dash stands where there is nothing to say.
func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// facts prints one fact a line. What has no value is left out.
func facts(w io.Writer, list [][2]string) {
	t := newTable(w)
	for _, f := range list {
		if f[1] != "" {
			t.row(f[0], f[1])
		}
	}
	t.Flush()
}
