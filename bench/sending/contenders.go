//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/SherClockHolmes/webpush-go"
	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/keys"
	"github.com/belfry-push/belfry/sender"
)

const (
	subscriptionsFile = "subscriptions.json"
	ttl               = 24 * time.Hour
)

// message is of the usual size: a title, a sentence and a link.
var message = belfry.PushMessage{Payload: bytes.Repeat([]byte("x"), 350), TTL: ttl}

// A job does the i-th message of a turn.
type job = func(i int) error

// A contender is one way to do a message, or the part of it that nobody can leave out.
type contender struct {
	role, title string
	sends       bool
	prepare     func(house string, subs []belfry.PushSubscription) (job, error)
}

var contenders = []contender{
	{"native", "engine native", true, viaSender("native")},
	{"webpush-go", "engine webpush-go", true, viaSender("webpush-go")},
	{"direct", "webpush-go used directly", true, direct},
	{"post", "the same POST with a ready body", true, post},
	{"seal", "sealing alone", false, seal},
	{"floor", "the floor: a key pair and an agreement", false, floor},
}

// writeSubscriptions makes as many browsers as a turn has messages.
func writeSubscriptions(house, address string, n int) (err error) {
	subs := make([]belfry.PushSubscription, n)
	for i := range subs {
		if subs[i], err = newBrowser("https://" + address); err != nil {
			return err
		}
	}
	b, err := json.Marshal(subs)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(house, subscriptionsFile), b, 0o600)
}

// newBrowser subscribes at a push service whose endpoints are as long as Google's.
func newBrowser(origin string) (sub belfry.PushSubscription, err error) {
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return sub, err
	}
	var auth [16]byte
	var token [114]byte
	rand.Read(auth[:])
	rand.Read(token[:])
	sub.Endpoint = origin + "/fcm/send/" + base64.RawURLEncoding.EncodeToString(token[:])
	sub.Keys.P256dh = base64.RawURLEncoding.EncodeToString(key.PublicKey().Bytes())
	sub.Keys.Auth = base64.RawURLEncoding.EncodeToString(auth[:])
	return sub, nil
}

func readSubscriptions(house string) (subs []belfry.PushSubscription, err error) {
	b, err := os.ReadFile(filepath.Join(house, subscriptionsFile))
	if err != nil {
		return nil, err
	}
	return subs, json.Unmarshal(b, &subs)
}

// checked are the subscriptions as the house would have stored them.
func checked(subs []belfry.PushSubscription) ([]belfry.Subscription, belfry.PushHosts, error) {
	u, err := url.Parse(subs[0].Endpoint)
	if err != nil {
		return nil, belfry.PushHosts{}, err
	}
	hosts, err := belfry.NewPushHosts([]string{u.Host})
	if err != nil {
		return nil, hosts, err
	}
	all := make([]belfry.Subscription, len(subs))
	for i, s := range subs {
		if all[i], err = s.Check(hosts); err != nil {
			return nil, hosts, err
		}
	}
	return all, hosts, nil
}

func newSigner(house string) (*keys.Signer, error) {
	folder, err := os.MkdirTemp(house, "keys-")
	if err != nil {
		return nil, err
	}
	ring, err := keys.Create(filepath.Join(folder, "vapid.json"))
	if err != nil {
		return nil, err
	}
	return keys.NewSigner(ring, "mailto:ops@example.com", nil), nil
}

// viaSender sends with one of our engines, as `belfry serve` does.
func viaSender(engine string) func(string, []belfry.PushSubscription) (job, error) {
	return func(house string, raw []belfry.PushSubscription) (job, error) {
		subs, hosts, err := checked(raw)
		if err != nil {
			return nil, err
		}
		signer, err := newSigner(house)
		if err != nil {
			return nil, err
		}
		s, err := sender.New(sender.Config{Signer: signer, Hosts: hosts, Engine: engine})
		if err != nil {
			return nil, err
		}
		return func(i int) error {
			if o := s.Send(context.Background(), subs[i], message); o.Verdict != belfry.Accepted {
				return fmt.Errorf("%v: %s", o.Verdict, o.Reason)
			}
			return nil
		}, nil
	}
}

// direct sends as the README of webpush-go says.
func direct(_ string, raw []belfry.PushSubscription) (job, error) {
	private, public, err := webpush.GenerateVAPIDKeys()
	if err != nil {
		return nil, err
	}
	subs := make([]*webpush.Subscription, len(raw))
	for i, s := range raw {
		subs[i] = &webpush.Subscription{Endpoint: s.Endpoint, Keys: webpush.Keys{P256dh: s.Keys.P256dh, Auth: s.Keys.Auth}}
	}
	return func(i int) error {
		resp, err := webpush.SendNotification(message.Payload, subs[i], &webpush.Options{
			Subscriber:      "ops@example.com",
			VAPIDPublicKey:  public,
			VAPIDPrivateKey: private,
			TTL:             int(ttl / time.Second),
		})
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		return created(resp)
	}, nil
}

// post sends what somebody else has sealed and signed, over the transport of
// our engines: what is left of a send when all that is Web Push is taken out.
func post(house string, raw []belfry.PushSubscription) (job, error) {
	subs, hosts, err := checked(raw)
	if err != nil {
		return nil, err
	}
	signer, err := newSigner(house)
	if err != nil {
		return nil, err
	}
	authorization, err := signer.Authorization(subs[0].Endpoint.Origin(), "")
	if err != nil {
		return nil, err
	}
	bodies := make([][]byte, len(subs))
	for i, sub := range subs {
		if bodies[i], err = sender.Seal(sub, message); err != nil {
			return nil, err
		}
	}
	client := &http.Client{Transport: sender.NewTransport(sender.Config{Hosts: hosts})}
	return func(i int) error {
		req, err := http.NewRequest(http.MethodPost, raw[i].Endpoint, bytes.NewReader(bodies[i]))
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", authorization)
		req.Header.Set("Content-Encoding", "aes128gcm")
		req.Header.Set("Content-Type", "application/octet-stream")
		req.Header.Set("TTL", "86400")
		req.Header["User-Agent"] = nil
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		io.Copy(io.Discard, resp.Body)
		return created(resp)
	}, nil
}

func created(resp *http.Response) error {
	if resp.StatusCode != http.StatusCreated || resp.ProtoMajor != 2 {
		return fmt.Errorf("%s over %s", resp.Status, resp.Proto)
	}
	return nil
}

// seal makes bodies and sends none.
func seal(_ string, raw []belfry.PushSubscription) (job, error) {
	subs, _, err := checked(raw)
	if err != nil {
		return nil, err
	}
	return func(i int) error {
		_, err := sender.Seal(subs[i], message)
		return err
	}, nil
}

// floor does what RFC 8291 §3.1 demands for every message, and no more.
func floor(_ string, raw []belfry.PushSubscription) (job, error) {
	subs, _, err := checked(raw)
	if err != nil {
		return nil, err
	}
	browsers := make([]*ecdh.PublicKey, len(subs))
	for i, sub := range subs {
		if browsers[i], err = ecdh.P256().NewPublicKey(sub.P256dh[:]); err != nil {
			return nil, err
		}
	}
	return func(i int) error {
		own, err := ecdh.P256().GenerateKey(rand.Reader)
		if err != nil {
			return err
		}
		_, err = own.ECDH(browsers[i])
		return err
	}, nil
}
