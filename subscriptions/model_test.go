package subscriptions_test

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/subscriptions"
	"go.etcd.io/bbolt"
)

// A model is the store as one would write it without a disk: a list of rows in
// order of creation, searched from front to back.
type model struct {
	rows    []belfry.Subscription
	secrets map[string]belfry.DeviceSecret // by id
	last    belfry.Position
}

func (m *model) index(match func(belfry.Subscription) bool) int {
	return slices.IndexFunc(m.rows, match)
}

func (m *model) at(e belfry.Endpoint) int {
	return m.index(func(s belfry.Subscription) bool { return s.Endpoint == e })
}

func (m *model) remove(id string) bool {
	i := m.index(func(s belfry.Subscription) bool { return s.ID == id })
	if i >= 0 {
		m.rows = slices.Delete(m.rows, i, i+1)
	}
	return i >= 0
}

func (m *model) members(a belfry.Audience) (all []belfry.Subscription) {
	for _, row := range m.rows {
		if a.All || slices.Contains(a.Users, row.User) || slices.Contains(a.Subscriptions, row.ID) ||
			slices.ContainsFunc(row.Channels, func(c string) bool { return slices.Contains(a.Channels, c) }) {
			all = append(all, row)
		}
	}
	return all
}

// The store gives the same answers as a simple list after any run of changes,
// and its indexes are at any time those that a rebuild would make. An index
// entry left behind rings somebody who left; one missing loses somebody.
func TestStoreAgainstModel(t *testing.T) {
	h := newHouse(t, subscriptions.Config{})
	h.fast()
	r := rand.New(rand.NewPCG(13, 14))
	m := &model{secrets: map[string]belfry.DeviceSecret{}}
	for n := range 2000 {
		m.step(t, h, r)
		if n%100 == 99 {
			m.compare(t, h, r)
			compareRebuilt(t, h)
		}
		if n%500 == 250 {
			h.reopen()
			h.fast()
		}
	}
	if len(m.rows) < 20 {
		t.Errorf("only %d rows in the end: the test shows little", len(m.rows))
	}
}

var (
	modelChannels = []string{"a", "ab", "b", "b.c", "news"}
	modelUsers    = []string{"", "an", "ann", "bob"}
)

// visitor is one of 120 browsers, saying something new.
func visitor(r *rand.Rand) belfry.Subscription {
	sub := browser(r.IntN(120))
	for _, c := range modelChannels {
		if r.IntN(3) == 0 {
			sub.Channels = append(sub.Channels, c)
		}
	}
	sub.User = modelUsers[r.IntN(len(modelUsers))]
	sub.KeyID = fmt.Sprint("key-", r.IntN(3))
	sub.Auth[0] = byte(r.IntN(256))
	return sub
}

// step makes one change in both.
func (m *model) step(t *testing.T, h *house, r *rand.Rand) {
	t.Helper()
	pick := ""
	if len(m.rows) > 0 {
		pick = m.rows[r.IntN(len(m.rows))].ID
	}
	switch r.IntN(10) {
	case 0, 1, 2, 3:
		m.register(t, h, visitor(r), r.IntN(5) > 0)
	case 4, 5:
		m.update(t, h, pick, visitor(r), r.IntN(2) == 0)
	case 6:
		if err := h.Remove(t.Context(), pick); (err == nil) != m.remove(pick) {
			t.Fatalf("remove: %v", err)
		}
	case 7, 8:
		batch := make([]belfry.Subscription, r.IntN(6))
		for i := range batch {
			batch[i] = visitor(r)
		}
		m.load(t, h, batch)
	case 9:
		if r.IntN(4) == 0 {
			h.index()
		}
		m.forget(t, h, []string{pick, "01j00000000000000000000000", pick})
	}
}

func (m *model) devices(user string) (n int) {
	for _, row := range m.rows {
		if row.User == user && !row.Imported {
			n++
		}
	}
	return n
}

func (m *model) register(t *testing.T, h *house, sub belfry.Subscription, known bool) {
	t.Helper()
	i := m.at(sub.Endpoint)
	var secret *belfry.DeviceSecret
	if s, there := m.secrets[idAt(m, i)]; known && there {
		secret = &s
	}
	got, err := h.Register(t.Context(), sub, secret)
	old := belfry.Subscription{}
	if i >= 0 {
		old = m.rows[i]
	}
	tooMany := sub.User != "" && sub.User != old.User && m.devices(sub.User) >= 20
	switch {
	case i >= 0 && secret == nil || tooMany:
		if err == nil {
			t.Fatalf("registered %v, which is another's or one too many", sub)
		}
	case err != nil:
		t.Fatal(err)
	case i < 0:
		m.last++
		m.rows = append(m.rows, got.Subscription)
		m.secrets[got.Subscription.ID] = got.Secret
		if got.Subscription.Seq != m.last || !got.Created {
			t.Fatalf("new row at %d, want %d", got.Subscription.Seq, m.last)
		}
	default:
		m.refresh(i, sub)
		m.rows[i].Seen = got.Subscription.Seen
		if sub.Channels != nil {
			m.rows[i].Channels = sub.Channels
		}
	}
}

func idAt(m *model, i int) string {
	if i < 0 {
		return ""
	}
	return m.rows[i].ID
}

// refresh sets what a browser or a file says anew, but for channels.
func (m *model) refresh(i int, sub belfry.Subscription) {
	row := &m.rows[i]
	row.P256dh, row.Auth, row.KeyID = sub.P256dh, sub.Auth, sub.KeyID
	if sub.User != "" {
		row.User = sub.User
	}
}

func (m *model) update(t *testing.T, h *house, id string, sub belfry.Subscription, move bool) {
	t.Helper()
	i := m.index(func(s belfry.Subscription) bool { return s.ID == id })
	c := subscriptions.Change{User: &sub.User, Channels: &sub.Channels, KeyID: &sub.KeyID}
	if move {
		c.Subscription = &sub
	}
	got, err := h.Update(t.Context(), id, c)
	if i < 0 {
		if err == nil {
			t.Fatal("updated a row that is not there")
		}
		return
	}
	row := &m.rows[i]
	other := move && m.at(sub.Endpoint) >= 0 && m.at(sub.Endpoint) != i
	tooMany := sub.User != "" && sub.User != row.User && !row.Imported && m.devices(sub.User) >= 20
	if other || tooMany {
		if err == nil {
			t.Fatalf("updated to %v, which is another's or one too many", sub)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	row.User, row.Channels, row.KeyID = sub.User, sub.Channels, sub.KeyID
	if move {
		row.Endpoint, row.P256dh, row.Auth = sub.Endpoint, sub.P256dh, sub.Auth
	}
	if !reflect.DeepEqual(got, *row) {
		t.Fatalf("update gave %+v, want %+v", got, *row)
	}
}

func (m *model) load(t *testing.T, h *house, batch []belfry.Subscription) {
	t.Helper()
	done, err := h.Import(t.Context(), batch, "")
	if err != nil || done.Created+done.Updated != len(batch) {
		t.Fatalf("import of %d: %+v, %v", len(batch), done, err)
	}
	for _, sub := range batch {
		if i := m.at(sub.Endpoint); i >= 0 {
			m.refresh(i, sub)
			both := append(slices.Clone(m.rows[i].Channels), sub.Channels...)
			slices.Sort(both)
			m.rows[i].Channels = slices.Compact(both)
			continue
		}
		m.last++
		done.Created--
		// The id is the store's choice, and so is the time.
		rows, _, _, err := h.Page(t.Context(), everybody, m.last-1, m.last, 1)
		if err != nil || len(rows) != 1 {
			t.Fatalf("row %d: %v, %v", m.last, rows, err)
		}
		sub.Seq, sub.ID, sub.Created, sub.Imported = m.last, rows[0].ID, rows[0].Created, true
		m.rows = append(m.rows, sub)
	}
	if done.Created != 0 {
		t.Fatalf("%d more rows created than there were new endpoints", done.Created)
	}
}

func (m *model) forget(t *testing.T, h *house, ids []string) {
	t.Helper()
	want, gone := 0, []belfry.Subscription{}
	for _, id := range ids {
		row, _ := h.Get(t.Context(), id)
		row.ID = id
		gone = append(gone, row)
		if m.remove(id) {
			want++
		}
	}
	err := h.file.Update(func(tx *bbolt.Tx) error {
		n, err := h.Forget(tx, gone)
		if n != want {
			t.Fatalf("forgot %d, want %d", n, want)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// compare asks both everything that can be asked.
func (m *model) compare(t *testing.T, h *house, r *rand.Rand) {
	t.Helper()
	some := []string{"01j00000000000000000000000"}
	keys := map[string]int{}
	for _, row := range m.rows {
		if got := h.get(row.ID); !same(got, row) {
			t.Fatalf("get: %+v, want %+v", got, row)
		}
		if r.IntN(5) == 0 {
			some = append(some, row.ID)
		}
		keys[row.KeyID]++
	}
	if got, err := h.Keys(t.Context()); err != nil || !maps.Equal(got, keys) {
		t.Fatalf("keys: %v, %v, want %v", got, err, keys)
	}
	if at, err := h.Horizon(t.Context()); err != nil || at != m.last {
		t.Fatalf("horizon: %d, %v, want %d", at, err, m.last)
	}
	audiences := []belfry.Audience{everybody, {Subscriptions: some}, channels("a", "b"), channels(modelChannels...), {Users: modelUsers[1:]}}
	for _, c := range modelChannels {
		audiences = append(audiences, channels(c))
	}
	for _, u := range modelUsers[1:] {
		audiences = append(audiences, belfry.Audience{Users: []string{u}})
	}
	for _, a := range audiences {
		want := m.members(a)
		if got := h.all(a, subscriptions.End, 1+r.IntN(30)); !slices.EqualFunc(got, want, same) {
			t.Fatalf("%+v: %v, want %v", a, seqs(got), seqs(want))
		}
		if n := h.count(a); n != len(want) {
			t.Fatalf("%+v: counted %d, want %d", a, n, len(want))
		}
	}
}

// same is equal, with no channels and an empty list of them alike.
func same(a, b belfry.Subscription) bool {
	if len(a.Channels) == 0 && len(b.Channels) == 0 {
		a.Channels, b.Channels = nil, nil
	}
	return reflect.DeepEqual(a, b)
}

// compareRebuilt rebuilds and finds every derived bucket as it was.
func compareRebuilt(t *testing.T, h *house) {
	t.Helper()
	h.index()
	kept := dump(t, h)
	done, err := h.Rebuild(t.Context())
	if err != nil || done.Damaged != 0 {
		t.Fatalf("%+v, %v", done, err)
	}
	rebuilt := dump(t, h)
	if !maps.Equal(kept, rebuilt) {
		t.Fatalf("kept %d entries, rebuilt %d, or they differ", len(kept), len(rebuilt))
	}
}

func dump(t *testing.T, h *house) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := h.file.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
			if !bytes.HasPrefix(name, []byte("subscriptions")) {
				return nil
			}
			return b.ForEach(func(k, v []byte) error {
				all[fmt.Sprintf("%s %q", name, k)] = string(v)
				return nil
			})
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
