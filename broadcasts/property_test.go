package broadcasts_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/broadcasts"
)

// Whatever push services answer, whoever comes, goes or is spared, and whatever
// the disk does: the numbers add up at every commit and every step that an
// operator sees, they say what really happened to each row, and nobody is lost
// but those who left or are gone (REL-27, REL-28).
func TestAccounting(t *testing.T) {
	for seed := range uint64(25) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { checkAccounting(t, rand.New(rand.NewPCG(seed, 1))) })
		})
	}
}

func checkAccounting(t *testing.T, r *rand.Rand) {
	p := &pages{reach: map[string]func() belfry.Reach{}}
	b := newBell(t, withPages(p), func(c *broadcasts.Config) { c.PerHost = 1 + r.IntN(30) })
	f := newFates(r, b, p)
	lifetime := time.Duration(r.IntN(600)) * time.Second
	launched := []broadcasts.Broadcast{b.hello(lifetime), b.hello(lifetime)}
	stop := make(chan struct{})
	go f.stir(stop)
	for _, l := range launched {
		b.end(l.ID)
	}
	close(stop)
	synctest.Wait()

	wasGone := map[string]bool{}
	for _, l := range launched {
		f.check(t, b.get(l.ID), wasGone)
	}
	for _, id := range f.ids {
		if there := b.people.there(id); there == (f.left[id] || wasGone[id]) {
			t.Errorf("%s there: %t, left: %t, gone: %t", id, there, f.left[id], wasGone[id])
		}
	}
	for _, id := range f.late {
		if len(b.post.to(id)) != 0 {
			t.Errorf("%s joined later and was rung", id)
		}
	}
	for host, most := range b.post.most {
		if most > b.cfg.PerHost {
			t.Errorf("%d attempts at a time to %s", most, host)
		}
	}
}

// Fates decide what happens to each row, and remember it.
type fates struct {
	*rand.Rand
	b      *bell
	ids    []string
	late   []string
	spared map[string]bool // from the beginning
	shown  map[string]bool // it may turn out to be
	left   map[string]bool
}

func newFates(r *rand.Rand, b *bell, p *pages) *fates {
	f := &fates{Rand: r, b: b, spared: map[string]bool{}, shown: map[string]bool{}, left: map[string]bool{}}
	for i := range 1 + r.IntN(4) {
		host := fmt.Sprintf("h%d.example", i)
		b.post.slow[host] = time.Duration(r.IntN(3000)) * time.Millisecond
		f.ids = append(f.ids, b.people.join(r.IntN(200), host)...)
	}
	for _, id := range f.ids {
		b.post.script(id, f.script()...)
		switch r.IntN(20) {
		case 0:
			f.spared[id] = true
			p.reach[id] = func() belfry.Reach { return belfry.Reach{Spared: true} }
		case 1:
			hold := time.Now().Add(time.Duration(r.IntN(90)) * time.Second)
			p.reach[id] = func() belfry.Reach { return belfry.Reach{Hold: hold} }
		case 2, 3: // a page that has 3 s, and takes up to 6
			f.shown[id] = true
			hold := time.Now().Add(3 * time.Second)
			acks := time.Now().Add(time.Duration(r.IntN(6000)) * time.Millisecond)
			p.reach[id] = func() belfry.Reach { return belfry.Reach{Spared: !time.Now().Before(acks), Hold: hold} }
		case 4:
			b.people.change(id, func(s *belfry.Subscription) { s.Origin = "https://elsewhere.example" })
		}
	}
	return f
}

func (f *fates) script() (list []belfry.Outcome) {
	for range 1 + f.IntN(3) {
		o := belfry.Outcome{Verdict: belfry.Verdict(f.IntN(11)), Reason: fmt.Sprintf("reason %d", f.IntN(50))}
		if f.IntN(2) == 0 {
			o.RetryAfter = time.Duration(f.IntN(120)) * time.Second
		}
		list = append(list, o)
	}
	return list
}

// stir lets people come and go, and the disk fail now and then.
func (f *fates) stir(stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			f.b.journal.fail(nil)
			return
		case <-time.After(time.Duration(f.IntN(2000)) * time.Millisecond):
		}
		switch f.IntN(5) {
		case 0:
			f.late = append(f.late, f.b.people.join(1, "late.example")...)
		case 1, 2:
			if len(f.ids) > 0 {
				id := f.ids[f.IntN(len(f.ids))]
				f.left[id] = true
				f.b.people.leave(id)
			}
		case 3:
			f.b.journal.fail(errBroken)
		case 4:
			f.b.journal.fail(nil)
		}
	}
}

// check holds the counts of a broadcast that is over against the last attempt
// that was made for each row.
func (f *fates) check(t *testing.T, got broadcasts.Broadcast, wasGone map[string]bool) {
	t.Helper()
	last, tries := map[string]belfry.Outcome{}, map[string]int{}
	for _, s := range f.b.post.to("") {
		if strings.Contains(string(s.message.Payload), got.ID) {
			last[s.id], tries[s.id] = s.outcome, tries[s.id]+1
		}
	}
	var want broadcasts.Counts
	spared := 0
	for _, id := range f.ids {
		o, tried := last[id]
		if f.shown[id] {
			spared++ // or not: before its first try, between two, or too late
		}
		switch {
		case f.spared[id]:
			spared++
			if tried {
				t.Errorf("%s was to be spared", id)
			}
		case !tried:
		case o.Verdict == belfry.Accepted:
			want.Accepted++
		case o.Verdict == belfry.Gone:
			want.Gone++
			wasGone[id] = true
		case o.Verdict == belfry.Later, o.Verdict == belfry.Cancelled, o.Verdict == belfry.OurFault, o.Verdict == belfry.TooLarge && tries[id] == 1:
			// it left, or there was no time for another try
		default:
			want.Failed++
		}
	}
	c := got.Counts
	if got.State != broadcasts.Done || c.Targets != len(f.ids) || c.Cancelled != 0 ||
		c.Accepted != want.Accepted || c.Gone != want.Gone || c.Failed < want.Failed || c.Suppressed > spared {
		t.Errorf("%s %+v, want of %d: %+v, up to %d suppressed", got.State, c, len(f.ids), want, spared)
	}
}
