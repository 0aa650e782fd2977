package b24oauth

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// How long the authorization server and the Store are left alone after a
// failure.
const (
	minBackoff  = time.Second // between two flights after passing failures,
	maxBackoff  = time.Minute // growing from the one to the other
	storeLook   = time.Second // between two looks at the Store for a better grant
	repairPause = 10 * time.Minute
	freshPause  = 10 * time.Second // between two renewals of tokens that never worked
)

var (
	errNoRefreshToken = errors.New("the grant has no refresh token and its access token is used up: authorize the application again and store a grant with both")
	errOlderGrant     = errors.New("the Store holds a grant whose refresh token this program has already exchanged: authorize the application again and store the new grant with Config.Save")
	errFreshRefused   = fmt.Errorf("the portal refuses a token that is new; it is not renewed again within %v", freshPause)
	errStillDenied    = errors.New("the portal denied access to a token that was just renewed, so it is not renewed for that again before it expires: check the application's permissions")
)

// pause is what a failed flight leaves behind. The zero value: no failure.
type pause struct {
	err     *TokenError // what callers are told meanwhile
	refresh uint64      // the refresh token that failed; 0 if the Store did
	next    time.Time   // no exchange of it before, and no flight while a token works
	look    time.Time   // no look at the Store before
	steps   int         // passing failures in a row

	save      time.Time // no attempt to save an unsaved pair before
	saveSteps int
}

// kept is a refusal that a renewal does not answer at present.
type kept struct {
	why  reason
	err  *TokenError
	look time.Time
}

// after returns the pause that follows a flight's failure.
func (p pause) after(err *TokenError, refresh uint64, now time.Time) pause {
	if err == p.err { // nothing was asked, only the Store looked at
		p.look = now.Add(storeLook)
		return p
	}
	p.err, p.refresh, p.look = err, refresh, now.Add(storeLook)
	switch {
	case err.condemns() && err.Permanent():
		p.next = never
	case err.Permanent():
		p.next = now.Add(repairPause)
	default:
		p.next = now.Add(max(backoff(p.steps), err.retryAfter))
		p.steps++
	}
	if err.ofStore {
		p.refresh, p.look = 0, p.next
	}
	return p
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

// mayExchange returns why the current refresh token must not be exchanged
// now, or nil if it may. The Store has just been looked at.
func (s *TokenSource) mayExchange(why reason) *TokenError {
	d, now := &s.descent, time.Now()
	kept := func(kind, err error) *TokenError {
		return &TokenError{Key: s.key, Err: err, kind: kind, keep401: true}
	}
	switch {
	case d.cur.grant.RefreshToken == "":
		return kept(ErrReauthorize, errNoRefreshToken)
	case d.dead == d.cur.refresh:
		return d.deadErr
	case d.doubt == d.cur.refresh && now.Before(d.doubtEnds):
		return d.doubtErr
	case d.doubt == d.cur.refresh:
		return s.condemn(d.doubtErr)
	case s.pause.err != nil && s.pause.refresh == d.cur.refresh && now.Before(s.pause.next):
		return s.pause.err
	case why.refused == "":
		return nil
	case why.vague && d.cur.denied.Load():
		return kept(ErrUnavailable, errStillDenied)
	case !d.cur.accepted.Load() && now.Sub(d.freshRenewal) < freshPause:
		return kept(ErrUnavailable, errFreshRefused)
	}
	return nil
}

// condemn makes the server's refusal of the current refresh token final: it
// is not asked again until the Store holds another one.
func (s *TokenSource) condemn(err *TokenError) *TokenError {
	final := *err
	final.kind = kindOfCode(err.Code)
	s.descent.dead, s.descent.deadErr = s.descent.cur.refresh, &final
	return &final
}
