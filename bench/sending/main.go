//go:build linux

// Sending measures what a message costs this machine: our two engines beside
// webpush-go as its README uses it, over HTTPS and HTTP/2, to a sink in another
// process.
//
// Each contender is a process of its own, and they take turns over several
// rounds, so that a machine that slows down slows all of them. A figure is the
// median of the rounds; a ratio is the median of the ratios within each round.
//
// It needs a system on which Go takes the certificates to trust from
// SSL_CERT_FILE, since webpush-go's own client can be told of the sink's in no
// other way. Not all that is Unix does.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// The environment tells a process what it is for.
const (
	roleVar  = "BELFRY_BENCH_ROLE"  // a contender's name, or sink; empty for the one that prints
	houseVar = "BELFRY_BENCH_HOUSE" // the folder with the subscriptions, the keys and the sink's certificate
)

func main() {
	rounds := flag.Int("rounds", 5, "how often each contender takes its turn")
	messages := flag.Int("messages", 20_000, "messages of a turn, each to another subscription")
	profile := flag.String("profile", "", "a folder for a CPU profile of each contender")
	flag.Parse()
	var err error
	switch role := os.Getenv(roleVar); role {
	case "":
		err = compare(*rounds, *messages, *profile)
	case "sink":
		err = sink(os.Getenv(houseVar))
	default:
		err = contend(role, os.Getenv(houseVar), *profile)
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
	if err := writeCertificate(house); err != nil {
		return err
	}
	to, err := startSink(house)
	if err != nil {
		return err
	}
	defer to.stop()
	if err := writeSubscriptions(house, to.address, messages); err != nil {
		return err
	}
	results := map[string][]result{}
	for range rounds {
		for _, c := range contenders {
			r, err := turn(c.role, house, profile, to)
			if err != nil {
				return fmt.Errorf("%s: %w", c.role, err)
			}
			r.Octets /= float64(messages)
			results[c.role] = append(results[c.role], r)
		}
	}
	return report(os.Stdout, results, messages)
}

// turn lets a contender do all messages in a process of its own. The octets of
// the result are those of all messages.
func turn(role, house, profile string, to *runningSink) (r result, err error) {
	before, err := to.octets()
	if err != nil {
		return r, err
	}
	out, err := again(role, house, "-profile", profile).Output()
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(out, &r); err != nil {
		return r, err
	}
	after, err := to.octets()
	r.Octets = float64(after - before)
	return r, err
}

// again starts this program once more, for another role.
func again(role, house string, args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	// A client that knows nothing of us must trust the sink too.
	cmd.Env = append(os.Environ(), roleVar+"="+role, houseVar+"="+house, "SSL_CERT_FILE="+filepath.Join(house, certificateFile))
	cmd.Stderr = os.Stderr
	return cmd
}

// A runningSink is the sink's process as this one sees it.
type runningSink struct {
	address string
	in      io.WriteCloser
	out     *bufio.Reader
	wait    func() error
}

func startSink(house string) (*runningSink, error) {
	cmd := again("sink", house)
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &runningSink{in: in, out: bufio.NewReader(out), wait: cmd.Wait}
	s.address, err = s.line()
	return s, err
}

// octets is how many the sink has received until now, TLS and HTTP/2 included.
func (s *runningSink) octets() (int64, error) {
	fmt.Fprintln(s.in)
	line, err := s.line()
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(line, 10, 64)
}

func (s *runningSink) line() (string, error) {
	line, err := s.out.ReadString('\n')
	return strings.TrimSpace(line), err
}

func (s *runningSink) stop() {
	s.in.Close()
	s.wait()
}
