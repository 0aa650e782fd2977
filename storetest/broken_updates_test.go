package storetest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

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
	{"a Store that ignores ctx while it waits", "waiting for exclusivity ends with ctx", breaking(func(b *broken, m *b24oauth.MemoryStore) {
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
		running := make(chan struct{}, 1)
		b.update = func(ctx context.Context, key string, fn fnFunc) error {
			select {
			case running <- struct{}{}:
			case <-ctx.Done():
				return ctx.Err()
			}
			err := m.Update(ctx, key, fn)
			<-running
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
	{"a Store that takes a late verdict", "a late save of a changed value is refused", leasedBut(leasing{takesVerdict: true})},
	{"a Store that knows refresh tokens only", "a late save of a changed value is refused", leasedBut(leasing{fence: func(r *row) string {
		if r.grant == nil {
			return "nothing"
		}
		return r.grant.RefreshToken
	}})},
	{"a Store that takes one tombstone for another", "a late save of a changed value is refused", leasedBut(leasing{fence: func(r *row) string {
		if r.grant != nil && !r.grant.Deleted.IsZero() {
			return "deleted"
		}
		return r.grant.Fence()
	}})},
	{"a Store that counts writes", "a late save is stored if no other grant is", leasedBut(leasing{fence: func(r *row) string { return fmt.Sprint(r.writes) }})},
	{"a Store that compares access tokens", "a late save is stored if no other grant is", leasedBut(leasing{fence: func(r *row) string {
		if r.grant == nil {
			return ""
		}
		return r.grant.AccessToken + r.grant.Fence()
	}})},
	{"a Store that revives the purged", "a save inserts only if fn was given nil", leasedBut(leasing{inserts: true})},
	{"a Store that takes nil for any grant", "a save inserts only if fn was given nil", leasedBut(leasing{upserts: true})},
	{"a Store that tells who took over", "an Update that took over returns fn's error alone", leasedBut(leasing{tellsTakeOver: true})},
	{"a Store with leases of 30 s", "exclusivity that runs out is promised for 45 s", leasedBut(leasing{lasts: 30 * time.Second})},
	{"a Store with leases of a minute", "exclusivity that runs out is promised for 45 s", leasedBut(leasing{lasts: time.Minute})},
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
	{"a Store that yields the keys of tombstones", "Keys skips tombstones", breaking(func(b *broken, m *b24oauth.MemoryStore) {
		deleted := make(map[string]bool)
		b.update = func(ctx context.Context, key string, fn fnFunc) error {
			return m.Update(ctx, key, func(ctx context.Context, g *b24oauth.Grant) (*b24oauth.Grant, error) {
				g, err := fn(ctx, g)
				deleted[key] = g != nil && !g.Deleted.IsZero()
				return g, err
			})
		}
		b.keys = func(ctx context.Context) iter.Seq2[string, error] {
			return func(yield func(string, error) bool) {
				for key := range m.Keys(ctx) {
					yield(key, nil)
				}
				for key, gone := range deleted {
					if gone {
						yield(key, nil)
					}
				}
			}
		}
	})},
	{"a Store that forgets a key for good", "Keys skips tombstones", breaking(func(b *broken, m *b24oauth.MemoryStore) {
		deleted := make(map[string]bool)
		b.update = func(ctx context.Context, key string, fn fnFunc) error {
			return m.Update(ctx, key, func(ctx context.Context, g *b24oauth.Grant) (*b24oauth.Grant, error) {
				g, err := fn(ctx, g)
				if g != nil && !g.Deleted.IsZero() {
					deleted[key] = true
				}
				return g, err
			})
		}
		b.keys = func(ctx context.Context) iter.Seq2[string, error] {
			return func(yield func(string, error) bool) {
				for key := range m.Keys(ctx) {
					if !deleted[key] && !yield(key, nil) {
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
