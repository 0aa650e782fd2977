package b24oauth

import (
	"context"
	"errors"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/oauth2"

	"github.com/b24go/b24oauth/internal/redact"
)

const (
	// saveTimeout bounds the saving of a pair that was fetched.
	saveTimeout = 10 * time.Second

	// maxRounds bounds how often a flight starts over because the Store
	// changed under it.
	maxRounds = 3
)

// flight is one renewal. It belongs to no caller: each may stop waiting for
// it, and it ends all the same, within its own bounds.
type flight struct {
	why     reason
	started time.Time
	ready   chan struct{} // closed when callers can go on, by done
	err     *TokenError   // written before ready is closed; nil if the snapshot is to be used
	once    sync.Once     // closes ready
	landed  chan struct{} // closed when nothing of the flight is left to do but to tell of it

	attempts int         // requests sent to the authorization server
	fetched  bool        // a pair was fetched
	asked    time.Time   // when exclusivity was asked for
	overrun  bool        // exclusivity had ended when the server answered
	unsaved  *TokenError // the last failure to save a pair
	events   []Event
}

// hasLanded reports whether nothing of the flight is left to do but to tell
// of it.
func (f *flight) hasLanded() bool {
	select {
	case <-f.landed:
		return true
	default:
		return false
	}
}

func (f *flight) done(err *TokenError) {
	f.once.Do(func() {
		f.err = err
		close(f.ready)
	})
}

// run flies. Whatever the Store does, return, panic or end the goroutine, the
// source is left in order and callers are let go.
func (s *TokenSource) run(f *flight) {
	s.slot <- struct{}{}
	before := s.descent.cur
	err := unavailable("the Store (%T) or the transport of Config.HTTPClient ended the renewal's goroutine", s.cfg.store()).withKey(s.key)
	defer func() { f.done(err) }() // even if OnEvent ends the goroutine
	defer func() {
		s.report(f, before, err)
		s.land(f, err)
		<-s.slot
		close(f.landed)
		for _, e := range f.events {
			s.cfg.emit(context.Background(), e)
		}
	}()
	defer s.recovered(&err)
	err = s.renew(f)
}

// recovered turns a panic in the Store into an error.
func (s *TokenSource) recovered(err **TokenError) {
	v := recover()
	if v == nil {
		return
	}
	e := unavailable("the Store (%T) panicked: %s", s.cfg.store(), redact.Panic(v)).withKey(s.key)
	e.ofStore = true
	*err = e
	if s.cfg.Logger != nil {
		defer func() { _ = recover() }() // the Logger may panic too
		s.cfg.Logger.Error("b24oauth: Store panicked", slog.String("key", s.key), slog.String("panic", redact.Panic(v)), slog.String("stack", string(debug.Stack())))
	}
}

// renew works until the grant answers the flight's reason, or fails.
func (s *TokenSource) renew(f *flight) *TokenError {
	for range maxRounds {
		if err := s.look(); err != nil {
			return err
		}
		if s.descent.cur.unsaved.Load() {
			// Saved before it is refreshed: the answer to a refresh could be
			// lost, and this pair with it.
			if err := s.save(context.Background(), f, s.cfg.refreshTimeout()); err != nil {
				return err
			}
		}
		if cur, now := s.descent.cur, time.Now(); cur.serves(f.why, now) && cur.fresh(now) {
			return nil
		}
		if err := s.mayExchange(f.why); err != nil {
			return err
		}
		if again, err := s.exchange(f); !again {
			return err
		}
	}
	e := unavailable("the stored grant changes faster than it can be used: see that no other program writes under this key").withKey(s.key)
	e.ofStore = true
	return e
}

// look reads the Store, without exclusivity, and adopts what is newer there.
func (s *TokenSource) look() *TokenError {
	ctx, cancel := context.WithTimeout(context.Background(), s.cfg.refreshTimeout())
	defer cancel()
	stored, err := s.cfg.store().Load(ctx, s.key)
	err = s.withoutOwnTokens(err)
	if errors.Is(err, ErrNoGrant) {
		stored, err = nil, nil
	}
	if err == nil {
		err = s.reconcile(stored)
	}
	if err != nil {
		return s.storeError(err)
	}
	return nil
}

// exchange asks for exclusivity and, if the grant still needs it then, for a
// new pair, which is stored before exchange returns. again: the Store holds
// another grant now, and all starts over.
func (s *TokenSource) exchange(f *flight) (again bool, _ *TokenError) {
	var fnErr error
	f.asked = time.Now()
	err := s.update(context.Background(), s.cfg.refreshTimeout(), func(ctx context.Context, stored *Grant) (*Grant, error) {
		var g *Grant
		g, again, fnErr = s.exclusively(ctx, f, stored)
		return g, fnErr
	})
	switch {
	case fnErr == nil && err == nil:
		if s.descent.cur != nil {
			s.descent.cur.unsaved.Store(false)
		}
		return again || !f.fetched, nil
	case fnErr == nil && f.fetched:
		return false, s.rescue(f, err)
	case fnErr == nil:
		return false, s.storeError(err)
	}
	failure := s.storeError(fnErr)
	if f.overrun || errors.Is(err, ErrConflict) {
		s.descent.suspect(time.Now().Add(s.cfg.refreshTimeout()))
	}
	if !failure.condemns() || !failure.Permanent() || failure == s.descent.deadErr {
		return false, failure
	}
	return s.afterInvalidGrant(failure)
}

// exclusively is what a flight does while no other Update of the key runs. It
// returns the grant to store, if any.
func (s *TokenSource) exclusively(ctx context.Context, f *flight, stored *Grant) (_ *Grant, again bool, _ error) {
	if err := s.reconcile(stored); err != nil {
		return nil, false, err
	}
	cur := s.descent.cur
	if cur.unsaved.Load() {
		return cur.grant, true, nil
	}
	var token *oauth2.Token
	if now := time.Now(); cur.serves(f.why, now) && cur.fresh(now) {
		token = cur.copyToken()
	}
	src := &persistingSource{fetch: func() (*Grant, error) { return s.fetch(ctx, f) }}
	if _, err := oauth2.ReuseTokenSourceWithExpiry(token, src, cur.early).Token(); err != nil {
		return nil, false, err
	}
	return src.fetched, false, nil
}

// afterInvalidGrant decides what it means that the server does not know the
// refresh token: another process may have exchanged it.
func (s *TokenSource) afterInvalidGrant(failure *TokenError) (again bool, _ *TokenError) {
	d := &s.descent
	condemned := d.cur.refresh
	doubted := d.doubts(condemned) && time.Now().Before(d.doubt.ends)
	if doubted {
		passing := *failure
		passing.kind, passing.Err = ErrUnavailable, errDoubt
		d.doubt.err = &passing
	}
	if err := s.look(); err != nil {
		return false, err
	}
	switch {
	case d.cur.refresh != condemned:
		return true, nil
	case doubted:
		return false, d.doubt.err
	}
	return false, s.condemn(failure)
}

// rescue goes on with a pair that the Store did not take: callers get it at
// once, and saving is tried again until its time is up.
func (s *TokenSource) rescue(f *flight, err error) *TokenError {
	s.saveFailed(f, err)
	s.publish()
	f.done(nil)
	end := time.Now().Add(saveTimeout)
	for pause := 100 * time.Millisecond; time.Until(end) > pause; pause *= 2 {
		time.Sleep(pause)
		if failure := s.save(context.Background(), f, time.Until(end)); failure == nil || failure.kind == ErrNoGrant {
			return failure
		}
	}
	return nil
}

// save stores the unsaved pair, unless the Store has a newer grant by now,
// which is adopted instead.
func (s *TokenSource) save(ctx context.Context, f *flight, wait time.Duration) *TokenError {
	var fnErr error
	err := s.update(ctx, wait, func(_ context.Context, stored *Grant) (*Grant, error) {
		if fnErr = s.reconcile(stored); fnErr != nil {
			return nil, fnErr
		}
		if !s.descent.cur.unsaved.Load() {
			return nil, nil
		}
		return s.descent.cur.grant, nil
	})
	switch {
	case fnErr != nil:
		return asTokenError(fnErr)
	case err != nil:
		s.saveFailed(f, err)
		f.unsaved = s.storeError(err)
		return f.unsaved
	}
	s.descent.cur.unsaved.Store(false)
	return nil
}
