package receipts

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/internal/boltfile"
)

const (
	restoreHint = "keep a copy of the file as it is, and restore it from a backup; the next receipt begins from nought"
	harmless    = "nothing is to be done: some rows may count twice for one message"
)

// Examine reads all counts, and says which are damaged.
func (s *Store) Examine(ctx context.Context) (belfry.Checkup, error) {
	n := 0
	var findings []belfry.Finding
	records := func(bucket []byte, what string) error {
		return boltfile.Walk(ctx, s.db.View, bucket, 256, func(*bbolt.Tx) boltfile.Visit {
			return func(k, v []byte) error {
				n++
				var c Counts
				if boltfile.Unseal(v, &c) != nil {
					findings = append(findings, belfry.Finding{Severity: belfry.Fault, What: fmt.Sprintf("%s %+q cannot be read", what, k), Hint: restoreHint})
				}
				return nil
			}
		})
	}
	err := errors.Join(
		records(bucketCounts, "the count of receipts of broadcast"),
		records(bucketTotals, "the sum of receipts under"),
		boltfile.Walk(ctx, s.db.View, bucketSeen, 256, func(*bbolt.Tx) boltfile.Visit {
			return func(k, v []byte) error {
				if len(k) <= 16 || len(v) != blockRows {
					findings = append(findings, belfry.Finding{Severity: belfry.Warning, What: fmt.Sprintf("whose receipts were counted is damaged at %+q", k), Hint: harmless})
				}
				return nil
			}
		}))
	return belfry.Checkup{Looked: []belfry.Looked{{What: "counts of receipts", Count: n}}, Findings: findings}, err
}
