package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/belfry-push/belfry/broadcasts"
)

// onTerminal reports whether somebody looks at stderr. With --json nobody does.
func (a *app) onTerminal() bool {
	f, ok := a.err.(*os.File)
	return ok && !a.json && term.IsTerminal(int(f.Fd()))
}

// A bar shows on a terminal how far a broadcast is, and nothing anywhere else. It
// leaves nothing behind.
type bar struct{ terminal *os.File }

func (a *app) bar() bar {
	if !a.onTerminal() {
		return bar{}
	}
	return bar{a.err.(*os.File)}
}

// show moves the bar and says what a bar cannot: beside it as far as there is
// room, and under it.
func (b bar) show(now broadcasts.Broadcast) {
	if b.terminal == nil {
		return
	}
	columns, _, err := term.GetSize(int(b.terminal.Fd()))
	if err != nil || columns == 0 {
		columns = 80
	}
	text, more := beside(progressText(now), columns)
	lines := append([]string{barLine(now.Counts, text, columns)}, under(now, more, columns-1)...)
	drawn := strings.Join(lines, "\n")
	if more := len(lines) - 1; more > 0 {
		drawn += fmt.Sprintf("\x1b[%dA", more)
	}
	// All in one write, with the cursor back at the beginning: a terminal shows
	// Ctrl-C where the cursor is, and behind the bar that would begin a new line.
	fmt.Fprint(b.terminal, clearBelow+drawn+"\r")
}

// clearBelow clears the line where the cursor is and all lines under it.
const clearBelow = "\r\x1b[J"

// barLine is a percentage, a bar as long as fits into so many columns but for the
// last one, where some terminals begin a new line, and text.
func barLine(c broadcasts.Counts, text string, columns int) string {
	done, of, length := c.Targets-c.Pending, max(c.Targets, 1), max(columns-10-len(text), 0)
	full := length * done / of
	return strings.TrimRight(fmt.Sprintf("%4d%% |%s%s| %s", 100*done/of, strings.Repeat("█", full), strings.Repeat(" ", length-full), text), " ")
}

func (b bar) end() {
	if b.terminal != nil {
		fmt.Fprint(b.terminal, clearBelow)
	}
}

// A reading shows on a terminal how far a file is read, and nothing anywhere
// else. It leaves nothing behind.
type reading struct{ *progressbar.ProgressBar }

// reading is for a file of size octets, -1 where that is not known.
func (a *app) reading(size int64, doing string) reading {
	if !a.onTerminal() {
		return reading{}
	}
	return reading{progressbar.NewOptions64(size, progressbar.OptionSetDescription(doing), progressbar.OptionShowBytes(true), progressbar.OptionSetWriter(a.err),
		progressbar.OptionFullWidth(), progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish())}
}

// of is in, with the reading going on as that is read.
func (r reading) of(in io.Reader) io.Reader {
	if r.ProgressBar == nil {
		return in
	}
	return io.TeeReader(in, r)
}

// clear makes room for a line of text.
func (r reading) clear() {
	if r.ProgressBar != nil {
		r.Clear()
	}
}

func (r reading) end() {
	if r.ProgressBar != nil {
		r.Finish()
	}
}
