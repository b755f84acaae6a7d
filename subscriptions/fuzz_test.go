package subscriptions_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/subscriptions"
)

// What was checked is kept and given back unchanged, under each of its names,
// whoever it is; and once it is removed nothing of it is left, or visitors who
// have gone would be counted for ever.
func FuzzImport(f *testing.F) {
	const keys = `"keys":{"p256dh":"BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4","auth":"BTBZMqHH6r4Tts7J_aSIgg"}`
	f.Add([]byte(`{"endpoint":"https://fcm.googleapis.com/fcm/send/a:b",`+keys+`}`), "news,alerts,news", "ann", "de-AT", "Europe/Vienna", "https://www.example.com", "key-a")
	f.Add([]byte(`{"endpoint":"https://wns2-par02p.notify.windows.com/w/?token=%3d","expirationTime":1767323045678.9,`+keys+`}`), "", "", "", "", "", "")
	f.Add([]byte(`{"endpoint":"HTTPS://web.PUSH.apple.com:443/a","expirationTime":0,`+keys+`}`), "0", "\u00fc, \U0001f514", "", "", "\xff", "\x00")
	store := newHouse(f, subscriptions.Config{})
	store.file.NoSync, store.file.MaxBatchDelay = true, 0 // what is tried here is not the disk
	f.Fuzz(func(t *testing.T, text []byte, channels, user, locale, zone, origin, key string) {
		var p belfry.PushSubscription
		if json.Unmarshal(text, &p) != nil {
			return
		}
		want, err := p.Check(belfry.PushHosts{})
		if err != nil {
			return
		}
		if channels != "" {
			want.Channels = strings.Split(channels, ",")
		}
		want.User, want.Locale, want.TimeZone, want.Origin, want.KeyID = user, locale, zone, origin, key
		done, err := store.Import(t.Context(), []belfry.Subscription{want}, "")
		if err != nil {
			t.Fatal(err)
		}
		names, wrong := belfry.CheckChannels(want.Channels)
		if len(done.Refused) == 1 && (wrong != nil || belfry.CheckUser(user) != nil) {
			return
		}
		if wrong != nil || done.Created != 1 || len(done.Refused) > 0 {
			t.Fatalf("channels %q, user %q: %+v", channels, user, done)
		}
		if want.Channels = names; len(names) == 0 {
			want.Channels = nil // a row tells no empty list from none
		}
		got, err := store.ByEndpoint(t.Context(), want.Endpoint)
		if err != nil {
			t.Fatal(err)
		}
		want.Seq, want.ID, want.Created, want.Imported = got.Seq, got.ID, got.Created, true // the store's to say
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
		here := house{Store: store.Store, t: t}
		left := func(when string, rows int) {
			for _, a := range audiences(want) {
				if n := here.count(a); n != rows || len(here.all(a, subscriptions.End, 10)) != rows {
					t.Errorf("%s, %+v has %d of %d rows", when, a, n, rows)
				}
			}
		}
		left("imported", 1)
		if err := store.Remove(t.Context(), got.ID); err != nil {
			t.Fatal(err)
		}
		left("removed", 0)
		if keys, err := store.Keys(t.Context()); err != nil || len(keys) > 0 {
			t.Errorf("removed, keys are held for it: %v, %v", keys, err)
		}
	})
}

// audiences are all those that s belongs to.
func audiences(s belfry.Subscription) []belfry.Audience {
	all := []belfry.Audience{{All: true}, {Subscriptions: []string{s.ID}}}
	for _, c := range s.Channels {
		all = append(all, belfry.Audience{Channels: []string{c}})
	}
	if s.User != "" {
		all = append(all, belfry.Audience{Users: []string{s.User}})
	}
	return all
}
