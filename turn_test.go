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
