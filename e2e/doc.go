// Package e2e plays Belfry's main job through with everything real: the belfry
// program, its demo page, a stock Firefox with a profile of its own, and a
// desktop that shows notifications. Nobody in the chain is a stub; only the
// push service is ours (sender/pushtest), since the browser vendors' cannot be
// reached from a test, and it speaks Mozilla's own protocol to the browser.
//
// It tests no part by itself (each room does that for its own), and it is built
// only with the tag e2e, so that go test ./... starts no browser. Run it with
//
//	make e2e
//
// It needs firefox-esr (or firefox), dbus-daemon and libnotify, which make setup
// installs. Nothing leaves the machine: the browser is told of a proxy that does
// not exist for everything beyond loopback.
package e2e
