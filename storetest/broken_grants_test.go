package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/b24go/b24oauth"
)

var brokenGrants = []brokenStore{
	{"a Store that forgets a field", "every field of a grant comes back", around(func(fn fnFunc) fnFunc {
		return func(ctx context.Context, g *b24oauth.Grant) (*b24oauth.Grant, error) {
			g, err := fn(ctx, g)
			if g = copyGrant(g); g != nil {
				g.ApplicationToken = ""
			}
			return g, err
		}
	})},
	{"a Store that drops what it does not know", "every field of a grant comes back", around(func(fn fnFunc) fnFunc {
		return func(ctx context.Context, g *b24oauth.Grant) (*b24oauth.Grant, error) {
			g, err := fn(ctx, g)
			if g = copyGrant(g); g != nil {
				g.Lineage = b24oauth.Lineage{}
			}
			return g, err
		}
	})},
	{"a Store that keeps seconds", "every field of a grant comes back", breaking(func(b *broken, m *b24oauth.MemoryStore) {
		b.load = func(ctx context.Context, key string) (*b24oauth.Grant, error) {
			g, err := m.Load(ctx, key)
			if g != nil {
				g.Expiry = g.Expiry.Truncate(1e9)
			}
			return g, err
		}
	})},
	{"a Store that merges", "a grant replaces the one before it whole", around(func(fn fnFunc) fnFunc {
		return func(ctx context.Context, given *b24oauth.Grant) (*b24oauth.Grant, error) {
			g, err := fn(ctx, copyGrant(given))
			if g = copyGrant(g); g != nil && given != nil && g.Scope == "" {
				g.Scope = given.Scope
			}
			return g, err
		}
	})},
	{"a Store that folds case", "any two keys are two grants", naming(strings.ToLower)},
	{"a Store that trims keys", "any two keys are two grants", naming(strings.TrimSpace)},
	{"a Store that cuts keys", "any two keys are two grants", naming(func(key string) string { return key[:min(len(key), 1023)] })},
	{"a Store that repairs UTF-8", "any two keys are two grants", naming(func(key string) string { return strings.ToValidUTF8(key, "\ufffd") })},
	{"a Store for small grants", "a large grant comes back", around(func(fn fnFunc) fnFunc {
		return func(ctx context.Context, g *b24oauth.Grant) (*b24oauth.Grant, error) {
			g, err := fn(ctx, g)
			if g != nil && len(g.Scope) > 1<<16 {
				return nil, errors.New("data too long for column")
			}
			return g, err
		}
	})},
	{"a Store with its own words for no grant", "a key without a grant is ErrNoGrant and nil for fn", breaking(func(b *broken, m *b24oauth.MemoryStore) {
		b.load = func(ctx context.Context, key string) (*b24oauth.Grant, error) {
			g, err := m.Load(ctx, key)
			if err != nil {
				err = errors.New(err.Error())
			}
			return g, err
		}
	})},
	{"a Store that gives fn an empty grant", "a key without a grant is ErrNoGrant and nil for fn", around(func(fn fnFunc) fnFunc {
		return func(ctx context.Context, g *b24oauth.Grant) (*b24oauth.Grant, error) {
			if g == nil {
				g = new(b24oauth.Grant)
			}
			return fn(ctx, g)
		}
	})},
	{"a Store that shares pointers", "neither side sees what the other does to its grant", breaking(func(b *broken, m *b24oauth.MemoryStore) {
		shared := make(map[string]*b24oauth.Grant)
		b.load = func(_ context.Context, key string) (*b24oauth.Grant, error) { return shared[key], nil }
		b.update = func(ctx context.Context, key string, fn fnFunc) error {
			return m.Update(ctx, key, func(ctx context.Context, _ *b24oauth.Grant) (*b24oauth.Grant, error) {
				g, err := fn(ctx, shared[key])
				if err == nil && g != nil {
					shared[key] = g
				}
				return nil, err
			})
		}
	})},
	{"a Store that refuses a grant that fn has modified", "neither side sees what the other does to its grant", around(func(fn fnFunc) fnFunc {
		return func(ctx context.Context, given *b24oauth.Grant) (*b24oauth.Grant, error) {
			g, err := fn(ctx, given)
			if g != nil && g == given {
				return nil, b24oauth.ErrConflict
			}
			return g, err
		}
	})},
	{"a Store that writes new tokens only", "a verdict is stored like any other change", around(func(fn fnFunc) fnFunc {
		return func(ctx context.Context, given *b24oauth.Grant) (*b24oauth.Grant, error) {
			g, err := fn(ctx, copyGrant(given))
			if err == nil && g.Fence() == given.Fence() {
				return nil, nil
			}
			return g, err
		}
	})},
	{"a Store that keeps a verdict for good", "a verdict is stored like any other change", around(func(fn fnFunc) fnFunc {
		return func(ctx context.Context, given *b24oauth.Grant) (*b24oauth.Grant, error) {
			g, err := fn(ctx, copyGrant(given))
			if g = copyGrant(g); g != nil && given != nil && given.Refused.Code != "" {
				g.Refused = given.Refused
			}
			return g, err
		}
	})},
	{"a Store that hides tombstones", "a tombstone is stored like any other grant", breaking(func(b *broken, m *b24oauth.MemoryStore) {
		b.load = func(ctx context.Context, key string) (*b24oauth.Grant, error) {
			g, err := m.Load(ctx, key)
			if g != nil && !g.Deleted.IsZero() {
				return nil, b24oauth.ErrNoGrant
			}
			return g, err
		}
	})},
	{"a Store that hides tombstones from fn", "a tombstone is stored like any other grant", around(func(fn fnFunc) fnFunc {
		return func(ctx context.Context, g *b24oauth.Grant) (*b24oauth.Grant, error) {
			if g != nil && !g.Deleted.IsZero() {
				g = nil
			}
			return fn(ctx, g)
		}
	})},
	{"a Store that a tombstone closes", "a tombstone is stored like any other grant", around(func(fn fnFunc) fnFunc {
		return func(ctx context.Context, given *b24oauth.Grant) (*b24oauth.Grant, error) {
			g, err := fn(ctx, copyGrant(given))
			if given != nil && !given.Deleted.IsZero() && g != nil && g.Deleted.IsZero() {
				return nil, b24oauth.ErrConflict
			}
			return g, err
		}
	})},
	{"a Store that deletes for nil", "a nil grant stores nothing", around(func(fn fnFunc) fnFunc {
		return func(ctx context.Context, g *b24oauth.Grant) (*b24oauth.Grant, error) {
			g, err := fn(ctx, g)
			if g == nil && err == nil {
				err = b24oauth.ErrDelete
			}
			return g, err
		}
	})},
	{"a Store that returns ErrDelete", "ErrDelete purges", breaking(func(b *broken, m *b24oauth.MemoryStore) {
		b.update = func(ctx context.Context, key string, fn fnFunc) error {
			var own error
			err := m.Update(ctx, key, func(ctx context.Context, g *b24oauth.Grant) (*b24oauth.Grant, error) {
				g, err := fn(ctx, g)
				own = err
				return g, err
			})
			return errors.Join(err, own)
		}
	})},
	{"a Store that does not delete", "ErrDelete purges", around(func(fn fnFunc) fnFunc {
		return func(ctx context.Context, g *b24oauth.Grant) (*b24oauth.Grant, error) {
			g, err := fn(ctx, g)
			if errors.Is(err, b24oauth.ErrDelete) {
				return nil, nil
			}
			return g, err
		}
	})},
	{"a Store that stores on error", "any other error is returned and stores nothing", breaking(func(b *broken, m *b24oauth.MemoryStore) {
		b.update = func(ctx context.Context, key string, fn fnFunc) error {
			var own error
			m.Update(ctx, key, func(ctx context.Context, g *b24oauth.Grant) (*b24oauth.Grant, error) {
				g, own = fn(ctx, g)
				return g, nil
			})
			return own
		}
	})},
	{"a Store that hides errors", "any other error is returned and stores nothing", around(func(fn fnFunc) fnFunc {
		return func(ctx context.Context, g *b24oauth.Grant) (*b24oauth.Grant, error) {
			g, err := fn(ctx, g)
			if err != nil {
				err = fmt.Errorf("update failed: %v", err)
			}
			return g, err
		}
	})},
}
