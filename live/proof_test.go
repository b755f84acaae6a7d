package live

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belfry-push/belfry"
)

func users(names ...string) belfry.Audience { return belfry.Audience{Users: names} }

// ann is a user with a private channel, for so long.
func ann(left time.Duration) Listener {
	return Listener{Channels: []string{"news", "private-ann"}, User: "ann", Until: time.Now().Add(left)}
}

// A stream ends no later than the proof of who listens, and says so a minute
// before: what comes a moment later is for whoever proves it anew (SEC-47).
func TestProofExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t, HubConfig{})
		for left, notice := range map[time.Duration]time.Duration{300 * time.Second: 240 * time.Second, 30 * time.Second: 15 * time.Second} {
			began, heard := time.Now(), &tape{}
			reason, err := s.hub.Stream(t.Context(), ann(left), "", SSE, heard)
			if took := time.Since(began); reason != Auth || err != nil || took > left || took < left-tickEvery {
				t.Errorf("%q after %v of %v, %v", reason, took, left, err)
			}
			told := heard.named("auth")
			if len(told) != 1 || told[0].Sub(began) < notice || told[0].Sub(began) > notice+tickEvery {
				t.Errorf("of %v: told at %v", left, told)
			}
			for _, f := range heard.frames {
				if n := members[expiring](f).Left; f.Event == "auth" && (n > 60 || n < int(min(59*time.Second, left/2).Seconds())-1 || f.ID != "") {
					t.Errorf("of %v: %+v", left, f)
				}
			}
			if b := members[bye](heard.last()); b.Reason != Auth || b.Retry < 1000 || b.Retry > 12_000 {
				t.Errorf("%+v", b)
			}
		}
	})
	if got := string(Objects.control(control{name: "auth", members: expiring{60}})); got != `{"event":"auth","left":60}` {
		t.Errorf("in JSON %s", got)
	}
}

// A site may sign for less than a minute, or give out one token until it expires: its
// pages are told of the end, and not each second anew.
func TestProofThatIsNoFresher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for left, fresh := range map[time.Duration]func() time.Duration{
			40 * time.Second:  func() time.Duration { return 40 * time.Second },
			300 * time.Second: nil,
		} {
			s := newStation(t, HubConfig{})
			heard, until := &tape{}, time.Now().Add(left)
			ctx, end := context.WithCancel(t.Context())
			var over sync.WaitGroup
			over.Go(func() { s.hub.Stream(ctx, ann(left), "", SSE, heard) })
			synctest.Wait()
			conn := members[hello](heard.last()).Conn
			told := 0
			for range 299 {
				time.Sleep(time.Second)
				synctest.Wait()
				n := len(heard.named("auth"))
				if n == told {
					continue
				}
				told = n
				if fresh != nil {
					until = time.Now().Add(fresh())
				}
				if err := s.hub.Obey(conn, Order{Proof: &Proof{User: "ann", Opens: []string{"private-ann"}, Until: until}}); err != nil {
					t.Fatal(err)
				}
			}
			end()
			over.Wait()
			if most := int(2 * 300 * time.Second / left); told == 0 || told > most {
				t.Errorf("with tokens of %v it is told of the end %d times in 300 s", left, told)
			}
		}
	})
}

// A fresh proof of the same user lets the stream go on, until that one expires or
// its age ends it. One of somebody else, or one that opens less, does not.
func TestFreshProof(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t, HubConfig{})
		began, heard := time.Now(), &tape{}
		var over sync.WaitGroup
		over.Go(func() {
			if reason, err := s.hub.Stream(t.Context(), ann(120*time.Second), "", SSE, heard); reason != Auth || err != nil {
				t.Errorf("%q, %v", reason, err)
			}
		})
		synctest.Wait()
		conn := members[hello](heard.last()).Conn
		proof := func(user string, opens ...string) *Proof {
			return &Proof{User: user, Opens: opens, Until: time.Now().Add(120 * time.Second)}
		}
		time.Sleep(100 * time.Second)
		for _, wrong := range []Order{{Proof: proof("bob", "private-ann")}, {Proof: proof("", "private-ann")}, {Proof: proof("ann")}, {Proof: proof("ann", "private-other"), Subscribe: []string{"sport"}}} {
			if err := s.hub.Obey(conn, wrong); !errors.Is(err, belfry.ErrConflict) {
				t.Errorf("%+v: %v", *wrong.Proof, err)
			}
		}
		s.append(to("0", channels("sport")))
		if err := s.hub.Obey(conn, Order{Proof: proof("ann", "private-ann", "private-more"), Subscribe: []string{"private-more"}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Second)
		s.append(to("1", channels("private-more")))
		s.append(to("2", users("ann")))
		s.append(to("3", users("bob")))
		if err := s.hub.Obey(conn, Order{Proof: proof("ann", "private-more"), Unsubscribe: []string{"private-ann"}}); err != nil {
			t.Errorf("a proof that opens what is left: %v", err)
		}
		s.append(to("4", channels("private-ann")))
		over.Wait()
		if took := time.Since(began); took > 320*time.Second || took < 318*time.Second {
			t.Errorf("ended after %v", took)
		}
		var ids []string
		for _, f := range heard.frames {
			if f.Event == "" {
				ids = append(ids, members[struct{ ID string }](f).ID)
			}
		}
		if got := fmt.Sprint(ids); got != "[1 2]" || len(heard.named("auth")) != 3 {
			t.Errorf("heard %s, told %v", got, heard.named("auth"))
		}
		stranger := &tape{}
		over.Go(func() { s.hub.Stream(t.Context(), Listener{Channels: []string{"news"}}, "", SSE, stranger) })
		synctest.Wait()
		if err := s.hub.Obey(members[hello](stranger.last()).Conn, Order{Proof: proof("ann")}); !errors.Is(err, belfry.ErrConflict) {
			t.Errorf("a stranger's stream becomes ann's: %v", err)
		}
		s.hub.Close(t.Context())
		over.Wait()
	})
}

// A slow page takes each write, but a trickle.
type slowTape struct {
	tape
	each time.Duration
}

func (s *slowTape) Write(frames ...[]byte) error {
	time.Sleep(s.each)
	return s.tape.Write(frames...)
}

// A page whose proof ends before an usher has time for it is told so.
func TestProofExpiresInLine(t *testing.T) {
	t.Parallel()
	s := newStation(t, HubConfig{})
	p := s.tune(ann(0), "")
	p.expect("hello")
	if b := members[bye](p.expect("bye")); b.Reason != Auth {
		t.Errorf("%+v", b)
	}
	if f, err := p.next(); err != io.EOF {
		t.Errorf("%+v, %v behind the goodbye", f, err)
	}
}

// Who catches up slowly does so no longer than they may hear it, and goes on from
// there with a fresh proof.
func TestProofExpiresBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t, HubConfig{})
		var all sync.WaitGroup
		for i := range 40 * perPage {
			all.Go(func() { s.append(to(fmt.Sprint(i), channels("private-ann"))) })
		}
		all.Wait()
		heard := &slowTape{each: 4 * time.Second}
		began := time.Now()
		reason, err := s.hub.Stream(t.Context(), ann(30*time.Second), s.cursor(0), SSE, heard)
		if took := time.Since(began); reason != Auth || !errors.Is(err, ErrUnproven) || took > 40*time.Second {
			t.Errorf("%q, %v after %v", reason, err, took)
		}
		if b := members[bye](heard.last()); b.Reason != Auth || s.hub.Stats().Connections != 0 {
			t.Errorf("%+v, %+v", b, s.hub.Stats())
		}
		from := heard.frames[len(heard.frames)-2].ID
		heard = &slowTape{}
		ended := make(chan error)
		go func() {
			_, err := s.hub.Stream(t.Context(), ann(5*time.Second), from, SSE, heard)
			ended <- err
		}()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		_, number, _ := strings.Cut(from, ".")
		if had := must(strconv.Atoi(number)); had < perPage || had > 20*perPage || len(heard.named("")) != 40*perPage-had {
			t.Errorf("from %s on: %d", from, len(heard.named("")))
		}
	})
}

// Whoever holds one account cannot hold the server's connections: the cap counts
// all of a user's, from wherever they come (SEC-46).
func TestQuotaOfUser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t, HubConfig{})
		var all sync.WaitGroup
		for range 5 {
			all.Go(func() { s.hub.Stream(t.Context(), ann(10*time.Second), "", SSE, &tape{}) })
		}
		synctest.Wait()
		if _, err := s.hub.Stream(t.Context(), ann(10*time.Second), "", SSE, &tape{}); !errors.Is(err, ErrTooMany) {
			t.Errorf("a sixth: %v", err)
		}
		if err := s.hub.Room(Listener{User: "bob"}); err != nil {
			t.Errorf("another user: %v", err)
		}
		all.Wait()
		if err := s.hub.Room(ann(time.Second)); err != nil {
			t.Errorf("when they have gone: %v", err)
		}
	})
}
