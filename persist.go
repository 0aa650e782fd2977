package b24oauth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"sync"

	"golang.org/x/oauth2"

	"github.com/b24go/b24oauth/internal/redact"
	"github.com/b24go/b24oauth/internal/turns"
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
// All methods may be called concurrently. Grants handed in or out are copies:
// neither side sees what the other does to its own. A Store that can
// enumerate also has a method Keys(context.Context) iter.Seq2[string, error].
type Store interface {
	// Load returns the grant stored under key, or an error that wraps
	// ErrNoGrant if there is none. It never waits for an Update. ctx bounds
	// the call.
	Load(ctx context.Context, key string) (*Grant, error)

	// Update calls fn, at most once, with the grant stored under key (nil if
	// there is none) while no other Update of that key runs anywhere, and
	// stores the grant that fn returns before it returns. A nil grant without
	// an error stores nothing; ErrDelete deletes what is stored, and Update
	// returns nil; any other error stores nothing and is returned, wrapped or
	// as it is.
	//
	// After a write that failed, exclusivity is not given to others for as
	// long as it lasts, but the next Update through the same Store gets it at
	// once: its caller has the only copy of the new refresh token.
	//
	// The write succeeds only if the stored value is still the one that fn
	// was given. If it is not, nothing is stored and the error is ErrConflict.
	// If it is, the grant is stored even when exclusivity was lost meanwhile:
	// it may be the only copy of a new refresh token.
	//
	// ctx bounds the waiting for exclusivity and nothing after it: the
	// context given to fn has the values of ctx but not its end. It ends, and
	// has a deadline that says when, if and only if exclusivity cannot be
	// promised any longer. Saving what fn returned has ten seconds of its own.
	//
	// An Update that got its turn because the holder before it ended without
	// finishing says so when fn fails: its error then is fn's and ErrConflict
	// too. An invalid refresh token can be that holder's doing.
	Update(ctx context.Context, key string, fn func(context.Context, *Grant) (*Grant, error)) error
}

// Errors that pass between a Store, its callers and the functions they hand
// to Update. Compare with [errors.Is].
var (
	// ErrNoGrant: nothing is stored under the key.
	ErrNoGrant = errors.New("b24oauth: no grant stored")

	// ErrDelete, returned by the function handed to Update, deletes the
	// stored grant.
	ErrDelete = errors.New("b24oauth: delete the stored grant")

	// ErrConflict: the stored value is no longer the one that the change was
	// made from, so nothing was stored.
	ErrConflict = errors.New("b24oauth: the stored grant has changed meanwhile")
)

// MemoryStore is a [Store] that ends with the process. It is for tests and
// for programs that get a new grant at each start; any other program loses
// its refresh tokens with it. The zero value is ready for use.
type MemoryStore struct {
	updates turns.Turns // by key
	mu      sync.Mutex  // guards grants, never held while fn runs
	grants  map[string]*Grant
}

var _ Store = (*MemoryStore)(nil)

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
	leave, err := m.updates.Take(ctx, key)
	if err != nil {
		return err
	}
	defer leave()

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

// Keys returns the keys of all grants, sorted. It sees the grants stored when
// it is called and yields no error.
func (m *MemoryStore) Keys(context.Context) iter.Seq2[string, error] {
	m.mu.Lock()
	keys := slices.Sorted(maps.Keys(m.grants))
	m.mu.Unlock()
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

// persistingSource is the [oauth2.TokenSource] that runs inside Store.Update,
// under oauth2's reuse of a token that is still good: what it fetches is what
// Update stores, before anybody uses it.
type persistingSource struct {
	fetch   func() (*Grant, error)
	fetched *Grant // nil if nothing was fetched
}

func (p *persistingSource) Token() (*oauth2.Token, error) {
	g, err := p.fetch()
	if err != nil {
		return nil, err
	}
	p.fetched = g
	return g.Token(), nil
}

// withoutTokens returns an error of the Store without the tokens of the
// grants that it may be about.
func withoutTokens(err error, grants ...*Grant) error {
	var secrets []string
	for _, g := range grants {
		if g != nil {
			secrets = append(secrets, g.AccessToken, g.RefreshToken, g.ApplicationToken)
		}
	}
	return redact.Error(err, secrets...)
}
