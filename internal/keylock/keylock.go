// Package keylock is a lock for each key. With one lock for all of them a slow
// server makes every grant wait for one, and a sync.Mutex makes who waits for
// it wait for longer than its context lasts.
package keylock

import (
	"context"
	"sync"
)

// Locks has one lock for each key. The zero value is ready. It keeps nothing
// of a key that nobody has locked or waits for. It is safe for concurrent use.
type Locks struct {
	mu sync.Mutex // guards m and users, never held while anybody waits
	m  map[string]*lock
}

// lock is a channel and not a mutex so that waiting for it can be given up.
type lock struct {
	held  chan struct{} // holds one element while it is locked
	users int           // holding it or waiting
}

// Lock waits for the lock of key until ctx ends, and returns what unlocks it.
// The error is the context's.
func (l *Locks) Lock(ctx context.Context, key string) (unlock func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	one := l.join(key)
	select {
	case one.held <- struct{}{}:
		return func() { <-one.held; l.leave(key, one) }, nil
	case <-ctx.Done():
		l.leave(key, one)
		return nil, ctx.Err()
	}
}

func (l *Locks) join(key string) *lock {
	l.mu.Lock()
	defer l.mu.Unlock()
	one := l.m[key]
	if one == nil {
		if l.m == nil {
			l.m = make(map[string]*lock)
		}
		one = &lock{held: make(chan struct{}, 1)}
		l.m[key] = one
	}
	one.users++
	return one
}

func (l *Locks) leave(key string, one *lock) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if one.users--; one.users == 0 {
		delete(l.m, key)
	}
}
