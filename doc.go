// Package belfry holds the words that every room of the house shares: what is
// said ([Message], [PushMessage]), to whom ([Subscription], [Audience]), what a
// push service answered ([Outcome]), and what went wrong ([Error]).
//
// It checks what it is given and it keeps nothing, sends nothing and opens
// nothing: storing is done by subscriptions and broadcasts, sending by sender.
// It imports the standard library alone.
package belfry
