package live

import (
	"slices"
	"testing"
)

// What a crowd left behind is given back once it is in, and neither while it still
// comes, which would slow it down, nor for those who come one by one.
func TestCrowdIsIn(t *testing.T) {
	tests := []struct {
		name string
		each []int // how many come in each second, to stay
		held int   // how many were here before
		want []int // the seconds in which it is in
	}{
		{"nobody", []int{0, 0, 0}, 0, nil},
		{"a few", []int{30, 30, 30, 0, 0}, 0, nil},
		{"in one moment", []int{10_000, 0, 0, 0}, 0, []int{1}},
		{"for a while", []int{3000, 3000, 3000, 1000, 0, 0}, 0, []int{4}},
		{"with stragglers", []int{5000, 5000, 99, 20, 0, 0}, 0, []int{2}},
		{"whom there was no room for, a while later", []int{8000, 0, 0, 0, 500, 0, 0, 90, 0}, 0, []int{1, 5}},
		{"again", []int{10_000, 0, 0, 10_000, 0, 0}, 0, []int{1, 4}},
		{"one by one, to a thousand", slices.Repeat([]int{20}, 100), 0, []int{49, 99}},
		{"in a big house", slices.Repeat([]int{180}, 120), 100_000, []int{55, 111}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var c crowd
			came, held := 0, tt.held
			var got []int
			for second, n := range tt.each {
				came += n
				if tt.held == 0 { // else as many go
					held += n
				}
				if c.isIn(uint64(came), held) {
					got = append(got, second)
				}
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("it is in at %v, not %v", got, tt.want)
			}
		})
	}
}
