// Package pushtest is a push service in one package, for tests, demos and work
// without a network. A test starts it with one call, [NewService]; stock Firefox
// subscribes at it over autopush's WebSocket; belfry pushservice runs it alone.
//
// It is stricter than the real services: whatever one of them refuses, it
// refuses, with autopush's status and JSON. It can read the messages to
// subscriptions that it minted itself ([Service.Subscribe]), writes down all it
// received ([Service.Received]), and fails on demand ([Service.Answer]).
//
// It is a tool for development. It has no user accounts and shows everything to
// whoever can reach it, so let it listen on a loopback address only. It imports
// the words of the house and nothing else of it: sending is not its business.
package pushtest
