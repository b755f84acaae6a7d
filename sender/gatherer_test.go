package sender

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
)

// One system call for each HTTP/2 frame is a tenth of what a message costs. What
// is written while the peer is busy leaves in one piece, and in order.
func TestWritesGather(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe() // a write of it waits for its reader, and is read by itself
		conn := gather(ours)
		for _, b := range []string{"first", "one", "two", "three"} {
			if n, err := conn.Write([]byte(b)); n != len(b) || err != nil {
				t.Fatalf("%d, %v", n, err)
			}
			synctest.Wait() // "first" is under way
		}
		var got []string
		for range 2 {
			b := make([]byte, 100)
			n, err := theirs.Read(b)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, string(b[:n]))
		}
		if got[0] != "first" || got[1] != "onetwothree" {
			t.Errorf("arrives as %q", got)
		}
		conn.Close()
	})
}

// All octets arrive, each once, whatever the pieces, and the caller may use its
// buffer again at once.
func TestGatheredWritesArrive(t *testing.T) {
	ours, theirs := net.Pipe()
	var want bytes.Buffer
	go func() {
		conn := gather(ours)
		piece := make([]byte, 5000)
		for i := range 500 {
			for j := range piece {
				piece[j] = byte(i)
			}
			conn.Write(piece[:1+i*9])
		}
		conn.Write([]byte("end"))
	}()
	for i := range 500 {
		want.Write(bytes.Repeat([]byte{byte(i)}, 1+i*9))
	}
	want.WriteString("end")
	got := make([]byte, want.Len())
	if _, err := io.ReadFull(theirs, got); err != nil || !bytes.Equal(got, want.Bytes()) {
		t.Errorf("something else arrives, %v", err)
	}
	theirs.Close()
}

// A peer that does not read must not fill our memory, and closing frees who
// waits for it. A connection that has failed goes on failing.
func TestGatheringIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, _ := net.Pipe()
		conn := gather(ours)
		written, failed := 0, make(chan error, 1)
		go func() {
			var err error
			for n := 0; err == nil && written < 10*mostGathered; written += n {
				n, err = conn.Write(make([]byte, 1000))
			}
			failed <- err
		}()
		synctest.Wait()
		// As much may be under way, and as much gathered behind it.
		if written < mostGathered || written > 2*(mostGathered+1000) {
			t.Errorf("%d octets are kept", written)
		}
		conn.Close()
		if err := <-failed; !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("waiting ended with %v", err)
		}
		if _, err := conn.Write([]byte("more")); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("a failed connection: %v", err)
		}
	})
}
