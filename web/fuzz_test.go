package web

import (
	"bytes"
	"cmp"
	"errors"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/go-json-experiment/json"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/internal/boltfile"
	"github.com/belfry-push/belfry/keys"
	"github.com/belfry-push/belfry/subscriptions"
)

// Whatever a page registers is refused as the page's fault, or an export of it
// can be imported and says the same: a site that moves in or out must lose
// nobody on the way.
func FuzzRegistration(f *testing.F) {
	const browser = `{"endpoint":"https://fcm.googleapis.com/fcm/send/a:b","expirationTime":1767323045678.9,"keys":{` +
		`"p256dh":"BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4","auth":"BTBZMqHH6r4Tts7J_aSIgg"},"someday":{}}`
	for _, text := range []string{
		`{"subscription":` + browser + `}`,
		`{"subscription":` + browser + `,"channels":["news","alerts","news"],"locale":"pt-BR","timeZone":"America/Argentina/Buenos_Aires"}`,
		`{"subscription":` + browser + `,"channels":[],"locale":"","timeZone":"","keyId":"none"}`,
		`{"subscription":` + browser + `,"channels":null,"user":"ann"}`,
		`{"subscription":` + browser + `,"subscription":null}`,
		`{"subscription":{"endpoint":"https://wns2-par02p.notify.windows.com/w/?token=\u0041%3d&<"}}`,
		`{"subscription":[[[[[[[[[]]]]]]]]]}`, "{\"locale\":\"\xff\"}", `null`, `{} {}`, ``,
	} {
		f.Add([]byte(text))
	}
	dir := f.TempDir()
	file := must(boltfile.Open(filepath.Join(dir, "belfry.db")))
	defer file.Close()
	s := Server{Config: Config{Subscriptions: must(subscriptions.New(file, subscriptions.Config{})),
		Keys: must(keys.Create(filepath.Join(dir, "vapid.json"))), Origins: []string{site}}}
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := decode[registration](bytes.NewReader(body), maxRegistration)
		if err == nil {
			var change subscriptions.Change
			if change, err = s.check(r); err == nil && change.Subscription != nil {
				change.KeyID = cmp.Or(change.KeyID, new(s.Keys.Current().ID))
				moves(t, &s, change)
			}
		}
		if err != nil && asProblem(err).Status/100 != 4 {
			t.Errorf("%q: %v", body, err)
		}
	})
}

// moves checks that what a page registered can move to another house.
func moves(t *testing.T, s *Server, change subscriptions.Change) {
	want := *change.Subscription
	want.KeyID, want.Origin, want.Imported = *change.KeyID, site, true
	if c := change.Channels; c != nil && len(*c) > 0 { // no list and an empty one are the same to an import
		want.Channels = *c
	}
	if change.Locale != nil {
		want.Locale = *change.Locale
	}
	if change.TimeZone != nil {
		want.TimeZone = *change.TimeZone
	}
	text, err := json.Marshal(lineOf(want))
	if err != nil || len(text) > maxLine {
		t.Fatalf("a line of %d octets: %v", len(text), err)
	}
	got, err := s.readLine(text, importDefaults{})
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%s is imported as %+v, %v\nnot as %+v", text, got, err, want)
	}
	var told *belfry.Error
	if _, err := s.readLine(text[:len(text)-1], importDefaults{}); !errors.As(err, &told) {
		t.Errorf("a line that is cut off: %v", err)
	}
}
