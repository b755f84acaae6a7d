package main

import (
	"fmt"
	"io"
	"os"
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
	terminal int // its file descriptor
}

func (a *app) newBar(most int64, more ...progressbar.Option) bar {
	if !a.onTerminal() {
		return bar{}
	}
	return bar{progressbar.NewOptions64(most, append(more, progressbar.OptionSetWriter(a.err), progressbar.OptionFullWidth(),
		progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish())...), int(a.err.(*os.File).Fd())}
}

// bar is for a broadcast.
func (a *app) bar(targets int) bar {
	return a.newBar(int64(targets), progressbar.OptionShowDescriptionAtLineEnd(), progressbar.OptionSetElapsedTime(false), progressbar.OptionSetPredictTime(false))
}

// show moves the bar and says beside it what a bar cannot, as far as there is room.
func (b bar) show(now broadcasts.Broadcast) {
	if b.ProgressBar == nil {
		return
	}
	if now.State == broadcasts.Scheduled {
		b.Describe("starts at " + now.Starts.Local().Format(time.RFC3339))
		return
	}
	n := now.Counts
	text, more := fmt.Sprintf("%d of %d", n.Targets-n.Pending, n.Targets), []string(nil)
	if now.State == broadcasts.Paused {
		more = append(more, ", paused")
	}
	if n.Failed > 0 {
		more = append(more, fmt.Sprintf(", %d failed", n.Failed))
	}
	if now.ETA != nil {
		more = append(more, fmt.Sprintf(", %s left", max(time.Until(*now.ETA), 0).Round(time.Second)))
	}
	if now.Pace > 0 && now.State == broadcasts.Running {
		more = append(more, fmt.Sprintf(", %.0f/s", now.Pace))
	}
	// A percentage and a bar that can be seen to move take some 30 columns.
	for room := b.columns() - 30; len(more) > 0 && len(text)+len(more[0]) <= room; more = more[1:] {
		text += more[0]
	}
	b.Describe(text)
	b.Set(n.Targets - n.Pending)
}

func (b bar) columns() int {
	width, _, err := term.GetSize(b.terminal)
	if err != nil {
		return 80
	}
	return width
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
		b.Finish()
	}
}
