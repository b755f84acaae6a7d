package web

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/belfry-push/belfry"
)

// maxDepth is how deep JSON from outside may nest (SEC-41).
const maxDepth = 8

// decode reads one JSON value of at most limit octets into T. Unknown and
// duplicate members, invalid UTF-8 and anything behind the value are refused:
// what two programs read differently is how checks are got around (SEC-41).
func decode[T any](body io.Reader, limit int64) (v T, err error) {
	b, err := io.ReadAll(io.LimitReader(body, limit+1))
	if err != nil {
		return v, unreadable(err)
	}
	if int64(len(b)) > limit {
		return v, &belfry.Error{Kind: belfry.ErrTooLarge, Code: "too-large", Where: "body",
			Text: fmt.Sprintf("is over %d octets", limit)}
	}
	if err := shallow(b); err != nil {
		return v, jsonError(err)
	}
	// null would pass for an object without members, which in places asks for something.
	if jsontext.Value(b).Kind() == 'n' {
		return v, belfry.Invalid("json", "body", "must not be a JSON null")
	}
	if err := json.Unmarshal(b, &v, json.RejectUnknownMembers(true)); err != nil {
		return v, jsonError(err)
	}
	return v, nil
}

var errTooDeep = errors.New("nests too deep")

// shallow reports what stops b from being one value of JSON, not nested too deep.
func shallow(b []byte) error {
	d := jsontext.NewDecoder(bytes.NewBuffer(b))
	for {
		if _, err := d.ReadToken(); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if d.StackDepth() > maxDepth {
			return errTooDeep
		}
	}
}

// jsonError says what is wrong with JSON in words that do not show our types.
func jsonError(err error) error {
	var syntactic *jsontext.SyntacticError
	var semantic *json.SemanticError
	switch {
	case errors.Is(err, errTooDeep):
		return belfry.Invalid("json", "body", fmt.Sprintf("nests deeper than %d levels", maxDepth))
	case errors.Is(err, json.ErrUnknownName) && errors.As(err, &semantic):
		return belfry.Invalid("unknown-member", place(semantic.JSONPointer), "is not a member that this call knows")
	case errors.Is(err, jsontext.ErrDuplicateName) && errors.As(err, &syntactic):
		return belfry.Invalid("json", place(syntactic.JSONPointer), "is given twice")
	case errors.As(err, &semantic) && semantic.JSONKind == '0' && isNumber(semantic.GoType):
		return belfry.Invalid("json", place(semantic.JSONPointer), "is a number that is too large or not whole")
	case errors.As(err, &semantic) && semantic.JSONKind == '"' && semantic.GoType == reflect.TypeFor[time.Time]():
		return belfry.Invalid("json", place(semantic.JSONPointer), "is not a time such as 2026-03-04T05:06:07Z")
	case errors.As(err, &semantic):
		return belfry.Invalid("json", place(semantic.JSONPointer), "must not be "+kindNames[semantic.JSONKind])
	case errors.As(err, &syntactic):
		return belfry.Invalid("json", place(syntactic.JSONPointer), fmt.Sprintf("is not JSON, at octet %d", syntactic.ByteOffset))
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return belfry.Invalid("json", "body", "is empty or cut off")
	}
	return belfry.Invalid("json", "body", "is not JSON")
}

// kindNames are the kinds of JSON in words.
var kindNames = map[jsontext.Kind]string{'n': "null", 't': "true", 'f': "false", '"': "a string", '0': "a number", '{': "an object", '[': "a list"}

func isNumber(t reflect.Type) bool {
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t != nil && reflect.Int <= t.Kind() && t.Kind() <= reflect.Float64
}

// place turns a JSON pointer into the dotted form that errors use. Its names
// were chosen by a stranger, so they are shown escaped and cut.
func place(p jsontext.Pointer) string {
	var parts []string
	for token := range p.Tokens() {
		if len(token) > 40 {
			token = token[:40] + "…"
		}
		parts = append(parts, strings.Trim(fmt.Sprintf("%+q", token), `"`))
	}
	if len(parts) == 0 {
		return "body"
	}
	return strings.Join(parts, ".")
}

// unreadable says why a body could not be read.
func unreadable(err error) error {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return &belfry.Error{Kind: belfry.ErrTooLarge, Code: "too-large", Where: "body", Text: fmt.Sprintf("is over %d octets", tooLarge.Limit)}
	}
	return belfry.Invalid("body", "body", "ended early or came too slowly")
}
