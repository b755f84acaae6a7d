//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/bench/rig"
	"github.com/belfry-push/belfry/keys"
	"github.com/belfry-push/belfry/sender"
)

// message is of the usual size: a title, a sentence and a link.
var message = belfry.PushMessage{Payload: bytes.Repeat([]byte("x"), 350), TTL: rig.TTL}

// A contender is one way to do a message, or the part of it that nobody can leave out.
type contender struct {
	role, title string
	sends       bool
	prepare     func(house string, subs []belfry.PushSubscription) (rig.Job, error)
}

var contenders = []contender{
	{"webpush-go", "engine webpush-go", true, viaSender("webpush-go")},
	{"direct", "webpush-go used directly", true, direct},
	{"native", "engine native", true, viaSender("native")},
	{"post", "the same POST with a ready body", true, post},
	{"both", "the floor and the POST in one process", true, both},
	{"floor", "the floor: a key pair and an agreement", false, floor},
	{"seal", "sealing alone", false, seal},
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
func viaSender(engine string) func(string, []belfry.PushSubscription) (rig.Job, error) {
	return func(house string, raw []belfry.PushSubscription) (rig.Job, error) {
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

// direct uses webpush-go.
func direct(_ string, raw []belfry.PushSubscription) (rig.Job, error) {
	return rig.Direct(raw, message.Payload)
}

// post sends what somebody else has sealed and signed, over the transport of
// our engines: what is left of a send when all that is Web Push is taken out.
func post(house string, raw []belfry.PushSubscription) (rig.Job, error) {
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
	via := sender.NewTransport(sender.Config{Hosts: hosts})
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
		resp, err := via.RoundTrip(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		io.Copy(io.Discard, resp.Body)
		return rig.Created(resp)
	}, nil
}

// both does what floor does for each message, and then posts a ready body. Where
// others use the machine too, and the sink does, it costs more than the two alone.
func both(house string, raw []belfry.PushSubscription) (rig.Job, error) {
	agree, err := floor(house, raw)
	if err != nil {
		return nil, err
	}
	send, err := post(house, raw)
	if err != nil {
		return nil, err
	}
	return func(i int) error {
		if err := agree(i); err != nil {
			return err
		}
		return send(i)
	}, nil
}

// seal makes bodies and sends none.
func seal(_ string, raw []belfry.PushSubscription) (rig.Job, error) {
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
func floor(_ string, raw []belfry.PushSubscription) (rig.Job, error) {
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
