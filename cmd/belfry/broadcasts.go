package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/broadcasts"
	"github.com/belfry-push/belfry/receipts"
	"github.com/belfry-push/belfry/web"
)

func (a *app) broadcastsCommand() *cobra.Command {
	c := &cobra.Command{Use: "broadcasts", Short: "See what was sent and how it goes, and stop it", Args: ofGroup, SuggestionsMinimumDistance: 2, RunE: helps}
	c.AddCommand(a.broadcastsListCommand(), a.broadcastsShowCommand(), a.broadcastsWatchCommand(),
		a.broadcastsOrderCommand("pause", "Stop a broadcast until it is resumed", "Stop a broadcast until it is resumed. What is on its way to a push service arrives.\n\nThe message's time to live runs on: who is not rung within it is not rung at all."),
		a.broadcastsOrderCommand("resume", "Let a paused broadcast go on", "Let a paused broadcast go on where it was."),
		a.broadcastsOrderCommand("cancel", "End a broadcast for good", "End a broadcast for good. Who was not rung yet is not rung; what was sent cannot be called back."),
		a.broadcastsOrderCommand("confirm", "Remove those who are suspected to be gone",
			"Remove those who are suspected to be gone. A push service that says so of more than a fifth of its subscribers is not believed until somebody has looked; then the broadcast is paused."),
		a.broadcastsOrderCommand("dismiss", "Keep those who are suspected to be gone",
			"Keep those who are suspected to be gone, since their push service was wrong. This message counts as failed for them."))
	return c
}

func (a *app) broadcastsListCommand() *cobra.Command {
	c := &cobra.Command{Use: "list", Short: "List broadcasts, the newest first", Args: args(cobra.NoArgs)}
	limit := limitFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		return listing[broadcasts.Broadcast]{
			path: "/api/v1/broadcasts", limit: *limit, none: "nothing has been sent yet",
			header: []string{"ID", "STATE", "CREATED", "TARGETS", "ACCEPTED", "GONE", "FAILED", "TITLE"},
			row: func(b broadcasts.Broadcast) []string {
				n := b.Counts
				return []string{b.ID, string(b.State), stamp(&b.Created), strconv.Itoa(n.Targets), strconv.Itoa(n.Accepted),
					strconv.Itoa(n.Gone), strconv.Itoa(n.Failed), short(b.Message.Title, 40)}
			},
		}.print(c.Context(), a)
	}
	return c
}

func (a *app) broadcastsShowCommand() *cobra.Command {
	return &cobra.Command{Use: "show ID", Short: "Show one broadcast: message, audience, counts", Args: args(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, given []string) error {
			var b web.Broadcast
			return a.show(c.Context(), broadcastPath(given[0]), &b, func() { facts(a.out, broadcastFacts(b)) })
		}}
}

func (a *app) broadcastsWatchCommand() *cobra.Command {
	return &cobra.Command{Use: "watch ID", Short: "Follow a broadcast to its end", Args: args(cobra.ExactArgs(1)),
		Long: "Follow a broadcast to its end. Ctrl-C stops watching, not the broadcast.\n\nExits with 3 when the broadcast ended with failures, and with 4 when it was cancelled.",
		RunE: func(c *cobra.Command, given []string) error {
			cl, err := a.client()
			if err != nil {
				return err
			}
			var b web.Broadcast
			if err := cl.call(c.Context(), http.MethodGet, broadcastPath(given[0]), nil, &b); err != nil {
				return err
			}
			return a.follow(c.Context(), cl, b, broadcasts.Broadcast.Ended)
		}}
}

// broadcastsOrderCommand changes the state of a broadcast and says how it stands then.
func (a *app) broadcastsOrderCommand(verb, short, long string) *cobra.Command {
	return &cobra.Command{Use: verb + " ID", Short: short, Long: long, Args: args(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, given []string) error {
			cl, err := a.client()
			if err != nil {
				return err
			}
			var raw json.RawMessage
			if err := cl.call(c.Context(), http.MethodPost, broadcastPath(given[0])+"/"+verb, nil, &raw); err != nil {
				return err
			}
			if a.json {
				return a.printJSON(raw)
			}
			var b web.Broadcast
			if err := json.Unmarshal(raw, &b); err != nil {
				return unreadable(err)
			}
			fmt.Fprintln(a.out, summary(b))
			return nil
		}}
}

func broadcastPath(id string) string { return "/api/v1/broadcasts/" + url.PathEscape(id) }

// broadcastFacts is a broadcast for a person. Counts that are zero are left
// out, but for those that everybody looks for.
func broadcastFacts(b web.Broadcast) [][2]string {
	state := string(b.State)
	if b.Reason != nil {
		state += " (" + *b.Reason + ")"
	}
	list := [][2]string{{"id", b.ID}, {"state", state}, {"title", b.Message.Title}, {"body", b.Message.Body}, {"url", b.Message.URL},
		{"audience", audienceText(b.Audience)}, {"urgency", string(cmp.Or(b.Message.Urgency, belfry.UrgencyNormal))}, {"topic", b.Message.Topic},
		{"callback", b.Callback.String()},
		{"created", stamp(&b.Created)}, {"deadline", stamp(&b.Deadline)}}
	if b.Starts != nil {
		list = append(list, [2]string{"starts", stamp(b.Starts)})
	}
	if b.MaxLateness != nil {
		list = append(list, [2]string{"at most late by", (time.Duration(*b.MaxLateness) * time.Second).String()})
	}
	if b.Rate != nil {
		list = append(list, [2]string{"rate", fmt.Sprintf("at most %d a second", *b.Rate)})
	}
	if b.Canary != nil {
		list = append(list, [2]string{"canary", string(*b.Canary)})
	}
	if b.Started != nil {
		list = append(list, [2]string{"started", stamp(b.Started)})
	}
	if b.Finished != nil {
		list = append(list, [2]string{"finished", stamp(b.Finished)})
	}
	n := b.Counts
	list = append(list, [2]string{"targets", strconv.Itoa(n.Targets)}, [2]string{"accepted", strconv.Itoa(n.Accepted)})
	for _, c := range lesser(n) {
		list = append(list, [2]string{c.word, strconv.Itoa(c.n)})
	}
	for _, reason := range slices.Sorted(maps.Keys(b.Failures)) {
		list = append(list, [2]string{"failed with", fmt.Sprintf("%s: %d", reason, b.Failures[reason])})
	}
	for _, reason := range slices.Sorted(maps.Keys(b.Expiries)) {
		list = append(list, [2]string{"expired after", fmt.Sprintf("%s: %d", reason, b.Expiries[reason])})
	}
	list = append(list, receiptFacts(b.Receipts)...)
	if b.State == broadcasts.Running && b.Pace > 0 {
		list = append(list, [2]string{"pace", fmt.Sprintf("%.0f a second", b.Pace)}, [2]string{"expected end", stamp(b.ETA)})
	}
	for _, h := range b.Hosts {
		text := fmt.Sprintf("%s: %d accepted, %s", h.Host, h.Accepted, h.State)
		if h.Suspect > 0 {
			text = fmt.Sprintf("%s: %d accepted, %d said to be gone, %s", h.Host, h.Accepted, h.Suspect, h.State)
		}
		if h.Reason != "" {
			text += " (" + h.Reason + ")"
		}
		list = append(list, [2]string{"push service", text})
	}
	for _, w := range b.Warnings {
		list = append(list, [2]string{"warning", w})
	}
	return list
}

// receiptFacts is what browsers said, without what none did.
func receiptFacts(told *receipts.Counts) (list [][2]string) {
	if told == nil {
		return [][2]string{{"receipts", "cannot be read; see `belfry doctor`"}}
	}
	for _, c := range receiptCounts(told) {
		list = append(list, [2]string{c.word, strconv.Itoa(c.n)})
	}
	for _, action := range slices.Sorted(maps.Keys(told.Actions)) {
		list = append(list, [2]string{"clicked on", fmt.Sprintf("%s: %d", action, told.Actions[action])})
	}
	return list
}

func audienceText(a belfry.Audience) string {
	switch {
	case a.All:
		return "everybody"
	case len(a.Users) > 0:
		return "users " + strings.Join(a.Users, ", ")
	case len(a.Subscriptions) > 0:
		return "subscriptions " + strings.Join(a.Subscriptions, ", ")
	}
	return "channels " + strings.Join(a.Channels, ", ")
}
