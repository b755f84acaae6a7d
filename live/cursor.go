package live

import (
	"crypto/rand"
	"strconv"
	"strings"
)

// newEpoch names one life of a log. Ten characters of base 32 are 50 random
// bits: two lives of one server share a name less than once in 10^14 times.
func newEpoch() string { return strings.ToLower(rand.Text()[:10]) }

// cursorAt is the position behind the event with this number: epoch, dot, number.
// With 10 + 1 + at most 20 octets of [0-9a-z.] it can stand in an SSE id and in
// a header (SEC-48). Nobody but the log may look into it.
func cursorAt(epoch string, seq uint64) string {
	return epoch + "." + strconv.FormatUint(seq, 10)
}

// A Gap is why a page has missed something for good, as it is told.
type Gap string

const (
	Lost     Gap = "gap"      // the log does not reach back that far any more
	Renewed  Gap = "epoch"    // the log is another one: it was made anew, or comes from a backup
	Unknown  Gap = "unknown"  // the log has never been there
	Overflow Gap = "overflow" // the log moved on faster than the page read
)

// place reads a cursor. Where one that was given leads nowhere, it says why and
// from where the page goes on: from the oldest event that is kept, when some were
// lost, else from now on, since what an unknown cursor has seen cannot be known.
func (b bounds) place(cursor string) (seq uint64, gap Gap) {
	epoch, number, _ := strings.Cut(cursor, ".")
	seq, err := strconv.ParseUint(number, 10, 64)
	switch {
	case cursor == "":
		return b.head, ""
	case err != nil || cursorAt(epoch, seq) != cursor:
		return b.head, Unknown
	case epoch != b.epoch:
		return b.head, Renewed
	case seq > b.head: // a copy of the file was put back, not a backup
		return b.head, Unknown
	case seq < b.floor:
		return b.floor, Lost
	}
	return seq, ""
}

// bounds are where a log begins and ends.
type bounds struct {
	epoch       string
	floor, head uint64 // the last event that was removed, and the last one
}

func (b bounds) cursor(seq uint64) string { return cursorAt(b.epoch, seq) }
