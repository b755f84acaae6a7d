package main

import (
	"fmt"
	"io"
	"os"
	"slices"
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

// A bar shows on a terminal how far something is, and nothing anywhere else. It
// leaves nothing behind.
type bar struct {
	*progressbar.ProgressBar
	to      io.Writer
	columns func() int
	below   *[]string // the lines under it
}

func (a *app) newBar(most int64, more ...progressbar.Option) bar {
	if !a.onTerminal() {
		return bar{}
	}
	terminal := int(a.err.(*os.File).Fd())
	return bar{progressbar.NewOptions64(most, append(more, progressbar.OptionSetWriter(a.err), progressbar.OptionFullWidth(),
		progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish())...), a.err, func() int {
		width, _, err := term.GetSize(terminal)
		if err != nil || width == 0 {
			return 80
		}
		return width
	}, new([]string)}
}

// bar is for a broadcast.
func (a *app) bar(targets int) bar {
	return a.newBar(int64(targets), progressbar.OptionShowDescriptionAtLineEnd(), progressbar.OptionSetElapsedTime(false), progressbar.OptionSetPredictTime(false))
}

// show moves the bar and says what a bar cannot: beside it as far as there is
// room, and under it.
func (b bar) show(now broadcasts.Broadcast) {
	if b.ProgressBar == nil {
		return
	}
	if now.State == broadcasts.Scheduled {
		b.Describe("starts at " + now.Starts.Local().Format(time.RFC3339))
		return
	}
	text, more := progressText(now)
	// A percentage and a bar that can be seen to move take some 30 columns.
	for room := b.columns() - 30; len(more) > 0 && len(text)+2+len(more[0]) <= room; more = more[1:] {
		text += ", " + more[0]
	}
	b.Describe(text)
	b.Set(now.Counts.Targets - now.Counts.Pending)
	b.under(under(now, more, b.columns()-1))
}

// under replaces the lines under the bar, and leaves the cursor at its beginning.
func (b bar) under(lines []string) {
	if slices.Equal(lines, *b.below) {
		return
	}
	*b.below = lines
	fmt.Fprintf(b.to, "\n\x1b[J%s\x1b[%dA\r", strings.Join(lines, "\n"), max(1, len(lines)))
}

// meter is for a file of size octets that is read, -1 where that is not known.
func (a *app) meter(size int64, doing string) bar {
	return a.newBar(size, progressbar.OptionSetDescription(doing), progressbar.OptionShowBytes(true))
}

// reads is r, with the bar moving as it is read.
func (b bar) reads(r io.Reader) io.Reader {
	if b.ProgressBar == nil {
		return r
	}
	return io.TeeReader(r, b)
}

// clear makes room for a line of text.
func (b bar) clear() {
	if b.ProgressBar != nil {
		b.Clear()
	}
}

func (b bar) end() {
	if b.ProgressBar != nil {
		b.under(nil)
		b.Finish()
	}
}
