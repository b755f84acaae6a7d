// Package pushtest is a push service in one package, for tests, demos and work
// without a network. A test starts it with one call, [NewService]; stock Firefox
// subscribes at it over autopush's WebSocket, stock Chromium over check-in,
// registration and MCS; belfry pushservice runs it alone.
//
// It is stricter than the real services: whatever one of them refuses, it
// refuses, with autopush's status and JSON, and says in more_info what is wrong.
// It can read the messages to subscriptions that it minted itself
// ([Service.Subscribe]), writes down all it received ([Service.Received]), and
// fails on demand ([Service.Answer]), or takes only so many a minute ([Service.Limit]).
//
// It is a tool for development. It has no accounts and shows everything to
// whoever can reach it, so let it listen on a loopback address only. It imports
// the words of the house and nothing else of it: sending is not its business.
//
// # What a test is promised
//
//   - Who has an answer finds the request in the ledger.
//   - A request that breaks a rule is refused whatever a script says.
//   - A browser gets a message again until it has acknowledged it, as long as
//     the TTL allows; a later one with the same Topic replaces it.
//   - An endpoint that was given out is never given to another: once ended it
//     answers 410, and what never was answers 404.
//
// # From another process
//
// The same over HTTP, on the service's own address:
//
//	POST   /pushtest/subscriptions?count=N&applicationServerKey=K&rule=constrained
//	       mints; one PushSubscription a line: {"endpoint","expirationTime":null,"keys"}
//	DELETE /pushtest/browsers
//	       forgets all browsers, so that a Firefox fires pushsubscriptionchange; see Service.Forget
//	GET    /pushtest/ledger
//	       one request for delivery a line, with its plaintext
//	DELETE /pushtest/ledger
//	       begins a new ledger, and counts from nought
//	GET    /pushtest/summary
//	       counts; see Summary
//	GET    /pushtest/summary?wait=30s&received=N&accepted=N&acknowledged=N&browsers=N&subscriptions=N
//	       the same once there are as many; 504 and the counts when there are not in time
//	POST   /pushtest/answers
//	       {"endpoint":"…","answers":[{"status":429,"header":{"Retry-After":"7"},"body":"…","delayMs":5,"fault":"reset"},{}]}
//	       scripts an endpoint, or all of them without "endpoint"
//	POST   /pushtest/limit
//	       {"perMinute":1000,"retryAfter":"date"} limits the whole service; see Limit
//
// Pages have no access to these: a request with an Origin, or for a host that is
// not this one, is refused.
package pushtest
