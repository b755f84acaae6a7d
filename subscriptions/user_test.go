package subscriptions_test

import (
	"slices"
	"testing"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/subscriptions"
)

// Who signs in at a browser that somebody else has used must not be rung with what
// was opened for that one, however the store learns of it.
func TestPrivateChannelsDoNotPassOn(t *testing.T) {
	h := newHouse(t, subscriptions.Config{})
	ann, bob, nobody := "ann", "bob", ""
	chosen := []string{"private-bob"}
	for i, tt := range []struct {
		name string
		old  string
		now  *string
		set  *[]string
		want []string
	}{
		{"the same one", ann, &ann, nil, []string{"news", "private-ann"}},
		{"nothing said", ann, nil, nil, []string{"news", "private-ann"}},
		{"somebody else", ann, &bob, nil, []string{"news"}},
		{"somebody else who chooses", ann, &bob, &chosen, chosen},
		{"the first one", nobody, &ann, nil, []string{"news", "private-ann"}},
		{"nobody", ann, &nobody, nil, []string{"news"}},
	} {
		sub := browser(i+1, "news", "private-ann")
		sub.User = tt.old
		r := h.register(sub)
		row, err := h.Update(t.Context(), r.Subscription.ID, subscriptions.Change{User: tt.now, Channels: tt.set})
		if err != nil || !slices.Equal(row.Channels, tt.want) || tt.now != nil && row.User != *tt.now {
			t.Errorf("update, %s: %q of %q, %v", tt.name, row.Channels, row.User, err)
		}

		sub = browser(i+101, "news", "private-ann")
		sub.User = tt.old
		r = h.register(sub)
		again := browser(i + 101)
		again.Channels, again.User = nil, ""
		if tt.set != nil {
			again.Channels = *tt.set
		}
		if tt.now != nil {
			again.User = *tt.now
		}
		if again.User == "" && tt.now != nil {
			continue // registering does not say that nobody is there
		}
		known, err := h.Register(t.Context(), again, &r.Secret)
		if err != nil || !slices.Equal(known.Subscription.Channels, tt.want) {
			t.Errorf("register, %s: %q, %v", tt.name, known.Subscription.Channels, err)
		}
		if tt.set != nil {
			continue // an import adds to what there is
		}

		sub = browser(i+201, "news", "private-ann")
		sub.User = tt.old
		id := h.register(sub).Subscription.ID
		again = browser(i + 201)
		again.Channels = nil
		if again.User = ""; tt.now != nil {
			again.User = *tt.now
		}
		if _, err := h.Import(t.Context(), []belfry.Subscription{again}, "key"); err != nil {
			t.Fatal(err)
		}
		if row, err := h.Get(t.Context(), id); err != nil || !slices.Equal(row.Channels, tt.want) {
			t.Errorf("import, %s: %q, %v", tt.name, row.Channels, err)
		}
	}
	if n := h.count(belfry.Audience{Channels: []string{"private-ann"}}); n != 10 {
		t.Errorf("%d rows are rung with ann's channel", n)
	}
	if n := h.count(belfry.Audience{Users: []string{bob}}); n != 5 {
		t.Errorf("%d rows are bob's", n)
	}
}
