package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/belfry-push/belfry/broadcasts"
)

// estimate asks the server what the broadcast would be.
func (a *app) estimate(ctx context.Context, cl *client, s sending) error {
	in, err := s.launch()
	if err != nil {
		return err
	}
	var said json.RawMessage
	if err := cl.call(ctx, http.MethodPost, "/api/v1/broadcasts?dryRun=1", in, &said); err != nil {
		return err
	}
	if a.json {
		return a.printJSON(said)
	}
	var est broadcasts.Estimate
	if err := json.Unmarshal(said, &est); err != nil {
		return unreadable(err)
	}
	facts(a.out, estimateFacts(est))
	fmt.Fprintln(a.err, "belfry: this was a dry run; nothing was sent")
	return nil
}

// estimateFacts is an estimate for a person.
func estimateFacts(est broadcasts.Estimate) [][2]string {
	list := [][2]string{{"targets", strconv.Itoa(est.Targets)}}
	for _, s := range est.Hosts {
		list = append(list, [2]string{"push service", fmt.Sprintf("%s: %d", s.Host, s.Targets)})
	}
	list = append(list, [2]string{"message", fmt.Sprintf("%d octets, %d when sealed and padded", est.Payload, est.Body)},
		[2]string{"takes about", (time.Duration(est.Duration) * time.Second).String()}, [2]string{"expected end", stamp(&est.ETA)}, [2]string{"if", est.Assumes})
	for _, w := range est.Warnings {
		list = append(list, [2]string{"warning", w})
	}
	return list
}
