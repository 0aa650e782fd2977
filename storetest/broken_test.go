package storetest

import (
	"context"
	"iter"
	"sync"

	"github.com/b24go/b24oauth"
)

// brokenStore is a Store that the check of that name has to fail.
type brokenStore struct {
	name  string
	check string
	open  func() func() b24oauth.Store
}

// broken is a MemoryStore some of whose methods are replaced by worse ones.
type broken struct {
	*b24oauth.MemoryStore
	load   loadFunc
	update updateFunc
	keys   func(context.Context) iter.Seq2[string, error]
}

type (
	fnFunc     = func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error)
	loadFunc   = func(context.Context, string) (*b24oauth.Grant, error)
	updateFunc = func(context.Context, string, fnFunc) error
)

func (b *broken) Load(ctx context.Context, key string) (*b24oauth.Grant, error) {
	if b.load != nil {
		return b.load(ctx, key)
	}
	return b.MemoryStore.Load(ctx, key)
}

func (b *broken) Update(ctx context.Context, key string, fn fnFunc) error {
	if b.update != nil {
		return b.update(ctx, key, fn)
	}
	return b.MemoryStore.Update(ctx, key, fn)
}

func (b *broken) Keys(ctx context.Context) iter.Seq2[string, error] {
	if b.keys != nil {
		return b.keys(ctx)
	}
	return b.MemoryStore.Keys(ctx)
}

// breaking returns a place for one Store, which do makes worse.
func breaking(do func(b *broken, m *b24oauth.MemoryStore)) func() func() b24oauth.Store {
	return func() func() b24oauth.Store {
		b := &broken{MemoryStore: new(b24oauth.MemoryStore)}
		do(b, b.MemoryStore)
		return func() b24oauth.Store { return b }
	}
}

// around replaces Update by one that calls the real one with another fn.
func around(replace func(fn fnFunc) fnFunc) func() func() b24oauth.Store {
	return breaking(func(b *broken, m *b24oauth.MemoryStore) {
		b.update = func(ctx context.Context, key string, fn fnFunc) error {
			return m.Update(ctx, key, replace(fn))
		}
	})
}

// naming is a Store that takes one key for another.
func naming(name func(string) string) func() func() b24oauth.Store {
	return breaking(func(b *broken, m *b24oauth.MemoryStore) {
		b.load = func(ctx context.Context, key string) (*b24oauth.Grant, error) { return m.Load(ctx, name(key)) }
		b.update = func(ctx context.Context, key string, fn fnFunc) error { return m.Update(ctx, name(key), fn) }
	})
}

func leasedBut(how leasing) func() func() b24oauth.Store {
	return func() func() b24oauth.Store { return openLeased(how) }
}

// unlocked is a Store without any exclusion.
func unlocked() func() func() b24oauth.Store {
	return breaking(func(b *broken, m *b24oauth.MemoryStore) {
		var mu sync.Mutex
		grants := make(map[string]*b24oauth.Grant)
		b.load = func(_ context.Context, key string) (*b24oauth.Grant, error) {
			mu.Lock()
			defer mu.Unlock()
			if g := grants[key]; g != nil {
				return copyGrant(g), nil
			}
			return nil, b24oauth.ErrNoGrant
		}
		b.update = func(ctx context.Context, key string, fn fnFunc) error {
			given, _ := b.load(ctx, key)
			g, err := fn(context.WithoutCancel(ctx), given)
			if err != nil || g == nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			grants[key] = copyGrant(g)
			return nil
		}
	})
}
