// Package turns lets goroutines take turns, by key.
package turns

import (
	"context"
	"sync"
)

// Turns has one turn for each key. The zero value is ready. It keeps nothing
// of a key that nobody has or waits for.
type Turns struct {
	mu sync.Mutex // guards m and users, never held while anybody waits
	m  map[string]*turn
}

// turn is a channel and not a mutex so that waiting for it can be given up.
type turn struct {
	taken chan struct{} // holds one element while somebody has the turn
	users int           // having it or waiting
}

// Take waits for the turn of key until ctx ends, and returns what gives it
// back. The error is the context's.
func (t *Turns) Take(ctx context.Context, key string) (leave func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	one := t.queue(key)
	select {
	case one.taken <- struct{}{}:
		return func() { <-one.taken; t.drop(key, one) }, nil
	case <-ctx.Done():
		t.drop(key, one)
		return nil, ctx.Err()
	}
}

func (t *Turns) queue(key string) *turn {
	t.mu.Lock()
	defer t.mu.Unlock()
	one := t.m[key]
	if one == nil {
		if t.m == nil {
			t.m = make(map[string]*turn)
		}
		one = &turn{taken: make(chan struct{}, 1)}
		t.m[key] = one
	}
	one.users++
	return one
}

func (t *Turns) drop(key string, one *turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if one.users--; one.users == 0 {
		delete(t.m, key)
	}
}
