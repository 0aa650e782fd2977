package renew

import (
	"math/rand/v2"
	"time"
)

// How long the server and the Store are left alone after a failure.
const (
	minBackoff   = time.Second // between two jobs after passing failures of the server,
	maxBackoff   = time.Minute // growing from the one to the other
	storePause   = time.Second // between two looks at the Store, which is our own
	repairPause  = 10 * time.Minute
	verdictValid = 24 * time.Hour // after which the server is asked again, once
)

// A portal that refuses each token could have the server asked without end, and
// Bitrix24 blocks an application for that, on every portal. So after a renewal
// for a refusal or a redirect there is none for another one for a while, which
// grows as long as they go on.
const (
	minRefusalPause = 10 * time.Second
	maxRefusalPause = 15 * time.Minute
)

// notNow is what a Source remembers so that it does not renew at once what
// cannot be renewed now. The zero value: nothing. Its table stands at the head
// of the package.
type notNow struct {
	failure  *Failure  // what callers get meanwhile
	fence    uint64    // the pair that failed; 0 if the Store did
	exchange time.Time // no exchange of it before, and no job while a token works
	reload   time.Time // no Load before
	steps    int       // passing failures of the server in a row

	declined      *Failure // a refusal that a renewal does not answer at present
	declinedFor   Why
	declinedUntil time.Time

	save time.Time // no attempt to save an unsaved pair before

	tellStore  time.Time // no failure of the Store is reported before
	storeSteps int       // such reports in a row

	refusal      time.Time     // when a token was last renewed for a refusal or a redirect,
	refusalPause time.Duration // and for how long it is not renewed for another one
}

func (n *notNow) orNothing() notNow {
	if n == nil {
		return notNow{}
	}
	return *n
}

// remember notes in n what the outcome of a job means for the next one, and
// keeps it. s.mu is held, and s.current is what the job left.
func (s *Source[G]) remember(j *job[G], n *notNow, f *Failure, now time.Time) {
	unsaved := j.cur != nil && j.cur.unsaved.Load()
	switch {
	case f == nil && j.kind != saving && j.kind != flushing:
		*n = notNow{tellStore: n.tellStore, storeSteps: n.storeSteps, refusal: n.refusal, refusalPause: n.refusalPause}
	case f == nil, j.kind != renewal:
	case f.Declined():
		n.declined, n.declinedFor, n.declinedUntil = f, j.why, now.Add(storePause)
		if f.Class == RefusedAgain {
			n.declinedUntil = now.Add(min(storePause, f.RetryAfter))
		}
	case j.unread || j.cur == nil:
		n.after(f, 0, now)
	default:
		n.after(f, j.cur.fence, now)
	}
	switch {
	case unsaved:
		n.save = now.Add(storePause)
	case f == nil:
		n.tellStore, n.storeSteps = time.Time{}, 0
	}
	if ended := f == nil && (j.kind == takeover || j.kind == deletion) || j.why.force; ended || now.Sub(n.refusal) > 2*n.refusalPause {
		n.refusal, n.refusalPause = time.Time{}, 0
	}
	s.notNow = nil // few of many sources remember anything
	if *n != (notNow{}) {
		s.notNow = n
	}
}

// renewedForRefusal begins the pause after a renewal for a refusal or a
// redirect: twice the last one if that is hardly over.
func (n *notNow) renewedForRefusal(now time.Time) {
	next := minRefusalPause
	if n.refusalPause > 0 && now.Sub(n.refusal) <= 2*n.refusalPause {
		next = min(2*n.refusalPause, maxRefusalPause)
	}
	n.refusal, n.refusalPause = now, next
}

// after notes that a renewal failed with the pair that has this fence, 0 if none
// was come to, and until when it is not tried again.
func (n *notNow) after(f *Failure, fence uint64, now time.Time) {
	if f == n.failure { // no exchange was tried, only a Load
		n.reload = now.Add(storePause)
		switch {
		case n.exchange.Before(now):
			n.exchange = n.reload
		case n.exchange.Before(n.reload):
			n.reload = n.exchange
		}
		return
	}
	n.failure, n.fence, n.reload = f, fence, now.Add(storePause)
	switch {
	case f.ofStore():
		n.fence, n.exchange = 0, n.reload
	case f.Class == Refused:
		n.exchange = f.At.Add(verdictValid)
	case f.Class == Repairable || f.Class == Foreign || f.Class == LeaseTooShort || f.Class == Missing:
		n.exchange = now.Add(repairPause)
	default:
		n.exchange = now.Add(max(backoff(n.steps), f.RetryAfter))
		n.steps++
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
	case !blames(why, c):
		return nil
	case why.Ambiguous && c.ambiguous.Load():
		return &Failure{Class: StillAmbiguous}
	}
	if left := n.refusalPause - now.Sub(n.refusal); left > 0 {
		return &Failure{Class: RefusedAgain, RetryAfter: left}
	}
	return nil
}
