package renew

import (
	"context"
	"testing"
	"time"
)

// timed returns what a call comes to, and how long it took.
func (p *process) timed() (*Failure, time.Duration) {
	start := time.Now()
	f := p.token()
	return f, time.Since(start)
}

func TestAnswerThatComesAfterCallersWereLetGoIsKept(t *testing.T) {
	for _, c := range []struct {
		name string
		slow time.Duration
		kept bool
	}{
		{"in time", 14 * time.Second, true},
		{"a second late", 16 * time.Second, true},
		{"at the end of the grace", 20*time.Second - 1, true},
		{"after it", 20*time.Second + 1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				p := w.start("A")[0]
				w.expire()
				p.answersAfter(c.slow, false)
				first, took := p.timed()
				if c.slow < 15*time.Second {
					w.want(first, 0, "the call that waits")
					return
				}
				w.want(first, Late, "the call that waits")
				if took != 15*time.Second {
					w.failf("callers were told after %v", took)
				}
				if f, took := p.timed(); f == nil || f.Class != Late || took != 0 {
					w.failf("the next call got %v after %v; want to be told at once", f, took)
				}
				p.answersAfter(0, false)
				time.Sleep(10 * time.Second)
				if !c.kept {
					w.lose("X")
					return
				}
				w.wantStored("X.2")
				w.want(p.token(), 0, "a call")
				if n := w.sent(); n != 1 {
					w.failf("%d requests; want 1", n)
				}
			})
		})
	}
}

func TestAnswerIsWaitedForOnlyAsLongAsItCanBeSaved(t *testing.T) {
	for _, c := range []struct{ left, want time.Duration }{
		{time.Hour, maxGrace},
		{45 * time.Second, maxGrace},
		{43 * time.Second, 3 * time.Second}, // 15 s of exchange have passed then
		{40 * time.Second, minGrace},
	} {
		inWorld(t, func(w *world) {
			p := w.start("A")[0]
			s := newSource(leased{p, 0, c.left})
			w.expire()
			w.lose("X")
			p.answersAfter(time.Hour, false)
			start := time.Now()
			_, f := s.Get(context.Background(), Why{})
			w.want(f, Late, "a call")
			s.settled(context.Background())
			if got := time.Since(start) - 15*time.Second; got != c.want {
				w.failf("with %v left the answer was waited for %v; want %v", c.left, got, c.want)
			}
		})
	}
}

func TestExchangeThatCannotBeStoppedDoesNotHoldTheGrant(t *testing.T) {
	inWorld(t, func(w *world) {
		ps := w.start("A", "B")
		a, b := ps[0], ps[1]
		w.expire()
		a.answersAfter(time.Minute, true)
		w.want(a.token(), Late, "the call that waits")
		a.answersAfter(0, false)
		a.source.settled(context.Background())
		w.want(a.token(), Unstoppable, "a call when the exchange was given up")
		if w.owner == a {
			w.failf("the lease is still held")
		}
		w.lose("X") // B may ask meanwhile, and is told that X.1 is spent
		w.want(b.token(), Refused, "a call of B")
		time.Sleep(time.Minute)
		w.wantStored("X.2")
		w.want(a.token(), 0, "a call with the pair that came in the end")
		w.want(b.token(), 0, "a call of B")
		if n := len(a.events); n < 2 || a.events[n-1].Kind != Renewed {
			w.failf("events %v; want the last to be the renewal", a.events)
		}
		w.settle(ps...)
	})
}

func TestLatePairOfAGrantThatWasDeletedOrReplacedIsDropped(t *testing.T) {
	inWorld(t, func(w *world) {
		p := w.start("A")[0]
		w.expire()
		p.answersAfter(time.Minute, true)
		w.want(p.token(), Late, "the call that waits")
		w.want(p.source.Delete(context.Background()), 0, "Delete")
		time.Sleep(time.Minute)
		w.wantStored("a tombstone")
		w.want(p.token(), Missing, "a call")
	})
	inWorld(t, func(w *world) {
		p := w.start("A")[0]
		w.expire()
		p.answersAfter(time.Minute, true)
		w.want(p.token(), Late, "the call that waits")
		w.want(p.save(w.install("Y")), 0, "Save(Y.0)")
		time.Sleep(2 * time.Minute)
		w.wantStored("Y.0")
		w.want(p.token(), 0, "a call")
	})
}
