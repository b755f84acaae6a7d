package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/broadcasts"
)

// A sending is what the flags of send say.
type sending struct {
	message  belfry.Message
	audience belfry.Audience
	actions  []string
	urgency  string
	ttl      time.Duration
	file     string
	detach   bool
}

func (a *app) sendCommand() *cobra.Command {
	var s sending
	c := &cobra.Command{Use: "send", Short: "Ring an audience", Args: args(cobra.NoArgs),
		Example: "  belfry send --title Hello --channel news\n  belfry send --message message.json --all"}
	f := c.Flags()
	f.StringVar(&s.message.Title, "title", "", "what the notification says first")
	f.StringVar(&s.message.Body, "body", "", "and then")
	f.StringVar(&s.message.URL, "url", "", "what a click opens: a path, or a URL of the site")
	f.StringVar(&s.message.Icon, "icon", "", "a path, or a URL of the site")
	f.StringVar(&s.message.Image, "image", "", "a path, or a URL of the site")
	f.StringVar(&s.message.Tag, "tag", "", "a later notification with this tag replaces it; default: the topic, else none does")
	f.StringArrayVar(&s.actions, "action", nil, "a button, 'id|title|url'; may be repeated")
	f.StringSliceVar(&s.audience.Channels, "channel", nil, "who listens to this channel; may be repeated")
	f.StringSliceVar(&s.audience.Users, "user", nil, "all devices of this user; may be repeated")
	f.StringSliceVar(&s.audience.Subscriptions, "subscription", nil, "this device, by id; may be repeated")
	f.BoolVar(&s.audience.All, "all", false, "everybody")
	f.StringVar(&s.urgency, "urgency", "", "very-low, low, normal or high")
	f.DurationVar(&s.ttl, "ttl", 24*time.Hour, "how long it is worth saying, up to 672h")
	f.StringVar(&s.message.Topic, "topic", "", "a later message with this topic replaces it while it still waits")
	f.StringVar(&s.file, "message", "", "read the message as JSON from this file, or - for standard input")
	f.BoolVar(&s.detach, "detach", false, "print the id and do not wait")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if a.data.object != "" {
			s.message.Data = json.RawMessage(a.data.object)
		}
		if err := s.read(c, a.in); err != nil {
			return err
		}
		return a.sendBroadcast(c.Context(), s)
	}
	return c
}

// read fills the message from its file or from the flags.
func (s *sending) read(c *cobra.Command, in io.Reader) error {
	if s.file != "" {
		if s.message.Data != nil {
			return wrongUsage(c, fmt.Errorf("--data with JSON and --message do not go together"))
		}
		for _, flag := range []string{"title", "body", "url", "icon", "image", "tag", "action", "urgency", "ttl", "topic"} {
			if c.Flags().Changed(flag) {
				return wrongUsage(c, fmt.Errorf("--%s and --message do not go together", flag))
			}
		}
		return s.readFile(in)
	}
	if c.Flags().Changed("ttl") {
		seconds := int(s.ttl / time.Second)
		s.message.TTL = &seconds
	}
	s.message.Urgency = belfry.Urgency(s.urgency)
	if s.message.Data != nil && !json.Valid(s.message.Data) {
		return wrongUsage(c, fmt.Errorf("--data is not JSON"))
	}
	for _, text := range s.actions {
		parts := strings.SplitN(text, "|", 3)
		if len(parts) < 2 {
			return wrongUsage(c, fmt.Errorf("--action %q is not 'id|title|url'", text))
		}
		action := belfry.Action{Action: parts[0], Title: parts[1]}
		if len(parts) == 3 {
			action.URL = parts[2]
		}
		s.message.Actions = append(s.message.Actions, action)
	}
	return nil
}

func (s *sending) readFile(in io.Reader) error {
	if s.file != "-" {
		f, err := os.Open(s.file)
		if err != nil {
			return fmt.Errorf("--message: %w", err)
		}
		defer f.Close()
		in = f
	}
	d := json.NewDecoder(in)
	d.DisallowUnknownFields()
	if err := d.Decode(&s.message); err != nil {
		return belfry.Invalid("json", "--message", "is not a message in JSON: "+strings.TrimPrefix(err.Error(), "json: "))
	}
	return nil
}

// sendBroadcast launches and, unless it is to detach, watches to the end.
func (a *app) sendBroadcast(ctx context.Context, s sending) error {
	cl, err := a.client()
	if err != nil {
		return err
	}
	var b broadcasts.Broadcast
	in := map[string]any{"message": s.message, "audience": s.audience}
	if err := cl.call(ctx, http.MethodPost, "/api/v1/broadcasts", in, &b); err != nil {
		return err
	}
	for _, w := range b.Warnings {
		fmt.Fprintf(a.err, "belfry: %s\n", w)
	}
	if s.detach {
		return a.detached(b)
	}
	return a.follow(ctx, cl, b)
}

// detached prints how to find a broadcast again that goes on without us.
func (a *app) detached(b broadcasts.Broadcast) error {
	if a.json {
		return a.printJSON(b)
	}
	fmt.Fprintln(a.out, b.ID)
	fmt.Fprintf(a.err, "belfry: it goes on; `belfry broadcasts watch %s` shows how\n", b.ID)
	return nil
}
