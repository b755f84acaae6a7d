package broadcasts

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/internal/boltfile"
)

// examineStep is how many keys are looked at in one transaction. With the open
// rows of a broadcast it is some thousand.
const examineStep = 16

// Examine reads every broadcast, recomputes its accounting (REL-27), and looks
// at the open rows, the callbacks, the claims and the lists of what is running and
// of topics. What is compared with each other is read in one transaction. With an
// error it returns what it found until then.
func (j *BoltJournal) Examine(ctx context.Context) (belfry.Checkup, error) {
	x := &examination{}
	err := errors.Join(
		boltfile.Walk(ctx, j.db.View, bucketBroadcasts, examineStep, x.broadcast),
		boltfile.Walk(ctx, j.db.View, bucketProgress, examineStep, x.progress),
		boltfile.Walk(ctx, j.db.View, bucketOpen, 100*examineStep, x.open),
		boltfile.Walk(ctx, j.db.View, bucketRunning, examineStep, x.running),
		boltfile.Walk(ctx, j.db.View, bucketTopics, examineStep, x.topic),
		boltfile.Walk(ctx, j.db.View, bucketCallbacks, examineStep, x.callback),
		boltfile.Walk(ctx, j.db.View, bucketClaims, examineStep, x.claim),
		boltfile.Walk(ctx, j.db.View, bucketClaimed, examineStep, x.claimed))
	return belfry.Checkup{Looked: []belfry.Looked{{What: "broadcasts", Count: x.broadcasts}, {What: "open rows", Count: x.rows}, {What: "callbacks", Count: x.callbacks}, {What: "idempotency keys", Count: x.claims}}, Findings: x.findings}, err
}

// Mend writes the list of what is running anew from the progress of each
// broadcast and that of topics from its launch, and drops open rows of those that
// have ended or are not there, callbacks of these, and claims that nothing stands
// behind.
func (j *BoltJournal) Mend(ctx context.Context) error {
	mend := func(bucket []byte, wrong func(tx *bbolt.Tx, key []byte) bool) error {
		return boltfile.Walk(ctx, j.db.Update, bucket, 100*examineStep, func(tx *bbolt.Tx) boltfile.Visit {
			return func(k, _ []byte) error {
				if !wrong(tx, k) {
					return nil
				}
				return tx.Bucket(bucket).Delete(k)
			}
		})
	}
	return wrap("mend", errors.Join(
		mend(bucketRunning, func(tx *bbolt.Tx, id []byte) bool {
			b, err := read(tx, id)
			return err == nil && b.Ended() || missing(err)
		}),
		mend(bucketCallbacks, func(tx *bbolt.Tx, id []byte) bool { _, err := read(tx, id); return missing(err) }),
		mend(bucketTopics, func(tx *bbolt.Tx, key []byte) bool { return !ofTopic(tx, key) }),
		mend(bucketClaims, func(tx *bbolt.Tx, key []byte) bool { return lost(tx, key) != "" }),
		mend(bucketClaimed, func(tx *bbolt.Tx, id []byte) bool { return unclaimed(tx, id) }),
		mend(bucketOpen, func(tx *bbolt.Tx, key []byte) bool {
			id, fits := broadcastOf(key)
			b, err := read(tx, id)
			return !fits || err == nil && b.Ended() || missing(err)
		}),
		boltfile.Walk(ctx, j.db.Update, bucketProgress, 100*examineStep, func(tx *bbolt.Tx) boltfile.Visit {
			return func(id, _ []byte) error {
				b, err := read(tx, id)
				if err != nil {
					return nil
				}
				if err := putTopic(tx, b.Launch); err != nil || b.Ended() {
					return err
				}
				return tx.Bucket(bucketRunning).Put(id, nil)
			}
		})))
}

func missing(err error) bool { return errors.Is(err, belfry.ErrNotFound) }

// An examination is what is known so far.
type examination struct {
	broadcasts, rows, callbacks, claims int
	findings                            []belfry.Finding
}

const (
	restoreHint = "keep a copy of the file as it is, and restore it from a backup"
	rebuildHint = "put it right with `belfry doctor --rebuild`"
	reportHint  = "this is a fault of belfry: report it with what `belfry broadcasts show %s --json` prints"
)

func (x *examination) find(hint, format string, args ...any) {
	x.findings = append(x.findings, belfry.Finding{Severity: belfry.Fault, What: fmt.Sprintf(format, args...), Hint: hint})
}

// broadcast looks at broadcasts, each with its open rows.
func (x *examination) broadcast(tx *bbolt.Tx) boltfile.Visit {
	return func(k, _ []byte) error {
		x.broadcasts++
		b, err := read(tx, k)
		if err != nil {
			x.find(restoreHint, "broadcast %+q cannot be read", k)
			return nil
		}
		open := 0
		for _, n := range openOf(tx, b.ID) {
			open += n
		}
		if wrong := b.unsound(open); wrong != "" {
			x.find(fmt.Sprintf(reportHint, b.ID), "broadcast %s %s", b.ID, wrong)
		}
		if !b.Ended() && tx.Bucket(bucketRunning).Get(k) == nil {
			x.find(rebuildHint, "broadcast %s is %s, and would not go on after a restart", b.ID, b.State)
		}
		if key := topicKey(b.Launch); key != nil && tx.Bucket(bucketTopics).Get(key) == nil {
			x.find(rebuildHint, "broadcast %s is not listed with its topic, and older ones would overtake it", b.ID)
		}
		return nil
	}
}

// unsound says what is wrong with the accounting of a broadcast that has so many
// open rows, or nothing.
func (b Broadcast) unsound(open int) string {
	c := b.Counts
	sum, reasons, expiries, hosts := 0, 0, 0, 0
	for _, n := range []int{c.Pending, c.Accepted, c.Suppressed, c.Expired, c.Gone, c.Left, c.Failed, c.Cancelled} {
		if sum += n; n < 0 {
			return "has a count below nothing"
		}
	}
	for _, n := range b.Failures {
		reasons += n
	}
	for _, n := range b.Expiries {
		expiries += n
	}
	for _, h := range b.Hosts {
		hosts += h.Accepted
	}
	switch {
	case sum != c.Targets:
		return fmt.Sprintf("was for %d subscriptions and accounts for %d", c.Targets, sum)
	case reasons != c.Failed:
		return fmt.Sprintf("has %d that failed and reasons for %d", c.Failed, reasons)
	case expiries > c.Expired: // fewer where it began with a belfry that kept none
		return fmt.Sprintf("has %d that expired and reasons for %d", c.Expired, expiries)
	case hosts != c.Accepted:
		return fmt.Sprintf("has %d that were accepted, and its push services took %d", c.Accepted, hosts)
	case b.Ended() && c.Pending > 0:
		return fmt.Sprintf("is %s and has %d pending", b.State, c.Pending)
	case !b.Ended() && open > c.Pending:
		return fmt.Sprintf("has %d open rows and only %d pending", open, c.Pending)
	}
	return ""
}

// progress looks for what is left of broadcasts whose message is lost.
func (x *examination) progress(tx *bbolt.Tx) boltfile.Visit {
	return func(id, _ []byte) error {
		if tx.Bucket(bucketBroadcasts).Get(id) == nil {
			x.find(restoreHint, "broadcast %+q has lost its message", id)
		}
		return nil
	}
}

// open looks for rows that nobody will settle.
func (x *examination) open(tx *bbolt.Tx) boltfile.Visit {
	var b Broadcast // that of the row before
	var err error
	return func(k, _ []byte) error {
		x.rows++
		id, fits := broadcastOf(k)
		if b.ID == "" || b.ID != string(id) {
			b, err = read(tx, id)
		}
		switch {
		case !fits || missing(err):
			x.find(rebuildHint, "an open row %+q belongs to no broadcast", k)
		case err == nil && b.Ended():
			x.find(rebuildHint, "row %d of broadcast %s is open, which has ended", turnOf(k, b.ID).At, b.ID)
		}
		return nil
	}
}

// broadcastOf returns the id in the key of an open row, and whether it is one.
func broadcastOf(key []byte) (id []byte, fits bool) {
	n := max(len(key)-turnSize, 0)
	return key[:n], n > 0
}

// running looks for what a start would go on with in vain.
func (x *examination) running(tx *bbolt.Tx) boltfile.Visit {
	return func(id, _ []byte) error {
		if b, err := read(tx, id); missing(err) || err == nil && b.Ended() {
			x.find(rebuildHint, "broadcast %+q is listed as running, and is %s", id, cmp.Or(string(b.State), "not there"))
		}
		return nil
	}
}

// topic looks for what is listed with a topic in vain.
func (x *examination) topic(tx *bbolt.Tx) boltfile.Visit {
	return func(key, _ []byte) error {
		if !ofTopic(tx, key) {
			x.find(rebuildHint, "%+q is listed with a topic, and is not of it", key)
		}
		return nil
	}
}

// ofTopic reports whether a broadcast belongs where it is listed, as far as that can be read.
func ofTopic(tx *bbolt.Tx, key []byte) bool {
	b, err := read(tx, key[min(headerSize, len(key)):])
	return err == nil && bytes.Equal(topicKey(b.Launch), key) || err != nil && !missing(err)
}

// callback looks for what would keep the server from starting.
func (x *examination) callback(tx *bbolt.Tx) boltfile.Visit {
	return func(id, value []byte) error {
		x.callbacks++
		var url string
		if _, err := read(tx, id); missing(err) {
			x.find(rebuildHint, "a callback belongs to broadcast %+q, which is not there", id)
		} else if boltfile.Unseal(value, &url) != nil {
			x.find(restoreHint, "the callback of broadcast %+q cannot be read", id)
		}
		return nil
	}
}

// claim looks for keys that would be refused, or kept for ever.
func (x *examination) claim(tx *bbolt.Tx) boltfile.Visit {
	return func(key, _ []byte) error {
		x.claims++
		if why := lost(tx, key); why != "" {
			x.find(rebuildHint, "an idempotency key %s", why)
		}
		return nil
	}
}

// lost says why a claim is of no use, or nothing.
func lost(tx *bbolt.Tx, key []byte) string {
	var c Claimed
	if boltfile.Unseal(tx.Bucket(bucketClaims).Get(key), &c) != nil {
		return "cannot be read, and a launch with it is refused"
	}
	if _, err := read(tx, []byte(c.ID)); missing(err) {
		return fmt.Sprintf("belongs to broadcast %+q, which is not there", c.ID)
	}
	if !bytes.Equal(tx.Bucket(bucketClaimed).Get([]byte(c.ID)), key) {
		return "of broadcast " + c.ID + " would be kept for ever"
	}
	return ""
}

// claimed looks for broadcasts whose claim is gone before its time.
func (x *examination) claimed(tx *bbolt.Tx) boltfile.Visit {
	return func(id, _ []byte) error {
		if unclaimed(tx, id) {
			x.find(rebuildHint, "broadcast %+q was launched with an idempotency key, which is not there", id)
		}
		return nil
	}
}

// unclaimed reports whether nothing stands under the key that a broadcast was
// launched with. Another broadcast may: a key can be used again after a day.
func unclaimed(tx *bbolt.Tx, id []byte) bool {
	return tx.Bucket(bucketClaims).Get(tx.Bucket(bucketClaimed).Get(id)) == nil
}
