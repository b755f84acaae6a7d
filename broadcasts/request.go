package broadcasts

import (
	"time"

	"github.com/belfry-push/belfry"
)

// A Request is what an operator asks for.
type Request struct {
	Message  belfry.Message  `json:"message"`
	Audience belfry.Audience `json:"audience"`
	Callback string          `json:"callback"` // the URL that is told how it ended; may be empty
	Options

	// Key makes asking twice one broadcast. Nil makes each its own.
	Key *Key `json:"-"`
}

// Options say how a broadcast is to go. The zero value is: now, to everybody it
// is for.
type Options struct {
	At          *time.Time `json:"at"`          // when to start; nil means now
	MaxLateness *int       `json:"maxLateness"` // with at: how many seconds late it may start; nil means until its deadline
	Rate        *int       `json:"rate"`        // rows to begin a second, over all push services; nil means as they take them
	Canary      *Canary    `json:"canary"`      // who get it first; nil means all at once
	Push        Push       `json:"push"`        // whether devices are rung; empty means auto
}
