package renew

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/b24go/b24oauth/internal/ctxend"
)

// What a caller waits longer than it must while another process fetches the
// pair is the time until the next look at the Store: a sixteenth of what it has
// waited by then. A Store that is slow to answer is asked more rarely, so that
// those who wait for it do not make it slower.
const (
	coldPoll  = 10 * time.Millisecond  // after a job began to wait for exclusivity, if callers have no grant at all,
	firstPoll = 100 * time.Millisecond // or if they have; then
	leastPoll = 50 * time.Millisecond  // after at least this,
	lastPoll  = time.Second            // and at most this,
	slowPoll  = 2 * time.Second        // or this if the looks take long
)

// nextPoll returns when to look at the Store again, after a wait of which the
// last look took so long.
func nextPoll(waited, took time.Duration) time.Duration {
	return max(leastPoll, min(waited/16, lastPoll), min(20*took, slowPoll))
}

var errWaitOver = errors.New("another Update has the grant for itself: if this stays, look for a process that hangs in one")

// update is Outside.Update with a bound on the wait for exclusivity, and on that
// alone: 0 means that only the caller's context bounds it. Another process may
// hold the grant for as long as its lease, and callers would fail meanwhile
// although it has stored a newer one: so the wait polls the Store, and a caller
// whom the stored grant serves goes on. The lock request is not cancelled for
// that, but at the end of the wait alone: one that is cancelled in flight may
// still be granted, and then nobody releases it until the lease expires.
func (s *Source[G]) update(caller context.Context, j *job[G], wait time.Duration, fn func(context.Context, G) (G, error)) error {
	ctx, cancel := context.WithCancelCause(caller)
	defer cancel(nil)
	s.setAlarm(j, false)
	began, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		err := error(&Failure{Class: Vanished}) // if the Store ends the goroutine
		defer func() {
			if v := recover(); v != nil {
				err = &PanicError{v, debug.Stack()}
			}
			ended <- err
		}()
		err = s.out.Update(ctx, func(ctx context.Context, stored G) (G, error) {
			s.mu.Lock()
			j.exclusive = true
			s.mu.Unlock()
			s.setAlarm(j, true)
			close(began)
			return fn(ctx, stored)
		})
	}()
	err := s.waitFor(j, wait, began, ended, cancel)
	if p, ok := err.(*PanicError); ok {
		panic(p)
	}
	switch {
	case err == nil || j.exclusive || ctx.Err() == nil:
	case caller.Err() != nil:
		err = &Failure{Class: GaveUp, Err: ctxend.Of(caller)}
	default:
		err = fmt.Errorf("%w (%w): %w", errWaitOver, context.Cause(ctx), err)
	}
	s.mu.Lock()
	j.exclusive = false
	s.mu.Unlock()
	return err
}

// waitFor returns what ended brings. It gives up the waiting for exclusivity
// after wait, unless it has begun by then. It waits for no look at the Store: one
// that hangs, or panics, says nothing of the Update, which may have come to its
// end or be spending the refresh token.
func (s *Source[G]) waitFor(j *job[G], wait time.Duration, began <-chan struct{}, ended <-chan error, cancel context.CancelCauseFunc) error {
	begun, interval := time.Now(), firstPoll
	if s.current.Load() == nil {
		interval = coldPoll
	}
	tick := time.NewTimer(interval)
	defer tick.Stop()
	var over <-chan time.Time
	if wait > 0 {
		limit := time.NewTimer(wait)
		defer limit.Stop()
		over = limit.C
	}
	looks, stop := context.WithCancel(context.Background())
	defer stop()
	var looked <-chan look[G] // nil if none goes on
	for {
		select {
		case err := <-ended:
			return err
		case <-began:
			return <-ended
		case <-over:
			s.mu.Lock()
			if !j.exclusive { // a Store may hand this very context to fn
				cancel(fmt.Errorf("waited %v", wait.Round(time.Millisecond)))
			}
			s.mu.Unlock()
			return <-ended
		case <-tick.C:
			looked = s.look(looks)
		case l := <-looked:
			looked = nil
			s.publishNewer(j, l)
			tick.Reset(nextPoll(time.Since(begun), l.took))
		}
	}
}

// look is what one look at the Store has found.
type look[G any] struct {
	stored G
	err    error
	took   time.Duration
}

// look looks at the Store, on a goroutine of its own.
func (s *Source[G]) look(ctx context.Context) <-chan look[G] {
	found := make(chan look[G], 1)
	go func() {
		began, l := time.Now(), look[G]{err: &Failure{Class: Vanished}} // if the Store ends the goroutine
		defer func() {
			if v := recover(); v != nil {
				l.err = &PanicError{v, debug.Stack()}
			}
			l.took = time.Since(began)
			found <- l
		}()
		ctx, cancel := context.WithTimeout(ctx, s.timeout)
		defer cancel()
		l.stored, l.err = s.out.Load(ctx)
	}()
	return found
}

// publishNewer publishes the stored grant if it is newer than the job's, or the
// job has none. It reports no error, since what fails here fails in the Update
// too, but a panic, once.
func (s *Source[G]) publishNewer(j *job[G], l look[G]) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if j.exclusive {
		return
	}
	if p, ok := l.err.(*PanicError); ok && !j.broken {
		j.broken = true
		j.note(Event{Kind: Broken, Failure: &Failure{Class: Panicked, Err: p}})
	}
	if l.err != nil {
		return
	}
	switch v := s.viewOf(l.stored); {
	case v == nil:
	case j.cur != nil && s.lineage(j.cur).OlderThan(v.FullLineage()), j.cur == nil && v.Deleted.IsZero():
		s.reconcile(j, l.stored)
		s.publish(j)
	}
}
