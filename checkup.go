package belfry

// A Checkup is what came of looking at everything that a room keeps.
type Checkup struct {
	Looked   []Looked  `json:"checked"`
	Findings []Finding `json:"findings"`
}

// Looked says how many things of a kind were looked at.
type Looked struct {
	What  string `json:"what"`
	Count int    `json:"count"`
}

// A Finding is something that an operator should act on. Like an [Error], it
// holds no secret.
type Finding struct {
	Severity Severity `json:"severity"`
	What     string   `json:"what"` // one sentence, lower case, without a period
	Hint     string   `json:"hint"` // the way out
}

// A Severity says whether something is wrong already.
type Severity string

const (
	Fault   Severity = "fault"   // something is wrong
	Warning Severity = "warning" // something will go wrong if nobody acts
)
