package integration

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/b24go/b24oauth"
)

// A brokenStore does what the test wants where it wants it, until it is
// healed.
type brokenStore struct {
	b24oauth.Store
	load, before, after func(g *b24oauth.Grant) error
	broken              atomic.Bool
}

func (s *brokenStore) Load(ctx context.Context, key string) (*b24oauth.Grant, error) {
	g, err := s.Store.Load(ctx, key)
	if err == nil && s.load != nil && s.broken.Load() {
		err = s.load(g)
	}
	return g, err
}

func (s *brokenStore) Update(ctx context.Context, key string, fn func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error)) error {
	return s.Store.Update(ctx, key, func(ctx context.Context, g *b24oauth.Grant) (*b24oauth.Grant, error) {
		if !s.broken.Load() {
			return fn(ctx, g)
		}
		if s.before != nil {
			if err := s.before(g); err != nil {
				return nil, err
			}
		}
		next, err := fn(ctx, g)
		if err == nil && next != nil && s.after != nil {
			err = s.after(next)
		}
		return next, err
	})
}

func TestCanaryStaysInWhenTheStoreFails(t *testing.T) {
	type step = func(*b24oauth.Grant) error
	fails := func(*b24oauth.Grant) error { return errors.New("disk full") }
	quotes := func(g *b24oauth.Grant) error { // as the drivers of databases do
		return fmt.Errorf("cannot bind %q, %q, %q: %w", g.AccessToken, url.QueryEscape(g.RefreshToken), g.ApplicationToken, errors.New("disk full"))
	}
	panics := func(g *b24oauth.Grant) error { panic(g.AccessToken + g.RefreshToken + g.ApplicationToken) }
	panicsWithAnError := func(g *b24oauth.Grant) error { panic(errors.New(g.RefreshToken)) }
	ends := func(*b24oauth.Grant) error { runtime.Goexit(); return nil }
	output := capture(t)
	var worlds []*world
	for _, test := range []struct {
		name                string
		load, before, after step
	}{
		{name: "it cannot be read", load: fails},
		{name: "it quotes what it reads", load: quotes},
		{name: "it quotes what it locks", before: quotes},
		{name: "it quotes what it writes", after: quotes},
		{name: "it panics when it is read", load: panics},
		{name: "it cannot be locked", before: fails},
		{name: "it panics when it is locked", before: panics},
		{name: "it panics with an error when it is locked", before: panicsWithAnError},
		{name: "it ends the goroutine when it is locked", before: ends},
		{name: "it cannot be written", after: fails},
		{name: "it panics when it is written", after: panics},
		{name: "it panics with an error when it is written", after: panicsWithAnError},
		{name: "it ends the goroutine when it is written", after: ends},
		{name: "it has changed meanwhile", after: func(*b24oauth.Grant) error { return b24oauth.ErrConflict }},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, mishap{}, mishap{})
			store := &brokenStore{Store: w.config.Store, load: test.load, before: test.before, after: test.after}
			w.config.Store = store
			w.install(w.portal.URL+"/rest/", false)
			store.broken.Store(true)
			func() {
				defer func() { _ = recover() }() // on the caller's own goroutine it is the caller's
				w.call(t.Context(), &http.Client{Transport: w.transport(b24oauth.PlaceAuto, ownConnections(t))}, w.portal.URL+"/rest/")
			}()
			store.broken.Store(false)
			w.search(test.name)
			worlds = append(worlds, w)
		})
	}
	written := output()
	for _, w := range worlds {
		w.secrets.Check(t, "afterwards", written)
	}
}

func TestCanaryStaysInWhenOnEventPanics(t *testing.T) {
	for name, value := range map[string]func(w *world) any{
		"with a secret":        func(w *world) any { return w.refresh },
		"with an error":        func(w *world) any { return errors.New(w.refresh + w.secret) },
		"with the Config":      func(w *world) any { return w.config },
		"with a runtime error": func(w *world) any { return map[string]int(nil) },
	} {
		t.Run(name, func(t *testing.T) {
			output := capture(t)
			w := newWorld(t, mishap{}, mishap{})
			called := make(chan struct{}, 100)
			w.config.OnEvent = func(context.Context, b24oauth.Event) {
				called <- struct{}{}
				v := value(w)
				if m, ok := v.(map[string]int); ok {
					m[w.refresh] = 1
				}
				panic(v)
			}
			w.install(w.portal.URL+"/rest/", false)
			w.call(t.Context(), &http.Client{Transport: w.transport(b24oauth.PlaceAuto, ownConnections(t))}, w.portal.URL+"/rest/")
			select {
			case <-called: // an event follows the renewal, which waits for none
			case <-time.After(10 * time.Second):
				t.Error("there was no event")
			}
			w.search(name)
			w.secrets.Check(t, name, output())
		})
	}
}
