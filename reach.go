package belfry

import "time"

// A Reach is how far a message has come to a device by the pages that it has
// open, and so what to do about its push. The zero value means ring it.
type Reach struct {
	Spared bool      // a page that somebody looks at has it: count it as suppressed
	Hold   time.Time // such a page may still say so: ask again then; zero means do not wait
}
