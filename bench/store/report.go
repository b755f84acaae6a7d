//go:build linux

package main

import (
	"fmt"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/belfry-push/belfry/bench/rig"
)

// print sets the two sizes side by side. The last column is the larger by the smaller.
func print(small, large result, empty crowds) {
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	defer out.Flush()
	line := func(what string, format string, a, b float64) {
		fmt.Fprintf(out, "%s\t"+format+"\t"+format+"\t%.2f\t\n", what, a, b, b/a)
	}
	both := func(what, format string, of func(result) float64) { line(what, format, of(small), of(large)) }

	fmt.Fprintf(out, "rows\t%d\t%d\tratio\t\n", small.rows, large.rows)
	both("import, rows/s", "%.0f", func(r result) float64 { return float64(r.rows) / r.took.Seconds() })
	both("server's CPU time for it, µs a row", "%.1f", func(r result) float64 { return float64(r.busy.Microseconds()) / float64(r.rows) })
	both("server's own memory at most, MB", "%.0f", func(r result) float64 { return mega(r.peak.Own) })
	both("own memory after the import, MB", "%.0f", func(r result) float64 { return mega(r.end.Own) })
	both("the file's mapped pages at most, MB", "%.0f", func(r result) float64 { return mega(r.peak.Mapped) })
	both("octets a row in the file", "%.0f", func(r result) float64 { return float64(r.octets) / float64(r.rows+registering) })
	both("iteration, rows/s (best of 5)", "%.0f", func(r result) float64 { return float64(r.rows+registering) / slices.Min(r.read).Seconds() })
	both("iteration, rows/s (worst of 5)", "%.0f", func(r result) float64 { return float64(r.rows+registering) / slices.Max(r.read).Seconds() })
	both("serve until it listens, ms (worst of 5)", "%.1f", func(r result) float64 { return ms(slices.Max(r.ready)) })
	both("opening the store alone, ms (worst of 5)", "%.1f", func(r result) float64 { return ms(slices.Max(r.opened)) })
	out.Flush()

	fmt.Fprintf(out, "\n%d registrations at one moment, ms\tp50\tp99\tmax\tall\t\n", visitors)
	for _, c := range []struct {
		what string
		crowd
	}{
		{"into an empty store", empty.connected},
		{"the same, connecting included", empty.strangers},
		{fmt.Sprintf("into %d rows", small.rows), small.crowds.connected},
		{"the same, connecting included", small.crowds.strangers},
		{fmt.Sprintf("into %d rows", large.rows), large.crowds.connected},
		{"the same, connecting included", large.crowds.strangers},
	} {
		fmt.Fprintf(out, "%s\t%.1f\t%.1f\t%.1f\t%.1f\t\n", c.what, ms(c.at(.5)), ms(c.at(.99)), ms(c.at(1)), ms(c.all))
	}
	fmt.Fprintf(out, "the middle of %d crowds by p99, of %d where they connect; each wait ends with the answer, after the fsync; visitors share the machine with the server; load now %s\n", connected, strangers, rig.Load())
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
func mega(octets int64) float64  { return float64(octets) / 1e6 }
