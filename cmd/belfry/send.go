package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/broadcasts"
	"github.com/belfry-push/belfry/web"
)

// A sending is what the flags of send say.
type sending struct {
	message  belfry.Message
	written  json.RawMessage // the message from --message; then the one above is not used
	audience belfry.Audience
	actions  []string
	urgency  string
	ttl      time.Duration
	file     string
	detach   bool
	callback string
	dryRun   bool
	key      string
	at       string
	late     time.Duration
	rate     int
	canary   string
	push     string
	options  map[string]any // members of the call beside message and audience
}

func (a *app) sendCommand() *cobra.Command {
	s := sending{options: map[string]any{}}
	c := &cobra.Command{Use: "send", Short: "Ring an audience", Args: args(cobra.NoArgs),
		Long: `Send a message to an audience, and wait until every push service has answered.
Ctrl-C stops waiting, not the broadcast. With --at it is scheduled, and not waited for.

--data with a JSON object is data that the site's own pages get with the message;
with anything else it names the data directory, as in every command. It may be
given twice.

With --canary it does not wait any longer once these are rung.

Exits with 3 when the broadcast ended with failures, and with 4 when it was cancelled.`,
		Example: "  belfry send --title Hello --channel news\n  belfry send --message message.json --all"}
	f := c.Flags()
	f.StringVar(&s.message.Title, "title", "", "`text` of the notification's first line")
	f.StringVar(&s.message.Body, "body", "", "`text` below it")
	f.StringVar(&s.message.URL, "url", "", "what a click opens: a path or `URL` of the site")
	f.StringVar(&s.message.Icon, "icon", "", "a path or `URL` of the site")
	f.StringVar(&s.message.Image, "image", "", "a path or `URL` of the site")
	f.StringVar(&s.message.Tag, "tag", "", "a later notification with this `tag` replaces it (default the topic, else none does)")
	f.StringArrayVar(&s.actions, "action", nil, "a button, `'id|title|url'`; may be repeated")
	f.StringSliceVar(&s.audience.Channels, "channel", nil, "whoever listens to this `channel`; may be repeated")
	f.StringSliceVar(&s.audience.Users, "user", nil, "all devices of this `user`; may be repeated")
	f.StringSliceVar(&s.audience.Subscriptions, "subscription", nil, "the device with this `ID`; may be repeated")
	f.BoolVar(&s.audience.All, "all", false, "everybody")
	f.StringVar(&s.urgency, "urgency", "", "how much of a battery it is worth: `level` very-low, low, normal or high")
	f.DurationVar(&s.ttl, "ttl", 24*time.Hour, "how long it is worth saying, a `duration` up to 672h")
	f.StringVar(&s.message.Topic, "topic", "", "a later message with this `topic` replaces it while it still waits")
	f.StringVar(&s.file, "message", "", "read the message as JSON from this `FILE`, or from standard input with -")
	f.StringVar(&s.callback, "callback", "", "tell this `URL` how it ended, signed with the secret that keys webhook shows")
	f.StringVar(&s.at, "at", "", "start then and not now: a `time` such as 2026-03-04T18:05:00+01:00, '2026-03-04 18:05' or 18:05")
	f.DurationVar(&s.late, "max-lateness", 0, "with --at: if the server is down then, start no more than this `duration` late (default: before the message has outlived its ttl)")
	f.IntVar(&s.rate, "rate", 0, "begin with no more than `N` subscribers a second, over all push services")
	f.StringVar(&s.canary, "canary", "", "ring this `part` first, such as 1% or 500 subscribers, and wait for `belfry broadcasts resume`")
	f.StringVar(&s.push, "push", "", "ring devices besides telling pages that are open: `when` is auto, which spares devices whose page shows the message, always or never (default auto)")
	f.StringVar(&s.key, "idempotency-key", "", "launch once: asking again with this `key` within a day shows what the first launch made")
	f.BoolVar(&s.dryRun, "dry-run", false, "say what would be sent, to how many and for how long, and send nothing")
	f.BoolVar(&s.detach, "detach", false, "print the id and do not wait")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if a.data.object != "" {
			s.message.Data = json.RawMessage(a.data.object)
		}
		if err := s.read(c, a); err != nil {
			return err
		}
		return a.sendBroadcast(c.Context(), s)
	}
	return c
}

// read fills the message from its file or from the flags.
func (s *sending) read(c *cobra.Command, a *app) error {
	if s.kinds() != 1 {
		return wrongUsage(c, errors.New("say whom to ring, by one of --channel, --user, --subscription or --all"))
	}
	if c.Flags().Changed("idempotency-key") {
		if _, err := broadcasts.NewKey("", s.key); err != nil { // an empty one too: whoever gave it believes to be safe
			return belfry.At("--idempotency-key", err)
		}
	}
	if err := s.schedule(c); err != nil {
		return err
	}
	if c.Flags().Changed("rate") {
		s.options["rate"] = s.rate
	}
	if c.Flags().Changed("canary") {
		s.options["canary"] = s.canary
	}
	if c.Flags().Changed("push") {
		s.options["push"] = s.push
	}
	if s.file != "" {
		if s.message.Data != nil {
			return wrongUsage(c, errors.New("--data with JSON and --message do not go together"))
		}
		for _, flag := range []string{"title", "body", "url", "icon", "image", "tag", "action", "urgency", "ttl", "topic"} {
			if c.Flags().Changed(flag) {
				return wrongUsage(c, fmt.Errorf("--%s and --message do not go together", flag))
			}
		}
		return s.readFile(a)
	}
	if s.message.Title == "" {
		return wrongUsage(c, errors.New("a message needs a --title, or comes from a file by --message"))
	}
	if c.Flags().Changed("ttl") {
		seconds := int(math.Ceil(s.ttl.Seconds())) // 0 means now or never, which half a second does not
		s.message.TTL = &seconds
	}
	s.message.Urgency = belfry.Urgency(s.urgency)
	if s.message.Data != nil && !json.Valid(s.message.Data) {
		return wrongUsage(c, errors.New("--data begins with a brace and is not JSON"))
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

// readFile reads the message as it stands: which members there are is for the
// server to say.
func (s *sending) readFile(a *app) error {
	in, _, err := a.open(s.file)
	if err != nil {
		return fmt.Errorf("--message: %w", err)
	}
	defer in.Close()
	text, err := io.ReadAll(io.LimitReader(in, maxMessage+1))
	if err != nil {
		return fmt.Errorf("--message: %w", err)
	}
	if len(text) > maxMessage {
		return tooLarge(fmt.Sprintf("over %d", maxMessage))
	}
	if err := json.Unmarshal(text, &s.written); err != nil {
		return belfry.Invalid("json", "--message "+s.file, jsonFault(text, err))
	}
	return nil
}

// maxMessage bounds what is read of a message, in octets.
const maxMessage = 1 << 20

// maxLaunch is the most that a server reads of a launch, in octets (SEC-41).
const maxLaunch = 16 << 10

func tooLarge(octets string) error {
	return &belfry.Error{Kind: belfry.ErrTooLarge, Code: "message-too-large", Where: "message",
		Text: fmt.Sprintf("is %s octets, over the %d that a launch may have", octets, maxLaunch),
		Hint: fmt.Sprintf("shorten body, data or variants: a push service must take no more than %d octets of each variant", belfry.MaxPayload)}
}

// jsonFault says what stops text from being JSON, and in which line.
func jsonFault(text []byte, err error) string {
	var fault *json.SyntaxError
	if !errors.As(err, &fault) {
		return "is not JSON"
	}
	line := 1 + bytes.Count(text[:min(int(fault.Offset), len(text))], []byte("\n"))
	return fmt.Sprintf("is not JSON: line %d: %s", line, fault)
}

// sendBroadcast launches and, unless it is to detach, watches to the end.
func (a *app) sendBroadcast(ctx context.Context, s sending) error {
	cl, err := a.client()
	if err != nil {
		return err
	}
	if s.dryRun {
		return a.estimate(ctx, cl, s)
	}
	b, err := a.launch(ctx, cl, s)
	if err != nil {
		return err
	}
	if s.detach || b.State == broadcasts.Scheduled || ctx.Err() != nil {
		return a.detached(b)
	}
	return a.follow(ctx, cl, b, func(b broadcasts.Broadcast) bool { return b.Ended() || asks(b) })
}

// launch asks the server for the broadcast, and tells what is worth telling at once.
func (a *app) launch(ctx context.Context, cl *client, s sending) (b web.Broadcast, err error) {
	in, err := s.launch()
	if err != nil {
		return b, err
	}
	var headers [][2]string
	if s.key != "" {
		headers = append(headers, [2]string{"Idempotency-Key", s.key})
	}
	lasting, cancel := lastingCall(ctx)
	defer cancel()
	resp, err := cl.send(lasting, http.MethodPost, "/api/v1/broadcasts", bytes.NewReader(in), headers...)
	if err != nil {
		if lasting.Err() != nil && lasting != ctx {
			err = &belfry.Error{Kind: belfry.ErrBusy, Code: "interrupted", Text: "interrupted before the server had answered: it may have begun or not",
				Hint: "see `belfry broadcasts list`"}
		}
		return b, err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&b); err != nil {
		return b, unreadable(err)
	}
	if resp.Header.Get("Idempotent-Replayed") == "true" {
		fmt.Fprintf(a.err, "belfry: it was launched with this --idempotency-key before, at %s; nothing was launched now\n", stamp(&b.Created))
	}
	for _, w := range b.Warnings {
		fmt.Fprintf(a.err, "belfry: %s\n", w)
	}
	return b, nil
}

// answerWithin is how long a launch may take to be answered once it was interrupted.
const answerWithin = 3 * time.Second

// lastingCall is a context for a call that has consequences: interrupted, it
// still waits a moment for the answer, since a broadcast that has begun and whose
// id nobody knows can hardly be found again.
func lastingCall(ctx context.Context) (context.Context, context.CancelFunc) {
	if ctx.Err() != nil {
		return ctx, func() {}
	}
	lasting, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(answerWithin, cancel) })
	return lasting, func() { stop(); cancel() }
}

// kinds is how many kinds of audience there are: one makes sense.
func (s sending) kinds() (n int) {
	for _, set := range []bool{len(s.audience.Channels) > 0, len(s.audience.Users) > 0, len(s.audience.Subscriptions) > 0, s.audience.All} {
		if set {
			n++
		}
	}
	return n
}

// launch is the call's body. One that the server would not even read is refused
// here, with its size (WP-33).
func (s sending) launch() (json.RawMessage, error) {
	in := map[string]any{"message": s.message, "audience": s.audience}
	maps.Copy(in, s.options)
	if s.written != nil {
		in["message"] = s.written
	}
	if s.callback != "" {
		in["callback"] = s.callback
	}
	body, err := encoded(in)
	if err == nil && len(body) > maxLaunch {
		err = tooLarge(strconv.Itoa(len(body)))
	}
	return body, err
}

// detached prints how to find a broadcast again that goes on without us.
func (a *app) detached(b web.Broadcast) error {
	if a.json {
		return a.printJSON(b)
	}
	fmt.Fprintln(a.out, b.ID)
	if b.State == broadcasts.Scheduled {
		fmt.Fprintf(a.err, "belfry: it starts at %s; `belfry broadcasts cancel %s` stops it\n", b.Starts.Local().Format(time.RFC3339), b.ID)
		return nil
	}
	if b.State == broadcasts.Paused {
		fmt.Fprintf(a.err, "belfry: %s\n", paused(b.Broadcast))
		return nil
	}
	fmt.Fprintf(a.err, "belfry: it goes on; `belfry broadcasts watch %s` shows how\n", b.ID)
	return nil
}
