package main

import (
	"strings"

	"github.com/belfry-push/belfry"
)

// A dataFlag is --data, which names the data directory in every command and, in
// send, may also carry the message's data: a JSON object begins with a brace, so
// the two cannot be taken for one another.
type dataFlag struct{ dir, object string }

const defaultDir = "./belfry-data"

func (d *dataFlag) String() string { return defaultDir }
func (d *dataFlag) Type() string   { return "dir" }

func (d *dataFlag) Set(v string) error {
	if strings.HasPrefix(strings.TrimSpace(v), "{") {
		d.object = v
	} else {
		d.dir = v
	}
	return nil
}

// settle fills in the directory from the environment or the default, which pflag
// cannot do for a flag that was set to something else. Only send has a use for an object.
func (d *dataFlag) settle(command string, getenv func(string) string) error {
	if d.object != "" && command != "send" {
		return belfry.Invalid("usage", "--data", "names the data directory; only send takes JSON")
	}
	for _, dir := range []string{getenv("BELFRY_DATA"), defaultDir} {
		if d.dir == "" {
			d.dir = dir
		}
	}
	return nil
}
