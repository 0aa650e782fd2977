package b24oauth

import (
	"context"
	"errors"
	"time"

	"github.com/b24go/b24oauth/internal/ctxend"
	"github.com/b24go/b24oauth/internal/redact"
	"github.com/b24go/b24oauth/internal/reserved"
)

// Redeem stores a grant that nobody vouches for, as an installation brings one,
// once it is proven: it exchanges the grant's refresh token and stores the pair
// that this brings, which is good for a full hour. [Config.Confirm] vouches for
// an access token alone, and a user can post his own beside another portal's
// refresh token; the exchange says whose that is.
//
// All of it happens while no other process changes what is stored under key. If
// that is g, or descends from it, or has replaced it, nothing is exchanged and the
// error is ErrOutdated: an installation that is delivered a thousand times costs
// one request, and never the pair that is in use.
//
// accept is called with the new grant before it is stored, and what it changes
// there is stored, such as the UserID; what it returns instead of nil is Redeem's
// error, nothing is stored, and the pair is lost. It may ask the portal with the
// new access token whose it is, for a few seconds; its ctx does not end with the
// caller's. It may be called again if another process changes the Store meanwhile.
// Nil accepts every grant.
//
// Any other error is as that of [Config.Save], or a *[TokenError] that says why
// the pair could not be exchanged: ErrReauthorize if the server refuses the
// refresh token, or says that it is another portal's than g.MemberID. A new pair
// that the Store does not take is no error: it is used from memory and saved as
// soon as the Store allows, as after a renewal. If ctx ends first, the error is
// ctx's, and what was begun goes on: [Config.Flush] waits for it.
func (c *Config) Redeem(ctx context.Context, key string, g *Grant, accept func(ctx context.Context, renewed *Grant) error) error {
	if err := c.checkGiven("Redeem", key, g); err != nil {
		return err
	}
	if g.RefreshToken == "" {
		return configError("Redeem was called with a grant without a refresh token: nothing can be exchanged")
	}
	s := c.TokenSource(key)
	stored := func(over *heldGrant) *Grant {
		if over == nil {
			return nil
		}
		return over.grant()
	}
	may := func(over *heldGrant) error {
		_, err := c.replacement(stored(over), g)
		return err
	}
	f := s.source.Redeem(ctx, s.hold(g), may, func(ctx context.Context, over, next *heldGrant) (*heldGrant, error) {
		renewed := next.grant()
		renewed.FormerHosts = nil // g may say anything
		if err := accepted(ctx, accept, renewed); err != nil {
			return nil, &refusal{err}
		}
		was := stored(over)
		kept, err := c.replacement(was, renewed)
		if err != nil {
			return nil, err
		}
		if was != nil && was.MemberID != "" && was.MemberID == renewed.MemberID {
			was.moveTo(renewed.ClientEndpoint, true) // by the server's own word
			kept.FormerHosts = was.FormerHosts
		}
		return s.hold(kept), nil
	})
	if f == nil {
		return nil
	}
	if r, ok := errors.AsType[*refusal](f.Err); ok {
		return r.err
	}
	return s.failure(f)
}

// CheckStore shows that the Store takes a grant, and gives it back: call it before a
// user is sent to a portal, or a code or a refresh token is spent whose pair would
// be lost otherwise. It writes and deletes something under a key that is no grant's
// and that Keys does not list. The error is a *[TokenError], ErrMisconfigured if
// the Store says that its failure will not pass and else ErrUnavailable, or ctx's
// if that ends while the Store is waited for. It may be called concurrently.
func (c *Config) CheckStore(ctx context.Context) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = unavailable("the Store (%T) panicked: %s", c.store(), redact.Panic(v))
		}
	}()
	store, key := c.usedStore(), reserved.Probe(c.ClientID)
	probe := &Grant{AccessToken: "probe", RefreshToken: "probe", Issued: time.Now()}
	write := func(g *Grant, err error) error {
		return store.Update(ctx, key, func(context.Context, *Grant) (*Grant, error) { return g, err })
	}
	err = write(probe, nil)
	if err == nil {
		err = write(nil, ErrDelete)
	}
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return redact.Error(ctxend.Wrap("b24oauth: gave up trying the Store", ctxend.Of(ctx)), c.ClientSecret)
	}
	return c.storeError(err, c.ClientSecret)
}

// accepted calls accept, whose panic must not end a job of the package.
func accepted(ctx context.Context, accept func(context.Context, *Grant) error, renewed *Grant) (err error) {
	if accept == nil {
		return nil
	}
	defer func() {
		if v := recover(); v != nil {
			err = configError("the function that accepts a grant panicked: %s", redact.Panic(v))
		}
	}()
	return accept(ctx, renewed)
}

// refusal is what accept has returned, on its way to the caller.
type refusal struct{ err error }

func (r *refusal) Error() string { return r.err.Error() }
