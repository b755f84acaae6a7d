//go:build faults

package faults

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// An op is what a program did to its file, and when it began to.
type op struct {
	at   time.Time
	call string // pwrite64, ftruncate, or what makes all before it durable: fdatasync, fsync
	data []byte
	off  int64 // of a write, or the new size
}

// A recording is all that was done to a file, from the state base on.
type recording struct {
	base []byte
	ops  []op
}

// straceOf is the command that runs another and writes what it does to path
// into trace, with all the octets.
func straceOf(path, trace string) []string {
	return []string{"strace", "--follow-forks", "--seccomp-bpf", "--quiet=all", "--decode-fds=path", "--absolute-timestamps=format:unix,precision:us",
		"--strings-in-hex=all", "--string-limit=16777216", "--signal=none", "--trace=pwrite64,ftruncate,fdatasync,fsync,write,pwritev",
		"--trace-path=" + path, "--output=" + trace, "--"}
}

// With an answer or before it: a call may be shown in two halves.
var called = regexp.MustCompile(`^\d+ +(\d+)\.(\d+) (\w+)\(\d+<[^>]*>(?:, "([^"]*)", (\d+))?(?:, (\d+))?`)

// What strace can say of a thread that is gone before it has looked at it, with
// the whole process.
var vanished = regexp.MustCompile(`^\d+ +\d+\.\d+ \?\?\?\( <detached \.\.\.>$`)

// record reads a trace.
func record(t *testing.T, base []byte, trace string) recording {
	t.Helper()
	text, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	r, ended := recording{base: base}, false
	for line := range bytes.Lines(text) {
		if bytes.Contains(line, []byte(" <... ")) {
			continue
		}
		if vanished.Match(bytes.TrimSpace(line)) {
			ended = true
			continue
		}
		m := called.FindSubmatch(line)
		if m == nil || ended { // nothing may be written behind the end
			t.Fatalf("strace says %.200s", line)
		}
		seconds, _ := strconv.ParseInt(string(m[1]), 10, 64)
		micros, _ := strconv.ParseInt(string(m[2]), 10, 64)
		o := op{at: time.Unix(seconds, micros*1000), call: string(m[3])}
		if len(m[6]) > 0 {
			o.off, _ = strconv.ParseInt(string(m[6]), 10, 64)
		}
		switch o.call {
		case "pwrite64":
			if o.data, err = hex.DecodeString(strings.ReplaceAll(string(m[4]), `\x`, "")); err != nil || strconv.Itoa(len(o.data)) != string(m[5]) {
				t.Fatalf("strace shows %d octets of %s: %v", len(o.data), m[5], err)
			}
		case "ftruncate", "fdatasync", "fsync":
		default:
			t.Fatalf("the file is written by %s, which nobody plays back", o.call)
		}
		r.ops = append(r.ops, o)
	}
	if len(r.ops) == 0 {
		t.Fatal("nothing was recorded")
	}
	return r
}

// before is when the op behind the first n began: what was acknowledged before
// then must be in an image of n ops.
func (r recording) before(n int) time.Time {
	if n == len(r.ops) {
		return time.Now()
	}
	return r.ops[n].at
}

// killed is the file of a process that was killed after n ops: the system keeps
// what a process wrote, flushed or not.
func (r recording) killed(n int) []byte {
	image := bytes.Clone(r.base)
	for _, o := range r.ops[:n] {
		image = o.play(image)
	}
	return image
}

// cut is the file of a machine whose power failed after n ops: what was flushed
// is there, and of the rest some, in no order, some of it torn.
func (r recording) cut(n int) []byte {
	flushed := 0
	for i, o := range r.ops[:n] {
		if o.call == "fdatasync" || o.call == "fsync" {
			flushed = i + 1
		}
	}
	image := r.killed(flushed)
	for _, o := range r.ops[flushed:n] {
		switch rand.N(3) {
		case 0: // never came to the disk
		case 1:
			image = o.play(image)
		case 2:
			if len(o.data) > 0 { // a disk writes sectors whole
				o.data = o.data[:rand.N(len(o.data)/512+1)*512]
			}
			image = o.play(image)
		}
	}
	return image
}

func (o op) play(image []byte) []byte {
	end := int(o.off) + len(o.data)
	switch {
	case o.call == "ftruncate" && end < len(image):
		return image[:end]
	case o.call == "ftruncate" || o.call == "pwrite64" && len(o.data) > 0:
		if end > len(image) {
			image = append(image, make([]byte, end-len(image))...)
		}
		copy(image[o.off:], o.data)
	}
	return image
}
