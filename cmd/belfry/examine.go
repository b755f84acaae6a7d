package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"runtime"
	"slices"
	"time"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/internal/boltfile"
	"github.com/belfry-push/belfry/keys"
)

// examine has every room look at what it keeps, and looks at what is nobody's:
// keys that rows need, files and settings. What can be made anew is so first,
// where rebuild says to.
//
// bbolt's own check of all pages is no part of it: it needs the write lock for as
// long as it takes. Every key of every bucket is met here; a backup can be
// checked with bbolt's tool at leisure.
func (h *house) examine(ctx context.Context, rebuild bool) (all belfry.Checkup, err error) {
	if rebuild {
		err := errors.Join(h.subscriptions.Mend(ctx), h.journal.Mend(ctx), h.events.Mend(ctx))
		if err != nil && !errors.Is(err, belfry.ErrCorrupt) { // damage is found again below
			return all, err
		}
	}
	for _, look := range []func(context.Context) (belfry.Checkup, error){
		h.subscriptions.Examine, h.journal.Examine, h.events.Examine, h.tokens.Examine, h.receipts.Examine, h.examineKeys, h.examineSettings,
	} {
		got, err := look(ctx)
		if err != nil && !errors.Is(err, belfry.ErrCorrupt) {
			return all, err
		}
		all.Looked = append(all.Looked, got.Looked...)
		all.Findings = append(append(all.Findings, got.Findings...), told(err)...)
	}
	return all, nil
}

// told is an error as a finding.
func told(err error) []belfry.Finding {
	var own *belfry.Error
	if !errors.As(err, &own) {
		return nil
	}
	return []belfry.Finding{{Severity: belfry.Fault, What: own.Error(), Hint: own.Hint}}
}

// missingKeys says how many rows were made with each key that is not on the
// ring: they cannot be rung (WP-49).
func (h *house) missingKeys(ctx context.Context) (map[string]int, error) {
	missing, err := h.subscriptions.Keys(ctx)
	for _, k := range h.keys.List() {
		delete(missing, k.ID)
	}
	maps.DeleteFunc(missing, func(_ string, n int) bool { return n == 0 }) // a count that is damaged
	return missing, err
}

const importKeyHint = "bring it back with `belfry keys import FILE`"

// examineKeys looks for rows whose key is lost, and at the file that must not be.
func (h *house) examineKeys(ctx context.Context) (belfry.Checkup, error) {
	ring := h.keys.List()
	found := belfry.Checkup{Looked: []belfry.Looked{{What: "keys", Count: len(ring)}}}
	lost, err := h.missingKeys(ctx)
	for _, id := range slices.Sorted(maps.Keys(lost)) {
		found.Findings = append(found.Findings, belfry.Finding{Severity: belfry.Fault, Hint: importKeyHint,
			What: fmt.Sprintf("VAPID key %+q is missing, and subscriptions that were made with it cannot be rung: %d", id, lost[id])})
	}
	there, open := keys.Open(h.paths.Keys)
	switch {
	case errors.Is(open, fs.ErrNotExist):
		found.Findings = append(found.Findings, unsaved(h.paths.Keys+" is missing"))
	case open != nil:
		found.Findings = append(found.Findings, told(open)...)
	case !holds(there.List(), ring):
		found.Findings = append(found.Findings, unsaved(h.paths.Keys+" does not hold all the keys that the server signs with"))
	}
	return found, err
}

// unsaved is for keys that only the running server has.
func unsaved(what string) belfry.Finding {
	return belfry.Finding{Severity: belfry.Fault, What: what + ": once the server stops, nobody can be rung any more",
		Hint: "save each key of `belfry keys show` now with `belfry keys export ID --out FILE`, or put the file back from a backup"}
}

func holds(there, wanted []keys.Info) bool {
	return !slices.ContainsFunc(wanted, func(k keys.Info) bool {
		return !slices.ContainsFunc(there, func(t keys.Info) bool { return t.ID == k.ID })
	})
}

// examineSettings looks at what surrounds the data: who can read it, and how
// long there will be room and a certificate.
func (h *house) examineSettings(context.Context) (belfry.Checkup, error) {
	var found belfry.Checkup
	files := []string{h.paths.Dir, h.paths.Database, h.paths.Webhook, h.paths.User, h.paths.Socket} // the key file is looked at where it is read
	for _, path := range files {
		found.Findings = append(found.Findings, closed(path)...)
	}
	found.Findings = append(found.Findings, spacious(h.paths.Dir, free(h.paths.Dir))...)
	found.Findings = append(found.Findings, told(h.file.View(boltfile.Room))...)
	if h.file.Reverted != nil {
		found.Findings = append(found.Findings, told(h.file.Reverted)...)
	}
	settings := 2
	if h.tls != nil {
		settings++
		found.Findings = append(found.Findings, lasts(h.tls.Certificates[0].Leaf, time.Now())...)
	}
	found.Looked = []belfry.Looked{{What: "files", Count: len(files) + 1}, {What: "settings", Count: settings}}
	return found, nil
}

// closed says when others can read what is in the data directory (SEC-20).
func closed(path string) []belfry.Finding {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return []belfry.Finding{{Severity: belfry.Fault, What: path + " is not where the server put it", Hint: "put it back before the server stops"}}
	case info.Mode().Perm()&0o077 == 0 || runtime.GOOS == "windows": // mode bits mean nothing there
		return nil
	}
	mode := "600"
	if info.IsDir() {
		mode = "700"
	}
	return []belfry.Finding{{Severity: belfry.Fault, What: fmt.Sprintf("%s is open to others (mode %04o)", path, info.Mode().Perm()), Hint: "chmod " + mode + " " + path}}
}

// lowSpace is when an operator should hear of the disk, in octets: a quarter of
// a million subscriptions.
const lowSpace = 256 << 20

func spacious(dir string, free uint64) []belfry.Finding {
	if free >= lowSpace {
		return nil
	}
	return []belfry.Finding{{Severity: belfry.Warning, What: fmt.Sprintf("there are only %d MiB left on the disk under %s", free>>20, dir),
		Hint: "free some space; on a full disk nobody can register, and broadcasts wait"}}
}

// soon is how long before the certificate ends an operator should hear of it:
// what renews itself does so earlier.
const soon = 7 * 24 * time.Hour

func lasts(leaf *x509.Certificate, now time.Time) []belfry.Finding {
	if leaf == nil || leaf.NotAfter.Sub(now) > soon {
		return nil
	}
	severity, verb := belfry.Warning, "ends"
	if leaf.NotAfter.Before(now) {
		severity, verb = belfry.Fault, "ended"
	}
	return []belfry.Finding{{Severity: severity, What: fmt.Sprintf("the certificate that the server began with %s at %s", verb, stamp(&leaf.NotAfter)),
		Hint: "renew the files of --tls-cert and --tls-key, and restart the server"}}
}
