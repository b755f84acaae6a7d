package belfry_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/belfry-push/belfry"
)

// An error is found by its kind wherever it was wrapped: what a client is
// answered hangs on that.
func TestErrorKind(t *testing.T) {
	err := fmt.Errorf("broadcasts: launch: %w", &belfry.Error{Kind: belfry.ErrTooLarge, Code: "message-too-large", Where: "message", Text: "is long"})
	if !errors.Is(err, belfry.ErrTooLarge) || errors.Is(err, belfry.ErrInvalid) {
		t.Error("another kind was found")
	}
	if told(t, err, belfry.ErrTooLarge, "message-too-large").Error() != "message: is long" {
		t.Errorf("text is %v", err)
	}
	if got := (&belfry.Error{Text: "is long"}).Error(); got != "is long" {
		t.Errorf("text is %q", got)
	}
	if e := belfry.Invalid("c", "w", "t"); *e != (belfry.Error{Kind: belfry.ErrInvalid, Code: "c", Where: "w", Text: "t"}) {
		t.Errorf("got %+v", *e)
	}
}

// The place tells an operator which of a hundred members to look at.
func TestAt(t *testing.T) {
	for _, tt := range []struct{ outer, where, want string }{
		{"message", "title", "message.title"},
		{"message", "", "message"},
		{"actions", "[2].url", "actions[2].url"},
		{"message", "actions[2].url", "message.actions[2].url"},
	} {
		inner := &belfry.Error{Kind: belfry.ErrInvalid, Code: "c", Where: tt.where, Text: "is wrong", Hint: "do right"}
		err := belfry.At(tt.outer, inner)
		e := told(t, err, belfry.ErrInvalid, "c")
		if e.Where != tt.want || err.Error() != tt.want+": is wrong" || e.Hint != "do right" {
			t.Errorf("%+v in %s is %q, hint %q", tt.where, tt.outer, err, e.Hint)
		}
		if inner.Where != tt.where {
			t.Error("the inner error was changed, and others may hold it")
		}
	}
	other := errors.New("disk on fire")
	if got := belfry.At("message", other); got != other {
		t.Errorf("got %v", got)
	}
	if got := belfry.At("message", nil); got != nil {
		t.Errorf("nothing wrong became %v", got)
	}
}

// A verdict that prints as another sends whoever reads the log the wrong way.
func TestVerdictNames(t *testing.T) {
	for verdict, want := range map[belfry.Verdict]string{
		belfry.Accepted: "accepted", belfry.Later: "later", belfry.Gone: "gone", belfry.WrongKey: "wrong-key", belfry.OurFault: "our-fault",
		belfry.TooLarge: "too-large", belfry.Refused: "refused", belfry.Blocked: "blocked", belfry.Cancelled: "cancelled",
		0: "verdict(0)", belfry.Cancelled + 1: "verdict(10)", 255: "verdict(255)", // a forgotten field is loud
	} {
		if got := verdict.String(); got != want {
			t.Errorf("verdict %d is %s, not %s", uint8(verdict), got, want)
		}
	}
}
