package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/internal/config"
	"github.com/belfry-push/belfry/keys"
	"github.com/belfry-push/belfry/web"
)

func (a *app) keysCommand() *cobra.Command {
	c := &cobra.Command{Use: "keys", Short: "See, rotate, import and export the VAPID keys, and show what signs callbacks and user tokens", Args: ofGroup, SuggestionsMinimumDistance: 2, RunE: helps}
	c.AddCommand(a.keysShowCommand(), a.keysRotateCommand(), a.keysImportCommand(), a.keysExportCommand(), a.keysWebhookCommand(), a.keysUserCommand())
	return c
}

const keysPath = "/api/v1/keys"

func stateOf(k web.KeyRow) string {
	switch {
	case k.Missing:
		return "missing"
	case k.Current:
		return "current"
	}
	return "retired"
}

func (a *app) keysShowCommand() *cobra.Command {
	return &cobra.Command{Use: "show", Short: "Show the keys, how many subscriptions need each, and how far a rotation has come", Args: args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			var shown []web.KeyRow
			err := listing[web.KeyRow]{path: keysPath, none: "there is no key",
				header: []string{"ID", "STATE", "SUBSCRIPTIONS", "CREATED", "PUBLIC KEY"},
				row: func(k web.KeyRow) []string {
					shown = append(shown, k)
					return []string{k.ID, stateOf(k), strconv.Itoa(k.Subscriptions), stamp(&k.Created), dash(k.PublicKey)}
				}}.print(c.Context(), a)
			if text := moved(shown); text != "" && err == nil {
				fmt.Fprintln(a.out, text)
			}
			return err
		}}
}

// moved says how far visitors have come over to the current key, where there are
// others beside it.
func moved(rows []web.KeyRow) string {
	for _, k := range rows {
		switch {
		case !k.Current || len(rows) == 1 || k.Of == 0:
		case k.Subscriptions == k.Of:
			return fmt.Sprintf("moved %d of %[1]d (100 %%) to the current key; nobody needs the retired ones, which are kept", k.Of)
		default:
			return fmt.Sprintf("moved %d of %d (%d %%) to the current key; the others do so when they next open a page of yours", k.Subscriptions, k.Of, 100*k.Subscriptions/k.Of)
		}
	}
	return ""
}

func (a *app) keysRotateCommand() *cobra.Command {
	return &cobra.Command{Use: "rotate", Short: "Make a new current key; the others go on signing", Args: args(cobra.NoArgs),
		Long: "Make a new current key.\n\nNew visitors subscribe with it at once. The keys before it go on signing for the browsers\nthat subscribed with them, and each of those changes over when it next opens a page of yours.\n`belfry keys show` tells how many have done so. No key is ever removed.",
		RunE: func(c *cobra.Command, _ []string) error {
			cl, err := a.ownersClient("keys are made where they are kept")
			if err != nil {
				return err
			}
			return a.addKey(c, cl, []byte("{}"))
		}}
}

// addKey has the server make a key, or take the one in body.
func (a *app) addKey(c *cobra.Command, cl *client, body []byte) error {
	var k web.KeyRow
	if err := cl.call(c.Context(), http.MethodPost, keysPath, json.RawMessage(body), &k.Info); err != nil {
		return err
	}
	return a.keyAdded(k)
}

func (a *app) keyAdded(k web.KeyRow) error {
	if a.json {
		return a.printJSON(k.Info)
	}
	facts(a.out, [][2]string{{"id", k.ID}, {"state", stateOf(k)}, {"public key", k.PublicKey}})
	return nil
}

func (a *app) keysImportCommand() *cobra.Command {
	return &cobra.Command{Use: "import FILE|-", Short: "Import a key pair that browsers subscribed with", Args: args(cobra.ExactArgs(1)),
		Long: `Import a key pair from FILE, or from standard input when FILE is -: either
{"publicKey","privateKey"} as "web-push generate-vapid-keys --json" prints it, or PEM.

The key becomes the current one while nobody is registered; later it only signs
for subscriptions that were made with it.

When no server runs and the data directory has no vapid.json, the file is
written with this key: the way to move here with a key from elsewhere, and the
way back after the file was lost.`,
		RunE: func(c *cobra.Command, given []string) error {
			pair, err := a.readPair(given[0])
			if err != nil {
				return err
			}
			cl, err := a.ownersClient("private keys do not travel")
			if err != nil {
				return err
			}
			err = a.addKey(c, cl, pair.JSON())
			var told *belfry.Error
			if errors.As(err, &told) && told.Code == codeNoServer {
				return a.importOffline(pair, err)
			}
			return err
		}}
}

func (a *app) keysWebhookCommand() *cobra.Command {
	return &cobra.Command{Use: "webhook", Short: "Show the secret that callbacks are signed with", Args: args(cobra.NoArgs),
		Long: `Show the secret that callbacks are signed with, as libraries for Standard Webhooks
take it. Receivers check with it that a callback is yours.

Whoever has it can tell them anything: keep it as you keep a password.`,
		RunE: func(c *cobra.Command, _ []string) error { return a.showSecret(c, "/webhook") }}
}

func (a *app) keysUserCommand() *cobra.Command {
	return &cobra.Command{Use: "user", Short: "Show the secret that your site signs user tokens with", Args: args(cobra.NoArgs),
		Long: `Show the secret that your site's backend signs user tokens with: JSON Web Tokens,
HS256, which say who a visitor is and which private channels they may hear. The
text is the key, as it is.

Whoever has it can hear what is for any user: keep it as you keep a password. To
replace it, stop the server, remove user.key and start it again.`,
		RunE: func(c *cobra.Command, _ []string) error { return a.showSecret(c, "/user") }}
}

// showSecret prints one of the secrets that others sign or check with.
func (a *app) showSecret(c *cobra.Command, which string) error {
	cl, err := a.ownersClient("secrets do not travel")
	if err != nil {
		return err
	}
	var shown struct {
		Secret string `json:"secret"`
	}
	if err := cl.call(c.Context(), http.MethodGet, keysPath+which, nil, &shown); err != nil {
		return err
	}
	if a.json {
		return a.printJSON(shown)
	}
	fmt.Fprintln(a.out, shown.Secret)
	return nil
}

// maxPair is far above what either format takes, in octets.
const maxPair = 16 << 10

// readPair reads a key pair here rather than at the server, so that what is
// wrong with the file is said of the file.
func (a *app) readPair(name string) (keys.Pair, error) {
	in, _, err := a.open(name)
	if err != nil {
		return keys.Pair{}, err
	}
	defer in.Close()
	b, err := io.ReadAll(io.LimitReader(in, maxPair))
	if err != nil {
		return keys.Pair{}, err
	}
	pair, err := keys.ParsePair(b)
	var told *belfry.Error
	if errors.As(err, &told) {
		named := *told
		named.Where = name
		return pair, &named
	}
	return pair, err
}

// importOffline makes the key file that a server will start with. It writes no
// file where one is: that one is a running server's to change.
func (a *app) importOffline(pair keys.Pair, noServer error) error {
	paths, err := config.PathsIn(a.data.dir)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(paths.Keys); !errors.Is(err, fs.ErrNotExist) {
		return noServer
	}
	if err := paths.MakeDir(); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	ring, err := keys.CreateFrom(paths.Keys, pair)
	if err != nil {
		return err
	}
	if err := a.keyAdded(web.KeyRow{Info: ring.Current()}); err != nil {
		return err
	}
	fmt.Fprintf(a.err, "belfry: wrote %s; `belfry serve` will start with this key\n", paths.Keys)
	return nil
}

func (a *app) keysExportCommand() *cobra.Command {
	c := &cobra.Command{Use: "export [ID]", Short: "Export a key pair, private key and all", Args: args(cobra.MaximumNArgs(1)),
		Long: "Export a key pair, by default the current one, as web-push prints it.\n\nWhoever has it can ring every browser that subscribed with it: keep it as you keep a password.",
	}
	asPEM := c.Flags().Bool("pem", false, "write PEM (PKCS #8) instead of JSON")
	out := c.Flags().String("out", "", "write to this new `FILE`, for its owner alone, instead of standard output")
	c.RunE = func(c *cobra.Command, given []string) error {
		id := "current"
		if len(given) > 0 {
			id = given[0]
		}
		cl, err := a.ownersClient("private keys do not travel")
		if err != nil {
			return err
		}
		var written json.RawMessage
		if err := cl.call(c.Context(), http.MethodGet, keysPath+"/"+url.PathEscape(id)+"/private", nil, &written); err != nil {
			return err
		}
		pair, err := keys.ParsePair(written)
		if err != nil {
			return unreadable(err)
		}
		text := pair.JSON()
		if *asPEM {
			text = pair.PEM()
		}
		return a.writeSecret(*out, append(bytes.TrimSpace(text), '\n'))
	}
	return c
}

// writeSecret writes to a new file that only its owner can read, or to standard
// output without a name.
func (a *app) writeSecret(name string, text []byte) error {
	if name == "" {
		_, err := a.out.Write(text)
		return err
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return &belfry.Error{Kind: belfry.ErrConflict, Code: "file-exists", Where: name, Text: "is there already",
			Hint: "name a file that is not there: a key must not be written over another one"}
	}
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		os.Remove(name)
	}
	return err
}
