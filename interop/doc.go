// Package interop holds Belfry against libraries of other people: the npm
// packages web-push, with which most sites send that do not send with us, and
// http_ece, which seals and opens for it. Who moves here from web-push brings
// keys and subscriptions along, each must open what the other sealed, and
// sender/pushtest must take what others send. Our own tests could not tell if
// we had misread a specification twice in the same way.
//
// It is built only with the tag interop, so that go test ./... needs no npm
// packages. Run it with
//
//	make interop
//
// which installs what package-lock.json names. others.mjs does what is asked of
// the others; nothing leaves the machine.
package interop
