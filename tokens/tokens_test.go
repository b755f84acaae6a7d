package tokens_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/internal/boltfile"
	"github.com/belfry-push/belfry/tokens"
)

func open(t *testing.T, path string) (*tokens.Store, *boltfile.File) {
	t.Helper()
	file, err := boltfile.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	store, err := tokens.New(file, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return store, file
}

// A token works until it expires or is revoked, survives a restart, and is
// nowhere in the file (SEC-15).
func TestLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, path := t.Context(), filepath.Join(t.TempDir(), "belfry.db")
		store, file := open(t, path)
		short, shortToken, err := store.Make(ctx, "short", tokens.Publisher, []string{"news", "a", "news"}, time.Hour)
		if err != nil || strings.Join(short.Channels, " ") != "a news" {
			t.Fatal(short, err)
		}
		long, longToken, err := store.Make(ctx, "long", tokens.Admin, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		file.Close()
		for _, token := range []tokens.Token{shortToken, longToken} {
			if content, err := os.ReadFile(path); err != nil || bytes.Contains(content, []byte(token.Reveal()[12:])) {
				t.Errorf("the file holds %s (%v)", token, err)
			}
		}
		store, file = open(t, path)
		defer file.Close()
		works := func(token tokens.Token) bool {
			_, err := store.Check(ctx, token)
			if err != nil && !errors.Is(err, belfry.ErrDenied) {
				t.Fatal(err)
			}
			return err == nil
		}
		if !works(shortToken) || !works(longToken) {
			t.Error("a token was lost over a restart")
		}
		time.Sleep(time.Until(*short.Expires) - time.Millisecond) // the checks above took a shared transaction each
		if !works(shortToken) {
			t.Error("it ended before its time")
		}
		time.Sleep(time.Millisecond)
		if works(shortToken) || !works(longToken) {
			t.Error("it works beyond its time")
		}
		if err := store.Revoke(ctx, long.ID); err != nil || works(longToken) {
			t.Errorf("it works after it was revoked (%v)", err)
		}
		if err := store.Revoke(ctx, long.ID); !errors.Is(err, belfry.ErrNotFound) {
			t.Errorf("revoked twice: %v", err)
		}
	})
}

// The time of last use is how an operator finds tokens that nobody needs; it
// must not cost an fsync a request.
func TestUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, file := open(t, filepath.Join(t.TempDir(), "belfry.db"))
		defer file.Close()
		_, token, err := store.Make(t.Context(), "x", tokens.Admin, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		used := func() *time.Time {
			list, err := store.List(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return list[0].Used
		}
		if used() != nil {
			t.Error("a new token was used")
		}
		store.Check(t.Context(), token)
		first := used()
		time.Sleep(59 * time.Second)
		writes := func() int64 {
			stats := file.Stats().TxStats
			return stats.GetWrite()
		}
		before := writes()
		for range 100 {
			store.Check(t.Context(), token)
		}
		if after := writes(); after != before || !used().Equal(*first) {
			t.Errorf("%d writes for a hundred calls within a minute", after-before)
		}
		time.Sleep(time.Second)
		store.Check(t.Context(), token)
		if !used().After(*first) {
			t.Error("a use a minute later is not seen")
		}
	})
}

func TestRefused(t *testing.T) {
	store, file := open(t, filepath.Join(t.TempDir(), "belfry.db"))
	defer file.Close()
	for _, try := range []struct {
		name     string
		role     tokens.Role
		channels []string
		lifetime time.Duration
	}{
		{"", tokens.Admin, nil, 0},
		{" ", tokens.Admin, nil, 0},
		{strings.Repeat("x", 101), tokens.Admin, nil, 0},
		{"a\nb", tokens.Admin, nil, 0},
		{"x", "owner", nil, 0},
		{"x", "", nil, 0},
		{"x", tokens.Publisher, nil, 0},
		{"x", tokens.Publisher, []string{"News"}, 0},
		{"x", tokens.Admin, []string{"news"}, 0},
		{"x", tokens.Admin, nil, -time.Second},
	} {
		if _, _, err := store.Make(t.Context(), try.name, try.role, try.channels, try.lifetime); !errors.Is(err, belfry.ErrInvalid) {
			t.Errorf("%+v: %v", try, err)
		}
	}
	if list, err := store.List(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("something was kept: %v %v", list, err)
	}
	for _, text := range []string{"", "belfry_", "x", strings.Repeat("belfry_", 1000)} {
		if _, err := store.Check(context.Background(), tokens.Parse(text)); !errors.Is(err, belfry.ErrDenied) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// However a token is printed, it is not shown (SEC-22).
func TestRedacted(t *testing.T) {
	store, file := open(t, filepath.Join(t.TempDir(), "belfry.db"))
	defer file.Close()
	info, token, err := store.Make(t.Context(), "x", tokens.Admin, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	slog.New(slog.NewJSONHandler(&out, nil)).Info("made", "token", token, "info", info)
	slog.New(slog.NewTextHandler(&out, nil)).Info("made", "token", token)
	json.NewEncoder(&out).Encode(map[string]any{"token": token, "info": info})
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&out, verb, token)
		fmt.Fprintf(&out, verb, struct{ T tokens.Token }{token})
	}
	fmt.Fprint(&out, errors.Join(fmt.Errorf("with %v", token)))
	if rest := token.Reveal()[len(info.Prefix):]; strings.Contains(out.String(), rest[:10]) || !strings.Contains(out.String(), info.Prefix) {
		t.Errorf("it prints as %s", out.String())
	}
}

// A record that was damaged must never let anybody in, nor keep others from being
// listed and revoked.
func TestDamaged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "belfry.db")
	store, file := open(t, path)
	_, token, err := store.Make(t.Context(), "needle", tokens.Publisher, []string{"news"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	file.Close()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	content = bytes.ReplaceAll(content, []byte(`"publisher"`), []byte(`"admin"    `))
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	store, file = open(t, path)
	defer file.Close()
	if _, err := store.Check(t.Context(), token); !errors.Is(err, belfry.ErrCorrupt) {
		t.Errorf("a publisher that became an admin on the disk: %v", err)
	}
	other, _, err := store.Make(t.Context(), "other", tokens.Admin, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	if list, err := store.List(t.Context()); err != nil || len(list) != 1 || list[0].ID != other.ID {
		t.Errorf("the list is %+v, %v", list, err)
	}
	if err := store.Revoke(t.Context(), other.ID); err != nil {
		t.Error(err)
	}
}

// When nothing more can be written, a good token is still good: it is how an
// operator gets in to make room. A bad one is still bad.
func TestFullDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "belfry.db")
	store, file := open(t, path)
	defer file.Close()
	_, token, err := store.Make(t.Context(), "ops", tokens.Admin, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	tx, err := file.Begin(false) // keeps old pages in use, so that every write must grow the file
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	file.MaxSize = 1
	file.AllocSize = 1
	for err == nil {
		_, _, err = store.Make(t.Context(), strings.Repeat("x", 100), tokens.Admin, nil, 0)
	}
	if info, err := store.Check(t.Context(), token); err != nil || info.Role != tokens.Admin {
		t.Errorf("a good token on a full disk: %v %v", info, err)
	}
	if _, err := store.Check(t.Context(), tokens.Parse("belfry_"+strings.Repeat("A", 43))); !errors.Is(err, belfry.ErrDenied) {
		t.Errorf("a bad token on a full disk: %v", err)
	}
}
