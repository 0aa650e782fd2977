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
