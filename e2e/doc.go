// Package e2e plays Belfry's main job through with everything real: the belfry
// program, its demo page, stock Firefox and Chromium with profiles of their own,
// and a desktop that shows notifications. Nobody in the chain is a stub; only the
// push service is ours (sender/pushtest), since the browser vendors' cannot be
// reached from a test, and it speaks Mozilla's and Google's own protocols to the
// browsers.
//
// It tests no part by itself (each room does that for its own), and it is built
// only with the tag e2e, so that go test ./... starts no browser. Run it with
//
//	make e2e
//
// Each test has a server, a desktop, a push service and browsers of its own, and
// runs beside others.
//
// It needs firefox-esr (or firefox), chromium, dbus-daemon, libnotify, nginx and
// haproxy, which make setup installs. Nothing leaves the machine: the browsers are told of a
// proxy that does not exist for everything beyond loopback.
package e2e
