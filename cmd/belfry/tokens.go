package main

import (
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/belfry-push/belfry/tokens"
)

func (a *app) tokensCommand() *cobra.Command {
	c := &cobra.Command{Use: "tokens", Short: "Let operators in who are not on this machine", Args: ofGroup, SuggestionsMinimumDistance: 2, RunE: helps,
		Long: "Make, list and revoke bearer tokens, with which operators reach the server at --ops-listen.\n\nOn the server's own machine no token is needed: whoever may open its socket may do everything."}
	c.AddCommand(a.tokensNewCommand(), a.tokensListCommand(), a.tokensRevokeCommand())
	return c
}

const tokensPath = "/api/v1/tokens"

func (a *app) tokensNewCommand() *cobra.Command {
	c := &cobra.Command{Use: "new", Short: "Make a token; it is shown this once", Args: args(cobra.NoArgs),
		Long: `Make a token and print it, this once: the server keeps only its hash.

A publisher may send to the channels it names and watch what was sent to them; an
admin may do everything but make, import or see keys and make backups, which needs the socket.`,
		Example: "  belfry tokens new --name newsroom --role publisher --channel news --expires 720h"}
	name := c.Flags().String("name", "", "`name` of whoever gets it, for the list")
	role := c.Flags().String("role", "", "`role`: publisher or admin")
	channels := c.Flags().StringSlice("channel", nil, "a `channel` that a publisher may ring; may be repeated")
	expires := c.Flags().Duration("expires", 0, "a `duration` that it is good for, such as 720h; 0 means until it is revoked")
	c.RunE = func(c *cobra.Command, _ []string) error {
		cl, err := a.client()
		if err != nil {
			return err
		}
		if *expires != 0 && *expires < time.Second {
			return wrongUsage(c, fmt.Errorf("--expires must be at least 1s, not %s", *expires))
		}
		var made struct {
			tokens.Info
			Token string `json:"token"`
		}
		in := map[string]any{"name": *name, "role": *role, "channels": *channels, "expires": int64(*expires / time.Second)}
		if err := cl.call(c.Context(), http.MethodPost, tokensPath, in, &made); err != nil {
			return err
		}
		if a.json {
			return a.printJSON(made)
		}
		// The token alone on stdout, so that a script can catch it.
		fmt.Fprintln(a.out, made.Token)
		fmt.Fprintf(a.err, "belfry: token %s for %q, %s; it is not shown again\n", made.ID, made.Name, scope(made.Info))
		return nil
	}
	return c
}

// scope says what a token is good for.
func scope(t tokens.Info) string {
	text := "an admin"
	if t.Role == tokens.Publisher {
		text = "a publisher for " + names(t.Channels)
	}
	if t.Expires == nil {
		return text + ", until it is revoked"
	}
	return text + ", until " + stamp(t.Expires)
}

func (a *app) tokensListCommand() *cobra.Command {
	return &cobra.Command{Use: "list", Short: "List tokens, without what makes them work", Args: args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			return listing[tokens.Info]{path: tokensPath, none: "there is no token",
				header: []string{"ID", "NAME", "ROLE", "CHANNELS", "BEGINS", "CREATED", "EXPIRES", "USED"},
				row: func(t tokens.Info) []string {
					return []string{t.ID, t.Name, string(t.Role), short(names(t.Channels), 40), t.Prefix + "…", stamp(&t.Created), stamp(t.Expires), stamp(t.Used)}
				}}.print(c.Context(), a)
		}}
}

func (a *app) tokensRevokeCommand() *cobra.Command {
	return &cobra.Command{Use: "revoke ID", Short: "End a token: its next call is refused", Args: args(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, given []string) error {
			return a.remove(c, tokensPath+"/"+url.PathEscape(given[0]), given[0], "revoked")
		}}
}
