package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/belfry-push/belfry/broadcasts"
)

// A notice is what somebody who waits for a broadcast should know and no count
// says: that it waits for them, or for a push service.
type notice struct{ about, text string }

// theBroadcast is what a notice is about that names no push service.
const theBroadcast = ""

// notices are all that hold now, what an operator has to do first.
func notices(b broadcasts.Broadcast) (list []notice) {
	switch b.State {
	case broadcasts.Paused:
		list = append(list, notice{theBroadcast, paused(b)})
	case broadcasts.Running:
	default:
		return nil
	}
	for _, h := range b.Hosts {
		switch h.State {
		case "waiting":
			list = append(list, notice{h.Host, plain(fmt.Sprintf("%s waits: %s", h.Host, h.Reason))})
		case "paused":
			list = append(list, notice{h.Host, plain(fmt.Sprintf("%s is paused: %s", h.Host, h.Reason))})
		}
	}
	return list
}

// asks reports whether the broadcast waits for a word on its canary.
func asks(b broadcasts.Broadcast) bool {
	return b.State == broadcasts.Paused && b.Reason != nil && *b.Reason == broadcasts.ReasonCanary
}

// paused says why a broadcast is, and what lets it go on.
func paused(b broadcasts.Broadcast) string {
	if asks(b) {
		return fmt.Sprintf("that was the canary; `belfry broadcasts resume %s` rings the rest, `belfry broadcasts cancel %s` does not", b.ID, b.ID)
	}
	if b.Reason == nil || *b.Reason == broadcasts.ReasonOperator {
		return fmt.Sprintf("it is paused; `belfry broadcasts resume %s` lets it go on", b.ID)
	}
	var said []string
	for _, h := range b.Hosts {
		if h.Suspect > 0 {
			said = append(said, fmt.Sprintf("%s says that %d more subscribers are gone", h.Host, h.Suspect))
		}
	}
	return plain(fmt.Sprintf("it is paused, since %s, which are too many to believe: `belfry broadcasts confirm %s` removes them, `belfry broadcasts dismiss %s` keeps them",
		strings.Join(said, " and "), b.ID, b.ID))
}

// A teller writes notices where no terminal shows them: a line each time that one
// begins to hold, is another or is over, however many events there are.
type teller struct {
	to   io.Writer
	said map[string]string // by what it was about
}

// tell says what is new.
func (t *teller) tell(b broadcasts.Broadcast) {
	now := map[string]string{}
	for _, n := range notices(b) {
		now[n.about] = n.text
		if t.said[n.about] != n.text {
			fmt.Fprintf(t.to, "belfry: %s\n", n.text)
		}
	}
	if _, was := t.said[theBroadcast]; was && now[theBroadcast] == "" {
		fmt.Fprintln(t.to, "belfry: it goes on")
	}
	for _, h := range b.Hosts {
		if t.said[h.Host] != "" && now[h.Host] == "" {
			fmt.Fprintf(t.to, "belfry: %s takes messages again\n", plain(h.Host))
		}
	}
	t.said = now
}

// teller tells on stderr, where a person may read it later; whoever asked for
// JSON, or looks at the bar, is told there.
func (a *app) teller() *teller {
	if a.json || a.onTerminal() {
		return &teller{to: io.Discard}
	}
	return &teller{to: a.err}
}

// mostNotices is how many stand under a bar: a terminal may have few lines.
const mostNotices = 5

// under is what stands under a bar: what found no room beside it, then the notices.
func under(b broadcasts.Broadcast, more []string, width int) (lines []string) {
	if len(more) > 0 {
		lines = wrap(strings.Join(more, ", "), width)
	}
	list := notices(b)
	for _, n := range list[:min(len(list), mostNotices)] {
		lines = append(lines, wrap(n.text, width)...)
	}
	if n := len(list) - mostNotices; n > 0 {
		lines = append(lines, wrap(fmt.Sprintf("and %d more; see `belfry broadcasts show %s`", n, b.ID), width)...)
	}
	return lines
}

// wrap breaks text into lines of at most width columns, between words where it
// can. What may be two columns wide counts as two, or the terminal would make a
// line more of it than the bar knows of.
func wrap(text string, width int) (lines []string) {
	const indent = "  " // of the second line on
	for {
		cut, space, columns := len(text), 0, 0
		for i, r := range text {
			if r == ' ' && i > len(indent) {
				space = i
			}
			if columns++; r >= 0x1100 {
				columns++
			}
			if columns > max(width, 20) {
				cut = i
				break
			}
		}
		if cut == len(text) {
			return append(lines, text)
		}
		if space > 0 {
			cut = space
		}
		lines, text = append(lines, text[:cut]), indent+strings.TrimLeft(text[cut:], " ")
	}
}

// beside is what finds room beside a bar, and what does not. A percentage and a
// bar that can be seen to move take some 30 columns.
func beside(parts []string, columns int) (text string, more []string) {
	n := len(parts)
	for n > 0 && len(strings.Join(parts[:n], ", ")) > columns-30 {
		n--
	}
	return strings.Join(parts[:n], ", "), parts[n:]
}

// progressText is what a bar says of a broadcast, the most important first.
func progressText(b broadcasts.Broadcast) (parts []string) {
	if b.State == broadcasts.Scheduled {
		return []string{"starts at " + b.Starts.Local().Format(time.RFC3339)}
	}
	n := b.Counts
	parts = append(parts, fmt.Sprintf("%d of %d", n.Targets-n.Pending, n.Targets))
	if b.State == broadcasts.Paused {
		parts = append(parts, "paused")
	}
	if n.Failed > 0 {
		parts = append(parts, fmt.Sprintf("%d failed", n.Failed))
	}
	if b.ETA != nil {
		parts = append(parts, fmt.Sprintf("%s left", max(time.Until(*b.ETA), 0).Round(time.Second)))
	}
	if b.Pace > 0 && b.State == broadcasts.Running {
		parts = append(parts, fmt.Sprintf("%.0f/s", b.Pace))
	}
	return parts
}
