package b24oauth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/oauth2"
)

// A hundred requests meet an expired token at once. Each of them refreshing
// would spend the refresh token a hundred times, and all but one would be
// told invalid_grant; all of them queueing behind one lock would outwait
// their own deadlines, and fail one after the other if it fails. So callers
// read a snapshot, without a lock; when it no longer serves, one of them
// starts a flight, which belongs to nobody, and each waits for it as long as
// its own context lets it.

// TokenSource supplies the access token of one grant, and renews it when it
// runs out or a portal refuses it. It is an [oauth2.TokenSource] that never
// spends a refresh token twice and never uses a new pair that is not stored,
// unless the Store fails. [Config.TokenSource] makes it. It is safe for
// concurrent use.
type TokenSource struct {
	cfg  *Config
	key  string
	snap atomic.Pointer[snapshot] // what callers use; nil before the first Load and after a removal
	used atomic.Int64             // Unix time of the last use, to the minute

	// slot is held, by one element in it, by whoever works on the grant: a
	// flight, Save or Flush. Its holder alone touches the descent.
	slot    chan struct{}
	descent descent

	mu     sync.Mutex // guards what follows, never held while anything waits
	flight *flight    // nil if none
	pause  *pause     // what keeps the next flight from starting; nil if nothing does
	keep   *kept      // a refusal that is not answered by a renewal at present; nil if none
}

var _ oauth2.TokenSource = (*TokenSource)(nil)

// reason is why a caller cannot go on with the token it has. The zero value:
// it has none, or that is running out.
type reason struct {
	refused string // the access token that the portal refused or redirected
	vague   bool   // the refusal does not say that the token is to blame
	host    string // where the portal redirected to
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
	sn, err := s.current(ctx)
	if err != nil {
		return nil, err
	}
	return sn.copyToken(), nil
}

// Renew returns a token to go on with after a portal refused one, for
// programs that call Bitrix24 without [Transport]. If refused is not the
// current token any more, that is the current one and nothing is renewed. A
// token that is refused without ever having been accepted is renewed at most
// once in ten seconds, and only Transport notes that one was accepted; within
// them the error is a *[TokenError] that is ErrUnavailable. A renewal that
// fails is a *TokenError of any kind; if ctx ends first, the error is ctx's.
func (s *TokenSource) Renew(ctx context.Context, refused *oauth2.Token) (*oauth2.Token, error) {
	if refused == nil || refused.AccessToken == "" {
		return nil, configError("Renew was called without the token that was refused")
	}
	sn, err := s.get(ctx, reason{refused: refused.AccessToken})
	if err != nil {
		return nil, err
	}
	return sn.copyToken(), nil
}

// Grant returns the grant as it is stored, or the newer pair that the Store
// has not taken yet. It renews nothing. It contains the tokens; they belong
// to the source, which may exchange them at any time. The error is a
// *[TokenError]: ErrNoGrant if there is none, ErrUnavailable if the Store
// fails.
func (s *TokenSource) Grant(ctx context.Context) (*Grant, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	if sn := s.snap.Load(); sn != nil && sn.unsaved.Load() {
		return sn.grant.clone(), nil
	}
	g, err := s.cfg.store().Load(ctx, s.key)
	if err != nil {
		return nil, s.storeError(withoutTokens(err, s.shownGrant()))
	}
	return g, nil
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

// current returns the snapshot that a new call is to use. The usual case
// takes no lock.
func (s *TokenSource) current(ctx context.Context) (*snapshot, error) {
	now := time.Now()
	if sn := s.snap.Load(); sn != nil && sn.fresh(now) && !sn.unsaved.Load() {
		s.touch(now)
		return sn, nil
	}
	return s.get(ctx, reason{})
}

// known returns the grant's snapshot, whatever the state of its token: for
// callers that need to know the portal first.
func (s *TokenSource) known(ctx context.Context) (*snapshot, error) {
	if sn := s.snap.Load(); sn != nil {
		return sn, nil
	}
	_, err := s.current(ctx)
	if sn := s.snap.Load(); sn != nil {
		return sn, nil
	}
	return nil, err
}

// get returns a snapshot that serves a caller with this reason. It waits only
// for a flight that this caller cannot do without or has started itself.
func (s *TokenSource) get(ctx context.Context, why reason) (*snapshot, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	s.touch(time.Now())
	for last := false; ; {
		sn, f, started, err := s.join(why)
		if f == nil {
			return sn, err
		}
		if sn != nil && (!started || sn.fresh(time.Now())) {
			return sn, nil // the token still works; only who starts its renewal waits for it
		}
		if err := s.wait(ctx, f, f.ready); err != nil {
			if sn != nil && ctx.Err() == nil {
				return sn, nil
			}
			return nil, err
		}
		if got := s.snap.Load(); got != nil && got.serves(why, time.Now()) {
			return got, nil
		}
		if f.err == nil && !f.hasLanded() {
			// Its pair was given out and does not serve this caller any more,
			// while it still tries to save it. The next flight comes after it.
			if err := s.wait(ctx, f, f.landed); err != nil {
				return nil, err
			}
			continue
		}
		switch {
		case f.why != why && !last:
			// The flight was another's and left this caller's reason open.
		case f.err != nil:
			return nil, f.err
		case last:
			return nil, unavailable("the token ran out or was replaced while it was renewed: try again").withKey(s.key)
		}
		last = true
	}
}

// join decides what a caller does: go on with sn (no flight, or one that it
// need not wait for), fail with err, or wait for the flight f.
func (s *TokenSource) join(why reason) (sn *snapshot, f *flight, started bool, err error) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	sn = s.snap.Load()
	if sn != nil && !sn.serves(why, now) {
		sn = nil
	}
	p := s.paused()
	renew := sn != nil && !sn.fresh(now) && !now.Before(p.next)
	save := sn != nil && sn.unsaved.Load() && !now.Before(p.save)
	switch {
	case sn != nil && !renew && !save:
		return sn, nil, false, nil
	case s.flight != nil:
		return sn, s.flight, false, nil
	case sn == nil && p.err != nil && now.Before(p.look):
		return nil, nil, false, p.err
	case sn == nil && s.keep != nil && s.keep.why == why && now.Before(s.keep.look):
		return nil, nil, false, s.keep.err
	}
	s.flight = &flight{why: why, started: now, ready: make(chan struct{}), landed: make(chan struct{})}
	s.cfg.setBusy(s, true)
	go s.run(s.flight)
	return sn, s.flight, true, nil
}

// wait returns when until, a mark of the flight's, is closed, or ctx ends.
func (s *TokenSource) wait(ctx context.Context, f *flight, until <-chan struct{}) error {
	// Longer than any round of a flight takes whose Store keeps its contract.
	limit := f.started.Add(3*s.cfg.refreshTimeout() + 2*saveTimeout)
	stuck := time.NewTimer(time.Until(limit))
	defer stuck.Stop()
	select {
	case <-until:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("b24oauth: grant %q: gave up waiting for a token: %w", s.key, ctx.Err())
	case <-stuck.C:
		select {
		case <-until: // both at once
			return nil
		default:
		}
		return unavailable("the renewal goes on for too long: the Store (%T) does not return from Load or Update, or OnEvent does not return", s.cfg.store()).withKey(s.key)
	}
}

// touch notes the use, at most once a minute: an atomic write for every call
// would be one cache line for all cores.
func (s *TokenSource) touch(now time.Time) {
	minute := now.Unix() / 60
	if s.used.Load() != minute {
		s.used.Store(minute)
	}
}

func (s *TokenSource) idleSince(now time.Time) time.Duration {
	return now.Sub(time.Unix(s.used.Load()*60, 0))
}

// storeError makes a failure of the Store a TokenError.
func (s *TokenSource) storeError(err error) *TokenError {
	var te *TokenError
	switch {
	case errors.As(err, &te):
		return te
	case errors.Is(err, ErrNoGrant):
		return s.noGrant()
	}
	e := unavailable("the Store (%T) failed: %w", s.cfg.store(), err)
	e.Key, e.ofStore = s.key, true
	return e
}

func (s *TokenSource) noGrant() *TokenError {
	return &TokenError{
		Key:  s.key,
		Err:  fmt.Errorf("%w: authorize the application on the portal and store the grant with Config.Save", ErrNoGrant),
		kind: ErrNoGrant,
	}
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
