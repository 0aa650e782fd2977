package renew

import (
	"context"
	"testing"
	"time"
)

func TestFlushTriesAgainUntilItsContextEnds(t *testing.T) {
	for _, c := range []struct {
		name  string
		limit time.Duration // of Flush; 0: none
		down  time.Duration // how long the Store is, from the beginning of Flush
		want  Class
	}{
		{"a Store that is well", 20 * time.Second, 0, 0},
		{"a Store that gets well", 20 * time.Second, 15 * time.Second, 0},
		{"a Store that does not", 20 * time.Second, time.Hour, StoreFailed},
		{"no deadline, a Store that gets well", 0, 5 * time.Second, 0},
		{"no deadline, a Store that does not", 0, time.Hour, StoreFailed},
	} {
		t.Run(c.name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				p := w.start("A")[0]
				w.expire()
				p.failSaves = 1 << 30
				w.want(p.token(), 0, "a call")
				p.source.settled(context.Background()) // the saving that the job itself goes on with
				well := time.AfterFunc(c.down, func() {
					w.mu.Lock()
					defer w.mu.Unlock()
					p.failSaves = 0
				})
				defer well.Stop()
				time.Sleep(time.Nanosecond) // or the Store gets well while Flush is at it
				ctx, cancel := context.WithCancel(context.Background())
				if c.limit > 0 {
					ctx, cancel = context.WithTimeout(ctx, c.limit)
				}
				defer cancel()
				start := time.Now()
				f := p.source.Flush(ctx, make(chan struct{}, 1))
				w.want(f, c.want, "Flush")
				took := time.Since(start)
				switch {
				case c.want == 0 && took > c.down+2*time.Second:
					w.failf("the Store was well after %v and Flush took %v", c.down, took)
				case c.want != 0 && c.limit > 0 && took < c.limit-2*time.Second:
					w.failf("Flush gave up after %v of %v", took, c.limit)
				case c.want != 0 && c.limit == 0 && (took < saveTimeout || took > saveTimeout+2*time.Second):
					w.failf("Flush without a deadline took %v", took)
				}
				if c.want == 0 {
					w.wantStored("X.2")
				}
			})
		})
	}
}

func TestFlushWaitsForAJobWithoutASlot(t *testing.T) {
	inWorld(t, func(w *world) {
		p := w.start("A")[0]
		w.expire()
		p.answersAfter(10*time.Second, false)
		go p.token()
		time.Sleep(time.Second)
		slots := make(chan struct{}, 1)
		done := make(chan *Failure)
		go func() { done <- p.source.Flush(context.Background(), slots) }()
		time.Sleep(time.Second)
		select {
		case slots <- struct{}{}: // another one's
			<-slots
		default:
			w.failf("the only slot is taken by one that waits for an exchange")
		}
		w.want(<-done, 0, "Flush")
		w.wantStored("X.2")
	})
}

func TestFlushDoesNotWaitForTheNextAttemptOfAJobThatSaves(t *testing.T) {
	inWorld(t, func(w *world) {
		p := w.start("A")[0]
		w.expire()
		p.failSaves = 1 << 30
		w.want(p.token(), 0, "a call")
		time.Sleep(3200 * time.Millisecond) // the next attempt is 3 s away
		w.mu.Lock()
		p.failSaves = 0
		w.mu.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		w.want(p.source.Flush(ctx, make(chan struct{}, 1)), 0, "Flush")
		w.wantStored("X.2")
	})
}

func TestPairOfAnExchangeThatWasGivenUpIsNotSpentAgainAndFlushWaitsForIt(t *testing.T) {
	inWorld(t, func(w *world) {
		p := w.start("A")[0]
		w.expire()
		p.answersAfter(5*time.Minute, true)
		w.want(p.token(), Late, "the call that waits")
		time.Sleep(10 * time.Second) // until it is given up
		for range 20 {
			w.want(p.token(), Unstoppable, "a call")
			time.Sleep(5 * time.Second)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		w.want(p.source.Flush(ctx, make(chan struct{}, 1)), Unstoppable, "Flush with too little time")
		w.want(p.flush(), 0, "Flush")
		w.wantStored("X.2")
		if n := w.sent(); n != 1 {
			w.failf("%d requests with one refresh token", n)
		}
	})
}
