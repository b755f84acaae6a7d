package main

import (
	"bufio"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"os"
	"runtime"
	"sync"
)

// A row is a PushSubscription as a browser gives it.
type row struct {
	Endpoint string `json:"endpoint"`
	Expires  any    `json:"expirationTime"`
	Keys     struct {
		P256dh string `json:"p256dh"`
		Auth   string `json:"auth"`
	} `json:"keys"`
}

// newRow makes a subscription with a key of its own. Its endpoint is as long as
// those that Chrome gets from FCM, 188 octets.
func newRow() (r row) {
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		panic(err) // crypto/rand never fails
	}
	r.Endpoint = "https://fcm.googleapis.com/fcm/send/" + noise(8)[:11] + ":APA91b" + noise(101)[:134]
	r.Keys.P256dh, r.Keys.Auth = base64.RawURLEncoding.EncodeToString(key.PublicKey().Bytes()), noise(16)
	return r
}

func noise(octets int) string {
	b := make([]byte, octets)
	rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}

// writeRows writes n rows as import reads them, on all CPUs, since keys take a while.
func writeRows(name string, n int) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(f, 1<<20)
	var mu sync.Mutex // guards out
	var all sync.WaitGroup
	const piece = 1000
	pieces := make(chan int)
	for range runtime.NumCPU() {
		all.Go(func() {
			for rows := range pieces {
				var text []byte
				for range rows {
					line, _ := json.Marshal(newRow()) // strings alone always do
					text = append(append(text, line...), '\n')
				}
				mu.Lock()
				out.Write(text)
				mu.Unlock()
			}
		})
	}
	for ; n > 0; n -= piece {
		pieces <- min(n, piece)
	}
	close(pieces)
	all.Wait()
	return errors.Join(out.Flush(), f.Close())
}

// head copies the first n lines of a file.
func head(from, to string, n int) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	lines, out := bufio.NewReaderSize(in, 1<<20), bufio.NewWriterSize(f, 1<<20)
	for ; n > 0 && err == nil; n-- {
		var line []byte
		line, err = lines.ReadSlice('\n')
		out.Write(line)
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return errors.Join(err, out.Flush(), f.Sync(), f.Close())
}
