package b24oauth

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// What a flight does to have the grant to itself, and while it has.

// errNoTurn: fn was not called. A flight does not give up waiting before its
// time because the Store shows a newer grant by now: an abandoned request for
// a lease can be granted after all, to nobody, and blocks the grant for as long
// as a lease lasts.
var errNoTurn = errors.New("another Update has the grant for itself: if this stays, look for a process that hangs in one")

// update is Store.Update with a bound on the waiting, and on that alone, also
// for a Store that hands its ctx on to fn. The error is errNoTurn if fn was
// not called because the waiting ended.
func (s *TokenSource) update(ctx context.Context, wait time.Duration, fn func(context.Context, *Grant) (*Grant, error)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	waiting := time.AfterFunc(wait, func() { cancel(fmt.Errorf("waited %v", wait.Round(time.Millisecond))) })
	defer waiting.Stop()
	began := false
	err := s.cfg.store().Update(ctx, s.key, func(ctx context.Context, g *Grant) (*Grant, error) {
		began = true
		waiting.Stop()
		return fn(ctx, g)
	})
	err = s.withoutOwnTokens(err)
	if err != nil && !began && ctx.Err() != nil {
		return fmt.Errorf("%w (%w): %w", errNoTurn, context.Cause(ctx), err)
	}
	return err
}

// enoughTime returns an error if exclusivity, asked for when asked says, ends
// before an exchange and its saving must have ended.
func (s *TokenSource) enoughTime(ctx context.Context, asked time.Time) error {
	deadline, ok := ctx.Deadline()
	need := s.cfg.refreshTimeout() + saveTimeout
	switch {
	case ok && deadline.Sub(asked) < need:
		return configError("the Store (%T) gives exclusivity for less than the %v that an exchange and its saving may take: lengthen its lease or shorten Config.RefreshTimeout", s.cfg.store(), need).withKey(s.key)
	case ok && time.Until(deadline) < need:
		return s.storeError(fmt.Errorf("exclusivity came so late that less than the %v are left of it that an exchange and its saving may take", need))
	case ctx.Err() != nil:
		return s.storeError(fmt.Errorf("exclusivity ended before the exchange: %w", context.Cause(ctx)))
	}
	return nil
}

// fetch exchanges the current refresh token, unless that is out of the
// question, and has the new pair in memory before it returns it.
func (s *TokenSource) fetch(ctx context.Context, f *flight) (*Grant, error) {
	if err := s.mayExchange(f.why); err != nil {
		return nil, err
	}
	if err := s.enoughTime(ctx, f.asked); err != nil {
		return nil, err
	}
	// From here on ctx does not count: an answer that nobody waits for any
	// more would be a lost grant.
	send, cancel := context.WithTimeout(context.Background(), s.cfg.refreshTimeout())
	defer cancel()
	next, attempts, err := s.cfg.refresh(send, s.descent.cur.grant)
	f.attempts += attempts
	if err != nil {
		f.overrun = ctx.Err() != nil
		return nil, asTokenError(err).withKey(s.key)
	}
	s.advance(next, f.why)
	f.fetched = true
	return next, nil
}
