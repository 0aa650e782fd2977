// Package registry keeps one value for each key, as long as anybody uses it.
//
// Two sources of one grant in a process would not know of each other's unsaved
// pair, and keeping a source for each key that was ever asked for would fill
// the memory. So a value that was idle for long is held weakly: who still has
// it goes on with it, whoever asks for its key gets the same one, and if nobody
// has it, it goes.
package registry

import (
	"sync"
	"time"
	"weak"
)

// sweepPause is how often idle values are looked for, at most.
const sweepPause = time.Minute

// A Registry has the values. The zero value is empty and ready for use. Its
// methods may be called concurrently.
type Registry[T any] struct {
	mu    sync.Mutex // guards what follows, never held while anything waits
	used  map[string]*T
	idle  map[string]weak.Pointer[T]
	swept time.Time // when idle values were last looked for
}

// Get returns the value of key. If there is none, it is made by create, after
// those for which isIdle is true are given up.
func (r *Registry[T]) Get(key string, now time.Time, create func() *T, isIdle func(*T) bool) *T {
	r.mu.Lock()
	defer r.mu.Unlock()
	if v, ok := r.used[key]; ok {
		return v
	}
	r.sweep(now, isIdle)
	v := r.idle[key].Value()
	if v == nil {
		v = create()
	}
	r.keep(key, v)
	return v
}

// Use notes that the value of key, which may have been given up as idle, is
// used again.
func (r *Registry[T]) Use(key string, v *T) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keep(key, v)
}

// All returns the values that are not idle.
func (r *Registry[T]) All() []*T {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]*T, 0, len(r.used))
	for _, v := range r.used {
		all = append(all, v)
	}
	return all
}

// keep holds the value. r.mu is held.
func (r *Registry[T]) keep(key string, v *T) {
	if r.used == nil {
		r.used = make(map[string]*T)
	}
	r.used[key] = v
	delete(r.idle, key)
}

// sweep holds weakly what is idle, and forgets what has gone. r.mu is held.
func (r *Registry[T]) sweep(now time.Time, isIdle func(*T) bool) {
	if now.Sub(r.swept) < sweepPause {
		return
	}
	r.swept = now
	for key, p := range r.idle {
		if p.Value() == nil {
			delete(r.idle, key)
		}
	}
	for key, v := range r.used {
		if !isIdle(v) {
			continue
		}
		delete(r.used, key)
		if r.idle == nil {
			r.idle = make(map[string]weak.Pointer[T])
		}
		r.idle[key] = weak.Make(v)
	}
}
