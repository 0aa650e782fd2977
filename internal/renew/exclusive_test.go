package renew

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// leased is a process whose Updates promise exclusivity until an end of their
// own.
type leased struct {
	*process
	wait, left time.Duration // how long fn is waited for, and what is left then
}

func (l leased) Update(ctx context.Context, fn func(context.Context, *grant) (*grant, error)) error {
	return l.process.Update(ctx, func(ctx context.Context, g *grant) (*grant, error) {
		time.Sleep(l.wait)
		ctx, cancel := context.WithTimeout(ctx, l.left)
		defer cancel()
		return fn(ctx, g)
	})
}

func TestNothingIsSpentUnlessThereIsTimeToSaveIt(t *testing.T) {
	for _, c := range []struct {
		name       string
		wait, left time.Duration
		want       Class // 0: a new pair
	}{
		{"enough", 0, 40 * time.Second, 0},
		{"too short", 0, 40*time.Second - 1, LeaseTooShort},
		{"too late", 10 * time.Second, 35 * time.Second, LeaseTooLate},
		{"late and enough", 5 * time.Second, 40 * time.Second, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				p := w.start("A")[0]
				s := newSource(leased{p, c.wait, c.left})
				w.expire()
				_, f := s.Get(t.Context(), Why{})
				if f == nil && c.want != 0 || f != nil && f.Class != c.want {
					t.Errorf("failure %v; want class %d", f, c.want)
				}
				if spent := w.requests > 0; spent != (c.want == 0) {
					t.Errorf("%d requests with %v of exclusivity left", w.requests, c.left)
				}
			})
		})
	}
}

func TestWhoIsServedMeanwhileNeitherWaitsNorFails(t *testing.T) {
	inWorld(t, func(w *world) {
		ps := w.start("A", "B")
		a, b := ps[0], ps[1]
		w.expire()
		w.gate.set(true, nil)
		go b.token()
		w.until(b, "save")
		w.gate.set(false, b)
		answer := make(chan *Failure, 1)
		go func() { answer <- a.token() }()
		time.Sleep(2 * time.Second) // A waits for the lease
		b.kill()                    // right after its write, with the lease
		w.mu.Lock()
		stored := w.pair("X", 2)
		stored.marks.Lineage = Lineage{Root: Fingerprint("refresh X.0"), Generation: 2}
		w.write(b, stored)
		w.mu.Unlock()
		time.Sleep(lastPoll)
		select {
		case f := <-answer:
			w.want(f, 0, "the call of A")
		default:
			w.failf("A waits for a lease although its token is stored")
		}
		w.gate.set(false, nil)
		time.Sleep(time.Minute)
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, e := range a.events {
			if e.Kind == NotRenewed {
				w.failf("a job that served everybody is reported: %v", e.Failure)
			}
		}
	})
}

func TestSaveThatWaitsForTheStoreIsNoRenewalThatHangs(t *testing.T) {
	inWorld(t, func(w *world) {
		ps := w.start("A", "B")
		a, b := ps[0], ps[1]
		w.expire()
		w.gate.set(true, nil)
		go b.save(w.install("Y"))
		w.until(b, "save") // B has the lease
		w.gate.set(false, b)
		saved := make(chan *Failure, 1)
		go func() { saved <- a.save(w.install("Z")) }()
		for range 100 { // the lease is others' all the time
			w.mu.Lock()
			w.ends = time.Now().Add(lease)
			w.mu.Unlock()
			time.Sleep(30 * time.Second)
		}
		f := a.token()
		if f == nil || f.Class != StoreFailed {
			w.failf("a call gets %v; want the Store's failure", f)
		}
		w.gate.set(false, nil)
		w.want(<-saved, 0, "Save")
		w.want(a.token(), 0, "a call")
	})
}
