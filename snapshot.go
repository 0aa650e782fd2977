package b24oauth

import (
	"net/url"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/oauth2"

	"github.com/b24go/b24oauth/internal/address"
	"github.com/b24go/b24oauth/internal/lifetime"
)

// snapshot is a grant as callers use it. It is not changed once it is made,
// but for its marks.
type snapshot struct {
	grant   *Grant
	host    string // the portal that the token may go to; "" if unknown
	scheme  string
	refresh uint64    // fingerprint of the refresh token
	expiry  time.Time // by this machine's clock, whatever clock wrote the grant
	early   time.Duration
	asked   []string // hosts that the portal redirected to and a refresh did not confirm

	accepted atomic.Bool                  // a portal has served a request with the token
	onTrial  atomic.Bool                  // it answers a vague refusal, and no repetition has succeeded with it
	denied   atomic.Bool                  // a vague refusal outlived the renewal that it led to
	unsaved  atomic.Bool                  // the Store does not have the grant yet
	token    atomic.Pointer[oauth2.Token] // made when first asked for
}

// never is when a token expires that cannot be renewed: it is used until it
// is refused.
var never = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

func newSnapshot(g *Grant, now time.Time, earlyExpiry time.Duration) *snapshot {
	// The monotonic clock stands still while a machine sleeps; tokens age.
	sn := &snapshot{grant: g, refresh: fingerprint(g.RefreshToken), expiry: g.Expiry.Round(0)}
	if u, err := address.ParseEndpoint(g.ClientEndpoint); err == nil {
		sn.scheme, sn.host = u.Scheme, u.Host
	}
	life := lifetime.Default
	if !g.Issued.IsZero() {
		life = max(g.Expiry.Sub(g.Issued), 0)
	}
	sn.early = max(min(earlyExpiry, life/4), 1) // 0 would be oauth2's own ten seconds
	switch {
	case g.RefreshToken == "":
		sn.expiry = never
	case g.Expiry.Sub(now) > life:
		sn.expiry = now.Round(0).Add(life) // written by a clock that is ahead of ours
	}
	return sn
}

// fresh reports whether no renewal is due. It agrees with what oauth2 calls
// valid for an early expiry of sn.early.
func (sn *snapshot) fresh(now time.Time) bool {
	return sn.grant.AccessToken != "" && !now.After(sn.expiry.Add(-sn.early))
}

// serves reports whether a caller with this reason can go on with it.
func (sn *snapshot) serves(why reason, now time.Time) bool {
	if sn.grant.AccessToken == "" || !now.Before(sn.expiry) {
		return false
	}
	if why.host != "" {
		return sn.host == why.host || slices.Contains(sn.asked, why.host)
	}
	return sn.grant.AccessToken != why.refused
}

// denies reports whether the reason is that the portal refused this very
// token, and not one before it.
func (why reason) denies(sn *snapshot) bool {
	return why.refused != "" && why.refused == sn.grant.AccessToken
}

// copyToken returns the token for a caller to keep: oauth2 writes into tokens
// that it is given.
func (sn *snapshot) copyToken() *oauth2.Token {
	t := sn.token.Load()
	if t == nil {
		t = sn.grant.Token()
		t.Expiry = sn.expiry
		if sn.expiry.Equal(never) {
			t.Expiry = time.Time{}
		}
		sn.token.Store(t)
	}
	c := *t
	return &c
}

// accept notes that a portal has served a request with the token.
func (sn *snapshot) accept() {
	if !sn.accepted.Load() {
		sn.accepted.Store(true)
	}
}

// isPortal reports whether the grant's token may go to u: to the portal's
// present address, or to a former one, which stands for the present.
func (sn *snapshot) isPortal(u *url.URL) bool {
	if !address.Secure(u) {
		return false
	}
	host := address.CanonicalHost(u)
	return host == sn.host && u.Scheme == sn.scheme || slices.Contains(sn.grant.FormerHosts, host)
}
