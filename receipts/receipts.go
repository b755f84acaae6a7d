// Package receipts counts what browsers say became of a message: shown, clicked
// or closed.
//
// It keeps counts and, for as long as a message is counted, which rows were
// counted for it, so that a browser that says something twice, since the answer
// was lost, counts once. It knows neither who a device is nor which messages
// there are: web asks the rooms that do.
//
// # What an operator is promised
//
//   - A row counts once for each message and kind, over restarts. A row that
//     clicks twice counts with its first action.
//   - What was taken is on disk 5 s later, and at once when the server stops in
//     good order. What a power cut takes with it are at most those 5 s, and a
//     count is then too low, never too high.
//   - Memory and file do not grow with what strangers send: what may wait to be
//     written is bounded, and what is kept of a message is an octet for each row,
//     until seven days after its deadline.
package receipts

import (
	"time"

	"github.com/belfry-push/belfry"
)

// A Kind is what became of a message in a browser.
type Kind string

const (
	Shown   Kind = "shown"
	Clicked Kind = "clicked"
	Closed  Kind = "closed"
)

// bit is the one of a row's octet that says that the kind was counted; 0 for
// what is no kind.
func (k Kind) bit() byte {
	return map[Kind]byte{Shown: 1, Clicked: 2, Closed: 4}[k]
}

// Valid reports whether k is a kind.
func (k Kind) Valid() bool { return k.bit() != 0 }

// A Message is what must be known of one to count for it.
type Message struct {
	ID       string
	Channels []string  // whose counts it adds to, too
	Deadline time.Time // of the message; it does not change
}

// A Receipt is what one browser says of one message.
type Receipt struct {
	Message
	Row    belfry.Position // who says so; 0 is nobody that we know, who counts each time
	Kind   Kind
	Action string // with Clicked: which button; empty for the message itself
}

// Counts are how many rows said what. Clicked holds all clicks, Actions those on
// a button, by its name.
type Counts struct {
	Shown   int            `json:"shown"`
	Clicked int            `json:"clicked"`
	Closed  int            `json:"closed"`
	Actions map[string]int `json:"actions"`
}

// maxActions bounds the names that a message is counted by. A message has fewer
// buttons, but names come from browsers; those beyond share the last.
const (
	maxActions = 16
	other      = "other"
)

func (c *Counts) of(k Kind) *int {
	return map[Kind]*int{Shown: &c.Shown, Clicked: &c.Clicked, Closed: &c.Closed}[k]
}

// add counts one of a kind.
func (c *Counts) add(k Kind) { *c.of(k)++ }

// press counts one on a button.
func (c *Counts) press(action string) {
	if action == "" {
		return
	}
	if c.Actions == nil {
		c.Actions = map[string]int{}
	}
	if _, known := c.Actions[action]; !known && len(c.Actions) >= maxActions-1 {
		action = other
	}
	c.Actions[action]++
}
