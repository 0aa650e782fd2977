package b24oauth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/oauth2"

	"github.com/b24go/b24oauth/internal/keylock"
	"github.com/b24go/b24oauth/internal/redact"
	"github.com/b24go/b24oauth/internal/renew"
)

// A Store keeps grants, each under a key that the program chooses: an
// arbitrary non-empty string, such as the portal's member_id.
//
// A Store is what makes a rotated refresh token survive, so it is more than a
// map: Update is a read-modify-write during which no other Update of that key
// runs anywhere. [MemoryStore] has it within a process; the packages
// filestore, sqlstore and redisstore among several. The package storetest
// checks an implementation against this contract.
//
// A deleted grant, one whose Deleted is set, is stored, loaded and handed to
// fn like any other. Every field of a grant is carried, whether the Store
// knows it or not. All methods may be called concurrently. Grants handed in
// or out are copies: neither side sees what the other does to its own.
//
// An error wraps ErrMisconfigured if it stays until somebody changes the setup:
// a missing table, right or directory, a wrong password, a stored value that is
// damaged. Callers then get that kind, with the Store's own words, and the
// Store is asked again at a slow pace. Any other error, and all that is in
// doubt, is taken as passing, as a network, a failover and a full disk are.
//
// A Store may have a method UseLogger(*slog.Logger). A Config that has a Logger
// calls it with that, once, before its own first use of the Store, for what the
// Store has to warn of. If several Configs share a Store, the first Logger
// counts, and one of the Store's own before all.
type Store interface {
	// Load returns the grant stored under key, or an error that wraps
	// ErrNoGrant if there is none. It never waits for an Update. ctx bounds
	// the call.
	Load(ctx context.Context, key string) (*Grant, error)

	// Update calls fn, at most once, with the grant stored under key (nil if
	// there is none) while no other Update of that key runs anywhere, and
	// stores the grant that fn returns before it returns. A nil grant without
	// an error stores nothing; ErrDelete purges what is stored, and Update
	// returns nil; any other error stores nothing and is returned, wrapped or
	// as it is.
	//
	// The write succeeds if and only if what fn was given is still stored,
	// whoever has exclusivity by then: it may be the only copy of a new
	// refresh token. What counts is [Grant.Fence], which nil differs from: a
	// grant whose verdict or address alone was changed meanwhile is still the
	// same one, and nothing is inserted unless fn was given nil. If something
	// else is stored, nothing is written and the error is ErrConflict.
	//
	// After a write that failed, exclusivity is not given to others for as
	// long as it lasts, but the next Update through the same Store gets it at
	// once: its caller has the only copy of the new refresh token. After one
	// that succeeded, Update returns at once: giving exclusivity back to
	// others is not waited for. A Store that is still at it when Update returns
	// has a method Flush(context.Context) error, which waits for its end and
	// which [Config.Flush] calls.
	//
	// ctx bounds the waiting for exclusivity and nothing after it: the
	// context given to fn has the values of ctx but not its end. It ends, and
	// has a deadline that says when, if and only if exclusivity cannot be
	// promised any longer; then it is promised for 45 s if nothing else is
	// configured. Saving what fn returned has ten seconds of its own.
	Update(ctx context.Context, key string, fn func(context.Context, *Grant) (*Grant, error)) error
}

// A Lister is a [Store] that can enumerate: what [Config.Keys] needs.
type Lister interface {
	Store

	// Keys yields the keys of all grants that are not deleted, each once, in
	// any order. Each iteration looks anew. A stored value whose key cannot be
	// told is yielded as an error, and the iteration goes on; it ends with an
	// error if the Store fails or ctx ends.
	Keys(ctx context.Context) iter.Seq2[string, error]
}

// Errors that pass between a Store, its callers and the functions they hand
// to Update. Compare with [errors.Is].
var (
	// ErrNoGrant: nothing is stored under the key.
	ErrNoGrant = errors.New("b24oauth: no grant stored")

	// ErrDelete, returned by the function handed to Update, purges the stored
	// grant without a trace. It is for maintenance while no process runs that
	// uses the grant: one that has a pair takes a missing grant for a Store
	// that was emptied, and writes its own back. To delete a grant, call
	// [Config.Delete].
	ErrDelete = errors.New("b24oauth: delete the stored grant")

	// ErrConflict: the stored value is no longer the one that the change was
	// made from, so nothing was stored.
	ErrConflict = errors.New("b24oauth: the stored grant has changed meanwhile")
)

// damaged is the error of a stored value that cannot be read until somebody
// restores it, or updates the program.
type damaged string

func (d damaged) Error() string { return string(d) }

func (damaged) Is(target error) bool { return target == ErrMisconfigured }

// MemoryStore is a [Store] that ends with the process. It is for tests and
// for programs that get a new grant at each start; any other program loses
// its refresh tokens with it. The zero value is ready for use.
type MemoryStore struct {
	updates keylock.Locks // by key
	mu      sync.Mutex    // guards grants, never held while fn runs
	grants  map[string]*Grant
}

var _ Lister = (*MemoryStore)(nil)

// Load implements [Store].
func (m *MemoryStore) Load(ctx context.Context, key string) (*Grant, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	g, ok := m.grants[key]
	if !ok {
		return nil, fmt.Errorf("%w under %q", ErrNoGrant, key)
	}
	return g.clone(), nil
}

// Update implements [Store].
func (m *MemoryStore) Update(ctx context.Context, key string, fn func(context.Context, *Grant) (*Grant, error)) error {
	unlock, err := m.updates.Lock(ctx, key)
	if err != nil {
		return err
	}
	defer unlock()

	m.mu.Lock()
	g := m.grants[key].clone()
	m.mu.Unlock()
	g, err = fn(context.WithoutCancel(ctx), g)

	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case errors.Is(err, ErrDelete):
		delete(m.grants, key)
		return nil
	case err != nil:
		return err
	case g != nil:
		if m.grants == nil {
			m.grants = make(map[string]*Grant)
		}
		m.grants[key] = g.clone()
	}
	return nil
}

// Keys implements [Lister], in the keys' order. It sees the grants stored when
// it is called and yields no error.
func (m *MemoryStore) Keys(context.Context) iter.Seq2[string, error] {
	m.mu.Lock()
	var keys []string
	for key, g := range m.grants {
		if g.Deleted.IsZero() {
			keys = append(keys, key)
		}
	}
	m.mu.Unlock()
	slices.Sort(keys)
	return func(yield func(string, error) bool) {
		for _, key := range keys {
			if !yield(key, nil) {
				return
			}
		}
	}
}

// String tells nothing of the grants.
func (m *MemoryStore) String() string { return "MemoryStore" }

// Format implements [fmt.Formatter] for every verb, without the grants.
func (m *MemoryStore) Format(f fmt.State, _ rune) { io.WriteString(f, m.String()) }

func (c *Config) store() Store {
	if c.Store != nil {
		return c.Store
	}
	return &c.memory
}

// usedStore is the store that is about to be used. No lock is held while it is
// given the Logger, whose Handler may use this Config.
func (c *Config) usedStore() Store {
	s := c.store()
	if u, ok := s.(interface{ UseLogger(*slog.Logger) }); ok && c.Logger != nil && !c.attached.Swap(true) {
		c.survive(context.Background(), func() { u.UseLogger(c.Logger) })
	}
	return s
}

// warnOfMemory warns, once, of a Store that was forgotten, before grants are
// lost with it.
func (c *Config) warnOfMemory(ctx context.Context) {
	if c.Store != nil || c.Logger == nil || c.warned.Swap(true) {
		return
	}
	c.survive(ctx, func() {
		c.Logger.WarnContext(ctx, "b24oauth: Config.Store is not set: grants are kept in memory only, and every refresh token is lost when the program ends; set a Store, or a MemoryStore if that is meant")
	})
}

// outside is what a TokenSource's renewals need of the world: its Store and
// the authorization server.
type outside TokenSource

var _ renew.Outside[*heldGrant] = (*outside)(nil)

// Load implements [renew.Outside].
func (o *outside) Load(ctx context.Context) (*heldGrant, error) {
	o.cfg.warnOfMemory(ctx)
	g, err := o.cfg.usedStore().Load(ctx, o.key)
	if errors.Is(err, ErrNoGrant) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return o.hold(g)
}

// Update implements [renew.Outside].
func (o *outside) Update(ctx context.Context, fn func(context.Context, *heldGrant) (*heldGrant, error)) error {
	o.cfg.warnOfMemory(ctx)
	return o.cfg.usedStore().Update(ctx, o.key, func(ctx context.Context, g *Grant) (*Grant, error) {
		stored, err := o.hold(g)
		if err != nil {
			return nil, err
		}
		next, err := fn(ctx, stored)
		if err != nil || next == nil {
			return nil, err
		}
		return next.grant(), nil
	})
}

// hold returns what is stored, of whatever application.
func (o *outside) hold(g *Grant) (*heldGrant, error) {
	switch {
	case g == nil:
		return nil, nil
	case isSealed(g.AccessToken) || isSealed(g.RefreshToken):
		return nil, configError("the Store (%T) has the grant's tokens encrypted, as package sealedstore does: make Config.Store a sealedstore over it, with the key that wrote them", o.cfg.store())
	}
	return (*TokenSource)(o).hold(g), nil
}

// isSealed tells a token that sealedstore has encrypted, which the authorization
// server would call unknown: the grant would be given up for a setting. No token
// of Bitrix24's has a colon.
func isSealed(token string) bool { return strings.HasPrefix(token, "sealed:") }

// Renew implements [renew.Outside]. oauth2 reuses the stored token if it is
// still good, and else has the next one fetched and kept for Update to store.
func (o *outside) Renew(ctx context.Context, g *heldGrant, refused bool, may func() *renew.Failure) (*heldGrant, int, *renew.Failure) {
	var token *oauth2.Token
	grant := g.grant()
	stale, end := grant.view().Lifetime(o.cfg.earlyExpiry(), time.Now())
	if !refused {
		token = &oauth2.Token{AccessToken: grant.AccessToken, Expiry: end}
	}
	src := &persistingSource{ctx: ctx, cfg: o.cfg, key: o.key, grant: grant, may: may}
	_, err := oauth2.ReuseTokenSourceWithExpiry(token, src, end.Sub(stale)).Token()
	if f, ok := errors.AsType[*renew.Failure](err); ok {
		return nil, src.attempts, f
	}
	if src.next == nil {
		return nil, 0, nil
	}
	return (*TokenSource)(o).hold(src.next), src.attempts, nil
}

// persistingSource is the [oauth2.TokenSource] that runs inside Store.Update:
// what it fetches is what Update stores, before anybody uses it.
type persistingSource struct {
	ctx   context.Context
	cfg   *Config
	key   string
	grant *Grant
	may   func() *renew.Failure // nil, or why nothing must be fetched

	attempts int
	next     *Grant // nil if nothing was fetched
}

func (p *persistingSource) Token() (*oauth2.Token, error) {
	if f := p.may(); f != nil {
		return nil, f
	}
	next, attempts, err := p.cfg.refresh(p.ctx, p.grant)
	p.attempts = attempts
	if err != nil {
		return nil, failureOf(err, p.key)
	}
	p.next = next
	return next.Token(), nil
}

// StoreFailure implements [renew.Outside].
func (o *outside) StoreFailure(err error, known ...*heldGrant) *renew.Failure {
	if r, ok := errors.AsType[*refusal](err); ok {
		return &renew.Failure{Class: renew.Repairable, Err: r}
	}
	if te, ok := errors.AsType[*TokenError](err); ok {
		return failureOf(te, o.key)
	}
	var secrets []string
	for _, g := range known {
		if g != nil {
			secrets = append(secrets, g.secrets()...)
		}
	}
	te := o.cfg.storeError(err, secrets...)
	class := renew.StoreFailed
	switch {
	case errors.Is(err, ErrConflict):
		class = renew.Conflict
	case te.Permanent():
		class = renew.Repairable
	}
	return &renew.Failure{Class: class, Err: te.withKey(o.key)}
}

// storeError is what callers get for an error of the Store, without the secrets.
func (c *Config) storeError(err error, secrets ...string) *TokenError {
	cause := redact.Error(err, secrets...)
	if errors.Is(err, ErrMisconfigured) {
		return configError("the Store (%T) cannot be used as it is set up: %w", c.store(), cause)
	}
	return unavailable("the Store (%T) failed: %w", c.store(), cause)
}
