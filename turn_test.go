package b24oauth_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/b24go/b24oauth"
)

// slowLease is a Store whose leases last 30 s, and whose answer that a lease
// is taken comes late.
type slowLease struct {
	b24oauth.MemoryStore
	late time.Duration
}

func (s *slowLease) Update(ctx context.Context, key string, fn func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error)) error {
	end := time.Now().Add(30 * time.Second)
	<-time.After(s.late)
	return s.MemoryStore.Update(ctx, key, func(ctx context.Context, g *b24oauth.Grant) (*b24oauth.Grant, error) {
		ctx, cancel := context.WithDeadline(ctx, end)
		defer cancel()
		return fn(ctx, g)
	})
}

func TestLeaseThatComesLateIsAPassingFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &slowLease{}
		p := newProgram(t, func(c *b24oauth.Config) { c.Store = store })
		<-time.After(2 * time.Hour)
		store.late = 6 * time.Second
		_, err := p.source.Token()
		if !errors.Is(err, b24oauth.ErrUnavailable) || len(p.TokenRequests()) != 0 {
			t.Errorf("%d token requests and %v, want none and ErrUnavailable", len(p.TokenRequests()), err)
		}
		store.late = 0
		<-time.After(3 * time.Second)
		if _, err := p.source.Token(); err != nil {
			t.Errorf("three seconds later: %v", err)
		}
	})
}

// occupied is a Store in which somebody else always has the turn.
type occupied struct{ *b24oauth.MemoryStore }

func (s occupied) Update(ctx context.Context, _ string, _ func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error)) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestWaitingForATurnEndsWhenTheNewGrantIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		place := new(b24oauth.MemoryStore)
		p := newProgram(t, func(c *b24oauth.Config) { c.Store = place })
		p.restart(func(c *b24oauth.Config) { c.Store = occupied{place} })
		<-time.After(2 * time.Hour)
		go func() {
			<-time.After(2500 * time.Millisecond)
			put(t, place, key, p.Install())
		}()
		start := time.Now()
		if _, err := p.source.Token(); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took != 3*time.Second || len(p.TokenRequests()) != 0 {
			t.Errorf("token after %v and %d requests, want that of another process at the look after 3s", took, len(p.TokenRequests()))
		}
	})
}

// The look at the Store that a waiting flight has begun may come back when its
// turn has come, too.
func TestLookDuringTheWaitDoesNotHideAFailedSave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, events := newHooked(), &diary{}
		p := newProgram(t, with(store, events))
		<-time.After(2 * time.Hour)
		newer := p.Install()
		newer.Expiry = time.Now()
		put(t, store.Store, key, newer)

		inTurn, looked := make(chan struct{}), make(chan struct{})
		looks := 0
		store.onLoad(func(ctx context.Context) (*b24oauth.Grant, error) {
			if looks++; looks == 2 { // the one during the wait
				<-inTurn
				defer close(looked)
				return newer, nil
			}
			g := p.Install() // one that the flight has not seen, and that has run out
			g.Expiry = time.Now()
			return g, nil
		})
		failed := false
		store.onUpdate(func(ctx context.Context, fn updateFunc) error {
			if failed {
				return store.Store.Update(ctx, key, fn)
			}
			failed = true
			<-time.After(1500 * time.Millisecond)
			_, err := fn(ctx, newer)
			close(inTurn)
			<-looked
			synctest.Wait()
			if err != nil {
				return err
			}
			return errDown
		})
		got := token(t, p.source)
		if err := p.config.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		if g, err := store.Store.Load(t.Context(), key); err != nil || g.AccessToken != got {
			t.Errorf("the token in use is not the stored one (%v): its grant would be lost with the process", err)
		}
		synctest.Wait() // events are told after the flight has landed
		events.want(t, "save_failed", "renewed")
	})
}

func TestTokenRefusedWhileItsPairIsBeingSavedIsRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, events := newHooked(), &diary{}
		p := newProgram(t, with(store, events))
		p.accept(t)
		p.ExpireAccessTokens()
		store.failSaves()
		p.accept(t) // renewed, and used from memory
		p.ExpireAccessTokens()
		go func() {
			<-time.After(3 * time.Second)
			store.onUpdate(nil)
		}()
		resp, err := p.client.Get(p.Endpoint() + "profile")
		if got := status(t, resp, err); got != 200 {
			t.Errorf("status %d, want 200 after one more renewal", got)
		}
	})
}
