package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/broadcasts"
	"github.com/belfry-push/belfry/receipts"
)

const (
	// maxReceipts is how many one call may bring: a worker that was offline for long has some.
	maxReceipts = 50
	// maxTold bounds their body, in octets (SEC-41): 50 of at most 200, and the device.
	maxTold = 16 << 10
	// receiptsPerDay and receiptLimit bound what one address can tell. After a
	// broadcast all browsers behind the address of an office tell at once.
	receiptsPerDay = 100_000
	// messagesKnown is how many messages are remembered, so that a million browsers
	// that tell of one do not have it read a million times.
	messagesKnown = 256
)

var receiptLimit = Limit{N: 6000, Per: time.Minute}

// told is what a browser says of messages: receipts, or the link that it came by.
type told struct {
	Device   string    `json:"device"`
	Secret   string    `json:"secret"`
	Link     string    `json:"link"`
	Receipts []receipt `json:"receipts"`
}

type receipt struct {
	Message string        `json:"message"`
	Kind    receipts.Kind `json:"kind"`
	Action  string        `json:"action"`
	At      *time.Time    `json:"at"` // by the browser's clock, which nobody can rely on: it is checked, and not kept
}

// receive takes what a browser says. It is answered before that is on disk, so
// that the crowd that a broadcast wakes waits for no fsync.
func (s *Server) receive(c *gin.Context) error {
	if err := s.limited(c, s.tellers); err != nil {
		return err
	}
	in, err := decode[told](c.Request.Body, maxTold)
	if err != nil {
		return err
	}
	said, err := s.said(in)
	if err != nil {
		return err
	}
	row, err := s.teller(c.Request.Context(), in)
	if err != nil {
		return err
	}
	var list []receipts.Receipt
	for _, r := range said {
		if !slices.Contains(s.ReceiptKinds, string(r.Kind)) {
			continue // an older kit may not know what is wanted
		}
		m, known, err := s.message(c.Request.Context(), r.Message)
		if err != nil {
			return err
		}
		if known { // else the browser could mend nothing
			list = append(list, receipts.Receipt{Message: m, Row: row, Kind: r.Kind, Action: r.Action})
		}
	}
	if err := s.Receipts.Add(list); err != nil {
		return err
	}
	c.Status(http.StatusNoContent)
	return nil
}

// said is what of a call is to be counted. A link is a click.
func (s *Server) said(in told) ([]receipt, error) {
	if in.Link != "" {
		id, signed := s.UserKey.CheckClickLink(in.Link)
		switch {
		case in.Receipts != nil:
			return nil, belfry.Invalid("link", "link", "does not go together with receipts")
		case !signed:
			return nil, &belfry.Error{Kind: belfry.ErrInvalid, Code: "link", Where: "link", Text: "was not signed by this server",
				Hint: "take the parameter belfry of the page's address as it is; it does not count once user.key was replaced"}
		}
		return []receipt{{Message: id, Kind: receipts.Clicked}}, nil
	}
	if n := len(in.Receipts); n < 1 || n > maxReceipts {
		return nil, belfry.Invalid("receipts", "receipts", fmt.Sprintf("must be 1 to %d, not %d", maxReceipts, n))
	}
	for i, r := range in.Receipts {
		if err := r.check(); err != nil {
			return nil, belfry.At(fmt.Sprintf("receipts[%d]", i), err)
		}
	}
	return in.Receipts, nil
}

func (r receipt) check() error {
	switch {
	case r.Message == "":
		return belfry.Invalid("receipts", "message", "is missing")
	case !r.Kind.Valid():
		return belfry.Invalid("receipts", "kind", "must be shown, clicked or closed")
	case r.At == nil:
		return belfry.Invalid("receipts", "at", "is missing")
	case r.Action == "":
		return nil
	case r.Kind != receipts.Clicked:
		return belfry.Invalid("receipts", "action", "is only of what was clicked")
	}
	return belfry.CheckAction(r.Action)
}

// teller is the row of the device that speaks, once its secret fits. Who came by
// a link may be nobody, since the link proves itself.
func (s *Server) teller(ctx context.Context, in told) (belfry.Position, error) {
	if in.Link != "" && in.Device == "" && in.Secret == "" {
		return 0, nil
	}
	secret, err := belfry.ParseDeviceSecret(in.Secret)
	if err != nil {
		return 0, denied()
	}
	row, err := s.Subscriptions.Identify(ctx, in.Device, secret)
	return row.Seq, err
}

// message is what must be known of one to count for it, and whether this server
// knows it.
func (s *Server) message(ctx context.Context, id string) (receipts.Message, bool, error) {
	if m, known := s.messages.Get(id); known {
		return m, true, nil
	}
	b, err := s.Broadcasts.Get(ctx, id)
	if errors.Is(err, belfry.ErrNotFound) || errors.Is(err, belfry.ErrCorrupt) {
		return receipts.Message{}, false, nil
	}
	m := receipts.Message{ID: b.ID, Channels: b.Audience.Channels, Deadline: b.Deadline}
	if err == nil {
		s.messages.Add(id, m)
	}
	return m, err == nil, err
}

// A Broadcast is one as operators see it, with what browsers said of it.
type Broadcast struct {
	broadcasts.Broadcast
	Receipts *receipts.Counts `json:"receipts"` // null where they cannot be read
}

// withReceipts adds to broadcasts what browsers said. Damage there hides none.
func (s *Server) withReceipts(ctx context.Context, list ...broadcasts.Broadcast) []Broadcast {
	ids, all := make([]string, len(list)), make([]Broadcast, len(list))
	for i, b := range list {
		ids[i], all[i].Broadcast = b.ID, b
	}
	counts, err := s.Receipts.Of(ctx, ids...)
	if err != nil {
		s.Log.Error("receipts cannot be read", "err", err)
	}
	for i := range counts {
		all[i].Receipts = counts[i]
	}
	return all
}

// answerBroadcast answers with one broadcast.
func (s *Server) answerBroadcast(c *gin.Context, status int, b broadcasts.Broadcast) {
	c.PureJSON(status, s.withReceipts(c.Request.Context(), b)[0])
}
