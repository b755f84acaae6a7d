package rig

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

	"github.com/belfry-push/belfry"
)

// FCM is the push service of Chrome's subscriptions.
const FCM = "https://fcm.googleapis.com"

// NewBrowser makes a subscription with a key of its own at a push service. Its
// endpoint's path is as long as those that Chrome gets from FCM.
func NewBrowser(origin string) (sub belfry.PushSubscription) {
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		panic(err) // crypto/rand never fails
	}
	sub.Endpoint = origin + "/fcm/send/" + noise(8)[:11] + ":APA91b" + noise(101)[:134]
	sub.Keys.P256dh, sub.Keys.Auth = base64.RawURLEncoding.EncodeToString(key.PublicKey().Bytes()), noise(16)
	return sub
}

func noise(octets int) string {
	b := make([]byte, octets)
	rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}

// WriteBrowsers writes n subscriptions as import reads them, on all CPUs, since
// keys take a while.
func WriteBrowsers(name, origin string, n int) error {
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
					line, _ := json.Marshal(NewBrowser(origin)) // strings alone always do
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

// ReadBrowsers reads what WriteBrowsers has written.
func ReadBrowsers(name string) (subs []belfry.PushSubscription, err error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for lines := json.NewDecoder(f); ; {
		var sub belfry.PushSubscription
		switch err := lines.Decode(&sub); err {
		case nil:
			subs = append(subs, sub)
		case io.EOF:
			return subs, nil
		default:
			return nil, err
		}
	}
}

// Head copies the first n lines of a file.
func Head(from, to string, n int) error {
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
