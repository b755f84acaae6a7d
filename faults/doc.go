// Package faults breaks what can break around a running Belfry and counts what
// comes of it: the belfry program as it is built, sending to push services in
// other processes (sender/pushtest), while it is killed, stopped, cut
// off, kept waiting, limited, lied to by clocks and name servers, left without
// room, and started on damaged files.
//
// What ought to be is known from three sides that must agree: the ledger of the
// push service, which is what was sent; the API, which is what the operator is
// told; and the file as it lies there once the server is down. Each test is one
// row of the list of faults (REL-) and logs its figure in one line, which
// docs/reliability.md quotes.
//
// It is built only with the tag faults, so that go test ./... starts no servers
// for minutes. The small form is a part of make test, the full one is
//
//	make faults
//
// It needs Linux with strace and unshare, which make setup installs or names.
package faults
