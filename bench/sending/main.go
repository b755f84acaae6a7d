//go:build linux

// Sending measures what a message costs this machine: our two engines beside
// webpush-go as its README uses it, over HTTPS and HTTP/2, to a sink in another
// process.
//
// Each contender is a process of its own, and they take turns over several
// rounds, so that a machine that slows down slows all of them, each second time in
// the opposite order, so that it slows none of them more. Those that are compared
// follow each other. A figure is the median of the rounds; a ratio is the median of
// the ratios within each round.
//
// It needs a system on which Go takes the certificates to trust from
// SSL_CERT_FILE, since webpush-go's own client can be told of the sink's in no
// other way. Not all that is Unix does.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/belfry-push/belfry/bench/rig"
)

// subscriptions is the file that all contenders read.
const subscriptions = "subscriptions.ndjson"

func main() {
	rounds := flag.Int("rounds", 9, "how often each contender takes its turn")
	messages := flag.Int("messages", 20_000, "messages of a turn, each to another subscription")
	profile := flag.String("profile", "", "a folder for a CPU profile of each contender")
	flag.Parse()
	var err error
	switch role, house := rig.Role(); role {
	case "":
		err = compare(*rounds, *messages, *profile)
	case rig.Sink:
		err = rig.ServeSink(house)
	default:
		err = contend(role, house, *profile)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "sending:", err)
		os.Exit(1)
	}
}

// compare lets all contenders take their turns and prints how they did.
func compare(rounds, messages int, profile string) error {
	house, err := os.MkdirTemp("", "belfry-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(house)
	to, err := rig.StartSink(house)
	if err != nil {
		return err
	}
	defer to.Stop()
	if err := rig.WriteBrowsers(filepath.Join(house, subscriptions), "https://"+to.Address, messages); err != nil {
		return err
	}
	results := map[string][]rig.Result{}
	for range rounds {
		slices.Reverse(contenders)
		for _, c := range contenders {
			r, err := turn(c.role, house, profile, to)
			if err != nil {
				return fmt.Errorf("%s: %w", c.role, err)
			}
			r.Octets /= float64(messages)
			results[c.role] = append(results[c.role], r)
		}
	}
	if rounds%2 == 1 {
		slices.Reverse(contenders)
	}
	return report(os.Stdout, results, messages)
}

// turn lets a contender do all messages in a process of its own. The octets of
// the result are those of all messages.
func turn(role, house, profile string, to *rig.RunningSink) (r rig.Result, err error) {
	before, err := to.Look()
	if err != nil {
		return r, err
	}
	if r, err = rig.TakeTurn(role, house, "-profile", profile); err != nil {
		return r, err
	}
	after, err := to.Look()
	r.Octets = float64(after.Octets - before.Octets)
	return r, err
}

// contend takes a turn as the contender named role.
func contend(role, house, profile string) error {
	i := slices.IndexFunc(contenders, func(c contender) bool { return c.role == role })
	if i < 0 {
		return fmt.Errorf("no contender is named %s", role)
	}
	subs, err := rig.ReadBrowsers(filepath.Join(house, subscriptions))
	if err != nil {
		return err
	}
	do, err := contenders[i].prepare(house, subs)
	if err != nil {
		return err
	}
	if profile != "" {
		profile = filepath.Join(profile, role+".pprof")
	}
	return rig.Turn(len(subs), do, profile)
}
