// Package rig is what the benches share: processes that play a part, a push
// service among them, browsers by the million, webpush-go as its README uses it,
// the real server, and what Linux says of a process.
package rig

import (
	"os"
	"os/exec"
	"path/filepath"
)

// The environment tells a process what it is for.
const (
	roleVar  = "BELFRY_BENCH_ROLE"
	houseVar = "BELFRY_BENCH_HOUSE"
)

// Role is the part that this process plays and the folder that all of them
// share; empty for the one that prints.
func Role() (role, house string) { return os.Getenv(roleVar), os.Getenv(houseVar) }

// Again starts this program once more, to play another part.
func Again(role, house string, args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	// A client that knows nothing of us must trust the sink too.
	cmd.Env = append(os.Environ(), roleVar+"="+role, houseVar+"="+house, "SSL_CERT_FILE="+Certificate(house))
	cmd.Stderr = os.Stderr
	return cmd
}

// Certificate is the file with the sink's certificate, which vouches for itself.
func Certificate(house string) string { return filepath.Join(house, "sink.pem") }
