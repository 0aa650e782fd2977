package storetest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/b24go/b24oauth"
)

func loadDoesNotWait(t testing.TB, open func() b24oauth.Store) {
	s, other := open(), open()
	put(t, s, theKey, numbered(1))
	h, _ := hold(t, t.Context(), s, theKey)
	loaded := make(chan error, 2)
	for _, s := range []b24oauth.Store{s, other} {
		go func() {
			g, err := s.Load(t.Context(), theKey)
			if err == nil && g.UserID != 1 {
				err = fmt.Errorf("loaded grant %d; want 1, the Update has not ended", g.UserID)
			}
			loaded <- err
		}()
		if err := await(t, loaded, "Load while an Update runs"); err != nil {
			t.Errorf("Load while an Update runs: %v", err)
		}
	}
	if err := h.end(numbered(2), nil); err != nil {
		t.Errorf("Update = %v", err)
	}
	wantNumber(t, other, theKey, 2)
}

func waitsForTheOther(t testing.TB, open func() b24oauth.Store) {
	stores := []b24oauth.Store{open(), open()}
	for i, second := range stores {
		name := []string{"the same Store", "another Store on the same place"}[i]
		put(t, stores[0], theKey, numbered(1))
		h, _ := hold(t, t.Context(), stores[0], theKey)
		next := begin(t, t.Context(), second, theKey)
		stays(t, next.called, "two Updates of a key at once, through "+name)
		if err := h.end(numbered(2), nil); err != nil {
			t.Fatalf("Update = %v", err)
		}
		given := await(t, next.called, "the Update that waited, through "+name)
		if given.grant == nil || given.grant.UserID != 2 {
			t.Errorf("the Update that waited, through %s, was given %v; want what the one before it stored", name, given.grant)
		}
		if err := next.end(numbered(3), nil); err != nil {
			t.Errorf("Update = %v", err)
		}
		wantNumber(t, stores[0], theKey, 3)
	}
}

func noneLost(t testing.TB, open func() b24oauth.Store) {
	const goroutines, times = 4, 5
	stores := []b24oauth.Store{open(), open()}
	var running atomic.Int32
	increment := func(_ context.Context, g *b24oauth.Grant) (*b24oauth.Grant, error) {
		if running.Add(1) > 1 {
			t.Errorf("two Updates of a key at once")
		}
		defer running.Add(-1)
		runtime.Gosched()
		if g == nil {
			return numbered(1), nil
		}
		return numbered(g.UserID + 1), nil
	}
	var wg sync.WaitGroup
	for _, s := range stores {
		for range goroutines {
			wg.Go(func() {
				for range times {
					if err := s.Update(t.Context(), theKey, increment); err != nil {
						t.Errorf("Update = %v", err)
					}
				}
			})
		}
	}
	wg.Wait()
	wantNumber(t, stores[0], theKey, int64(len(stores)*goroutines*times))
}

func waitingEnds(t testing.TB, open func() b24oauth.Store) {
	s := open()
	h, _ := hold(t, t.Context(), s, theKey)

	cancelled, cancel := context.WithCancel(t.Context())
	defer cancel()
	timer := time.AfterFunc(grace, cancel)
	defer timer.Stop()
	expired, cancel := context.WithTimeout(t.Context(), grace)
	defer cancel()

	var waiting []*held
	for _, s := range []b24oauth.Store{s, open()} {
		for _, ctx := range []context.Context{cancelled, expired} {
			next := begin(t, ctx, s, theKey)
			waiting = append(waiting, next)
			err := await(t, next.result, "an Update whose ctx ended while it waited")
			if !errors.Is(err, ctx.Err()) || err == nil {
				t.Errorf("Update whose ctx ended while it waited = %v; want %v", err, ctx.Err())
			}
		}
	}
	if err := h.end(numbered(1), nil); err != nil {
		t.Errorf("the Update they waited for = %v", err)
	}
	put(t, s, theKey, numbered(2)) // nobody is left in its way
	for _, next := range waiting {
		select {
		case <-next.called:
			t.Error("fn was called although ctx had ended while Update waited")
		default:
		}
	}
}
