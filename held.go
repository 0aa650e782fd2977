package b24oauth

import (
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unique"
	"weak"

	"golang.org/x/oauth2"

	"github.com/b24go/b24oauth/internal/address"
	"github.com/b24go/b24oauth/internal/outgoing"
	"github.com/b24go/b24oauth/internal/renew"
)

// A program that serves a hundred thousand portals would spend most of its
// memory on what all of their grants have in common, on fields that are empty in
// nearly all of them, and on the headers of strings. So a TokenSource keeps its
// grant packed, and makes a Grant of it for whoever asks for one.

// current is a grant as callers use it.
type current = renew.Current[*heldGrant]

// heldGrant is a grant in memory. It is not changed.
type heldGrant struct {
	text           string // auth=…, the tokens and the portal's host, one after the other
	ends           ends
	memberID       string
	shared         unique.Handle[common] // one copy of it is kept for as long as somebody has its handle
	userID         int64
	issued, expiry moment
	lineage        Lineage
	unusual        *unusual                     // nil for most grants
	token          atomic.Pointer[oauth2.Token] // made when first asked for
}

// ends are the places in the text of a heldGrant where its parts end. The access
// token is the end of auth=… if it can be, and else follows it.
type ends struct{ beforeAccess, field, access, refresh, application uint32 }

// common is what many grants have in common.
type common struct{ clientID, serverEndpoint, scope, status string }

// unusual is what few grants have: a refused one, a deleted one, one of a portal
// that was renamed or is not at https://…/rest/, one without a portal.
type unusual struct {
	clientEndpoint string
	portal         address.Portal // where the token may go; zero if the grant names none
	formerHosts    []string
	refused        Refusal
	deleted        time.Time
}

// moment is a time.Time without its zone, of which a Store may have made one for
// each grant that it read.
type moment struct {
	seconds     int64
	nanoseconds int32
}

func momentOf(t time.Time) moment { return moment{t.Unix(), int32(t.Nanosecond())} }

func (m moment) time() time.Time { return time.Unix(m.seconds, int64(m.nanoseconds)).UTC() }

// hold returns g as it is held. It is a copy: a Store that works in place on the
// lists of a grant that it gave out would change where the token may go.
func (s *TokenSource) hold(g *Grant) *heldGrant {
	h := &heldGrant{
		memberID: g.MemberID,
		shared:   unique.Make(common{g.ClientID, g.ServerEndpoint, g.Scope, g.Status}),
		userID:   g.UserID,
		issued:   momentOf(g.Issued),
		expiry:   momentOf(g.Expiry),
		lineage:  g.Lineage,
	}
	h.lineage.Former = slices.Clone(g.Lineage.Former)
	if g.MemberID == s.key {
		h.memberID = s.key
	}
	portal, _ := address.ParseEndpoint(g.ClientEndpoint)
	if g.ClientEndpoint != usualPortal(portal.Host).String() || len(g.FormerHosts) > 0 || g.Refused != (Refusal{}) || !g.Deleted.IsZero() {
		h.unusual = &unusual{g.ClientEndpoint, portal, slices.Clone(g.FormerHosts), g.Refused, g.Deleted}
	}
	token := outgoing.NewToken(g.AccessToken)
	before, own := strings.CutSuffix(token.Field, token.Value)
	if own {
		token.Value = ""
	}
	h.text = token.Field + token.Value + g.RefreshToken + g.ApplicationToken + portal.Host
	end := 0
	after := func(part string) uint32 {
		end += len(part)
		return uint32(end)
	}
	h.ends = ends{
		beforeAccess: uint32(len(before)),
		field:        after(token.Field),
		access:       after(token.Value),
		refresh:      after(g.RefreshToken),
		application:  after(g.ApplicationToken),
	}
	return h
}

// usualPortal is where the REST methods of nearly all portals are.
func usualPortal(host string) address.Portal {
	return address.Portal{Scheme: "https", Host: host, Path: address.RestPath}
}

// grant returns a copy of the grant as it was when it was held, but for the zone
// of its times, which is UTC.
func (h *heldGrant) grant() *Grant {
	common := h.shared.Value()
	g := &Grant{
		ClientID:         common.clientID,
		MemberID:         h.memberID,
		ServerEndpoint:   common.serverEndpoint,
		AccessToken:      h.access(),
		RefreshToken:     h.refresh(),
		ApplicationToken: h.application(),
		Issued:           h.issued.time(),
		Expiry:           h.expiry.time(),
		Scope:            common.scope,
		Status:           common.status,
		UserID:           h.userID,
		Lineage:          h.lineage,
	}
	if u := h.unusual; u != nil {
		g.ClientEndpoint, g.FormerHosts, g.Refused, g.Deleted = u.clientEndpoint, u.formerHosts, u.refused, u.deleted
	} else {
		g.ClientEndpoint = h.portal().String()
	}
	return g.clone()
}

func (h *heldGrant) access() string { return h.text[h.ends.beforeAccess:h.ends.access] }

func (h *heldGrant) refresh() string { return h.text[h.ends.access:h.ends.refresh] }

func (h *heldGrant) application() string { return h.text[h.ends.refresh:h.ends.application] }

// sent is the access token as a request carries it.
func (h *heldGrant) sent() outgoing.Token {
	return outgoing.Token{Value: h.access(), Field: h.text[:h.ends.field]}
}

// secrets returns what must not be told of the grant.
func (h *heldGrant) secrets() []string { return []string{h.access(), h.refresh(), h.application()} }

// portal is where the token may go; zero if the grant names none.
func (h *heldGrant) portal() address.Portal {
	if h.unusual != nil {
		return h.unusual.portal
	}
	return usualPortal(h.text[h.ends.application:])
}

// formerHosts are the addresses that the portal had before, for reading only.
func (h *heldGrant) formerHosts() []string {
	if h.unusual != nil {
		return h.unusual.formerHosts
	}
	return nil
}

// isPortal reports whether the token may go to u: to the portal's present
// address, or to a former one, which stands for the present.
func (h *heldGrant) isPortal(u *url.URL) bool {
	if !address.Secure(u) {
		return false
	}
	former := h.formerHosts()
	return h.portal().Has(u) || len(former) > 0 && slices.Contains(former, address.CanonicalHost(u))
}

// origin is what a token says in its Extra of the source that it is from. It
// tells nothing when it is printed, and keeps nothing in memory.
type origin struct{ source weak.Pointer[TokenSource] }

const originKey = "b24oauth.origin"

// copyToken returns the token of s for a caller to keep: oauth2 writes into
// tokens that it is given.
func (h *heldGrant) copyToken(s *TokenSource) *oauth2.Token {
	t := h.token.Load()
	if t == nil {
		g := h.grant()
		extra := g.extra()
		extra[originKey] = origin{weak.Make(s)}
		t = (&oauth2.Token{AccessToken: g.AccessToken}).WithExtra(extra)
		_, t.Expiry = g.view().Lifetime(0, time.Now()) // by this machine's clock
		h.token.Store(t)
	}
	c := *t
	return &c
}

// View implements [renew.Outside].
func (o *outside) View(g *heldGrant) renew.View {
	grant := g.grant()
	v := grant.view()
	v.Home = g.portal().Host
	if err := o.cfg.ownership(grant.ClientID); err != nil {
		v.Foreign = err.withKey(o.key)
	}
	return *v
}

// With implements [renew.Outside].
func (o *outside) With(g *heldGrant, m renew.Marks) *heldGrant {
	next := g.grant()
	if !m.Deleted.IsZero() {
		next = &Grant{ClientID: next.ClientID}
	}
	next.Lineage, next.Refused, next.Deleted = Lineage(m.Lineage), Refusal(m.Refused), m.Deleted
	return (*TokenSource)(o).hold(next)
}
