package b24oauth

import (
	"slices"
	"time"
)

// Which of two grants is newer? Not the one with the later time: clocks
// differ. Not the one with the higher counter: a re-installation starts
// anew. A source knows its own history, and that is enough: a stored grant
// that it left behind is older than its own, and any other that is not its
// own is newer, written by another process or by a re-installation.

// maxLeft is how many refresh tokens a source remembers to have left behind:
// one an hour for the 30 days that a refresh token lives.
const maxLeft = 30 * 24

// descent is what a source knows of its grant's history. Whoever holds the
// source's slot may touch it.
type descent struct {
	cur  *snapshot // the grant to go on with; nil if none is known
	left []uint64  // refresh tokens exchanged, or replaced by adoption; never the current one

	dead      uint64      // the refresh token that the server condemned; 0 if none
	deadErr   *TokenError // its words
	doubt     uint64      // a refresh token that is dead unless its killed holder's successor turns up
	doubtErr  *TokenError
	doubtEnds time.Time

	freshRenewal time.Time // when a token was last renewed that had never been accepted
}

// leave remembers a refresh token as left behind.
func (d *descent) leave(refresh uint64) {
	if len(d.left) == maxLeft {
		d.left = slices.Delete(d.left, 0, 1)
	}
	d.left = append(d.left, refresh)
}

func (d *descent) wasLeft(g *Grant) bool {
	return g.RefreshToken != "" && slices.Contains(d.left, fingerprint(g.RefreshToken))
}

// reconcile takes note of what the Store holds now and decides whose grant
// goes on: the stored one, which it adopts, or the source's own, which is
// unsaved then. After an error there is none to go on with, or it must not
// be touched.
func (s *TokenSource) reconcile(stored *Grant) error {
	d := &s.descent
	switch {
	case stored == nil:
		d.cur = nil // removed: dropped even if unsaved, and never written back
		return s.noGrant()
	case stored.ClientID != "" && stored.ClientID != s.cfg.ClientID:
		return wrongApplication(stored.ClientID, s.cfg.ClientID).withKey(s.key)
	case d.cur == nil && d.wasLeft(stored):
		return &TokenError{Key: s.key, kind: ErrReauthorize, Err: errOlderGrant}
	case d.cur == nil:
		s.adopt(stored)
	case stored.RefreshToken == d.cur.grant.RefreshToken:
		s.reconcileTwin(stored)
	case d.wasLeft(stored):
		// The Store went back, or never took ours. A dead pair is not saved
		// over it.
		d.cur.unsaved.Store(d.dead != d.cur.refresh)
	default:
		if d.cur.grant.RefreshToken != "" {
			d.leave(d.cur.refresh)
		}
		s.adopt(stored)
	}
	return nil
}

// reconcileTwin decides between two grants with one refresh token: the same
// one, or two answers of a server that did not rotate it.
func (s *TokenSource) reconcileTwin(stored *Grant) {
	switch cur := s.descent.cur; {
	case stored.AccessToken == cur.grant.AccessToken:
		cur.unsaved.Store(false)
	case !cur.unsaved.Load():
		s.adopt(stored)
	}
}

func (s *TokenSource) adopt(g *Grant) {
	s.descent.cur = newSnapshot(g, time.Now(), s.cfg.earlyExpiry())
}

// advance makes next, fetched with the current refresh token, the current
// grant: unsaved until the Store has it.
func (s *TokenSource) advance(next *Grant, why reason) {
	d := &s.descent
	old := d.cur
	d.cur = newSnapshot(next, time.Now(), s.cfg.earlyExpiry())
	d.cur.unsaved.Store(true)
	if d.cur.refresh != old.refresh {
		d.leave(old.refresh)
	}
	if why.refused == "" {
		return
	}
	if !old.accepted.Load() {
		d.freshRenewal = time.Now()
	}
	if why.host != "" && d.cur.host != why.host {
		d.cur.asked = append(slices.Clone(old.asked), why.host)
	}
}
