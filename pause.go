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
	errDoubt          = errors.New("another process may have exchanged the refresh token, and whether its new pair is stored shows within seconds: nothing has to be done yet")
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

// paused returns the pause there is. s.mu or the slot is held.
func (s *TokenSource) paused() pause {
	if s.pause == nil {
		return pause{}
	}
	return *s.pause
}

// setPause sets the pause there is. Few of many sources have one. s.mu and
// the slot are held.
func (s *TokenSource) setPause(p pause) {
	s.pause = nil
	if p != (pause{}) {
		s.pause = &p
	}
}

// after returns the pause that follows a flight's failure.
func (p pause) after(err *TokenError, refresh uint64, now time.Time) pause {
	if err == p.err { // nothing was asked, only the Store looked at
		p.look = now.Add(storeLook)
		switch {
		case p.next.Before(now):
			p.next = p.look
		case p.next.Before(p.look):
			p.look = p.next
		}
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

// told reports whether err repeats what the log and OnEvent were told. The
// Store is looked at every second while callers come, and need not say every
// second that it has nothing.
func (p pause) told(err *TokenError) bool {
	if err == p.err || p.err == nil {
		return err == p.err
	}
	return err.Code == "" && err.Permanent() && err.Error() == p.err.Error()
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
	d, p, now := &s.descent, s.paused(), time.Now()
	keep := func(kind, err error) *TokenError {
		return &TokenError{Key: s.key, Err: err, kind: kind, keep401: true}
	}
	switch {
	case d.cur.grant.RefreshToken == "":
		return keep(ErrReauthorize, errNoRefreshToken)
	case d.dead == d.cur.refresh:
		return d.deadErr
	case d.doubts(d.cur.refresh) && d.doubt.err != nil:
		if now.Before(d.doubt.ends) {
			return d.doubt.err
		}
		return s.condemn(d.doubt.err)
	case p.err != nil && p.refresh == d.cur.refresh && now.Before(p.next):
		return p.err
	case !why.denies(d.cur):
		return nil
	case why.vague && d.cur.denied.Load():
		return keep(ErrUnavailable, errStillDenied)
	case !d.cur.accepted.Load() && now.Sub(d.freshRenewal) < freshPause:
		return keep(ErrUnavailable, errFreshRefused)
	}
	return nil
}

// condemn makes the server's refusal of the current refresh token final: it
// is not asked again until the Store holds another one.
func (s *TokenSource) condemn(err *TokenError) *TokenError {
	final := *err
	final.kind, final.Err = kindOfCode(err.Code), nil
	s.descent.dead, s.descent.deadErr = s.descent.cur.refresh, &final
	return &final
}
