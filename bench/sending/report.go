//go:build linux

package main

import (
	"fmt"
	"io"
	"runtime"
	"text/tabwriter"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/bench/rig"
	"github.com/belfry-push/belfry/sender"
)

// report prints what the rounds have shown.
func report(w io.Writer, results map[string][]rig.Result, messages int) error {
	fmt.Fprintf(w, "Sending: %d messages of %d octets a turn, %d in flight, %d rounds, %s, %d processors\n\n",
		messages, len(message.Payload), rig.InFlight, len(results["native"]), runtime.Version(), runtime.NumCPU())

	native, direct := results["native"], results["direct"]
	fmt.Fprintf(w, "engine native takes %s the CPU of webpush-go used directly\n\n", ratios(native, direct))

	table := tabwriter.NewWriter(w, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "\tµs of CPU a message\tmessages/s\tallocations\toctets on the wire\t")
	for _, c := range contenders {
		rs := results[c.role]
		fmt.Fprintf(table, "%s\t%.1f\t%.0f\t%.0f\t", c.title, median(rs, cpuOf), median(rs, perSecond), median(rs, allocations))
		if c.sends {
			fmt.Fprintf(table, "%.0f", median(rs, octets))
		}
		fmt.Fprintln(table, "\t")
	}
	if err := table.Flush(); err != nil {
		return err
	}

	fmt.Fprintf(w, "\nsealing takes %s the floor, the key pair and the agreement that RFC 8291 demands for every message\n", ratios(results["seal"], results["floor"]))
	least := make([]rig.Result, len(native))
	for i := range least {
		least[i].CPU = results["floor"][i].CPU + results["post"][i].CPU
	}
	fmt.Fprintf(w, "a whole send takes %s the floor and the same POST with a ready body\n", ratios(native, least))
	fmt.Fprintf(w, "it takes %s what both take in one process\n", ratios(native, results["both"]))
	body, err := sampleBody(200)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "a message of 200 octets makes a body of %d\n", body)
	return err
}

// sampleBody is how long the body for a message of n octets is.
func sampleBody(n int) (int, error) {
	s, err := rig.NewBrowser(rig.FCM).Check(belfry.PushHosts{})
	if err != nil {
		return 0, err
	}
	body, err := sender.Seal(s, belfry.PushMessage{Payload: make([]byte, n)})
	return len(body), err
}

func cpuOf(r rig.Result) float64       { return r.CPU }
func perSecond(r rig.Result) float64   { return r.PerSecond }
func allocations(r rig.Result) float64 { return r.Allocations }
func octets(r rig.Result) float64      { return r.Octets }

func median(rs []rig.Result, of func(rig.Result) float64) float64 { return rig.Middle(all(rs, of)) }

func all(rs []rig.Result, of func(rig.Result) float64) []float64 {
	values := make([]float64, len(rs))
	for i, r := range rs {
		values[i] = of(r)
	}
	return values
}

// ratios says how the CPU of a compares with that of b in the same round.
func ratios(a, b []rig.Result) string { return rig.Ratio(all(a, cpuOf), all(b, cpuOf)) }
