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
// those of more than a day, at one an hour. A Store that goes back further is
// not recognised; the memory of many sources is worth more.
const maxLeft = 32

// descent is what a source knows of its grant's history. Whoever holds the
// source's slot may touch it.
type descent struct {
	cur  *snapshot // the grant to go on with; nil if none is known
	left []uint64  // refresh tokens exchanged, or replaced by adoption; never the current one

	dead    uint64      // the refresh token that the server condemned; 0 if none
	deadErr *TokenError // its words
	doubt   *doubt      // nil if none

	freshRenewal time.Time // when a token was last renewed that had never been accepted
}

// doubt is a refresh token that another process may have exchanged: a holder
// of exclusivity before this one that ended without finishing, or one after it
// because this one took too long. If the server does not know it, then it is
// dead only if that one's pair does not turn up.
type doubt struct {
	refresh uint64
	ends    time.Time
	err     *TokenError // what callers are told meanwhile; nil as long as the server was not asked
}

// suspect begins a doubt about the current refresh token, unless the server
// has been asked in one already.
func (d *descent) suspect(ends time.Time) {
	if d.cur != nil && !(d.doubts(d.cur.refresh) && d.doubt.err != nil) {
		d.doubt = &doubt{refresh: d.cur.refresh, ends: ends}
	}
}

func (d *descent) doubts(refresh uint64) bool {
	return d.doubt != nil && d.doubt.refresh == refresh
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
	s.descent.cur = s.snapshot(g)
}

// What the two authorization servers call themselves in a grant.
const (
	globalServer = "https://oauth.bitrix.info/rest/"
	cisServer    = "https://oauth.bitrix24.tech/rest/"
)

// snapshot makes a snapshot of a grant that is the source's own from now on.
// What all grants have in common is kept in memory once.
func (s *TokenSource) snapshot(g *Grant) *snapshot {
	if g.MemberID == s.key {
		g.MemberID = s.key
	}
	for _, common := range [...]string{s.cfg.ClientID, globalServer, cisServer} {
		if g.ClientID == common {
			g.ClientID = common
		}
		if g.ServerEndpoint == common {
			g.ServerEndpoint = common
		}
	}
	return newSnapshot(g, time.Now(), s.cfg.earlyExpiry())
}

// advance makes next, fetched with the current refresh token, the current
// grant: unsaved until the Store has it.
func (s *TokenSource) advance(next *Grant, why reason) {
	d := &s.descent
	old := d.cur
	d.cur = s.snapshot(next)
	d.cur.unsaved.Store(true)
	if d.cur.refresh != old.refresh {
		d.leave(old.refresh)
	}
	if why.denies(old) && !old.accepted.Load() {
		d.freshRenewal = time.Now()
	}
	if why.host != "" && d.cur.host != why.host {
		d.cur.asked = append(slices.Clone(old.asked), why.host)
	}
}
