package renew

import (
	"math"
	"slices"
	"sync/atomic"
	"time"

	"github.com/b24go/b24oauth/internal/lifetime"
)

// Current is the grant as callers use it. It is not changed once it is made,
// but for its marks.
type Current[G comparable] struct {
	Grant  G
	access string
	home   string
	fence  uint64

	// Unix nanoseconds by this machine's clock, whatever clock wrote the
	// grant; long ago if there is no access token. The monotonic clock would not
	// do: it stands still while a machine sleeps, and tokens age.
	staleAt, expiry int64

	// unconfirmedHosts are where the portal redirected to, and a refresh did not
	// confirm that it has moved there. Nil for nearly all portals.
	unconfirmedHosts *[]string

	ambiguous atomic.Bool // it was fetched for an ambiguous refusal, and no repetition has succeeded with it
	unsaved   atomic.Bool // the Store does not have the grant, or not its verdict
}

// never is when a token goes stale that cannot be renewed: it is used until it
// is refused.
const never = math.MaxInt64

// newCurrent returns g as callers use it from now on. What is known of the
// portal stays known if old is not nil, and of the token if old has the same
// one.
func (s *Source[G]) newCurrent(g G, old *Current[G]) *Current[G] {
	v := s.out.View(g)
	c := &Current[G]{Grant: g, access: v.Access, home: v.Home, fence: v.Fence(), staleAt: never, expiry: never}
	switch stale, end := v.Lifetime(s.early, time.Now()); {
	case v.Access == "":
		c.staleAt, c.expiry = math.MinInt64, math.MinInt64
	case !end.IsZero():
		c.staleAt, c.expiry = stale.UnixNano(), end.UnixNano()
	}
	if old != nil {
		c.unconfirmedHosts = old.unconfirmedHosts
		c.ambiguous.Store(old.access == c.access && old.ambiguous.Load())
	}
	return c
}

// Lifetime returns when the token is due for renewal and when it ends: early
// before that, but never more than a quarter of its life. Both are zero for a
// token that cannot be renewed and is used until it is refused. An expiry that
// was written by a clock ahead of this machine's is brought back, or the token
// would be used after its end.
func (v *View) Lifetime(early time.Duration, now time.Time) (stale, end time.Time) {
	if v.Refresh == "" {
		return time.Time{}, time.Time{}
	}
	now, end = now.Round(0), v.Expiry.Round(0)
	life := lifetime.Default
	if !v.Issued.IsZero() {
		life = max(v.Expiry.Sub(v.Issued), 0)
	}
	switch {
	case end.IsZero():
		end = time.Unix(0, 0) // not known: renewed before its first use
	case end.Sub(now) > life:
		end = now.Add(life)
	}
	return end.Add(-max(min(early, life/4), 1)), end
}

// fresh reports whether no renewal is due.
func (c *Current[G]) fresh(now time.Time) bool { return now.UnixNano() <= c.staleAt }

// serves reports whether a caller can go on with the grant. c may be nil.
func (c *Current[G]) serves(why Why, now time.Time) bool {
	switch {
	case c != nil && why.look:
		return true
	case c == nil || now.UnixNano() >= c.expiry || why.force:
		return false
	case why.Host != "":
		return c.home == why.Host || c.unconfirmedHosts != nil && slices.Contains(*c.unconfirmedHosts, why.Host)
	}
	return c.access != why.Refused
}

// maxUnconfirmedHosts bounds what a portal can make a process remember.
const maxUnconfirmedHosts = 32

// unconfirmed notes that a refresh did not confirm that the portal is at host.
func (c *Current[G]) unconfirmed(host string) {
	hosts := []string{host}
	if c.unconfirmedHosts != nil {
		hosts = append(slices.Clone(*c.unconfirmedHosts), host)
	}
	hosts = hosts[max(0, len(hosts)-maxUnconfirmedHosts):]
	c.unconfirmedHosts = &hosts
}

// Helped notes that the portal has served the repetition of a request whose
// refusal gave no reason: the token was to blame.
func (c *Current[G]) Helped() { c.ambiguous.Store(false) }
