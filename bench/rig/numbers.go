package rig

import (
	"fmt"
	"slices"
)

// Middle is the median.
func Middle(values []float64) float64 {
	values = slices.Sorted(slices.Values(values))
	n := len(values)
	return (values[(n-1)/2] + values[n/2]) / 2
}

// Ratio says how a compares with b: the median of the ratios within each round,
// and their range. A machine that slows down for a round slows both of it.
func Ratio(a, b []float64) string {
	values := make([]float64, len(a))
	for i := range a {
		values[i] = a[i] / b[i]
	}
	return fmt.Sprintf("%.2f × (%.2f to %.2f)", Middle(values), slices.Min(values), slices.Max(values))
}
