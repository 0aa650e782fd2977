package redisstore

import (
	"context"
	"sync"

	"github.com/redis/go-redis/v9"
)

// waiters are those who wait for a lease to be given back. They share one
// connection, which is there only while somebody waits.
//
// It is plain pub/sub, which a cluster brings to all of its nodes, so that
// one connection to any of them hears of every grant. Sharded pub/sub would
// need one to each master, and Redis 7. A message is only a hint, so no
// error is reported here: a waiter who gets none polls.
type waiters struct {
	client redis.UniversalClient

	mu        sync.Mutex
	byChannel map[string]map[chan struct{}]bool // guarded by mu
	changed   chan struct{}                     // makes listen notice that byChannel has changed; nil while it does not run; guarded by mu
}

// join returns a channel that yields when the lease of that name has been
// given back, and a function that ends the waiting.
func (w *waiters) join(name string) (given <-chan struct{}, leave func()) {
	c := make(chan struct{}, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.changed == nil {
		w.byChannel = make(map[string]map[chan struct{}]bool)
		w.changed = make(chan struct{}, 1)
		go w.listen(w.changed)
	}
	if w.byChannel[name] == nil {
		w.byChannel[name] = make(map[chan struct{}]bool)
		notify(w.changed)
	}
	w.byChannel[name][c] = true
	return c, func() { w.leave(name, c) }
}

func (w *waiters) leave(name string, c chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.byChannel[name], c)
	if len(w.byChannel[name]) == 0 {
		delete(w.byChannel, name)
		notify(w.changed)
	}
}

// listen hands on what is published until nobody waits any more.
func (w *waiters) listen(changed <-chan struct{}) {
	ctx := context.Background()
	pubsub := w.client.Subscribe(ctx)
	defer pubsub.Close()
	messages := pubsub.Channel()
	subscribed := make(map[string]bool)
	for {
		add, drop, over := w.difference(subscribed)
		if over {
			return
		}
		if len(add) > 0 {
			pubsub.Subscribe(ctx, add...)
		}
		if len(drop) > 0 {
			pubsub.Unsubscribe(ctx, drop...)
		}
		select {
		case <-changed:
		case m, open := <-messages:
			if !open {
				messages = nil // the client was closed; the waiters are about to notice
				continue
			}
			w.wake(m.Channel)
		}
	}
}

// difference makes subscribed what is to be subscribed and returns what that
// takes. over: nobody waits, and join will have to begin anew.
func (w *waiters) difference(subscribed map[string]bool) (add, drop []string, over bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.byChannel) == 0 {
		w.changed = nil
		return nil, nil, true
	}
	for name := range w.byChannel {
		if !subscribed[name] {
			subscribed[name] = true
			add = append(add, name)
		}
	}
	for name := range subscribed {
		if w.byChannel[name] == nil {
			delete(subscribed, name)
			drop = append(drop, name)
		}
	}
	return add, drop, false
}

func (w *waiters) wake(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.byChannel[name] {
		notify(c)
	}
}

// notify leaves a note that there is something to look at.
func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
