//go:build !unix

package main

import "math"

// descriptors is how many files may be open at a time: there is no such limit here.
func descriptors() int { return math.MaxInt }
