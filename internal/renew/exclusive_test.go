package renew

import (
	"context"
	"runtime"
	"sync/atomic"
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

func TestNextPollIsAShareOfTheWaitUnlessTheStoreIsSlow(t *testing.T) {
	for _, c := range []struct{ waited, took, want time.Duration }{
		{100 * time.Millisecond, 0, 50 * time.Millisecond},
		{800 * time.Millisecond, 0, 50 * time.Millisecond},
		{1600 * time.Millisecond, 0, 100 * time.Millisecond},
		{time.Minute, 0, time.Second},
		{100 * time.Millisecond, 10 * time.Millisecond, 200 * time.Millisecond},
		{time.Minute, 90 * time.Millisecond, 1800 * time.Millisecond},
		{time.Minute, time.Second, 2 * time.Second},
	} {
		if got := nextPoll(c.waited, c.took); got != c.want {
			t.Errorf("after %v and a look of %v: %v, want %v", c.waited, c.took, got, c.want)
		}
	}
}

// slow is a process whose Loads take a while, and are counted.
type slow struct {
	*process
	took  time.Duration
	loads atomic.Int64
}

func (s *slow) Load(ctx context.Context) (*grant, error) {
	s.loads.Add(1)
	time.Sleep(s.took)
	return s.process.Load(ctx)
}

// A pair that another process has fetched is there long before its lease ends.
func TestAPairOfAnotherProcessIsSeenSoon(t *testing.T) {
	for _, c := range []struct {
		took, within time.Duration
		loads        int64
	}{
		{0, 65 * time.Millisecond, 25},
		{20 * time.Millisecond, 500 * time.Millisecond, 5}, // a Store that is busy
	} {
		inWorld(t, func(w *world) {
			ps := w.start("A", "B")
			a, b := &slow{process: ps[0], took: c.took}, ps[1]
			source := newSource(a)
			source.Get(context.Background(), Look)
			w.expire()
			w.gate.set(true, nil)
			go b.token()
			w.until(b, "save")
			w.gate.set(false, b)
			served := make(chan time.Time, 1)
			go func() {
				if _, f := source.Get(context.Background(), Why{}); f != nil {
					w.failf("the call of A: %v", f)
				}
				served <- time.Now()
			}()
			synctest.Wait()
			before := a.loads.Load()
			time.Sleep(time.Second) // the exchange
			w.mu.Lock()
			stored := w.pair("X", 2)
			stored.marks.Lineage = Lineage{Root: Fingerprint("refresh X.0"), Generation: 2}
			w.write(b, stored)
			w.mu.Unlock()
			written := time.Now()
			if waits := (<-served).Sub(written); waits > c.within {
				w.failf("with looks of %v, A waits for %v", c.took, waits)
			}
			if loads := a.loads.Load() - before; loads > c.loads {
				w.failf("with looks of %v, A looks %d times", c.took, loads)
			}
			w.gate.set(false, nil)
			time.Sleep(time.Minute)
		})
	}
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

// blind is a process whose Loads fail in a way of their own while it waits for
// exclusivity, which takes a while.
type blind struct {
	*process
	load    func(context.Context)
	waiting atomic.Bool
	loads   atomic.Int64
}

func (b *blind) Load(ctx context.Context) (*grant, error) {
	if b.waiting.Load() {
		b.loads.Add(1)
		b.load(ctx)
		return nil, context.Cause(ctx)
	}
	return b.process.Load(ctx)
}

func (b *blind) Update(ctx context.Context, fn func(context.Context, *grant) (*grant, error)) error {
	b.waiting.Store(true)
	defer b.waiting.Store(false)
	time.Sleep(150 * time.Millisecond)
	return b.process.Update(ctx, fn)
}

// A renewal that has what it waited for is not held up by a look at the Store,
// nor left to itself, with the refresh token in its hands.
func TestLookThatFailsInAnyWayIsNotWaitedFor(t *testing.T) {
	for name, load := range map[string]func(context.Context){
		"hangs until its end": func(ctx context.Context) { <-ctx.Done() },
		"hangs for ever":      func(context.Context) { time.Sleep(time.Hour) },
		"panics":              func(context.Context) { panic("driver") },
		"ends the goroutine":  func(context.Context) { runtime.Goexit() },
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				b := &blind{process: w.start("A")[0], load: load}
				source := newSource(b)
				source.Get(context.Background(), Look)
				w.expire()
				begun := time.Now()
				_, f := source.Get(context.Background(), Why{})
				if f != nil || time.Since(begun) > 200*time.Millisecond || w.requests != 1 || b.loads.Load() == 0 {
					t.Errorf("%v after %v, %d looks and %d exchanges; want the new token after one exchange", f, time.Since(begun), b.loads.Load(), w.requests)
				}
				told := 0
				for _, e := range b.events {
					if e.Kind == Broken {
						told++
					}
				}
				if want := name == "panics"; (told == 1) != want || told > 1 {
					t.Errorf("%d panics are told, want one: %t", told, want)
				}
			})
		})
	}
}
