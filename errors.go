package belfry

import "errors"

// The kinds of error that a caller can act on. Every [Error] is of one of them.
var (
	ErrInvalid   = errors.New("invalid")              // the input is wrong; saying it again will not help
	ErrDenied    = errors.New("not authorised")       // the secret or token does not fit
	ErrNotFound  = errors.New("not found")            // no such thing
	ErrConflict  = errors.New("conflict")             // the state of the thing forbids it
	ErrTooLarge  = errors.New("too large")            // over a limit in octets
	ErrFull      = errors.New("insufficient storage") // no room to keep it
	ErrCorrupt   = errors.New("damaged record")       // what was read is not what was written
	ErrBusy      = errors.New("not now")              // try again later
	ErrNotUsable = errors.New("not usable")           // a file or setting that the house will not start with
)

// An Error says in one sentence what is wrong, where, and what to do about it.
// It never holds a secret: its text goes to logs, terminals and HTTP answers.
type Error struct {
	Kind  error  // one of the kinds above
	Code  string // short name for programs, from the list in docs/protocol.md
	Where string // the member or flag at fault, such as "subscription.keys.auth"; may be empty
	Text  string // one sentence, lower case, without a period
	Hint  string // the way out; may be empty
}

func (e *Error) Error() string {
	if e.Where == "" {
		return e.Text
	}
	return e.Where + ": " + e.Text
}

// Unwrap lets errors.Is find the kind.
func (e *Error) Unwrap() error { return e.Kind }

// Invalid is the [Error] for input that breaks a rule.
func Invalid(code, where, text string) *Error {
	return &Error{Kind: ErrInvalid, Code: code, Where: where, Text: text}
}

// At returns err with its place prefixed by outer, as a check of a part is
// reported by a check of the whole. Errors of other types pass unchanged.
func At(outer string, err error) error {
	var e *Error
	if !errors.As(err, &e) {
		return err
	}
	moved := *e
	switch {
	case e.Where == "":
		moved.Where = outer
	case e.Where[0] == '[':
		moved.Where = outer + e.Where
	default:
		moved.Where = outer + "." + e.Where
	}
	return &moved
}
