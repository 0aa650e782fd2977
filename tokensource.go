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

	"golang.org/x/oauth2"

	"github.com/b24go/b24oauth/internal/address"
	"github.com/b24go/b24oauth/internal/ctxend"
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
	used   atomic.Int64 // Unix time in nanoseconds of the last use that was noted
	source renew.Source[*heldGrant]

	toldHidden atomic.Bool // the log says that something hides this source from Transport
}

var _ oauth2.TokenSource = (*TokenSource)(nil)

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
	return h.grant(), nil
}

// Endpoint returns the base of the portal's REST methods, such as
// https://example.bitrix24.com/rest/, for clients that have to be told where to
// go. It follows a portal that is renamed: ask for each client, or use
// [Transport], which takes requests to a former address to the present one.
// The error is that of [TokenSource.TokenContext].
func (s *TokenSource) Endpoint(ctx context.Context) (*url.URL, error) {
	c, err := s.known(ctx)
	if err == nil && c.Grant.portal().Host == "" {
		err = s.noPortal()
	}
	if err != nil {
		return nil, err
	}
	p := c.Grant.portal()
	return &url.URL{Scheme: p.Scheme, Host: p.Host, Path: p.Path}, nil
}

func (s *TokenSource) noPortal() *TokenError {
	return configError("the grant names no portal: store one whose ClientEndpoint is the base of the portal's REST methods").withKey(s.key)
}

func (s *TokenSource) check() error {
	if s.cfg == nil {
		return configError("a TokenSource is made by Config.TokenSource, not by itself")
	}
	if err := checkKey(s.key); err != nil {
		return err
	}
	return s.cfg.check()
}

// fresh returns the grant that a new call is to use. The usual case takes no
// lock.
func (s *TokenSource) fresh(ctx context.Context) (*current, error) {
	now := time.Now().UnixNano()
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
	s.touch(time.Now().UnixNano())
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
			stored = over.grant()
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
		if e := c.ownership(stored.ClientID); e != nil && e.kind == ErrMisconfigured {
			return nil, e
		}
		if stored.RefreshToken != "" && g.RefreshToken == "" {
			return nil, configError("the new grant has no refresh token and the stored one has: it is not given up for an access token")
		}
		if err := samePortal(stored, g); err != nil {
			return nil, err
		}
		if c.trustedEndpoint(g.ServerEndpoint) == "" {
			next.ServerEndpoint = stored.ServerEndpoint
		}
		next.keep(stored)
	}
	next.ClientID = c.ClientID
	if u, err := address.ParseEndpoint(next.ClientEndpoint); err == nil {
		next.ClientEndpoint = u.String()
	}
	return next, nil
}

// samePortal returns an error if g is a grant of another portal than the stored
// one, as far as the two name theirs: by the member_id, which never changes, or
// else by the address.
func samePortal(stored, g *Grant) error {
	const advice = "give each portal a key of its own, or delete the stored one with Config.Delete first"
	if stored.MemberID != "" && g.MemberID != "" {
		if stored.MemberID == g.MemberID {
			return nil
		}
		return configError("the stored grant is of the portal with the member_id %q and the new one of %q: %s", redact.Shorten(stored.MemberID), redact.Shorten(g.MemberID), advice)
	}
	was, err := address.ParseEndpoint(stored.ClientEndpoint)
	is, bad := address.ParseEndpoint(g.ClientEndpoint)
	if err != nil || bad != nil || was.Host == is.Host || slices.Contains(stored.FormerHosts, is.Host) {
		return nil
	}
	return configError("the stored grant is of the portal at %s and the new one of that at %s, and one of them has no member_id to tell that they are the same: %s", redact.Host(was.Host), redact.Host(is.Host), advice)
}

// touch notes the use, if none was in the last half of missingLimit: an atomic
// write for every call would be one cache line for all cores.
func (s *TokenSource) touch(now int64) {
	if was := s.used.Load(); uint64(now-was) >= uint64(missingLimit/2) { // also if the clock was set back
		s.use(was, now)
	}
}

// use notes the use that touch has found worth it, unless another call did.
func (s *TokenSource) use(was, is int64) {
	if !s.used.CompareAndSwap(was, is) {
		return
	}
	now := time.Unix(0, is)
	s.cfg.sources.Use(s.key, s, now, func(s *TokenSource) bool { return s.isIdle(now) })
}

// isIdle reports whether the source was not used for so long that it may go,
// unless somebody has it.
func (s *TokenSource) isIdle(now time.Time) bool {
	limit := idleLimit
	if s.source.Known() == nil {
		limit = missingLimit
	}
	return now.Sub(time.Unix(0, s.used.Load())) > limit && !s.source.Busy()
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
