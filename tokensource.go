package b24oauth

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"slices"
	"sync/atomic"
	"time"
	"unique"
	"weak"

	"golang.org/x/oauth2"

	"github.com/b24go/b24oauth/internal/address"
	"github.com/b24go/b24oauth/internal/ctxend"
	"github.com/b24go/b24oauth/internal/outgoing"
	"github.com/b24go/b24oauth/internal/redact"
	"github.com/b24go/b24oauth/internal/renew"
)

// TokenSource supplies the access token of one grant, and renews it when it
// runs out or a portal refuses it. It is an [oauth2.TokenSource] that never
// spends a refresh token twice and never uses a new pair that is not stored,
// unless the Store fails. [Config.TokenSource] makes it. It is safe for
// concurrent use.
type TokenSource struct {
	cfg    *Config
	key    string
	used   atomic.Int64 // Unix time of the last use that was noted
	source renew.Source[*heldGrant]

	toldHidden atomic.Bool // the log says that something hides this source from Transport
}

var _ oauth2.TokenSource = (*TokenSource)(nil)

// current is a grant as callers use it.
type current = renew.Current[*heldGrant]

// heldGrant is a grant in memory. It is not changed.
type heldGrant struct {
	Grant
	field  string                       // auth=…, of which the access token is a part
	portal address.Portal               // where the token may go; zero if the grant names none
	shared unique.Handle[common]        // one copy of it is kept for as long as somebody has its handle
	token  atomic.Pointer[oauth2.Token] // made when first asked for
}

// common is what many grants have in common.
type common struct{ clientID, serverEndpoint, scope, status string }

// hold returns a copy of g as it is held: a Store that works in place on the
// lists of a grant that it gave out would change where the token may go.
func (s *TokenSource) hold(g *Grant) *heldGrant {
	h, t := &heldGrant{Grant: *g.clone()}, outgoing.NewToken(g.AccessToken)
	h.AccessToken, h.field = t.Value, t.Field
	if portal, err := address.ParseEndpoint(g.ClientEndpoint); err == nil {
		h.portal = portal
	}
	h.shared = unique.Make(common{h.ClientID, h.ServerEndpoint, h.Scope, h.Status})
	c := h.shared.Value()
	h.ClientID, h.ServerEndpoint, h.Scope, h.Status = c.clientID, c.serverEndpoint, c.scope, c.status
	if h.MemberID == s.key {
		h.MemberID = s.key
	}
	return h
}

// isPortal reports whether the token may go to u: to the portal's present
// address, or to a former one, which stands for the present.
func (h *heldGrant) isPortal(u *url.URL) bool {
	if !address.Secure(u) {
		return false
	}
	return h.portal.Has(u) || len(h.FormerHosts) > 0 && slices.Contains(h.FormerHosts, address.CanonicalHost(u))
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
		extra := h.Grant.extra()
		extra[originKey] = origin{weak.Make(s)}
		t = (&oauth2.Token{AccessToken: h.AccessToken}).WithExtra(extra)
		_, t.Expiry = h.view().Lifetime(0, time.Now()) // by this machine's clock
		h.token.Store(t)
	}
	c := *t
	return &c
}

// View implements [renew.Outside].
func (*outside) View(g *heldGrant) renew.View {
	v := g.view()
	v.Home = g.portal.Host
	return *v
}

// With implements [renew.Outside].
func (o *outside) With(g *heldGrant, m renew.Marks) *heldGrant {
	next := g.Grant
	if !m.Deleted.IsZero() {
		next = Grant{ClientID: g.ClientID}
	}
	next.Lineage, next.Refused, next.Deleted = Lineage(m.Lineage), Refusal(m.Refused), m.Deleted
	return (*TokenSource)(o).hold(&next)
}

// Token returns a copy of the current access token, renewed if it would
// expire within Config.EarlyExpiry. It waits for a renewal without limit but
// the renewal's own; TokenContext can be told to give up.
func (s *TokenSource) Token() (*oauth2.Token, error) {
	return s.TokenContext(context.Background())
}

// TokenContext is Token for a caller with a context, whose end ends only this
// caller's waiting: the renewal goes on for whoever comes next.
//
// The token carries no refresh token; member_id, client_endpoint and the like
// are there as Extra. The error is a *[TokenError] unless ctx ended first.
func (s *TokenSource) TokenContext(ctx context.Context) (*oauth2.Token, error) {
	c, err := s.fresh(ctx)
	if err != nil {
		return nil, err
	}
	return c.Grant.copyToken(s), nil
}

// Renew returns a token to go on with after a portal refused one, for
// programs that call Bitrix24 without [Transport]. If refused is not the
// current token any more, that is the current one and nothing is renewed. After
// a renewal for a refusal there is none for another one for ten seconds, then
// for twice as long each time, up to 15 minutes, until no refusal comes within
// twice the last pause; meanwhile the error is a *[TokenError] that is
// ErrUnavailable.
//
// A nil refused renews the token now, whatever its state, ends that pause, and
// asks once more about a refresh token that was refused: for an operator who
// knows better.
//
// A renewal that fails is a *TokenError of any kind; if ctx ends first, the
// error is ctx's.
func (s *TokenSource) Renew(ctx context.Context, refused *oauth2.Token) (*oauth2.Token, error) {
	why := renew.Force
	if refused != nil {
		if refused.AccessToken == "" {
			return nil, configError("Renew was called with a token without AccessToken: pass the one that was refused, or nil to renew whatever there is").withKey(s.key)
		}
		why = renew.Why{Refused: refused.AccessToken}
	}
	c, err := s.get(ctx, why)
	if err != nil {
		return nil, err
	}
	return c.Grant.copyToken(s), nil
}

// Grant returns the grant as it is stored, or the newer pair that the Store
// has not taken yet. It renews nothing. It contains the tokens; they belong
// to the source, which may exchange them at any time. The error is a
// *[TokenError]: ErrNoGrant if there is none, ErrUnavailable if the Store
// fails, ErrMisconfigured if it says that this will not pass.
func (s *TokenSource) Grant(ctx context.Context) (*Grant, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	h, f := s.source.Stored(ctx)
	switch {
	case f != nil && f.Class == renew.StoreFailed && ctx.Err() != nil: // in whatever words the Store says so
		return nil, s.gaveUp("gave up waiting for the Store", ctxend.Of(ctx))
	case f != nil:
		return nil, s.failure(f)
	}
	return h.Grant.clone(), nil
}

// Endpoint returns the base of the portal's REST methods, such as
// https://example.bitrix24.com/rest/, for clients that have to be told where to
// go. It follows a portal that is renamed: ask for each client, or use
// [Transport], which takes requests to a former address to the present one.
// The error is that of [TokenSource.TokenContext].
func (s *TokenSource) Endpoint(ctx context.Context) (*url.URL, error) {
	c, err := s.known(ctx)
	if err == nil && c.Grant.portal.Host == "" {
		err = s.noPortal()
	}
	if err != nil {
		return nil, err
	}
	p := c.Grant.portal
	return &url.URL{Scheme: p.Scheme, Host: p.Host, Path: p.Path}, nil
}

func (s *TokenSource) noPortal() *TokenError {
	return configError("the grant names no portal: store one whose ClientEndpoint is the base of the portal's REST methods").withKey(s.key)
}

func (s *TokenSource) check() error {
	switch {
	case s.cfg == nil:
		return configError("a TokenSource is made by Config.TokenSource, not by itself")
	case s.key == "":
		return errEmptyKey
	}
	return s.cfg.check()
}

// fresh returns the grant that a new call is to use. The usual case takes no
// lock.
func (s *TokenSource) fresh(ctx context.Context) (*current, error) {
	now := time.Now()
	if c := s.source.Fresh(now); c != nil {
		s.touch(now)
		return c, nil
	}
	return s.get(ctx, renew.Why{})
}

// known returns the grant, whatever the state of its token: for callers that
// need to know the portal first. It waits for the Store at most.
func (s *TokenSource) known(ctx context.Context) (*current, error) {
	if c := s.source.Known(); c != nil {
		return c, nil
	}
	return s.get(ctx, renew.Look)
}

// get returns a grant that serves a caller with this reason.
func (s *TokenSource) get(ctx context.Context, why renew.Why) (*current, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	s.touch(time.Now())
	c, f := s.source.Get(ctx, why)
	if f != nil {
		return nil, s.failure(f)
	}
	return c, nil
}

// replace stores g in place of whatever there is, and goes on with it.
func (s *TokenSource) replace(ctx context.Context, g *Grant) error {
	f := s.source.Save(ctx, s.hold(g), func(over *heldGrant) (*heldGrant, error) {
		var stored *Grant
		if over != nil {
			stored = &over.Grant
		}
		next, err := s.cfg.replacement(stored, g)
		if err != nil {
			return nil, err
		}
		return s.hold(next), nil
	})
	if f != nil {
		return s.failure(f)
	}
	return nil
}

// replacement returns g as it is stored over a grant, nil if there is none.
func (c *Config) replacement(stored, g *Grant) (*Grant, error) {
	next := g.clone()
	if stored != nil {
		switch {
		case stored.RefreshToken != "" && g.RefreshToken == "":
			return nil, configError("the new grant has no refresh token and the stored one has: it is not given up for an access token")
		case stored.MemberID != "" && g.MemberID != "" && stored.MemberID != g.MemberID:
			return nil, configError("the stored grant is of the portal with the member_id %q and the new one of %q: give each portal a key of its own, or delete the stored one with Config.Delete first", redact.Shorten(stored.MemberID), redact.Shorten(g.MemberID))
		case stored.MemberID != "" && stored.MemberID == g.MemberID:
			next = stored.merge(g, c.ClientID, c.trustedEndpoint(g.ServerEndpoint))
			next.keepPath(stored)
			if !address.SameEndpoint(stored.ClientEndpoint, next.ClientEndpoint) {
				// g may come from a request that anybody can send. That the portal
				// was renamed only the authorization server can say.
				next.FormerHosts = slices.Clone(g.FormerHosts)
			}
		}
	}
	next.ClientID = c.ClientID
	if u, err := address.ParseEndpoint(next.ClientEndpoint); err == nil {
		next.ClientEndpoint = u.String()
	}
	return next, nil
}

// touch notes the use, if none was in the last half of missingLimit: an atomic
// write for every call would be one cache line for all cores.
func (s *TokenSource) touch(now time.Time) {
	was, is := s.used.Load(), now.Unix()
	if d := is - was; d >= 0 && d < int64(missingLimit/time.Second)/2 || !s.used.CompareAndSwap(was, is) {
		return
	}
	s.cfg.sources.Use(s.key, s, now, func(s *TokenSource) bool { return s.isIdle(now) })
}

// isIdle reports whether the source was not used for so long that it may go,
// unless somebody has it.
func (s *TokenSource) isIdle(now time.Time) bool {
	limit := idleLimit
	if s.source.Known() == nil {
		limit = missingLimit
	}
	return now.Sub(time.Unix(s.used.Load(), 0)) > limit && !s.source.Busy()
}

// String names the grant that the source is for.
func (s *TokenSource) String() string {
	if s == nil {
		return "<nil>"
	}
	return fmt.Sprintf("TokenSource{key=%q}", s.key)
}

// Format implements [fmt.Formatter] for every verb, without the tokens.
func (s *TokenSource) Format(f fmt.State, _ rune) { io.WriteString(f, s.String()) }

// LogValue implements [slog.LogValuer], without the tokens.
func (s *TokenSource) LogValue() slog.Value { return slog.StringValue(s.String()) }
