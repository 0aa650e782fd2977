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

const (
	// roundPause is the time from one round in which idle values are looked for
	// to the next, at least.
	roundPause = 30 * time.Second

	// share is how many values a call looks at. One that looked at all of them
	// would keep everybody waiting.
	share = 512
)

// A Registry has the values. The zero value is empty and ready for use. Its
// methods may be called concurrently.
//
// A round moves what stays from one generation to the next, a share with each
// call. What a map once had room for goes with its generation, as maps do not
// shrink.
type Registry[T any] struct {
	mu        sync.Mutex    // guards what follows, never held while anything waits
	next, old generation[T] // a key is in one of them; old is empty between two rounds
	began     time.Time     // of the last round
	listing   int           // calls of All at work, during which no value is moved
}

// generation is values by key.
type generation[T any] struct {
	values map[string]holding[T]
	keys   [][]string // of values, in pages: one long list would be copied when it grows
}

// holding is a value, held strongly or, once it was idle, weakly.
type holding[T any] struct {
	used *T
	idle weak.Pointer[T]
}

// value returns the value, nil if it has gone.
func (h holding[T]) value() *T {
	if h.used != nil {
		return h.used
	}
	return h.idle.Value()
}

// Get returns the value of key. If there is none, it is made by create. Of the
// others, some for which isIdle is true are given up.
func (r *Registry[T]) Get(key string, now time.Time, create func() *T, isIdle func(*T) bool) *T {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.look(now, isIdle)
	h, ok := r.next.values[key]
	if !ok {
		h = r.old.values[key]
	}
	if h.used != nil {
		return h.used
	}
	v := h.idle.Value()
	if v == nil {
		v = create()
	}
	r.keep(key, v)
	return v
}

// Use notes that the value of key, which may have been given up as idle, is
// used again. Of the others, some for which isIdle is true are given up.
func (r *Registry[T]) Use(key string, v *T, now time.Time, isIdle func(*T) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keep(key, v)
	r.look(now, isIdle)
}

// All returns the values that are not idle.
func (r *Registry[T]) All() (all []*T) {
	r.mu.Lock()
	r.listing++
	r.mu.Unlock()
	for _, g := range []*generation[T]{&r.old, &r.next} {
		for page, more := 0, true; more; page++ {
			var used []*T
			used, more = r.page(g, page)
			all = append(all, used...)
		}
	}
	r.mu.Lock()
	r.listing--
	r.mu.Unlock()
	return all
}

// page returns the values of a page of keys that are not idle, and whether
// there is such a page.
func (r *Registry[T]) page(g *generation[T], n int) (used []*T, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n >= len(g.keys) {
		return nil, false
	}
	for _, key := range g.keys[n] {
		if v := g.values[key].used; v != nil {
			used = append(used, v)
		}
	}
	return used, true
}

// keep holds the value strongly. r.mu is held.
func (r *Registry[T]) keep(key string, v *T) {
	g := &r.next
	if _, ok := r.old.values[key]; ok {
		g = &r.old
	}
	g.put(key, holding[T]{used: v})
}

// look goes on with the round, or begins one if it is time: what is idle is
// held weakly from then on, and what has gone is forgotten. r.mu is held.
func (r *Registry[T]) look(now time.Time, isIdle func(*T) bool) {
	if r.listing > 0 {
		return
	}
	if len(r.old.keys) == 0 {
		if now.Sub(r.began).Abs() < roundPause {
			return
		}
		r.old, r.next, r.began = r.next, generation[T]{}, now
	}
	for range share {
		key, h, ok := r.old.take()
		if !ok {
			r.old = generation[T]{}
			return
		}
		switch v := h.value(); {
		case v == nil:
		case isIdle(v):
			r.next.put(key, holding[T]{idle: weak.Make(v)})
		default:
			r.next.put(key, holding[T]{used: v})
		}
	}
}

// put holds what is held of the key's value from now on.
func (g *generation[T]) put(key string, h holding[T]) {
	if g.values == nil {
		g.values = make(map[string]holding[T])
	}
	if _, ok := g.values[key]; !ok {
		last := len(g.keys) - 1
		switch {
		case last < 0:
			g.keys = append(g.keys, make([]string, 0, 8))
			last = 0
		case len(g.keys[last]) == cap(g.keys[last]):
			g.keys = append(g.keys, make([]string, 0, min(2*cap(g.keys[last]), share)))
			last++
		}
		g.keys[last] = append(g.keys[last], key)
	}
	g.values[key] = h
}

// take takes one value out; ok is false if there is none.
func (g *generation[T]) take() (key string, h holding[T], ok bool) {
	last := len(g.keys) - 1
	if last < 0 {
		return "", h, false
	}
	page := g.keys[last]
	key, page = page[len(page)-1], page[:len(page)-1]
	if g.keys[last] = page; len(page) == 0 {
		g.keys = g.keys[:last]
	}
	h = g.values[key]
	delete(g.values, key)
	return key, h, true
}
