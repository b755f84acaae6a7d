package h2

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
)

// An answer that reaches another request than its own would delete the wrong
// subscriber. Here they come in the opposite order of their requests.
func TestAnswersFindTheirRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 40
		transport := dialled(t, func(p *peer) {
			p.greet()
			var all []*got
			for g := p.next(nil); g != nil; g = p.next(nil) {
				if all = append(all, g); len(all) < n {
					continue
				}
				for i := len(all) - 1; i >= 0; i-- {
					p.head(all[i].id, false, ":status", "200")
					p.WriteData(all[i].id, true, []byte(all[i].path+all[i].body))
				}
			}
		})
		var all sync.WaitGroup
		for i := range n {
			all.Go(func() {
				path := fmt.Sprintf("/%d", i)
				if status, text, err := post(t.Context(), transport, path, "body"+path); status != 200 || text != path+"body"+path || err != nil {
					t.Errorf("%s: %d %q %v", path, status, text, err)
				}
			})
		}
		all.Wait()
	})
}

// A server says how many requests it takes at a time. More would be refused, and
// a server may end a connection over that.
func TestPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex // guards what follows, and writing
		connections, most := 0, 0
		transport := dialled(t, func(p *peer) {
			mu.Lock()
			connections++
			mu.Unlock()
			p.greet(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 7})
			open := 0
			for g := p.next(nil); g != nil; g = p.next(nil) {
				mu.Lock()
				open++
				most = max(most, open)
				mu.Unlock()
				time.AfterFunc(time.Second, func() {
					mu.Lock()
					defer mu.Unlock()
					open--
					p.apart().answer(g, 201)
				})
			}
		})
		var all sync.WaitGroup
		for range 7 * 20 {
			all.Go(func() {
				if status, _, err := post(t.Context(), transport, "/", "x"); status != 201 {
					t.Error(status, err)
				}
			})
		}
		all.Wait()
		if most != 7 || connections != 3 {
			t.Errorf("%d at a time on %d connections, want 7 on 3", most, connections)
		}
	})
}

// A server that takes nothing for now is waited for, and who stops waiting
// leaves no trace.
func TestNoPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		more := make(chan struct{})
		transport := dialled(t, func(p *peer) {
			p.greet(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 0})
			go func() {
				<-more
				p.apart().WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1})
			}()
			for g := p.next(nil); g != nil; g = p.next(nil) {
				p.answer(g, 201)
			}
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, _, err := post(ctx, transport, "/given-up", ""); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, want that time ran out", err)
		}
		time.AfterFunc(time.Second, func() { close(more) })
		for range 3 {
			if status, _, err := post(t.Context(), transport, "/", ""); status != 201 {
				t.Error(status, err)
			}
		}
	})
}

// What the windows do not let pass waits, in pieces if need be, and arrives whole
// (RFC 9113 §6.9).
func TestWindows(t *testing.T) {
	body := strings.Repeat("0123456789", 400)
	tests := []struct {
		name    string
		initial uint32
		open    func(p *peer, f http2.Frame)
	}{
		{"a stream's window of ten octets", 10, func(p *peer, f http2.Frame) {
			if d, ok := f.(*http2.DataFrame); ok && !d.StreamEnded() {
				if d.Length > 10 {
					p.t.Errorf("%d octets into a window of 10", d.Length)
				}
				p.conn.SetReadDeadline(time.Now().Add(time.Second))
				if n, err := p.conn.Read(make([]byte, 1)); n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
					p.t.Errorf("more comes although the window is full (%v)", err)
				}
				p.conn.SetReadDeadline(time.Time{})
				p.WriteWindowUpdate(d.StreamID, 10)
			}
		}},
		{"none until the settings change", 0, func(p *peer, f http2.Frame) {
			if _, ok := f.(*http2.MetaHeadersFrame); ok {
				p.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 5000})
			}
		}},
		{"less than none", 100, func(p *peer, f http2.Frame) {
			if d, ok := f.(*http2.DataFrame); ok && !d.StreamEnded() {
				p.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
				p.WriteWindowUpdate(d.StreamID, d.Length+1)
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				transport := dialled(t, func(p *peer) {
					p.greet(http2.Setting{ID: http2.SettingInitialWindowSize, Val: tt.initial})
					for g := p.next(func(f http2.Frame) { tt.open(p, f) }); g != nil; g = p.next(nil) {
						if g.body != body {
							p.t.Errorf("%d octets arrive", len(g.body))
						}
						p.answer(g, 201)
					}
				})
				if status, _, err := post(t.Context(), transport, "/", body); status != 201 {
					t.Error(status, err)
				}
			})
		})
	}
}

// A window that settings change is that of later streams, too.
func TestLaterWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var pieces []uint32
		transport := dialled(t, func(p *peer) {
			p.greet()
			note := func(f http2.Frame) {
				if d, ok := f.(*http2.DataFrame); ok {
					pieces = append(pieces, d.Length)
					if d.Length > 0 && !d.StreamEnded() {
						p.WriteWindowUpdate(d.StreamID, 100)
					}
				}
			}
			for g := p.next(note); g != nil; g = p.next(note) {
				p.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 3})
				p.answer(g, 201)
			}
		})
		for range 2 {
			if status, _, err := post(t.Context(), transport, "/", "0123456789"); status != 201 {
				t.Error(status, err)
			}
		}
		if want := "[10 3 7]"; fmt.Sprint(pieces) != want {
			t.Errorf("pieces of %v octets, want %s", pieces, want)
		}
	})
}

// All requests of a connection share a window, too: 20 bodies of 4,000 octets are
// more than it lets pass.
func TestConnectionWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		transport := dialled(t, func(p *peer) {
			p.greet()
			open, taken, unread := map[uint32]int{}, 0, 0
			for {
				frame, err := p.ReadFrame()
				if err != nil {
					return
				}
				switch f := frame.(type) {
				case *http2.SettingsFrame:
					if !f.IsAck() {
						p.WriteSettingsAck()
					}
				case *http2.DataFrame:
					open[f.StreamID] += int(f.Length)
					taken += int(f.Length)
					if unread += int(f.Length); unread > usualWindow {
						t.Errorf("%d octets into a window of %d", unread, usualWindow)
					}
					if unread == usualWindow {
						p.WriteWindowUpdate(0, uint32(unread))
						unread = 0
					}
					if f.StreamEnded() {
						if open[f.StreamID] != 4000 {
							t.Errorf("a body of %d octets", open[f.StreamID])
						}
						p.head(f.StreamID, true, ":status", "201")
					}
				}
			}
		})
		body := strings.Repeat("x", 4000)
		var all sync.WaitGroup
		for range 40 {
			all.Go(func() {
				if status, _, err := post(t.Context(), transport, "/", body); status != 201 {
					t.Error(status, err)
				}
			})
		}
		all.Wait()
	})
}

// A stream that was refused has not been looked at: the same request goes again,
// but not for ever.
func TestRefused(t *testing.T) {
	for _, refusals := range []int{1, replays, replays + 1} {
		synctest.Test(t, func(t *testing.T) {
			var bodies []string
			transport := dialled(t, func(p *peer) {
				p.greet()
				for g := p.next(nil); g != nil; g = p.next(nil) {
					if bodies = append(bodies, g.body); len(bodies) <= refusals {
						p.WriteRSTStream(g.id, http2.ErrCodeRefusedStream)
					} else {
						p.answer(g, 201)
					}
				}
			})
			status, _, err := post(t.Context(), transport, "/", "body")
			if (status == 201) != (refusals <= replays) || (err == nil) != (refusals <= replays) {
				t.Errorf("%d refusals: %d, %v", refusals, status, err)
			}
			for _, b := range bodies {
				if b != "body" {
					t.Errorf("%q arrives", b)
				}
			}
			if want := min(refusals, replays) + 1; len(bodies) != want {
				t.Errorf("%d refusals: sent %d times, want %d", refusals, len(bodies), want)
			}
		})
	}
}

// A server that takes its leave ends what it has begun on; what it has not goes
// to the next connection, and none is sent twice.
func TestGoAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var second []got
		transport := dialled(t, func(p *peer) {
			p.greet()
			first := p.next(nil)
			p.next(nil)
			p.WriteGoAway(1<<31-1, http2.ErrCodeNo, nil) // announces itself (RFC 9113 §6.8)
			p.WriteGoAway(first.id, http2.ErrCodeNo, nil)
			time.Sleep(time.Second)
			p.answer(first, 200)
			answered := time.Now()
			if g := p.next(nil); g != nil {
				t.Errorf("the old connection is given %s", g.path)
			}
			if open := time.Since(answered); open > time.Second {
				t.Errorf("the old connection stays open for %v", open)
			}
		}, accept(&second))
		results := map[string]int{}
		var mu sync.Mutex
		var all sync.WaitGroup
		send := func(path string) {
			all.Go(func() {
				status, _, err := post(t.Context(), transport, path, path)
				mu.Lock()
				defer mu.Unlock()
				results[path] = status
				if err != nil {
					t.Error(path, err)
				}
			})
		}
		send("/first")
		synctest.Wait()
		send("/second")
		synctest.Wait()
		send("/third")
		all.Wait()
		if results["/first"] != 200 || results["/second"] != 201 || results["/third"] != 201 || len(second) != 2 {
			t.Errorf("%v, %d on the second connection", results, len(second))
		}
	})
}

// A place whose request was given up is free again, and the server hears of it.
func TestGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cancelled := 0
		transport := dialled(t, func(p *peer) {
			p.greet(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1})
			note := func(f http2.Frame) {
				if r, ok := f.(*http2.RSTStreamFrame); ok && r.ErrCode == http2.ErrCodeCancel {
					cancelled++
				}
			}
			for g := p.next(note); g != nil; g = p.next(note) {
				if g.path != "/slow" {
					p.answer(g, 201)
				}
			}
		})
		for i := range 3 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if _, _, err := post(ctx, transport, "/slow", "x"); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%v, want that time ran out", err)
			}
			cancel()
			if status, _, err := post(t.Context(), transport, "/", "x"); status != 201 {
				t.Error(status, err)
			}
			if cancelled != i+1 {
				t.Errorf("%d cancelled", cancelled)
			}
		}
	})
}

// A server that vanished without a word is noticed (REL-07). One that is only
// quiet keeps its connection.
func TestSilence(t *testing.T) {
	for _, answers := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			transport := dialled(t, func(p *peer) {
				p.greet()
				for {
					g := p.next(func(f http2.Frame) {
						if ping, ok := f.(*http2.PingFrame); ok && answers {
							p.WritePing(true, ping.Data)
						}
					})
					if g == nil {
						return
					}
				}
			})
			ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
			defer cancel()
			began := time.Now()
			_, _, err := post(ctx, transport, "/", "x")
			took := time.Since(began)
			if answers && (took != 4*time.Minute || !errors.Is(err, context.DeadlineExceeded)) {
				t.Errorf("a quiet server: %v after %v", err, took)
			}
			if !answers && (took != 20*time.Second || !errors.Is(err, errSilent)) {
				t.Errorf("a silent server: %v after %v", err, took)
			}
		})
	}
}

// A connection that nobody uses is closed, and the next request makes a new one.
func TestIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ended atomic.Int64
		transport := dialled(t, func(p *peer) {
			accept(nil)(p)
			ended.Add(1)
		})
		for i := range 2 {
			if status, _, err := post(t.Context(), transport, "/", "x"); status != 201 {
				t.Error(status, err)
			}
			time.Sleep(89 * time.Second)
			synctest.Wait()
			if n := ended.Load(); n != int64(i) {
				t.Errorf("%d closed, want %d", n, i)
			}
			time.Sleep(20 * time.Second)
			synctest.Wait()
			if ended.Load() != int64(i+1) {
				t.Error("an idle connection stays open")
			}
		}
	})
}

// A server that reads no more is noticed by what does not leave.
func TestBlockedWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		transport := dialled(t, func(p *peer) {
			p.greet()
			time.Sleep(time.Minute)
		})
		began := time.Now()
		if _, _, err := post(t.Context(), transport, "/", "x"); err == nil || time.Since(began) > 10*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

// A request that waits for a connection learns at once that none will come.
func TestNobodyThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		transport := dialled(t, nil)
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() {
				if _, _, err := post(t.Context(), transport, "/", "x"); err == nil || err.Error() != "nobody is there" {
					t.Error(err)
				}
			})
		}
		all.Wait()
	})
}

// A server that takes one connection from us and no second one is not asked for one
// with each answer.
func TestNoSecondConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var more atomic.Int64
		transport := dialled(t, func(p *peer) {
			p.greet(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1})
			for g := p.next(nil); g != nil; g = p.next(nil) {
				time.Sleep(10 * time.Millisecond)
				p.answer(g, 201)
			}
		}, func(p *peer) { more.Add(1) })
		var all sync.WaitGroup
		for range 500 {
			all.Go(func() {
				if status, _, err := post(t.Context(), transport, "/", "x"); status != 201 {
					t.Error(status, err)
				}
			})
		}
		all.Wait() // five seconds
		if n := more.Load(); n < 2 || n > 6 {
			t.Errorf("%d connections more were tried", n)
		}
	})
}

// A connection that is being made for somebody who has gone is made no longer.
func TestDialIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		dialled := make(chan time.Duration, 1)
		transport := New(Config{Limits: Limits{Service: time.Hour, Queue: time.Hour}, Dialling: time.Minute, Connections: 1, TLS: &tls.Config{}, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			dialled <- time.Since(began)
			return nil, ctx.Err()
		}})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, _, err := post(ctx, transport, "/", "x"); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if took := <-dialled; took != time.Second {
			t.Errorf("given up after %v", took)
		}
	})
}

// A server that says nothing after the handshake takes the time for connecting, no more.
func TestNoGreeting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		transport := dialled(t, func(p *peer) {
			io.Copy(io.Discard, p.conn)
			if open := time.Since(began); open != 10*time.Second {
				t.Errorf("closed after %v", open)
			}
		})
		if _, _, err := post(t.Context(), transport, "/", "x"); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 10*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

// The first word of a server is its settings (RFC 9113 §3.4); another one is none
// of a server that speaks HTTP/2.
func TestOtherGreeting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		transport := dialled(t, func(p *peer) {
			p.WritePing(false, [8]byte{})
			accept(nil)(p)
		})
		began := time.Now()
		if status, _, err := post(t.Context(), transport, "/", "x"); err == nil || time.Since(began) != 0 {
			t.Errorf("an answer: %d, after %v", status, time.Since(began))
		}
	})
}

// A server that sends us away with its first word, or with its first request, or
// hangs up before, is not dialled again and again: its requests end at once, with
// its reason, and so do those that wait for a place.
func TestUnwelcome(t *testing.T) {
	for _, tt := range []struct {
		name   string
		script func(*peer)
		reason string
	}{
		{"at once", func(p *peer) {
			p.greet()
			p.WriteGoAway(0, http2.ErrCodeEnhanceYourCalm, nil)
			p.next(nil)
		}, "ENHANCE_YOUR_CALM"},
		{"with the first request", func(p *peer) {
			p.greet(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1})
			p.next(nil)
			p.WriteGoAway(0, http2.ErrCodeEnhanceYourCalm, nil)
			p.next(nil)
		}, "ENHANCE_YOUR_CALM"},
		{"without a word", func(p *peer) { p.conn.Close() }, "ended the connection"},
	} {
		synctest.Test(t, func(t *testing.T) {
			var made atomic.Int64
			transport := dialled(t, func(p *peer) { made.Add(1); tt.script(p) })
			began := time.Now()
			var all sync.WaitGroup
			for range 50 {
				all.Go(func() {
					if _, _, err := post(t.Context(), transport, "/", "x"); err == nil || !strings.Contains(err.Error(), tt.reason) {
						t.Errorf("%s: %v, want %s", tt.name, err, tt.reason)
					}
				})
			}
			all.Wait()
			if n := made.Load(); n > replays+1 || time.Since(began) != 0 {
				t.Errorf("%s: %d connections in %v", tt.name, n, time.Since(began))
			}
		})
	}
}

// A request that waits for a window and is given up leaves nothing behind on its
// connection.
func TestGivenUpBehindWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		transport := dialled(t, func(p *peer) {
			p.greet(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
			for g := p.next(nil); g != nil; g = p.next(nil) {
				p.answer(g, 201)
			}
		})
		for range 20 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			post(ctx, transport, "/", "x")
			cancel()
		}
		if status, _, err := post(t.Context(), transport, "/", ""); status != 201 {
			t.Error(status, err)
		}
		c := transport.servers["push.example"].conns[0]
		c.mu.Lock()
		defer c.mu.Unlock()
		if len(c.held) > 0 || len(c.streams) > 0 {
			t.Errorf("%d held, %d streams", len(c.held), len(c.streams))
		}
	})
}

// A connection on which pings are answered and nothing else is given up with the
// first request that was.
func TestOnlyPings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		transport := dialled(t, func(p *peer) {
			p.greet()
			for g := p.next(nil); g != nil; g = p.next(nil) {
			}
		}, accept(nil))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if _, _, err := post(ctx, transport, "/", "x"); err == nil {
			t.Error("an answer")
		}
		if status, _, err := post(t.Context(), transport, "/", "x"); status != 201 {
			t.Error(status, err)
		}
	})
}

// What settings allow is used once they are acknowledged (RFC 9113 §6.5.3).
func TestSettingsAreAcknowledgedFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var order []string
		transport := dialled(t, func(p *peer) {
			p.greet(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
			note := func(f http2.Frame) {
				switch f := f.(type) {
				case *http2.MetaHeadersFrame:
					p.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 100})
				case *http2.SettingsFrame:
					if f.IsAck() {
						order = append(order, "ack")
					}
				case *http2.DataFrame:
					order = append(order, "data")
				}
			}
			for g := p.next(note); g != nil; g = p.next(note) {
				p.answer(g, 201)
			}
		})
		if status, _, err := post(t.Context(), transport, "/", "x"); status != 201 {
			t.Error(status, err)
		}
		if fmt.Sprint(order) != "[ack ack data]" {
			t.Error(order)
		}
	})
}

// A server that asks for answers and reads none costs us no memory without end.
func TestPingFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		transport := dialled(t, func(p *peer) {
			p.greet()
			p.next(nil)
			pings := http2.NewFramer(bufio.NewWriterSize(p.conn, 16<<10), nil)
			for range mostWaiting / 17 * 2 {
				if pings.WritePing(false, [8]byte{}) != nil {
					return
				}
			}
			t.Error("all pings were taken")
		})
		if _, _, err := post(t.Context(), transport, "/", "x"); err == nil {
			t.Error("an answer")
		}
	})
}

// What a server must not do ends its stream or its connection; a request gets an
// error and never a wrong answer. The connection, where it lives on, still works.
func TestBadServers(t *testing.T) {
	tests := []struct {
		name string
		do   func(p *peer, g *got)
		ends bool // the connection
	}{
		{"a body without a head", func(p *peer, g *got) { p.WriteData(g.id, true, []byte("x")) }, false},
		{"no status", func(p *peer, g *got) { p.head(g.id, true, "ttl", "60") }, false},
		{"a status that is no number", func(p *peer, g *got) { p.head(g.id, true, ":status", "2x1") }, false},
		{"switching protocols", func(p *peer, g *got) { p.head(g.id, false, ":status", "101") }, false},
		{"an interim answer that is the last", func(p *peer, g *got) { p.head(g.id, true, ":status", "103") }, false},
		{"interim answers without end", func(p *peer, g *got) {
			for range 2 * mostInterim {
				p.head(g.id, false, ":status", "103")
			}
		}, false},
		{"a field in capitals", func(p *peer, g *got) { p.head(g.id, true, ":status", "201", "TTL", "60") }, false},
		{"a reset", func(p *peer, g *got) { p.WriteRSTStream(g.id, http2.ErrCodeInternal) }, false},
		{"a stream's window over the limit", func(p *peer, g *got) { p.WriteWindowUpdate(g.id, 1<<31-1) }, false},
		{"the connection's window over the limit", func(p *peer, g *got) { p.WriteWindowUpdate(0, 1<<31-1) }, true},
		{"a broken frame for nobody", func(p *peer, g *got) { p.WriteRawFrame(http2.FrameWindowUpdate, 0, g.id+2, make([]byte, 4)) }, true},
		{"an answer to nobody", func(p *peer, g *got) { p.head(g.id+2, true, ":status", "201") }, true},
		{"a pushed stream", func(p *peer, g *got) {
			p.WritePushPromise(http2.PushPromiseParam{StreamID: g.id, PromiseID: 2, EndHeaders: true})
		}, true},
		{"a frame that is too large", func(p *peer, g *got) { p.WriteRawFrame(http2.FrameData, 0, g.id, make([]byte, usualFrame+1)) }, true},
		{"settings out of range", func(p *peer, g *got) {
			p.WriteRawFrame(http2.FrameSettings, 0, 0, []byte{0, 5, 0, 0, 0, 1}) // MAX_FRAME_SIZE 1
		}, true},
		{"it hangs up", func(p *peer, g *got) { p.conn.Close() }, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				first := true
				connections := 0
				transport := dialled(t, func(p *peer) {
					connections++
					p.greet()
					for g := p.next(nil); g != nil; g = p.next(nil) {
						if first {
							first = false
							tt.do(p, g)
						} else {
							p.answer(g, 201)
						}
					}
				})
				if status, _, err := post(t.Context(), transport, "/", "x"); err == nil {
					t.Errorf("an answer: %d", status)
				}
				if status, _, err := post(t.Context(), transport, "/", "x"); status != 201 {
					t.Errorf("then %d, %v", status, err)
				}
				if (connections == 2) != tt.ends {
					t.Errorf("%d connections", connections)
				}
			})
		})
	}
}

// An answer says what it says although something else goes wrong.
func TestAnswers(t *testing.T) {
	tests := []struct {
		name string
		do   func(p *peer, g *got)
		text string
	}{
		{"interim answers before it", func(p *peer, g *got) {
			p.head(g.id, false, ":status", "103")
			p.head(g.id, true, ":status", "410")
		}, ""},
		{"trailers", func(p *peer, g *got) {
			p.head(g.id, false, ":status", "410")
			p.WriteData(g.id, false, []byte("gone"))
			p.head(g.id, true, "x-more", "1")
		}, "gone"},
		{"padding", func(p *peer, g *got) {
			p.head(g.id, false, ":status", "410")
			p.WriteDataPadded(g.id, true, []byte("gone"), make([]byte, 200))
		}, "gone"},
		{"a body that breaks off", func(p *peer, g *got) {
			p.head(g.id, false, ":status", "410")
			p.WriteData(g.id, false, []byte("go"))
			p.conn.Close()
		}, "go"},
		{"a reset behind it", func(p *peer, g *got) {
			p.head(g.id, false, ":status", "410")
			p.WriteRSTStream(g.id, http2.ErrCodeNo)
		}, ""},
		{"a body that is too long", func(p *peer, g *got) {
			p.head(g.id, false, ":status", "410")
			p.WriteData(g.id, false, make([]byte, 4096)) // its window
		}, strings.Repeat("\x00", 4096)},
		{"a body over its window", func(p *peer, g *got) {
			p.head(g.id, false, ":status", "410")
			p.WriteData(g.id, true, make([]byte, 9000))
		}, strings.Repeat("\x00", 4096)},
		{"padding that fills the window", func(p *peer, g *got) {
			p.head(g.id, false, ":status", "410")
			for range 16 {
				p.WriteDataPadded(g.id, false, []byte("x"), make([]byte, 254))
			}
		}, strings.Repeat("x", 16)},
		{"more behind what stands behind it", func(p *peer, g *got) {
			p.head(g.id, false, ":status", "410")
			p.head(g.id, false, "x-more", "1")
		}, ""},
		{"a body that does not end", func(p *peer, g *got) {
			p.head(g.id, false, ":status", "410")
			p.WriteData(g.id, false, []byte("x"))
		}, "x"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				transport := dialled(t, func(p *peer) {
					p.greet()
					for g := p.next(nil); g != nil; g = p.next(nil) {
						tt.do(p, g)
					}
				})
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				if tt.name != "a body that does not end" {
					ctx = t.Context()
				}
				if status, text, err := post(ctx, transport, "/", "x"); status != 410 || text != tt.text || err != nil {
					t.Errorf("%d %q %v", status, text, err)
				}
			})
		})
	}
}

// Answers' bodies use up a window of ours, which must be allowed anew, also for
// streams that we have ended (RFC 9113 §6.9): else the connection stands still.
func TestAnswersNeedAWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		transport := dialled(t, func(p *peer) {
			p.greet()
			left := usualWindow
			more := func(f http2.Frame) {
				if w, ok := f.(*http2.WindowUpdateFrame); ok && w.StreamID == 0 {
					left += int(w.Increment)
				}
			}
			for g := p.next(more); g != nil; g = p.next(more) {
				if left -= 4096; left < 0 {
					t.Error("the window is used up")
					return
				}
				p.head(g.id, false, ":status", "400")
				p.WriteData(g.id, false, make([]byte, 4096))
			}
		})
		for range 100 {
			if status, _, err := post(t.Context(), transport, "/", "x"); status != 400 {
				t.Fatal(status, err)
			}
		}
	})
}

// A path is an endpoint. An index of it on the way would keep a secret; the token
// of our own, the same for hours, is what an index is for.
func TestPathIsIndexedNowhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen []got
		transport := dialled(t, accept(&seen))
		for range 2 {
			post(t.Context(), transport, "/secret?and=query", "x")
		}
		if len(seen) != 2 {
			t.Fatal(seen)
		}
		for _, g := range seen {
			have := map[string]string{}
			for _, f := range g.fields {
				have[f.Name] = f.Value
				if f.Sensitive != (f.Name == ":path") {
					t.Errorf("%s: never indexed %v", f.Name, f.Sensitive)
				}
			}
			want := map[string]string{":method": "POST", ":scheme": "https", ":authority": "push.example", ":path": "/secret?and=query",
				"content-length": "1", "ttl": "60", "authorization": "vapid t=token, k=key"}
			if fmt.Sprint(have) != fmt.Sprint(want) {
				t.Errorf("%v, want %v", have, want)
			}
		}
	})
}

// A header field that would begin another one is not sent, and the connection is
// none the worse for it.
func TestBadRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen []got
		transport := dialled(t, accept(&seen))
		for _, h := range []http.Header{{"Topic": {"a\r\nB: c"}}, {"bad name": {"x"}}, {"Long": {strings.Repeat("x", usualFrame)}}} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://push.example/", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header = h
			if resp, err := transport.RoundTrip(req); err == nil {
				t.Errorf("%d", resp.StatusCode)
			}
		}
		if status, _, err := post(t.Context(), transport, "/", "x"); status != 201 || len(seen) != 1 {
			t.Error(status, err, seen)
		}
	})
}

// A server that speaks only HTTP/1.1 gets the same request.
func TestPlainServer(t *testing.T) {
	service := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprint(w, r.Proto, r.URL, string(body), r.Header.Get("TTL"))
	}))
	service.StartTLS() // without EnableHTTP2
	defer service.Close()
	transport := New(Config{Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, service.Listener.Addr().String())
	}, TLS: &tls.Config{RootCAs: service.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs, ServerName: "example.com"},
		Connections: 2, Answer: 4096, Header: 16 << 10, Limits: hasty, Dialling: 10 * time.Second, Idle: time.Minute, Quiet: time.Minute, Lost: time.Minute})
	defer transport.CloseIdleConnections()
	for range 2 {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://example.com/p?q", strings.NewReader("body"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("TTL", "60")
		resp, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if string(text) != "HTTP/1.1/p?qbody60" {
			t.Errorf("%q", text)
		}
	}
}
