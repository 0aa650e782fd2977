// Package sealedstore encrypts the tokens in any [b24oauth.Store].
//
//	config.Store = sealedstore.New(store, aead)
//
// Whoever reads the Store beneath, or a backup of it, has no token then. The
// access token, the refresh token and the application token are encrypted,
// each bound to its key, its place, its application and the addresses that it
// may go to: moved to another key, or with the portal's address changed, it
// does not open. All else, such as the expiry, is neither encrypted nor bound.
//
// It does not protect against somebody who puts an older value of the same key
// back.
package sealedstore

import (
	"context"
	"crypto/cipher"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"slices"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/internal/setup"
)

// Store is a [b24oauth.Store] over another one that sees no token in plain
// text. [New] makes it. It is safe for concurrent use as long as ReadPlain is
// not changed.
type Store struct {
	// ReadPlain accepts tokens that are stored in plain text, as they are
	// after years without encryption; each is sealed when it is next written,
	// at its renewal. Leave it false once all are: a plain token found then is
	// an error, since whoever can write to the Store could have put it there.
	ReadPlain bool

	store b24oauth.Store
	keys  []cipher.AEAD // the first writes, all read
}

var _ b24oauth.Lister = (*Store)(nil)

// New returns a Store that keeps its grants in store, encrypted by write, and
// reads what write or one of read has encrypted. Any AEAD with nonces long
// enough to be random does, such as AES-GCM. If one is nil, every call is an
// error.
//
// A token that none of them opens, or that is stored in plain text without
// ReadPlain, is an error that wraps [b24oauth.ErrMisconfigured], as a nil key is.
// So it is when a Config reads a sealed token without this package.
//
// To change the key, take three steps, each in every instance before the next
// begins; an instance that meets a key which it does not have fails:
//
//	sealedstore.New(store, former, next) // 1. the new key reads
//	sealedstore.New(store, next, former) // 2. the new key writes
//	sealedstore.New(store, next)         // 3. the old key is not needed any more
//
// The third waits until every grant has been renewed, which takes as long as
// the least used of them; [b24oauth.TokenSource.Renew] with nil renews one at
// once.
func New(store b24oauth.Store, write cipher.AEAD, read ...cipher.AEAD) *Store {
	return &Store{store: store, keys: append([]cipher.AEAD{write}, read...)}
}

// check finds a key or a Store that is missing.
func (s *Store) check() error {
	switch {
	case len(s.keys) == 0 || slices.Contains(s.keys, nil):
		return setup.Wrong(errors.New("b24oauth/sealedstore: a key is nil: pass New a cipher.AEAD to write with, and none that is nil to read with"))
	case s.store == nil:
		return setup.Wrong(errors.New("b24oauth/sealedstore: no Store: pass New the one that keeps the grants"))
	}
	return nil
}

// Load implements [b24oauth.Store].
func (s *Store) Load(ctx context.Context, key string) (*b24oauth.Grant, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	g, err := s.store.Load(ctx, key)
	if err != nil {
		return nil, err
	}
	g, _, err = s.open(key, g)
	return g, err
}

// Update implements [b24oauth.Store]. A stored grant that does not open is an
// error, and fn is not called.
func (s *Store) Update(ctx context.Context, key string, fn func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error)) error {
	if err := s.check(); err != nil {
		return err
	}
	return s.store.Update(ctx, key, func(ctx context.Context, g *b24oauth.Grant) (*b24oauth.Grant, error) {
		g, found, err := s.open(key, g)
		if err != nil {
			return nil, err
		}
		if g, err = fn(ctx, g); err != nil || g == nil {
			return nil, err
		}
		return s.seal(key, g, found), nil
	})
}

// Flush calls that of the Store beneath, if it has one.
func (s *Store) Flush(ctx context.Context) error {
	if store, ok := s.store.(interface{ Flush(context.Context) error }); ok {
		return store.Flush(ctx)
	}
	return nil
}

// UseLogger gives that of the Store beneath the Logger, if it has one.
func (s *Store) UseLogger(l *slog.Logger) {
	if store, ok := s.store.(interface{ UseLogger(*slog.Logger) }); ok {
		store.UseLogger(l)
	}
}

// Keys yields the keys of the Store beneath, or [errors.ErrUnsupported] if
// that one cannot enumerate.
func (s *Store) Keys(ctx context.Context) iter.Seq2[string, error] {
	err := s.check()
	if err == nil {
		if l, ok := s.store.(b24oauth.Lister); ok {
			return l.Keys(ctx)
		}
		err = fmt.Errorf("b24oauth/sealedstore: keys of %T: %w", s.store, errors.ErrUnsupported)
	}
	return func(yield func(string, error) bool) { yield("", err) }
}

// String names the type of the Store beneath.
func (s *Store) String() string {
	if s == nil {
		return "<nil>"
	}
	return fmt.Sprintf("sealedstore.Store{store=%T}", s.store)
}

// Format implements [fmt.Formatter] for every verb, without the keys.
func (s *Store) Format(f fmt.State, _ rune) { io.WriteString(f, s.String()) }
