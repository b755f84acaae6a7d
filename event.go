package belfry

import "time"

// An Event is a message as pages that are open now receive it.
type Event struct {
	ID       string    // the message's, and so its broadcast's
	Time     time.Time // when it was published
	Audience Audience  // whose pages hear it; never subscriptions, which are devices and no pages
	Message  Message
}
