package broadcasts

import "github.com/belfry-push/belfry"

// A Request is what an operator asks for.
type Request struct {
	Message  belfry.Message  `json:"message"`
	Audience belfry.Audience `json:"audience"`
	Callback string          `json:"callback"` // the URL that is told how it ended; may be empty

	// Key makes asking twice one broadcast. Nil makes each its own.
	Key *Key `json:"-"`
}
