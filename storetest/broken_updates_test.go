package storetest

import (
	"context"
	"errors"
	"iter"

	"github.com/b24go/b24oauth"
)

var brokenUpdates = []brokenStore{
	{"a Store that tries again", "fn is called once, and not after ctx has ended", around(func(fn fnFunc) fnFunc {
		return func(ctx context.Context, g *b24oauth.Grant) (*b24oauth.Grant, error) {
			n, err := fn(ctx, g)
			if errors.Is(err, b24oauth.ErrConflict) {
				return fn(ctx, g)
			}
			return n, err
		}
	})},
	{"a Store that ignores ctx", "fn is called once, and not after ctx has ended", breaking(func(b *broken, m *b24oauth.MemoryStore) {
		b.update = func(ctx context.Context, key string, fn fnFunc) error {
			return m.Update(context.WithoutCancel(ctx), key, fn)
		}
	})},
	{"a Store that ignores ctx while it waits", "waiting for a turn ends with ctx", breaking(func(b *broken, m *b24oauth.MemoryStore) {
		b.update = func(ctx context.Context, key string, fn fnFunc) error {
			return m.Update(context.WithoutCancel(ctx), key, fn)
		}
	})},
	{"a Store that hands its own ctx on", "fn sees the values of ctx and not its end", breaking(func(b *broken, m *b24oauth.MemoryStore) {
		b.update = func(ctx context.Context, key string, fn fnFunc) error {
			return m.Update(ctx, key, func(_ context.Context, g *b24oauth.Grant) (*b24oauth.Grant, error) { return fn(ctx, g) })
		}
	})},
	{"a Store that drops values", "fn sees the values of ctx and not its end", around(func(fn fnFunc) fnFunc {
		return func(_ context.Context, g *b24oauth.Grant) (*b24oauth.Grant, error) {
			return fn(context.Background(), g)
		}
	})},
	{"a Store whose save heeds ctx", "a save does not heed ctx", breaking(func(b *broken, m *b24oauth.MemoryStore) {
		b.update = func(ctx context.Context, key string, fn fnFunc) error {
			return m.Update(ctx, key, func(fnCtx context.Context, g *b24oauth.Grant) (*b24oauth.Grant, error) {
				g, err := fn(fnCtx, g)
				return g, errors.Join(err, ctx.Err())
			})
		}
	})},
	{"a Store that a panic blocks", "a panic in fn gives the key back", breaking(func(b *broken, m *b24oauth.MemoryStore) {
		turn := make(chan struct{}, 1)
		b.update = func(ctx context.Context, key string, fn fnFunc) error {
			select {
			case turn <- struct{}{}:
			case <-ctx.Done():
				return ctx.Err()
			}
			err := m.Update(ctx, key, fn)
			<-turn
			return err
		}
	})},
	{"a Store whose Load waits", "Load does not wait for an Update", breaking(func(b *broken, m *b24oauth.MemoryStore) {
		b.load = func(ctx context.Context, key string) (g *b24oauth.Grant, err error) {
			err = m.Update(ctx, key, func(_ context.Context, stored *b24oauth.Grant) (*b24oauth.Grant, error) {
				g = copyGrant(stored)
				return nil, nil
			})
			return g, err
		}
	})},
	{"a Store without exclusion", "an Update waits for the one before it and sees its grant", unlocked()},
	{"a Store without exclusion", "no Update is lost among many", unlocked()},
	{"a Store whose leases end unseen", "a late save of an unchanged value is stored", leasedBut(leasing{noDeadline: true})},
	{"a Store that loses what comes late", "a late save of an unchanged value is stored", leasedBut(leasing{dropsLate: true})},
	{"a Store that is no ShortLeaser", "a late save of an unchanged value is stored", leasedBut(leasing{noShortLease: true})},
	{"a Store that stores what comes late", "a late save of a changed value is refused", leasedBut(leasing{overwrites: true})},
	{"a Store that revives the deleted", "a late save of a changed value is refused", leasedBut(leasing{inserts: true})},
	{"a Store that takes over in silence", "an Update that fails after it took over is a conflict too", leasedBut(leasing{silent: true})},
	{"a Store that yields keys twice", "Keys yields each key once", breaking(func(b *broken, m *b24oauth.MemoryStore) {
		b.keys = func(ctx context.Context) iter.Seq2[string, error] {
			return func(yield func(string, error) bool) {
				for range 2 {
					for key := range m.Keys(ctx) {
						if !yield(key, nil) {
							return
						}
					}
				}
			}
		}
	})},
	{"a Store that yields a page of keys", "Keys yields each key once", breaking(func(b *broken, m *b24oauth.MemoryStore) {
		b.keys = func(ctx context.Context) iter.Seq2[string, error] {
			return func(yield func(string, error) bool) {
				n := 0
				for key := range m.Keys(ctx) {
					if n++; n > 100 || !yield(key, nil) {
						return
					}
				}
			}
		}
	})},
	{"a Store whose keys end after one", "Keys can be left early and ends with ctx", breaking(func(b *broken, m *b24oauth.MemoryStore) {
		b.keys = func(ctx context.Context) iter.Seq2[string, error] {
			return func(yield func(string, error) bool) {
				for key := range m.Keys(ctx) {
					yield(key, nil)
					return
				}
			}
		}
	})},
}
