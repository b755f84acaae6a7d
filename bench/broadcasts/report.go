//go:build linux

package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/belfry-push/belfry/bench/rig"
)

// print sets the two contenders side by side.
func (t turns) print(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "\tµs of CPU a message\tseconds\tmessages/s\t")
	for _, c := range []struct {
		title string
		turns []turn
	}{{"belfry send to belfry serve", t.belfry}, {"webpush-go in a loop", t.direct}} {
		seconds := rig.Middle(each(c.turns, wall))
		fmt.Fprintf(table, "%s\t%.1f\t%.1f\t%.0f\t\n", c.title, rig.Middle(each(c.turns, cpu))*1e6/float64(t.messages), seconds, float64(t.messages)/seconds)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\nthe whole server takes %s the CPU of webpush-go, and a broadcast %s its time\n",
		rig.Ratio(each(t.belfry, cpu), each(t.direct, cpu)), rig.Ratio(each(t.belfry, wall), each(t.direct, wall)))
	return err
}

// print tells of the large broadcast beside the small ones around it.
func (l large) print(w io.Writer) error {
	before, after := l.small[0].wall.Seconds(), l.small[1].wall.Seconds()
	_, err := fmt.Fprintf(w, `
a broadcast to %d took %.1f s, %.2f × the time of %d (%.1f s right before it, %.1f s right after), and %.1f µs of CPU a message
own memory (RssAnon): %.0f MB idle, at most %.0f MB, so %.0f MB for the broadcast; the file's mapped pages: at most %.0f MB
killed in the middle and started again, the server listened after %.0f ms, and the first message came after %.0f ms
`,
		l.rows, l.wall.Seconds(), l.wall.Seconds()/((before+after)/2), l.few, before, after, l.cpu.Seconds()*1e6/float64(l.rows),
		mega(l.idle.Own), mega(l.peak.Own), mega(l.peak.Own-l.idle.Own), mega(l.peak.Mapped),
		l.ready.Seconds()*1e3, l.again.Seconds()*1e3)
	return err
}

func cpu(t turn) float64  { return t.cpu.Seconds() }
func wall(t turn) float64 { return t.wall.Seconds() }

func each(ts []turn, of func(turn) float64) []float64 {
	values := make([]float64, len(ts))
	for i, t := range ts {
		values[i] = of(t)
	}
	return values
}

func mega(octets int64) float64 { return float64(octets) / 1e6 }
