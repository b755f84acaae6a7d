package main

import (
	"fmt"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"
)

func (a *app) subscriptionsCommand() *cobra.Command {
	c := &cobra.Command{Use: "subscriptions", Short: "See, import and export who is registered", Args: args(cobra.NoArgs)}
	c.AddCommand(a.countCommand())
	return c
}

// selection is the ?channel= and ?user= of two flags.
func selection(c *cobra.Command) func() url.Values {
	channels := c.Flags().StringSlice("channel", nil, "only who listens to this channel; may be repeated")
	users := c.Flags().StringSlice("user", nil, "only this user's devices; may be repeated")
	return func() url.Values {
		return url.Values{"channel": *channels, "user": *users}
	}
}

func (a *app) countCommand() *cobra.Command {
	c := &cobra.Command{Use: "count", Short: "Print how many there are", Args: args(cobra.NoArgs)}
	query := selection(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		cl, err := a.client()
		if err != nil {
			return err
		}
		q := query()
		q.Set("count", "1")
		var got struct {
			Count int `json:"count"`
		}
		if err := cl.call(c.Context(), http.MethodGet, "/api/v1/subscriptions?"+q.Encode(), nil, &got); err != nil {
			return err
		}
		if a.json {
			return a.printJSON(got)
		}
		fmt.Fprintln(a.out, got.Count)
		return nil
	}
	return c
}
