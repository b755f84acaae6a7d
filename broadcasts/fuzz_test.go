package broadcasts_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/broadcasts"
	"github.com/belfry-push/belfry/internal/boltfile"
)

// A broadcast is read as it was written: what is sent after a message was read
// from the journal is, to the octet, what was measured and accepted before. And
// whatever stands there with a sum that is right, it is read or refused.
func FuzzJournal(f *testing.F) {
	const running = `{"state":"running","counts":{"targets":7,"pending":7},"failures":{},"pace":0.5,"hosts":[]}`
	f.Add([]byte(`{"message":{"title":"T"},"audience":{"all":true},"deadline":"2026-01-02T03:04:05Z"}`), []byte(running), uint64(0))
	f.Add([]byte(`{"message":{"title":"<T>","data":{"html":"<b>&\u2028", "n":12345678901234567890},"ttl":0},"audience":{"channels":["news"]},"warnings":["w"]}`),
		[]byte(`{"state":"done","reason":null,"finished":"2026-01-02T03:04:05.678+01:00","failures":{"403 Forbidden":1},"hosts":[{"host":"a","state":"open"}]}`), uint64(1)<<63)
	f.Add([]byte(`{"message":{"title":"T","actions":[{"action":"a","title":"A"}],"data":{"a":"\ud800"},"variants":null},"audience":{"users":["ü"]}}`),
		[]byte(`{"state":"cancelled","reason":"restart","failures":null}`), uint64(9))
	f.Add([]byte(`{"message":{"title":"T","variants":{"de-AT":{"title":"U","actions":[]},"fr":{"dir":"ltr","actions":[{"action":"a","title":"A"}]}}},"audience":{"all":true}}`),
		[]byte(running), uint64(3))
	f.Add([]byte(`{"message":{"title":7}}`), []byte(`[]`), uint64(0))
	file, err := boltfile.Open(filepath.Join(f.TempDir(), "belfry.db"))
	if err != nil {
		f.Fatal(err)
	}
	defer file.Close()
	file.NoSync, file.MaxBatchDelay = true, 0 // what is tried here is not the disk
	journal, err := broadcasts.NewBoltJournal(file, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, launch, progress []byte, until uint64) {
		plant(t, file, launch, progress)
		if _, err := journal.Get(t.Context(), planted); err != nil && !errors.Is(err, belfry.ErrCorrupt) && !errors.Is(err, belfry.ErrNotFound) {
			t.Fatal(err)
		}
		want := broadcasts.Broadcast{}
		if json.Unmarshal(launch, &want.Launch) != nil || json.Unmarshal(progress, &want.Progress) != nil || want.Message.Check(nil) != nil {
			return
		}
		want.ID, want.Until = planted, belfry.Position(until)
		if _, err := journal.Create(t.Context(), want, nil); err != nil {
			t.Fatal(err)
		}
		got, err := journal.Get(t.Context(), planted)
		if err != nil || got.Until != want.Until || !bytes.Equal(written(t, got), written(t, want)) {
			t.Errorf("got  %s, %v\nwant %s", written(t, got), err, written(t, want))
		}
		for _, tag := range append([]string{""}, want.Message.Variants.Tags()...) {
			sent, err := got.Message.In(tag).Payload(planted, "", "https://www.example.com")
			measured, tooLarge := want.Message.In(tag).Payload(planted, "", "https://www.example.com")
			if !bytes.Equal(sent, measured) || (err == nil) != (tooLarge == nil) {
				t.Errorf("measured as %s, %v\nto send is %s, %v", measured, tooLarge, sent, err)
			}
		}
	})
}

const planted = "01j9x2v7q3m8k5n4p6r0s1t2w3"

// plant puts JSON into the journal that may be no broadcast.
func plant(t *testing.T, file *boltfile.File, launch, progress []byte) {
	err := file.Update(func(tx *bbolt.Tx) error {
		for bucket, text := range map[string][]byte{"broadcasts": launch, "broadcasts.progress": progress} {
			record, err := boltfile.Seal(json.RawMessage(text))
			if err == nil {
				err = tx.Bucket([]byte(bucket)).Put([]byte(planted), record)
			} else {
				err = tx.Bucket([]byte(bucket)).Delete([]byte(planted))
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func written(t *testing.T, b broadcasts.Broadcast) []byte {
	text, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
