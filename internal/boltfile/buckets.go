package boltfile

import "go.etcd.io/bbolt"

// MakeBuckets makes those of a room's buckets that are missing, and writes
// nothing where none is: a file that a start then refuses is as it was.
func MakeBuckets(f *File, names ...[]byte) error {
	missing := false
	err := View(f, func(tx *bbolt.Tx) error {
		for _, name := range names {
			missing = missing || tx.Bucket(name) == nil
		}
		return nil
	})
	if err != nil || !missing {
		return err
	}
	return f.Update(func(tx *bbolt.Tx) error {
		for _, name := range names {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		return nil
	})
}
