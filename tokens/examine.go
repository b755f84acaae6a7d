package tokens

import (
	"context"
	"fmt"
	"time"

	"go.etcd.io/bbolt"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/internal/boltfile"
)

// soon is how long before a token expires its owner should hear of it: a week
// holds a working day.
const soon = 7 * 24 * time.Hour

// Examine reads every token and says which of them let nobody in, or will not.
func (s *Store) Examine(ctx context.Context) (belfry.Checkup, error) {
	n, now := 0, time.Now()
	var findings []belfry.Finding
	err := boltfile.Walk(ctx, s.db.View, bucket, 256, func(tx *bbolt.Tx) boltfile.Visit {
		return func(hash, _ []byte) error {
			n++
			info, err := get(tx, hash)
			if f := about(hash, info, err, now); f.What != "" {
				findings = append(findings, f)
			}
			return nil
		}
	})
	return belfry.Checkup{Looked: []belfry.Looked{{What: "tokens", Count: n}}, Findings: findings}, err
}

// about is what there is to say of a token, if anything.
func about(hash []byte, t Info, err error, now time.Time) belfry.Finding {
	switch {
	case err != nil:
		return belfry.Finding{Severity: belfry.Fault, What: fmt.Sprintf("the record of a token is damaged, so that it lets nobody in and is not listed (SHA-256 %x…)", hash[:4]),
			Hint: "keep a copy of the file as it is, and restore it from a backup"}
	case t.Expires == nil || t.Expires.Sub(now) > soon:
		return belfry.Finding{}
	case t.Expires.After(now):
		return belfry.Finding{Severity: belfry.Warning, What: fmt.Sprintf("the token %s… of %+q expires at %s", t.Prefix, t.Name, t.Expires.Format(time.RFC3339)),
			Hint: "make another with `belfry tokens new`, and then `belfry tokens revoke " + t.ID + "`"}
	}
	return belfry.Finding{Severity: belfry.Warning, What: fmt.Sprintf("the token %s… of %+q expired at %s and lets nobody in", t.Prefix, t.Name, t.Expires.Format(time.RFC3339)),
		Hint: "clear it away with `belfry tokens revoke " + t.ID + "`"}
}
