package live

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/belfry-push/belfry"
)

// A Proof is a fresh proof of who listens, as web has checked it.
type Proof struct {
	User  string
	Opens []string // private channels
	Until time.Time
}

// prove lets a connection go on until its proof expires. One that is no fresher than
// what it had changes nothing: a page that was told of the end and has no other
// would be told, and bring it, without end.
func (c *conn) prove(until time.Time) {
	left := time.Until(until)
	now := c.shard.hub.now()
	if c.until != never && now+left < c.until+tickEvery {
		return
	}
	c.until = now + left
	c.notice = c.until - min(noticeBefore, left/2) // a site may sign for less than a minute
}

// expired reports whether the proof has, or will before anybody looks again: who
// may not hear a thing any more must not hear it for that second.
func (c *conn) expired(now time.Duration) bool { return now > c.until-tickEvery }

// accepts reports why an order's proof is none for this connection: it must be of
// the same user, and open what is heard already.
func (c *conn) accepts(o Order) error {
	if o.Proof == nil {
		return nil
	}
	if o.Proof.User != c.user {
		return &belfry.Error{Kind: belfry.ErrConflict, Code: "other-user", Text: "this connection is not of the user whom the token names", Hint: "connect anew"}
	}
	for _, g := range c.groups {
		name, isChannel := strings.CutPrefix(g.Value(), "c")
		if isChannel && strings.HasPrefix(name, belfry.PrivatePrefix) && !slices.Contains(o.Proof.Opens, name) && !slices.Contains(o.Unsubscribe, name) {
			return &belfry.Error{Kind: belfry.ErrConflict, Code: "private-channel", Text: fmt.Sprintf("this connection hears %q, which the user token does not open", name),
				Hint: "unsubscribe from it with the same order, or connect anew"}
		}
	}
	return nil
}

// farewell sends a page away whose proof expires while it catches up.
func (c *conn) farewell(to Carrier) error {
	err := to.Write(c.format.control(goodbye(Auth)))
	c.mu.Lock()
	c.over, c.said = true, Auth
	c.mu.Unlock()
	return cmp.Or(err, ErrUnproven)
}
