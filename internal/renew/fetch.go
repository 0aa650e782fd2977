package renew

import (
	"context"
	"runtime/debug"
	"sync/atomic"
	"time"
)

// An answer that nobody waits for any more is a lost grant: the server has
// rotated the pair, and only the answer has the new one. So the time that
// callers wait for an exchange is not the time that it has. Who waits is told
// when that is over, while the exchange goes on for a grace, which begins then:
// a process that was stopped meanwhile finds the answer in its socket.

const (
	maxGrace = 5 * time.Second // the answer is waited for after callers were let go, at most
	minGrace = time.Second     // even if exclusivity has ended meanwhile: a save that is late is taken

	// stopTime is how long an exchange whose context has ended may take to
	// return.
	stopTime = time.Second
)

// exchange is a call of Outside.Renew, on a goroutine of its own.
type exchange[G any] struct {
	fence  uint64 // of the pair that it spends
	answer chan fetched[G]
	done   chan struct{} // closed when whatever it brought is seen to
	given  time.Time     // when it was given up
	taken  atomic.Bool   // somebody sees to the answer: whoever waits, or if nobody does any more, saveLate
}

// fetched is what an exchange came to.
type fetched[G any] struct {
	next     G
	attempts int
	failure  *Failure
}

// wait returns the answer if it comes within d.
func (x *exchange[G]) wait(d time.Duration) (a fetched[G], ok bool) {
	limit := time.NewTimer(d)
	defer limit.Stop()
	select {
	case a = <-x.answer:
		return a, true
	case <-limit.C:
		return a, false
	}
}

// fetch has the outside fetch the pair that follows spent, within the bounds of
// an exchange, unless its token is still good and was not refused. may is asked
// before anything is spent. From here on ctx does not count, but for its
// deadline.
func (s *Source[G]) fetch(ctx context.Context, j *job[G], spent *Current[G], refused bool, requested time.Time, may func() *Failure) (G, *Failure) {
	send, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	x := s.beginExchange(send, spent, refused, func() *Failure {
		if f := may(); f != nil {
			return f
		}
		return s.enoughTime(ctx, requested)
	})
	a, ok := x.wait(s.timeout)
	if !ok {
		j.late.Store(true) // callers are let go
		j.announce()
		a, ok = x.wait(s.grace(ctx))
	}
	if !ok {
		cancel(context.DeadlineExceeded)
		a, ok = x.wait(stopTime)
	}
	switch {
	case ok:
	case s.giveUp(x):
		a.failure = &Failure{Class: Unstoppable}
	default: // both at once
		a = <-x.answer
	}
	j.late.Store(false)
	j.attempts += a.attempts
	return a.next, a.failure
}

// beginExchange begins an exchange of the grant that is spent in it. Whatever the
// outside does, return, panic or end the goroutine, it comes to something.
func (s *Source[G]) beginExchange(ctx context.Context, spent *Current[G], refused bool, may func() *Failure) *exchange[G] {
	x := &exchange[G]{fence: spent.fence, answer: make(chan fetched[G], 1), done: make(chan struct{})}
	go func() {
		defer close(x.done)
		a := fetched[G]{failure: &Failure{Class: Vanished}}
		defer func() {
			if v := recover(); v != nil {
				a.failure = &Failure{Class: Panicked, Err: &PanicError{v, debug.Stack()}}
			}
			if x.taken.CompareAndSwap(false, true) {
				x.answer <- a
			} else {
				s.mu.Lock()
				s.astray = nil
				s.mu.Unlock()
				s.saveLate(spent, a)
			}
		}()
		a.next, a.attempts, a.failure = s.out.Renew(ctx, spent.Grant, refused, may)
	}()
	return x
}

// givenUpFor is how long the pair of an exchange that was given up is not spent
// again: its answer may still come. After that the transport counts as dead.
const givenUpFor = 10 * time.Minute

// giveUp leaves the exchange to itself, unless its answer is there.
func (s *Source[G]) giveUp(x *exchange[G]) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !x.taken.CompareAndSwap(false, true) {
		return false
	}
	x.given = time.Now()
	s.astray = x
	return true
}

// returned waits for an exchange that was given up, whose answer may be the only
// copy of a pair.
func (s *Source[G]) returned(ctx context.Context) *Failure {
	s.mu.Lock()
	x := s.astray
	s.mu.Unlock()
	if x == nil {
		return nil
	}
	limit := time.NewTimer(time.Until(x.given.Add(givenUpFor)))
	defer limit.Stop()
	select {
	case <-x.done:
		return nil
	case <-limit.C:
	case <-ctx.Done():
	}
	return &Failure{Class: Unstoppable}
}

// grace returns how long an answer is waited for after callers were let go:
// nobody else may ask while the request can still be on its way to the server,
// and what comes has to be saved.
func (s *Source[G]) grace(ctx context.Context) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return maxGrace
	}
	return max(minGrace, min(maxGrace, time.Until(deadline)-saveTimeout-s.timeout))
}

// saveLate saves the pair that an exchange brought after it was given up, in a
// job of its own. spent is the grant that was exchanged.
func (s *Source[G]) saveLate(spent *Current[G], a fetched[G]) {
	var none G
	if a.failure != nil || a.next == none {
		return // the job that gave it up has failed already
	}
	j, _ := s.own(context.Background(), saving)
	s.do(j, func() *Failure {
		late := s.newCurrent(s.out.With(a.next, Marks{Lineage: s.lineage(spent).next()}), nil)
		if j.cur == nil || !s.lineage(j.cur).OlderThan(s.lineage(late)) {
			return nil // deleted or superseded meanwhile
		}
		j.cur = late
		late.unsaved.Store(true)
		j.fetched = true
		j.note(Event{Kind: Renewed})
		if f := s.store(context.Background(), j, s.timeout); f != nil && f.Class == Missing {
			return f
		}
		return nil // used from memory if it could not be saved
	})
}

// enoughTime returns a failure if exclusivity, requested at that time, ends
// before an exchange and its saving must have ended.
func (s *Source[G]) enoughTime(ctx context.Context, requested time.Time) *Failure {
	need := NeedsExclusively(s.timeout)
	switch deadline, ok := ctx.Deadline(); {
	case ok && deadline.Sub(requested) < need:
		return &Failure{Class: LeaseTooShort}
	case ok && time.Until(deadline) < need:
		return &Failure{Class: LeaseTooLate}
	case ctx.Err() != nil:
		return &Failure{Class: LeaseTooLate, Err: context.Cause(ctx)}
	}
	return nil
}
