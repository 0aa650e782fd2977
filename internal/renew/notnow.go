package renew

import (
	"math/rand/v2"
	"time"
)

// How long the server and the Store are left alone after a failure.
const (
	minBackoff   = time.Second // between two jobs after passing failures,
	maxBackoff   = time.Minute // growing from the one to the other
	reloadPause  = time.Second // between two Loads in search of a better grant
	repairPause  = 10 * time.Minute
	verdictValid = 24 * time.Hour // after which the server is asked again, once
)

// FreshPause is the time between two renewals of tokens that never worked.
const FreshPause = 10 * time.Second

// notNow is what a Source remembers so that it does not renew at once what
// cannot be renewed now. The zero value: nothing. Its table stands at the head
// of the package.
type notNow struct {
	failure  *Failure  // what callers get meanwhile
	fence    uint64    // the pair that failed; 0 if the Store did
	exchange time.Time // no exchange of it before, and no job while a token works
	reload   time.Time // no Load before
	steps    int       // passing failures in a row

	declined      *Failure // a refusal that a renewal does not answer at present
	declinedFor   Why
	declinedUntil time.Time

	save      time.Time // no attempt to save an unsaved pair before
	saveSteps int

	freshRenewal time.Time // when a token was last renewed that had never worked
}

func (n *notNow) orNothing() notNow {
	if n == nil {
		return notNow{}
	}
	return *n
}

// remember notes what the outcome of a job means for the next one. s.mu is
// held, and s.current is what the job left.
func (s *Source[G]) remember(j *job[G], f *Failure, now time.Time) {
	n := s.notNow.orNothing()
	unsaved := j.cur != nil && j.cur.unsaved.Load()
	switch {
	case f == nil && j.kind != saving && j.kind != flushing:
		n = notNow{save: n.save, saveSteps: n.saveSteps, freshRenewal: n.freshRenewal}
	case f == nil, j.kind != renewal:
	case f.Declined():
		n.declined, n.declinedFor, n.declinedUntil = f, j.why, now.Add(reloadPause)
	case j.cur == nil:
		n.after(f, 0, now)
	default:
		n.after(f, j.cur.fence, now)
	}
	if unsaved {
		n.save = now.Add(backoff(n.saveSteps))
		n.saveSteps++
	} else {
		n.save, n.saveSteps = time.Time{}, 0
	}
	if now.Sub(n.freshRenewal) >= FreshPause {
		n.freshRenewal = time.Time{}
	}
	s.notNow = nil // few of many sources remember anything
	if n != (notNow{}) {
		s.notNow = &n
	}
}

// after notes that a renewal failed with the pair that has this fence, and until
// when it is not tried again.
func (n *notNow) after(f *Failure, fence uint64, now time.Time) {
	if f == n.failure { // no exchange was tried, only a Load
		n.reload = now.Add(reloadPause)
		switch {
		case n.exchange.Before(now):
			n.exchange = n.reload
		case n.exchange.Before(n.reload):
			n.reload = n.exchange
		}
		return
	}
	n.failure, n.fence, n.reload = f, fence, now.Add(reloadPause)
	switch f.Class {
	case Refused:
		n.exchange = f.At.Add(verdictValid)
	case Repairable, LeaseTooShort, Missing:
		n.exchange = now.Add(repairPause)
	default:
		n.exchange = now.Add(max(backoff(n.steps), f.RetryAfter))
		n.steps++
	}
	if f.ofStore() {
		n.fence, n.reload = 0, n.exchange
	}
}

// backoff returns the wait after the given number of failures before this
// one: at least a second, at most a minute, and random in between so that
// processes that failed together do not come back together.
func backoff(steps int) time.Duration {
	limit := maxBackoff
	if steps < 6 {
		limit = min(2*minBackoff<<steps, maxBackoff)
	}
	return minBackoff + rand.N(limit-minBackoff)
}

// declines returns why the refresh token of c must not be spent now, or nil if
// it may be. The Store has just been loaded.
func (s *Source[G]) declines(c *Current[G], why Why) *Failure {
	s.mu.Lock()
	n, x := s.notNow.orNothing(), s.astray
	s.mu.Unlock()
	v, now := s.out.View(c.Grant), time.Now()
	switch {
	case v.Refresh == "":
		return &Failure{Class: NoRefreshToken}
	case x != nil && x.fence == c.fence && now.Sub(x.given) < givenUpFor:
		return &Failure{Class: Unstoppable}
	case why.force:
		return nil
	case v.Refused.Code != "" && now.Sub(v.Refused.At).Abs() < verdictValid:
		return &Failure{Class: Refused, Code: v.Refused.Code, At: v.Refused.At}
	case n.failure != nil && n.failure.Class != Refused && n.fence == c.fence && now.Before(n.exchange):
		return n.failure
	case !refuses(why, c):
		return nil
	case why.Ambiguous && c.ambiguous.Load():
		return &Failure{Class: StillAmbiguous}
	case !c.accepted.Load() && now.Sub(n.freshRenewal) < FreshPause:
		return &Failure{Class: FreshRefused}
	}
	return nil
}
