package live

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belfry-push/belfry"
)

// A visit is a page that somebody has open, in a bubble.
type visit struct {
	s     *station
	conn  string
	leave func()
}

func (s *station) visit(orders ...Order) *visit {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s.t.Cleanup(cancel)
	var heard tape
	go s.hub.Stream(ctx, news, "", SSE, &heard)
	synctest.Wait()
	v := &visit{s, members[hello](heard.first()).Conn, func() { cancel(); synctest.Wait() }}
	for _, o := range orders {
		v.order(o)
	}
	return v
}

func (v *visit) order(o Order) {
	v.s.t.Helper()
	if err := v.s.hub.Obey(v.conn, o); err != nil {
		v.s.t.Fatal(err)
	}
}

var yes, no = true, false

func bound(device string, visible *bool) Order { return Order{Device: device, Visible: visible} }

// A push is spared only where a page that somebody looks at, and that has proved
// whose it is, says that it has the message; it waits for that word for 3 s
// only, and only where it can come. Everybody else is rung at once.
func TestReached(t *testing.T) {
	const (
		ring   = "ring"
		hold   = "hold"
		spared = "spared"
	)
	for _, tt := range []struct {
		name string
		do   func(s *station) // publishes "1"
		want string
	}{
		{"nobody has a page open", func(s *station) { s.say("1") }, ring},
		{"somebody looks", func(s *station) { s.visit(bound("d", &yes)); s.say("1") }, hold},
		{"for 3 s", func(s *station) { s.visit(bound("d", &yes)); s.say("1"); time.Sleep(ackWithin - 1) }, hold},
		{"and no longer", func(s *station) { s.visit(bound("d", &yes)); s.say("1"); time.Sleep(ackWithin) }, ring},
		{"and has it", func(s *station) { v := s.visit(bound("d", &yes)); s.say("1"); v.order(ack("1")) }, spared},
		{"also late", func(s *station) {
			v := s.visit(bound("d", &yes))
			s.say("1")
			time.Sleep(time.Minute)
			v.order(ack("1"))
		}, spared},
		{"has it, and leaves", func(s *station) { v := s.visit(bound("d", &yes)); s.say("1"); v.order(ack("1")); v.leave() }, spared},
		{"had it for an hour", func(s *station) { v := s.visit(bound("d", &yes)); s.say("1"); v.order(ack("1")); time.Sleep(time.Hour) }, spared},
		{"had it yesterday", func(s *station) {
			v := s.visit(bound("d", &yes))
			s.say("1")
			v.order(ack("1"))
			time.Sleep(ackedFor + time.Second)
		}, ring},
		{"has another one", func(s *station) { v := s.visit(bound("d", &yes)); s.say("1"); s.say("2"); v.order(ack("2")) }, hold},
		{"leaves without a word", func(s *station) { v := s.visit(bound("d", &yes)); s.say("1"); v.leave() }, ring},
		{"nobody looks", func(s *station) { s.visit(bound("d", &no)); s.say("1") }, ring},
		{"it never said that somebody does", func(s *station) { s.visit(bound("d", nil)); s.say("1") }, ring},
		{"it says so before who it is", func(s *station) { s.visit(Order{Visible: &yes}, bound("d", nil)); s.say("1") }, hold},
		{"looks away", func(s *station) { v := s.visit(bound("d", &yes)); s.say("1"); v.order(Order{Visible: &no}) }, ring},
		{"unseen, it has shown nothing", func(s *station) { v := s.visit(bound("d", &no)); s.say("1"); v.order(ack("1")) }, ring},
		{"unseen with its word", func(s *station) {
			v := s.visit(bound("d", &yes))
			s.say("1")
			v.order(Order{Visible: &no, Ack: []string{"1"}})
		}, ring},
		{"says so in the order with its word", func(s *station) {
			s.say("1")
			s.visit(Order{Device: "d", Visible: &yes, Ack: []string{"1"}})
		}, spared},
		{"it was stopped 90 s ago", func(s *station) { s.visit(bound("d", &yes)); time.Sleep(visibleFor); s.say("1") }, ring},
		{"it says so again", func(s *station) {
			v := s.visit(bound("d", &yes))
			time.Sleep(visibleFor - time.Second)
			v.order(Order{Visible: &yes})
			time.Sleep(visibleFor - time.Second)
			s.say("1")
		}, hold},
		{"nobody in particular looks", func(s *station) { v := s.visit(Order{Visible: &yes}); s.say("1"); v.order(ack("1")) }, ring},
		{"nobody in particular, until later", func(s *station) {
			v := s.visit(Order{Visible: &yes})
			s.say("1")
			v.order(ack("1"))
			v.order(bound("d", nil))
		}, hold},
		{"another device has it", func(s *station) {
			v := s.visit(bound("other", &yes))
			s.say("1")
			v.order(ack("1"))
		}, ring},
		{"it is another device's by now", func(s *station) {
			v := s.visit(bound("d", &yes))
			v.order(bound("other", nil))
			s.say("1")
			v.order(ack("1"))
		}, ring},
		{"one of two pages is looked at", func(s *station) {
			s.visit(bound("d", &yes))
			s.visit(bound("d", &no))
			s.say("1")
		}, hold},
		{"that one is closed", func(s *station) {
			v := s.visit(bound("d", &yes))
			s.visit(bound("d", &no))
			s.say("1")
			v.leave()
		}, ring},
		{"it is urgent", func(s *station) { s.visit(bound("d", &yes)); s.shout("1") }, ring},
		{"it is urgent, and there", func(s *station) { v := s.visit(bound("d", &yes)); s.shout("1"); v.order(ack("1")) }, spared},
		{"it was published before a restart", func(s *station) {
			s.say("1")
			s.restart()
			v := s.visit(bound("d", &yes))
			v.order(ack("1"))
		}, ring},
		{"it was never published", func(s *station) { v := s.visit(bound("d", &yes)); v.order(ack("1")) }, ring},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStation(t, HubConfig{})
				tt.do(s)
				want := map[string]belfry.Reach{ring: {}, spared: {Spared: true}}[tt.want]
				got := s.hub.Reached("d", "1")
				if held := got.Hold.After(time.Now()); held != (tt.want == hold) || !held && got != want {
					t.Errorf("%+v, want to %s", got, tt.want)
				}
			})
		})
	}
}

func ack(ids ...string) Order { return Order{Ack: ids} }

func (s *station) say(id string) { s.append(to(id, channels("news"))) }

func (s *station) shout(id string) {
	e := to(id, channels("news"))
	e.Message.Urgency = belfry.UrgencyHigh
	s.append(e)
}

// What is kept of devices is bounded, and where nothing is left nobody pays.
func TestPresenceForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t, HubConfig{})
		v := s.visit(bound("d", &yes))
		for i := range maxMessages + 1 {
			s.say(fmt.Sprint(i))
			v.order(ack(fmt.Sprint(i), fmt.Sprint(i), "made up"))
		}
		p := &s.hub.presence
		if r := s.hub.Reached("d", "0"); r.Spared || p.acked != maxMessages || len(p.messages) != maxMessages || len(p.lately) != maxMessages || p.known.Load() != maxMessages+1 {
			t.Errorf("%+v, and of %d messages %d are known, %d in turn, and %d acknowledged: %d", r, maxMessages+1, len(p.messages), len(p.lately), p.acked, p.known.Load())
		}
		v.leave()
		time.Sleep(ackedFor + time.Second)
		s.say("last")
		if p.known.Load() != 0 || p.acked != 0 || len(p.pages) != 0 || len(p.messages) != 1 {
			t.Errorf("a day later %d are known, %d acknowledged, %d devices, %d messages", p.known.Load(), p.acked, len(p.pages), len(p.messages))
		}
	})
}

// However many acknowledge, memory is bounded: the oldest message is forgotten,
// and never the one that is being told.
func TestPresenceFull(t *testing.T) {
	p := &presence{pages: map[string][]look{}, messages: map[string]*published{}}
	p.publish([]*entry{{message: "old"}, {message: "new"}}, 0)
	p.acknowledge("first", []string{"old"})
	for i := range maxAcked + 10 {
		p.acknowledge(fmt.Sprint(i), []string{"new"})
	}
	if p.messages["old"] != nil || len(p.messages["new"].acked) != maxAcked || p.acked != maxAcked || p.known.Load() != maxAcked {
		t.Errorf("%d of %d messages, %d acknowledged, %d known", len(p.messages), 2, p.acked, p.known.Load())
	}
}

// Pages that come, go and speak while broadcasts ask leave nothing behind.
func TestPresenceTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t, HubConfig{})
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				device := fmt.Sprint(i % 3)
				ctx, cancel := context.WithCancel(t.Context())
				var heard tape
				over := make(chan struct{})
				go func() { s.hub.Stream(ctx, news, "", SSE, &heard); close(over) }()
				time.Sleep(time.Duration(1+i) * time.Millisecond)
				conn := members[hello](heard.first()).Conn
				s.say(fmt.Sprint(i))
				for _, o := range []Order{bound(device, &yes), ack(fmt.Sprint(i)), {Visible: &no}, bound("another", nil)} {
					if err := s.hub.Obey(conn, o); err != nil {
						t.Error(err)
					}
					s.hub.Reached(device, fmt.Sprint(i))
				}
				if !s.hub.Reached(device, fmt.Sprint(i)).Spared {
					t.Errorf("%d is not spared", i)
				}
				cancel()
				<-over
			})
		}
		all.Wait()
		if p := &s.hub.presence; len(p.pages) != 0 || p.acked != 20 || p.known.Load() != 20 {
			t.Errorf("%d devices, %d acknowledged, %d known", len(p.pages), p.acked, p.known.Load())
		}
	})
}
