// Package id makes the ids of subscriptions, broadcasts and tokens.
package id

import (
	"strings"

	"github.com/oklog/ulid/v2"
)

// New returns a ULID in lower case: 26 characters, in order of creation within
// this process, so that ids sort by age.
func New() string { return strings.ToLower(ulid.Make().String()) }
