package b24oauth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/b24go/b24oauth/internal/address"
)

// Whoever holds a source's slot works on its grant: a flight, Save or Flush.
// What came of it is published before the slot is given back, so that callers
// see the changes in their order.

func (s *TokenSource) takeSlot(ctx context.Context) error {
	select {
	case s.slot <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// publish shows callers the current grant. The slot is held.
func (s *TokenSource) publish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.snap.Store(s.descent.cur)
}

// land publishes what came of a flight and what it means for the next one.
// The slot is held.
func (s *TokenSource) land(f *flight, err *TokenError) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	cur := s.descent.cur
	s.snap.Store(cur)
	s.flight = nil
	switch {
	case err == nil:
		s.succeeded()
	case err.keep401:
		s.keep = &kept{why: f.why, err: err, look: now.Add(storeLook)}
	case cur == nil:
		s.setPause(s.paused().after(err, 0, now))
	default:
		s.setPause(s.paused().after(err, cur.refresh, now))
	}
	unsaved := cur != nil && cur.unsaved.Load()
	if unsaved {
		p := s.paused()
		p.save = now.Add(backoff(p.saveSteps))
		p.saveSteps++
		s.setPause(p)
	}
	s.cfg.setBusy(s, unsaved)
}

// succeeded forgets the failures. s.mu is held.
func (s *TokenSource) succeeded() {
	p := s.paused()
	s.pause, s.keep = nil, nil
	if cur := s.descent.cur; cur != nil && cur.unsaved.Load() {
		s.setPause(pause{save: p.save, saveSteps: p.saveSteps})
	}
}

// report notes what the flight came to, for the log and OnEvent. The slot is
// held; before is the grant that the flight began with.
func (s *TokenSource) report(f *flight, before *snapshot, err *TokenError) {
	e := Event{Key: s.key, Duration: time.Since(f.started), Attempts: f.attempts}
	cur := s.descent.cur
	if cur != nil {
		e.Token = tokenLabel(cur.grant.AccessToken)
	}
	moved := cur != nil && before != nil && before.host != cur.host
	adopted := cur != nil && before != nil && before.grant.AccessToken != cur.grant.AccessToken
	switch {
	case f.fetched:
		e.Kind = EventRenewed
		f.events = append(f.events, e)
	case adopted:
		e.Kind = EventAdopted
		f.events = append(f.events, e)
	}
	if moved {
		f.events = append(f.events, Event{Kind: EventRenamed, Key: s.key, Token: e.Token, Host: cur.host})
	}
	if err != nil && err.keep401 && s.keep != nil && s.keep.why == f.why && s.keep.err.Err == err.Err {
		return // the same refusal again
	}
	onlySave := err != nil && err == f.unsaved && cur != nil && cur.fresh(time.Now())
	if err == nil || onlySave || s.paused().told(err) {
		return // well, or told already
	}
	e.Kind, e.Err, e.Code = EventRenewFailed, err, err.Code
	if err.Err == errFreshRefused {
		e.Kind = EventFreshRefused
	}
	f.events = append(f.events, e)
}

// saveFailed notes that the Store did not take the pair.
func (s *TokenSource) saveFailed(f *flight, err error) {
	f.events = append(f.events, Event{
		Kind:  EventSaveFailed,
		Key:   s.key,
		Token: tokenLabel(s.descent.cur.grant.AccessToken),
		Err:   err,
	})
}

// replace stores g in place of whatever there is, and goes on with it.
func (s *TokenSource) replace(ctx context.Context, g *Grant) error {
	if err := s.takeSlot(ctx); err != nil {
		return fmt.Errorf("b24oauth: grant %q: gave up waiting to save it: %w", s.key, err)
	}
	defer func() { <-s.slot }()
	if s.descent.wasLeft(g) {
		return configError("this grant is older than the one in use: its refresh token has been exchanged already; authorize the application again to get a new one").withKey(s.key)
	}
	var next *Grant
	err := ErrConflict
	for try := 0; try < maxRounds && errors.Is(err, ErrConflict); try++ {
		err = s.cfg.store().Update(ctx, s.key, func(_ context.Context, stored *Grant) (_ *Grant, err error) {
			next, err = s.replacement(stored, g)
			return next, err
		})
	}
	if err != nil {
		return s.storeError(s.withoutOwnTokens(err, g))
	}
	if cur := s.descent.cur; cur != nil && cur.grant.RefreshToken != "" && cur.grant.RefreshToken != next.RefreshToken {
		s.descent.leave(cur.refresh)
	}
	s.descent.dead, s.descent.doubt = 0, nil
	s.adopt(next)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.snap.Store(s.descent.cur)
	s.succeeded()
	s.cfg.setBusy(s, s.flight != nil)
	return nil
}

// replacement returns g as it is stored over a grant, nil if there is none.
func (s *TokenSource) replacement(stored, g *Grant) (*Grant, error) {
	next := g.clone()
	if stored != nil {
		switch {
		case stored.ClientID != "" && stored.ClientID != s.cfg.ClientID:
			return nil, wrongApplication(stored.ClientID, s.cfg.ClientID).withKey(s.key)
		case stored.RefreshToken != "" && g.RefreshToken == "":
			return nil, configError("the new grant has no refresh token and the stored one has: it is not given up for an access token").withKey(s.key)
		case stored.MemberID != "" && stored.MemberID == g.MemberID:
			next = stored.merge(g, s.cfg.ClientID, s.cfg.trustedEndpoint(g.ServerEndpoint))
			if !address.SameEndpoint(stored.ClientEndpoint, next.ClientEndpoint) {
				// g may come from a request that anybody can send. That the portal
				// was renamed only the authorization server can say.
				next.FormerHosts = slices.Clone(g.FormerHosts)
			}
		}
	}
	next.ClientID = s.cfg.ClientID
	if u, err := address.ParseEndpoint(next.ClientEndpoint); err == nil {
		next.ClientEndpoint = u.String()
	}
	return next, nil
}

// landed waits for the flight that there is at present, if any, to its end.
func (s *TokenSource) landed(ctx context.Context) error {
	s.mu.Lock()
	f := s.flight
	s.mu.Unlock()
	if f == nil {
		return nil
	}
	select {
	case <-f.landed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// flush waits for a flight and saves the pair that it left unsaved, if any.
func (s *TokenSource) flush(ctx context.Context) error {
	if err := s.landed(ctx); err != nil {
		return err
	}
	if err := s.takeSlot(ctx); err != nil {
		return err
	}
	f := &flight{started: time.Now()}
	defer func() {
		<-s.slot
		for _, e := range f.events {
			s.cfg.emit(ctx, e)
		}
	}()
	if cur := s.descent.cur; cur == nil || !cur.unsaved.Load() {
		return nil
	}
	failure := s.save(ctx, f, s.cfg.refreshTimeout())
	s.mu.Lock()
	defer s.mu.Unlock()
	cur := s.descent.cur
	s.snap.Store(cur)
	s.cfg.setBusy(s, s.flight != nil || cur != nil && cur.unsaved.Load())
	switch {
	case failure == nil:
		s.succeeded()
		return nil
	case failure.kind == ErrNoGrant:
		return nil // removed: nothing is left to save
	}
	return failure
}

// withoutOwnTokens returns an error of the Store, which came while the slot is
// held, without the tokens that it can quote: those of the current grant, of
// the one that callers use, and of another, if there is one.
func (s *TokenSource) withoutOwnTokens(err error, others ...*Grant) error {
	if err == nil {
		return nil
	}
	if cur := s.descent.cur; cur != nil {
		others = append(others, cur.grant)
	}
	return withoutTokens(err, append(others, s.shownGrant())...)
}

// shownGrant returns the grant that callers use, nil if there is none.
func (s *TokenSource) shownGrant() *Grant {
	if sn := s.snap.Load(); sn != nil {
		return sn.grant
	}
	return nil
}
