package b24oauth

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/b24go/b24oauth/internal/ctxend"
	"github.com/b24go/b24oauth/internal/redact"
	"github.com/b24go/b24oauth/internal/renew"
)

const (
	refreshLife    = 30 * 24 * time.Hour // of a refresh token that is not exchanged
	leastIdle      = 24 * time.Hour
	keepAlivePause = time.Second / 2 // between two renewals
)

// KeepAlive renews the grants that nobody has used for idle, so that they are not
// lost: Bitrix24 takes a refresh token for 30 days, and then a user of the portal has
// to authorize the application again. It is for a job that runs once a day, with an
// idle of 20 days, say.
//
// Iterating does the work, one grant after the other in the order of [Config.Keys],
// and yields the key of each grant that was renewed, with a nil error, or that does
// not work, with a *[TokenError]: those that are ErrReauthorize have to be authorized
// again. The authorization server is not asked about a grant that it has refused
// already. A grant that was issued less than idle ago is not yielded, nor is one
// without a refresh token, or one of another application that is none of
// FormerClientIDs. If the authorization server or the Store is down, every grant
// brings an ErrUnavailable: break out of the loop if they go on.
//
// There is half a second between two renewals, or the loop's body if that takes
// longer, and so never more than two in a second. Several processes may do this on
// one Store at the same time: a grant that another one has renewed is left alone.
//
// An idle of less than a day or of 30 days and more is refused, with an error that
// is ErrMisconfigured: Bitrix24 blocks applications that refresh on a schedule what
// is in use anyway. An error of the Store's list, which has to be a [Lister], is
// yielded with an empty key. If ctx ends, its error is the last one; a renewal in
// flight goes on, and [Config.Flush] waits for it.
func (c *Config) KeepAlive(ctx context.Context, idle time.Duration) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if err := c.checkIdle(idle); err != nil {
			yield("", err)
			return
		}
		p := pace{wait: time.NewTimer(0)}
		defer p.wait.Stop()
		for key, err := range c.Keys(ctx) {
			acted := err != nil
			if !acted {
				acted, err = c.keepAlive(ctx, key, idle, &p)
			}
			if ctx.Err() != nil {
				yield("", redact.Error(ctxend.Wrap("b24oauth: KeepAlive: gave up", ctxend.Of(ctx)), c.ClientSecret))
				return
			}
			if acted && !yield(key, err) {
				return
			}
		}
	}
}

func (c *Config) checkIdle(idle time.Duration) error {
	if err := c.check(); err != nil {
		return err
	}
	if idle < leastIdle || idle >= refreshLife {
		return configError("KeepAlive was called for grants that are idle for %v: it must be a day at least, since Bitrix24 blocks applications that refresh on a schedule, and less than the 30 days that a refresh token lives; 20 days are usual", idle)
	}
	return nil
}

// keepAlive renews a grant if it is idle. acted is false if there was nothing to do,
// and nothing to tell.
func (c *Config) keepAlive(ctx context.Context, key string, idle time.Duration, p *pace) (acted bool, _ error) {
	s := c.TokenSource(key)
	h, f := s.source.Stored(ctx)
	switch {
	case f == nil:
	case f.Class == renew.Missing, f.Class == renew.Foreign && !errors.Is(f.Err, ErrReauthorize):
		return false, nil // deleted meanwhile, or another application's
	default:
		return true, s.failure(f)
	}
	g := h.grant()
	if g.Refused.Code != "" {
		return true, s.failure(&renew.Failure{Class: renew.Refused, Code: g.Refused.Code, At: g.Refused.At})
	}
	if g.RefreshToken == "" || !g.idle(idle, time.Now()) {
		return false, nil
	}
	if !p.next(ctx) {
		return true, nil
	}
	defer p.rest()
	// The access token of an idle grant has run out, so the usual renewal is due. One
	// that is said to live for longer is renewed like one that was refused. Neither
	// renews what another process has renewed by now.
	t, err := s.TokenContext(ctx)
	if err == nil && t.AccessToken == g.AccessToken {
		_, err = s.Renew(ctx, t)
	}
	return true, err
}

// idle reports whether the pair was issued that long ago. One that says nothing of
// it, or comes from a clock that was far ahead, is taken for old: to renew a grant
// once too often costs nothing, and to forget one costs the grant.
func (g *Grant) idle(idle time.Duration, now time.Time) bool {
	age := now.Sub(g.Issued)
	return g.Issued.IsZero() || age >= idle || age < -leastIdle
}

// pace keeps renewals apart.
type pace struct{ wait *time.Timer }

// next waits until the next renewal may begin. It is false if ctx has ended.
func (p *pace) next(ctx context.Context) bool {
	select {
	case <-p.wait.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// rest has the next renewal wait for its pause.
func (p *pace) rest() { p.wait.Reset(keepAlivePause) }
