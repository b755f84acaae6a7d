package broadcasts

import "time"

// leaseFor is how long a broadcast is left to a server that writes nothing down
// of it: longer than we ever wait between two tries of our own accord.
const leaseFor = 10 * time.Minute

// A Lease says which of the servers that share a journal delivers a broadcast,
// all rows from its course up to its last one. Each commit of what it delivers
// renews it. The zero value is nobody's.
type Lease struct {
	Holder  string    `json:"holder"`
	Renewed time.Time `json:"renewed"`
}

// Free reports whether holder may have at a time what is leased so: nobody has
// it, he has, or whoever had it was not heard of for too long.
func (l Lease) Free(holder string, now time.Time) bool {
	return l.Holder == "" || l.Holder == holder || now.Sub(l.Renewed) >= leaseFor
}
