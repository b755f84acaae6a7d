package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/belfry-push/belfry/web"
)

func (a *app) subscriptionsCommand() *cobra.Command {
	c := &cobra.Command{Use: "subscriptions", Short: "See, import and export who is registered", Args: ofGroup, SuggestionsMinimumDistance: 2, RunE: helps}
	c.AddCommand(a.subscriptionsListCommand(), a.subscriptionsCountCommand(), a.subscriptionsShowCommand(), a.subscriptionsRemoveCommand(),
		a.importCommand(), a.exportCommand())
	return c
}

// selection is the ?channel= and ?user= of two flags, of which one may be used.
func selection(c *cobra.Command) func() (url.Values, error) {
	channels := c.Flags().StringSlice("channel", nil, "only who listens to this `channel`; may be repeated")
	users := c.Flags().StringSlice("user", nil, "only this `user`'s devices; may be repeated")
	return func() (url.Values, error) {
		if len(*channels) > 0 && len(*users) > 0 {
			return nil, wrongUsage(c, errors.New("--channel and --user do not go together"))
		}
		return url.Values{"channel": *channels, "user": *users}, nil
	}
}

func (a *app) subscriptionsListCommand() *cobra.Command {
	c := &cobra.Command{Use: "list", Short: "List them in order of creation", Args: args(cobra.NoArgs),
		Long: "List subscriptions in order of creation.\n\nEndpoints and keys are not shown, since whoever knows them can use them; `belfry subscriptions export` gives them out."}
	query, limit := selection(c), limitFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		q, err := query()
		if err != nil {
			return err
		}
		return listing[web.Row]{
			path: subscriptionsPath, query: q, limit: *limit, none: "nobody is registered",
			header: []string{"ID", "PUSH SERVICE", "CHANNELS", "USER", "CREATED", "SEEN", "MARKS"},
			row: func(s web.Row) []string {
				return []string{s.ID, s.Host, short(names(s.Channels), 40), short(dash(s.User), 40), stamp(&s.Created), stamp(s.Seen), names(s.Marks)}
			},
		}.print(c.Context(), a)
	}
	return c
}

const subscriptionsPath = "/api/v1/subscriptions"

func (a *app) subscriptionsCountCommand() *cobra.Command {
	c := &cobra.Command{Use: "count", Short: "Print how many there are", Args: args(cobra.NoArgs)}
	query := selection(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		q, err := query()
		if err != nil {
			return err
		}
		q.Set("count", "1")
		var got struct {
			Count int `json:"count"`
		}
		return a.show(c.Context(), subscriptionsPath+"?"+q.Encode(), &got, func() { fmt.Fprintln(a.out, got.Count) })
	}
	return c
}

func (a *app) subscriptionsShowCommand() *cobra.Command {
	return &cobra.Command{Use: "show ID", Short: "Show what is known of one", Args: args(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, given []string) error {
			var s web.Row
			return a.show(c.Context(), subscriptionPath(given[0]), &s, func() { facts(a.out, about(s)) })
		}}
}

func subscriptionPath(id string) string { return subscriptionsPath + "/" + url.PathEscape(id) }

// about is a subscription, one fact a line.
func about(s web.Row) [][2]string {
	from := "its browser"
	if s.Imported {
		from = "an import"
	}
	return [][2]string{{"id", s.ID}, {"push service", s.Host}, {"channels", names(s.Channels)}, {"user", dash(s.User)},
		{"locale", s.Locale}, {"time zone", s.TimeZone}, {"origin", s.Origin}, {"key", s.KeyID},
		{"came from", from}, {"created", stamp(&s.Created)}, {"seen", stamp(s.Seen)}, {"marks", strings.Join(s.Marks, ",")}}
}

func (a *app) subscriptionsRemoveCommand() *cobra.Command {
	return &cobra.Command{Use: "remove ID", Short: "Forget one: it will not be rung again", Args: args(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, given []string) error {
			return a.remove(c, subscriptionPath(given[0]), given[0], "removed")
		}}
}

// remove deletes one thing and says so.
func (a *app) remove(c *cobra.Command, path, id, done string) error {
	cl, err := a.client()
	if err != nil {
		return err
	}
	if err := cl.call(c.Context(), http.MethodDelete, path, nil, nil); err != nil {
		return err
	}
	if a.json {
		return a.printJSON(map[string]any{"id": id, done: true})
	}
	fmt.Fprintf(a.out, "%s %s\n", done, plain(id))
	return nil
}
