package live

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belfry-push/belfry"
)

// within is a limit against hanging, far from what anything takes.
const within = 60 * time.Second

// A station is a hub on a log, with a listener that hands it connections as web does.
type station struct {
	*house
	hub *Hub
	l   net.Listener
	cfg HubConfig
}

func newStation(t testing.TB, cfg HubConfig) *station {
	t.Helper()
	s := &station{house: newHouse(t, LogConfig{}), cfg: cfg}
	s.start()
	t.Cleanup(s.end)
	return s
}

func (s *station) start() {
	s.t.Helper()
	s.hub = must(NewHub(s.Log, s.cfg))
}

func (s *station) end() {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	s.hub.Close(ctx)
	if s.l != nil {
		s.l.Close()
	}
}

// restart is what a rolling restart is to a page.
func (s *station) restart() {
	s.t.Helper()
	s.end()
	s.house.reopen()
	s.start()
	s.l = nil
}

// A page reads a stream over a real connection.
type page struct {
	net.Conn
	t  testing.TB
	in *bufio.Reader
}

// tune opens a page on a kept connection.
func (s *station) tune(l Listener, cursor string) *page {
	s.t.Helper()
	if s.l == nil {
		s.l = must(net.Listen("tcp", "127.0.0.1:0"))
	}
	client := must(net.Dial("tcp", s.l.Addr().String()))
	s.t.Cleanup(func() { client.Close() })
	server := must(s.l.Accept())
	kept := make(chan error, 1)
	go func() { kept <- s.hub.Keep(l, cursor, SSE, server, []byte("HTTP/1.1 200 OK\r\n\r\n")) }()
	p := &page{client, s.t, bufio.NewReader(client)}
	client.SetReadDeadline(time.Now().Add(within))
	for line := "…"; line != "\r\n"; {
		var err error
		if line, err = p.in.ReadString('\n'); err != nil {
			s.t.Fatal(err, <-kept)
		}
	}
	return p
}

// next is the next event, or an error at the end.
func (p *page) next() (Frame, error) {
	p.SetReadDeadline(time.Now().Add(within))
	var text strings.Builder
	for {
		line, err := p.in.ReadString('\n')
		if err != nil {
			return Frame{}, err
		}
		text.WriteString(line)
		if line == "\n" {
			if frames := parsed(text.String()); len(frames) > 0 {
				return frames[0], nil
			}
			text.Reset()
		}
	}
}

// expect is the next event with a name, the pings before it passed over.
func (p *page) expect(name string) Frame {
	p.t.Helper()
	for {
		f, err := p.next()
		if err != nil {
			p.t.Fatalf("%v, waiting for %q", err, name)
		}
		if f.Event == name {
			return f
		}
		if f.Event != "ping" {
			p.t.Fatalf("%+v, waiting for %q", f, name)
		}
	}
}

// id is the message of the next event.
func (p *page) id() string {
	p.t.Helper()
	var e struct{ ID, Cursor string }
	f := p.expect("")
	if err := json.Unmarshal([]byte(f.Data), &e); err != nil || e.Cursor != f.ID {
		p.t.Fatalf("%+v, %v", f, err)
	}
	return e.ID
}

func members[T any](f Frame) (v T) {
	if err := json.Unmarshal([]byte(f.Data), &v); err != nil {
		panic(err)
	}
	return v
}

var news = Listener{Channels: []string{"news"}}

// eventually waits for what happens in other goroutines, by wide limits.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(within); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", within, what)
		}
	}
}

// A page first hears who it is and where the log is, then what is published to
// its channels and to everybody, in the order of the log.
func TestStream(t *testing.T) {
	t.Parallel()
	s := newStation(t, HubConfig{})
	s.append(to("old", channels("news")))
	p := s.tune(news, "")
	f := p.expect("hello")
	h := members[hello](f)
	if h.Cursor != f.ID || h.Recovered || h.Ping != 25 || len(h.Conn) != 32 || h.Cursor != s.cursor(1) || h.Earliest != s.cursor(0) {
		t.Errorf("%+v", f)
	}
	for _, e := range []belfry.Event{to("1", channels("news")), to("2", channels("sport")), to("3", belfry.Audience{All: true}), to("4", channels("sport", "news"))} {
		s.append(e)
	}
	for _, want := range []string{"1", "3", "4"} {
		if got := p.id(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	again := s.tune(Listener{Channels: []string{"news", "sport"}}, h.Cursor)
	if h := members[hello](again.expect("hello")); !h.Recovered || h.Cursor != s.cursor(1) {
		t.Errorf("%+v", h)
	}
	for _, want := range []string{"1", "2", "3", "4"} {
		if got := again.id(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func (s *station) cursor(seq uint64) string { return cursorAt(s.epoch, seq) }

// A page that comes with a cursor that leads nowhere is told so, and why, and
// then gets what there is.
func TestReset(t *testing.T) {
	t.Parallel()
	s := newStation(t, HubConfig{})
	s.Count = 5
	for i := range 200 {
		s.append(to(fmt.Sprint(i), channels("news")))
	}
	floor := must(s.bounds()).floor
	for cursor, want := range map[string]Gap{s.cursor(1): Lost, "other.1": Renewed, s.cursor(999): Unknown, "<script>\r\n": Unknown} {
		p := s.tune(news, cursor)
		if h := members[hello](p.expect("hello")); h.Recovered {
			t.Errorf("%q: recovered", cursor)
		}
		f := p.expect("reset")
		r := members[reset](f)
		if r.Reason != want || r.Earliest != s.cursor(floor) || r.Latest != s.cursor(200) {
			t.Errorf("%q: %+v", cursor, r)
		}
		if want == Lost {
			if first := p.id(); first != fmt.Sprint(floor) || f.ID != s.cursor(floor) || r.Requested != cursor {
				t.Errorf("goes on with %s from %s; asked for %q", first, f.ID, r.Requested)
			}
		} else if f.ID != s.cursor(200) {
			t.Errorf("%q: goes on from %s", cursor, f.ID)
		}
	}
}

// Pages that come and go while others publish, over restarts of the server, get
// every event once and in order: nothing is lost between replay and live.
func TestNoGapNoTwice(t *testing.T) {
	t.Parallel()
	s := newStation(t, HubConfig{})
	const rounds, perRound = 6, 60
	type reader struct {
		cursor string
		got    []string
	}
	readers := make([]*reader, 6)
	for i := range readers {
		readers[i] = &reader{cursor: s.cursor(0)}
	}
	for round := range rounds {
		var all sync.WaitGroup
		for _, r := range readers {
			p := s.tune(news, r.cursor)
			stopAfter := rand.IntN(perRound)
			all.Go(func() {
				for n := 0; n < stopAfter; {
					f, err := p.next()
					if err != nil {
						return
					}
					switch f.Event {
					case "reset":
						t.Errorf("%+v", f)
					case "":
						r.got, n = append(r.got, members[struct{ ID string }](f).ID), n+1
						fallthrough
					default:
						r.cursor = f.ID
					}
					if f.Event == "bye" {
						return
					}
				}
				p.Close()
			})
		}
		for i := range perRound {
			s.append(to(fmt.Sprintf("%03d-%04d", round, i), channels("news")))
		}
		if round%3 == 2 {
			s.restart()
		}
		all.Wait()
	}
	for i, r := range readers {
		p := s.tune(news, r.cursor)
		p.expect("hello")
		for len(r.got) < rounds*perRound {
			r.got = append(r.got, p.id())
		}
		for n, id := range r.got {
			if want := fmt.Sprintf("%03d-%04d", n/perRound, n%perRound); id != want {
				t.Fatalf("page %d: event %d is %s, want %s", i, n, id, want)
			}
		}
	}
}

// A page that does not read is sent away without the others noticing, what it
// costs is bounded, and with its cursor it gets all it missed (REL-12).
func TestSlow(t *testing.T) {
	t.Parallel()
	s := newStation(t, HubConfig{})
	slow, quick := s.tune(news, ""), s.tune(news, "")
	slow.Conn.(*net.TCPConn).SetReadBuffer(4096)
	slow.expect("hello")
	quick.expect("hello")
	large := strings.Repeat("x", 8<<10)
	for i := 0; s.hub.Stats().Slow == 0; i++ {
		if i == 20_000 {
			t.Fatal("160 MB are held for a page that does not read")
		}
		e := to(fmt.Sprint(i), channels("news"))
		e.Message.Body = large
		s.append(e)
		if got := quick.id(); got != e.ID {
			t.Fatalf("%s, want %s", got, e.ID)
		}
	}
	want, cursor := 0, ""
	for {
		f, err := slow.next()
		if err != nil {
			break
		}
		if f.Event == "" {
			if got := members[struct{ ID string }](f).ID; got != fmt.Sprint(want) {
				t.Fatalf("%s, want %d", got, want)
			}
			want, cursor = want+1, f.ID
		}
	}
	eventually(t, "it is gone", func() bool { return s.hub.Stats().Connections == 1 })
	s.append(to("last", channels("news")))
	back := s.tune(news, cursor)
	if h := members[hello](back.expect("hello")); !h.Recovered {
		t.Errorf("%+v", h)
	}
	for id := back.id(); id != "last"; id = back.id() {
		if id != fmt.Sprint(want) {
			t.Fatalf("%s, want %d", id, want)
		}
		want++
	}
}

// A page that goes is noticed though nobody reads its connection, and leaves
// nothing behind: no place, no goroutine, no descriptor.
func TestHangUp(t *testing.T) {
	s := newStation(t, HubConfig{})
	s.tune(news, "").Close()
	eventually(t, "the first one is gone", func() bool { s.hub.pingAll(); return s.hub.Stats().Connections == 0 })
	goroutines, files := runtime.NumGoroutine(), openFiles()
	var pages []*page
	for range 100 {
		pages = append(pages, s.tune(news, ""))
	}
	eventually(t, "no page has a goroutine", func() bool { return runtime.NumGoroutine() <= goroutines+2 })
	for i, p := range pages {
		if i%2 == 0 {
			p.Close()
		} else {
			p.Conn.(*net.TCPConn).SetLinger(0) // goes as a process that is killed
			p.Close()
		}
	}
	eventually(t, "all are gone", func() bool {
		if runtime.GOOS != "linux" {
			s.hub.pingAll()
		}
		return s.hub.Stats().Connections == 0
	})
	eventually(t, "nothing is left", func() bool { return runtime.NumGoroutine() <= goroutines && openFiles() <= files })
	for _, shard := range s.hub.shards {
		if len(shard.conns)+len(shard.groups) > 0 {
			t.Errorf("%d connections, %d groups are left", len(shard.conns), len(shard.groups))
		}
	}
}

// A server that stops leaves nothing behind, whatever its pages were at: listening,
// not reading, polling, or still being told what they missed (REL-10).
func TestDrainLeavesNothing(t *testing.T) {
	s := newStation(t, HubConfig{})
	s.tune(news, "").Close() // what is made once is there
	eventually(t, "the first one is gone", func() bool { s.hub.pingAll(); return s.hub.Stats().Connections == 0 })
	goroutines, files := runtime.NumGoroutine(), openFiles()
	var pages []*page
	for i := range 60 {
		cursor := ""
		if i%3 == 0 {
			cursor = s.cursor(0)
		}
		p := s.tune(news, cursor)
		if i%10 == 0 { // it reads no more
			p.Conn.(*net.TCPConn).SetReadBuffer(4096)
		}
		pages = append(pages, p)
	}
	polled := make(chan error, 10)
	for range cap(polled) {
		go func() {
			_, err := s.hub.Poll(context.Background(), news, "")
			polled <- err
		}()
	}
	eventually(t, "all listen", func() bool { return s.hub.Stats().Connections == len(pages)+cap(polled) })
	e := to("large", channels("news"))
	e.Message.Body = strings.Repeat("x", 24<<10)
	s.append(e)
	s.end()
	for range cap(polled) {
		if err := <-polled; err != nil {
			t.Error(err)
		}
	}
	for i, p := range pages {
		last := Frame{}
		f, err := p.next()
		for ; err == nil; f, err = p.next() {
			last = f
		}
		if err != io.EOF || last.Event != "bye" || members[bye](last).Reason != Drain {
			t.Fatalf("page %d is told %+v at last, %v", i, last, err)
		}
		p.Close()
	}
	s.l.Close()
	// The hub's own goroutines are gone, too: of the shards, the ushers, what clears up
	// behind crowds and, on Linux, the two that notice who hangs up.
	own := shards + runtime.GOMAXPROCS(0) + 1
	if runtime.GOOS == "linux" {
		own += 2
	}
	eventually(t, "nothing is left", func() bool { return runtime.NumGoroutine() <= goroutines-own && openFiles() <= files })
}

// pingAll writes to everybody now, as the clock would.
func (h *Hub) pingAll() {
	for _, s := range h.shards {
		s.mu.Lock()
		for _, c := range s.conns {
			c.ping = 0
		}
		s.mu.Unlock()
		s.tick()
	}
}

// openFiles is how many descriptors are open, where the system says so.
func openFiles() int {
	entries, _ := os.ReadDir("/proc/self/fd")
	return len(entries)
}

// A tape is a carrier that keeps what it is given.
type tape struct {
	mu     sync.Mutex // guards frames
	frames []Frame
	at     []time.Time
}

func (t *tape) Write(frames ...[]byte) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, b := range frames {
		for _, f := range parsed(string(b)) {
			t.frames, t.at = append(t.frames, f), append(t.at, time.Now())
		}
	}
	return nil
}

// named is when events with a name came.
func (t *tape) named(name string) (at []time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, f := range t.frames {
		if f.Event == name {
			at = append(at, t.at[i])
		}
	}
	return at
}

func (t *tape) first() Frame {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.frames[0]
}

func (t *tape) last() Frame {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.frames[len(t.frames)-1]
}

// An idle stream is seen to live every 20 to 30 s, always says how far the log
// is, and ends after 480 to 600 s with a word on when to come back.
func TestPingAndAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t, HubConfig{})
		var tapes [20]tape
		began := time.Now()
		var all sync.WaitGroup
		for i := range tapes {
			all.Go(func() {
				if reason, err := s.hub.Stream(t.Context(), news, "", SSE, &tapes[i]); reason != MaxAge || err != nil {
					t.Errorf("%q, %v", reason, err)
				}
			})
		}
		time.Sleep(time.Second)
		s.append(to("1", channels("sport"))) // for others
		all.Wait()
		ends := map[time.Duration]bool{}
		for i := range tapes {
			last := began
			for _, at := range tapes[i].named("ping") {
				if gap := at.Sub(last); gap < 20*time.Second || gap > 31*time.Second {
					t.Errorf("a ping after %v", gap)
				}
				last = at
			}
			end := tapes[i].named("bye")
			if len(end) != 1 || end[0].Sub(began) < 480*time.Second || end[0].Sub(began) > 601*time.Second {
				t.Fatalf("ends at %v", end)
			}
			ends[end[0].Sub(began)] = true
			if f := tapes[i].frames[len(tapes[i].frames)-2]; f.Event != "ping" || f.ID != s.cursor(1) {
				t.Errorf("%+v", f)
			}
			if b := members[bye](tapes[i].last()); b.Retry < 1000 || b.Retry > 12_000 {
				t.Errorf("%+v", b)
			}
		}
		if len(ends) < 5 {
			t.Errorf("20 streams end at %d moments", len(ends))
		}
	})
}

// A server that stops sends its pages away over a while, lets nobody in
// meanwhile, and is done in a few seconds (REL-10).
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t, HubConfig{PerAddress: -1})
		const n = 1000 // half a second's worth
		tapes := make([]tape, n)
		var all sync.WaitGroup
		for i := range tapes {
			all.Go(func() {
				if reason, err := s.hub.Stream(t.Context(), news, "", SSE, &tapes[i]); reason != Drain || err != nil {
					t.Errorf("%q, %v", reason, err)
				}
			})
		}
		synctest.Wait()
		var polled Answer
		all.Go(func() { polled, _ = s.hub.Poll(t.Context(), news, "") })
		synctest.Wait()
		began := time.Now()
		s.end()
		all.Wait()
		if took := time.Since(began); took < 400*time.Millisecond || took > 10*time.Second {
			t.Errorf("took %v", took)
		}
		late, retries := 0, map[int]bool{}
		for i := range tapes {
			at := tapes[i].named("bye")
			if len(at) != 1 {
				t.Fatalf("%d goodbyes", len(at))
			}
			if at[0].Sub(began) > time.Second/4 {
				late++
			}
			retries[members[bye](tapes[i].last()).Retry/1000] = true
		}
		if late < n/4 || late > n*3/4 || len(retries) != 11 {
			t.Errorf("%d of %d leave in the second half; they come back in %d different seconds", late, n, len(retries))
		}
		if polled.Cursor != s.cursor(0) {
			t.Errorf("a poll is answered %+v", polled)
		}
		if _, err := s.hub.Stream(t.Context(), news, "", SSE, &tape{}); !errors.Is(err, ErrDraining) {
			t.Errorf("%v", err)
		}
		if got := string(Refused(SSE, ErrDraining)); !strings.HasPrefix(got, "event: bye\nretry: ") || !strings.Contains(got, `"reason":"drain"`) {
			t.Errorf("%q", got)
		}
	})
}

// One address, one user and all together have their share of connections, and
// get it back (SEC-46).
func TestQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t, HubConfig{Total: 7, PerAddress: 3, PerUser: 2})
		from := func(address, user string) Listener {
			return Listener{User: user, From: netip.MustParsePrefix(address)}
		}
		ctx, leave := context.WithCancel(t.Context())
		var open sync.WaitGroup
		for _, step := range []struct {
			l    Listener
			want error
		}{
			{from("192.0.2.1/32", ""), nil}, {from("192.0.2.1/32", "ann"), nil}, {from("192.0.2.2/32", "ann"), nil},
			{from("192.0.2.3/32", "ann"), ErrTooMany}, {from("192.0.2.1/32", ""), nil}, {from("192.0.2.1/32", ""), ErrTooMany},
			{from("2001:db8::/64", ""), nil}, {from("2001:db8::/64", ""), nil}, {from("2001:db8::/64", ""), nil}, {from("192.0.2.9/32", ""), ErrCrowded},
		} {
			if got := s.hub.Room(step.l); got != step.want {
				t.Errorf("%v: %v, want %v", step.l, got, step.want)
			}
			if step.want == nil {
				open.Go(func() { s.hub.Stream(ctx, step.l, "", SSE, &tape{}) })
				synctest.Wait()
			} else if _, err := s.hub.Stream(ctx, step.l, "", SSE, &tape{}); err != step.want {
				t.Errorf("%v: %v, want %v", step.l, err, step.want)
			}
		}
		leave()
		open.Wait()
		if s.hub.Stats().Connections != 0 || len(s.hub.quota.from)+len(s.hub.quota.users) != 0 {
			t.Errorf("%+v", s.hub.quota.from)
		}
	})
}

// Whoever holds a connection can listen to other channels on it, and say who it is.
func TestObey(t *testing.T) {
	t.Parallel()
	s := newStation(t, HubConfig{})
	p := s.tune(news, "")
	conn := members[hello](p.expect("hello")).Conn
	yes := true
	if err := s.hub.Obey(conn, Order{Visible: &yes}); err != nil { // at once
		t.Fatal(err)
	}
	if err := s.hub.Obey(conn, Order{Subscribe: []string{"sport", "news"}, Unsubscribe: []string{"news", "never"}, Device: "d"}); err != nil {
		t.Fatal(err)
	}
	s.append(to("1", channels("news")))
	s.append(to("2", channels("sport")))
	if got := p.id(); got != "2" {
		t.Errorf("%s", got)
	}
	if err := s.hub.Obey(conn, Order{Ack: []string{"1", "2", "2", "never published"}}); err != nil {
		t.Fatal(err)
	}
	if st := s.hub.Stats(); st.Visible != 1 || st.Acknowledged != 2 || st.Events != 2 {
		t.Errorf("%+v", st)
	}
	many := make([]string, belfry.MaxChannels)
	for i := range many {
		many[i] = fmt.Sprint("c", i)
	}
	if err := s.hub.Obey(conn, Order{Subscribe: many}); !errors.Is(err, belfry.ErrInvalid) {
		t.Errorf("%v", err)
	}
	for _, other := range []string{"", "x", strings.Repeat("0", 32), conn + "0"} {
		if err := s.hub.Obey(other, Order{}); !errors.Is(err, belfry.ErrNotFound) {
			t.Errorf("%q: %v", other, err)
		}
	}
	p.Close()
	eventually(t, "it is gone", func() bool { s.hub.pingAll(); return s.hub.Stats().Visible == 0 })
}

// An eager page gives an order as soon as it is told how, while what it missed
// is still being read.
type eager struct {
	tape
	hub   *Hub
	order Order
	once  sync.Once
	err   error
}

func (e *eager) Write(frames ...[]byte) error {
	e.tape.Write(frames...)
	e.once.Do(func() {
		e.err = e.hub.Obey(members[hello](e.last()).Conn, e.order)
	})
	return nil
}

func TestObeyAtHello(t *testing.T) {
	t.Parallel()
	s := newStation(t, HubConfig{})
	ctx, cancel := context.WithCancel(t.Context())
	e := &eager{hub: s.hub, order: Order{Subscribe: []string{"sport"}, Unsubscribe: []string{"news"}}}
	over := make(chan error)
	go func() {
		_, err := s.hub.Stream(ctx, news, "", SSE, e)
		over <- err
	}()
	eventually(t, "it hears", func() bool {
		s.append(to(fmt.Sprintf("n%d", time.Now().UnixNano()), channels("news")))
		s.append(to(fmt.Sprintf("s%d", time.Now().UnixNano()), channels("sport")))
		e.mu.Lock()
		defer e.mu.Unlock()
		return slices.ContainsFunc(e.frames, func(f Frame) bool { return strings.Contains(f.Data, `"id":"s`) })
	})
	cancel()
	if err := <-over; err != nil || e.err != nil {
		t.Errorf("%v, %v", err, e.err)
	}
	for _, f := range e.frames {
		if strings.Contains(f.Data, `"id":"n`) {
			t.Errorf("it heard %s", f.Data)
		}
	}
}

// A channel that a page wants while the log is read for it is heard from then on:
// what is published to it after the answer comes.
func TestObeyWhileCatchingUp(t *testing.T) {
	t.Parallel()
	s := newStation(t, HubConfig{})
	s.append(to("old", channels("news")))
	c := must(s.hub.admit(news, SSE))
	defer c.shard.drop(c)
	c.shard.introduce(c)
	groups, _ := c.shard.heard(c)
	if err := s.hub.Obey(c.id.String(), Order{Subscribe: []string{"sport"}}); err != nil {
		t.Fatal(err)
	}
	s.append(to("new", channels("sport")))
	read := must(s.hub.log.read(0, groups, perPage))
	var heard tape
	if err := c.replay(&heard, read, groups); err != nil {
		t.Fatal(err)
	}
	if err := c.catchUp(&heard); err != nil {
		t.Fatal(err)
	}
	if got := len(heard.named("")); got != 2 {
		t.Errorf("%d events of 2 are heard", got)
	}
}

// A poll gets what is there at once, else what comes, page by page.
func TestPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t, HubConfig{})
		poll := func(cursor string, wait time.Duration) Answer {
			ctx, cancel := context.WithTimeout(t.Context(), wait)
			defer cancel()
			return must(s.hub.Poll(ctx, news, cursor))
		}
		if a := poll("", 0); a.Cursor != s.cursor(0) || len(a.Messages) != 0 || a.Reset != nil || a.More {
			t.Errorf("%+v", a)
		}
		began := time.Now()
		if a := poll(s.cursor(0), time.Minute); a.Cursor != s.cursor(0) || time.Since(began) != time.Minute {
			t.Errorf("%+v after %v", a, time.Since(began))
		}
		go func() {
			time.Sleep(10 * time.Second)
			s.append(to("1", channels("sport")))
			time.Sleep(10 * time.Second)
			s.append(to("2", channels("news")))
		}()
		began = time.Now()
		if a := poll(s.cursor(0), time.Minute); a.Cursor != s.cursor(2) || len(a.Messages) != 1 || time.Since(began) > 30*time.Second {
			t.Errorf("%+v after %v", a, time.Since(began))
		}
		var all sync.WaitGroup
		for i := range perPage + 10 {
			all.Go(func() { s.append(to(fmt.Sprint("x", i), channels("news"))) })
		}
		all.Wait()
		a := poll(s.cursor(2), 0)
		if b := poll(a.Cursor, 0); len(a.Messages) != perPage || !a.More || len(b.Messages) != 10 || b.More {
			t.Errorf("%d, %v, then %d, %v", len(a.Messages), a.More, len(b.Messages), b.More)
		}
		if a := poll("other.1", time.Minute); a.Reset == nil || a.Reset.Reason != Renewed || a.Reset.Requested != "other.1" {
			t.Errorf("%+v", a)
		}
		if n := s.hub.Stats().Connections; n != 0 {
			t.Errorf("%d connections are left", n)
		}
	})
}

// Who comes late sees what was said last, on their channels and no others, in order
// and each once, and goes on from there without a gap.
func TestLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t, HubConfig{})
		both := Listener{Channels: []string{"news", "sport"}}
		for _, e := range []belfry.Event{
			to("1", channels("news")), to("2", channels("weather")), to("3", channels("news", "sport")),
			to("4", channels("newsroom")), to("5", channels("sport")), to("6", belfry.Audience{All: true}), to("7", channels("weather")),
		} {
			s.append(e)
		}
		for _, tt := range []struct {
			l    Listener
			n    int
			want []string
		}{
			{both, 50, []string{"1", "3", "5", "6"}},
			{both, 2, []string{"5", "6"}},
			{news, 2, []string{"3", "6"}},
			{Listener{Channels: []string{"zzz"}}, 5, []string{"6"}},
			{Listener{Channels: []string{"a"}}, 1, []string{"6"}},
		} {
			a := must(s.hub.Last(tt.l, tt.n))
			var got []string
			for _, m := range a.Messages {
				var e struct{ ID string }
				if err := json.Unmarshal(m, &e); err != nil {
					t.Fatal(err)
				}
				got = append(got, e.ID)
			}
			if !slices.Equal(got, tt.want) || a.Cursor != s.cursor(7) || a.More || a.Reset != nil {
				t.Errorf("%v, last %d: %v at %s, want %v", tt.l.Channels, tt.n, got, a.Cursor, tt.want)
			}
		}
		if n := s.hub.Stats().Connections; n != 0 {
			t.Errorf("%d connections are left", n)
		}
	})
}

// Where the system cannot write without waiting, a connection that was taken over
// has a goroutine, and the same stream.
func TestKeptByGoroutine(t *testing.T) {
	t.Parallel()
	s := newStation(t, HubConfig{})
	client, server := net.Pipe() // no TCP
	done := make(chan error, 1)
	go func() { done <- s.hub.Keep(news, "", SSE, server, []byte("head\r\n\r\n")) }()
	p := &page{client, t, bufio.NewReader(client)}
	io.ReadFull(p.in, make([]byte, len("head\r\n\r\n")))
	p.expect("hello")
	go s.append(to("1", channels("news")))
	if got := p.id(); got != "1" {
		t.Errorf("%s", got)
	}
	client.Close()
	s.append(to("2", channels("news")))
	if err := <-done; err == nil || s.hub.Stats().Connections != 0 {
		t.Errorf("%v, %+v", err, s.hub.Stats())
	}
}

// A page that asks for much, reads nothing of it and then wants to listen costs
// nobody else the time that it is waited for.
func TestStuffedPages(t *testing.T) {
	t.Parallel()
	s := newStation(t, HubConfig{})
	l := must(net.Listen("tcp", "127.0.0.1:0"))
	defer l.Close()
	for range 20 * runtime.GOMAXPROCS(0) { // an usher each, and five seconds
		client := must(net.Dial("tcp", l.Addr().String()))
		defer client.Close()
		server := must(l.Accept())
		server.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
		for _, err := server.Write(make([]byte, 1<<20)); err == nil; {
			_, err = server.Write(make([]byte, 1<<20))
		}
		go s.hub.Keep(news, "", SSE, server, []byte("head\r\n\r\n"))
	}
	s.tune(news, "").expect("hello")
}

// An event that two of a page's channels hear reaches it once.
func TestOnceByTwoChannels(t *testing.T) {
	t.Parallel()
	s := newStation(t, HubConfig{})
	p := s.tune(Listener{Channels: []string{"news", "sport"}}, "")
	p.expect("hello")
	for i := range 50 {
		s.append(to(fmt.Sprint(i), channels("news", "sport")))
	}
	var got []string
	for range 50 {
		got = append(got, p.id())
	}
	if len(slices.Compact(slices.Clone(got))) != 50 {
		t.Errorf("%v", got)
	}
}
