//go:build linux

package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/bench/rig"
)

// message is of the usual size: a title, a sentence and a link.
var message = belfry.Message{Title: "The tower clock strikes thirteen", Body: strings.Repeat("Come and see. ", 13), URL: "/news/2026/the-tower-clock"}

// direct is the role that sends by webpush-go.
const direct = "direct"

// sendDirectly takes a turn with the same payload as the server makes.
func sendDirectly(house string) error {
	subs, err := rig.ReadBrowsers(filepath.Join(house, fewFile))
	if err != nil {
		return err
	}
	payload, err := message.Payload("01jdemo00000000000000000000", "", "http://127.0.0.1:8080")
	if err != nil {
		return err
	}
	do, err := rig.Direct(subs, payload)
	if err != nil {
		return err
	}
	return rig.Turn(len(subs), do, "")
}

// A turn is what one broadcast has cost.
type turn struct {
	cpu  time.Duration // of the process that sends: the whole server
	wall time.Duration // from the command to its last word
}

// turns are those of the rounds, in order, each with so many messages.
type turns struct {
	messages       int
	belfry, direct []turn
}

// takeTurns lets both take turns over all rounds. The server s is the same all
// along, as it is in life.
func (c *course) takeTurns(ctx context.Context, s *rig.Server) (t turns, err error) {
	t.messages = c.few
	for range c.rounds {
		r, err := rig.TakeTurn(direct, c.house)
		if err != nil {
			return t, fmt.Errorf("webpush-go: %w", err)
		}
		t.direct = append(t.direct, turn{time.Duration(r.CPU * float64(c.few) * 1e3), time.Duration(float64(c.few) / r.PerSecond * 1e9)})
		ours, err := broadcast(ctx, s, c.few)
		if err != nil {
			return t, err
		}
		t.belfry = append(t.belfry, ours)
	}
	return t, nil
}

// broadcast rings everybody and waits for the end.
func broadcast(ctx context.Context, s *rig.Server, rows int) (t turn, err error) {
	used, began := rig.CPUOf(s.PID()), time.Now()
	out, err := send(ctx, s)
	t = turn{rig.CPUOf(s.PID()) - used, time.Since(began)}
	if want := fmt.Sprintf(" done: %d of %d accepted\n", rows, rows); err == nil && !strings.HasSuffix(out, want) {
		err = fmt.Errorf("send said %q, which does not end in %q", out, want)
	}
	return t, err
}

func send(ctx context.Context, s *rig.Server, flags ...string) (string, error) {
	return s.Ask(ctx, append([]string{"send", "--all", "--title", message.Title, "--body", message.Body, "--url", message.URL}, flags...)...)
}
