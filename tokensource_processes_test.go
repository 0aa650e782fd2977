package b24oauth_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/b24go/b24oauth"
)

// A process that is killed while it renews keeps the others waiting until its
// lease has run out. Nobody asks the server before: its answer to a refresh
// token that was just spent would be taken for the grant's end.
func TestKilledHolderCostsTheRestOfItsLease(t *testing.T) {
	for _, tt := range []struct {
		name     string
		answered bool // the server had spent the refresh token
	}{
		{"before the server was asked", false},
		{"after the server had answered", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				shared := new(sharedStore)
				p := newProgram(t, with(shared.process(), nil))
				killed, store := p.Config(), shared.process()
				killed.Store = store
				defer func() {
					close(store.released)
					<-time.After(2 * time.Minute) // until its jobs have ended
				}()
				base := p.Client().Transport
				killed.TokenClient = &http.Client{Transport: roundTripFunc(func(r *http.Request) (*http.Response, error) {
					if !tt.answered {
						<-store.released
						return nil, errKilled
					}
					return base.RoundTrip(r)
				})}
				<-time.After(2 * time.Hour)
				p.DelayTokens(1, 5*time.Second)
				go func() { _, _ = killed.TokenSource(key).Token() }()
				<-time.After(time.Second)
				close(store.killed)
				requests := len(p.TokenRequests())
				start := time.Now()
				for time.Since(start) < leaseTime/2 { // a call waits for 15s
					wantFailure(t, p.source, b24oauth.ErrUnavailable, 15*time.Second)
					wantRequests(t, p, requests)
					<-time.After(100 * time.Millisecond)
				}
				<-time.After(time.Minute)
				if tt.answered {
					if te := wantFailure(t, p.source, b24oauth.ErrReauthorize, 0); te.Code != "invalid_grant" {
						t.Errorf("error %+v; want the server's word", te)
					}
				} else {
					token(t, p.source)
					wantRefreshes(t, p, 1)
				}
			})
		})
	}
}

// The others go on as soon as the pair of a slow holder is stored.
func TestSlowHolderCostsTheOthersNoRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shared := new(sharedStore)
		p := newProgram(t, with(shared.process(), nil))
		slow := p.Config()
		slow.Store = shared.process()
		<-time.After(2 * time.Hour)
		p.DelayTokens(1, 14*time.Second)
		done := make(chan string)
		go func() { done <- token(t, slow.TokenSource(key)) }()
		<-time.After(time.Second)
		start := time.Now()
		got := token(t, p.source)
		if took := time.Since(start); took < 13*time.Second || took > 15*time.Second {
			t.Errorf("waited %v, want the 13s until the pair is stored and a second at most", took)
		}
		if got != <-done {
			t.Error("not the slow process's pair")
		}
		if err := p.config.Flush(context.Background()); err != nil { // its request for exclusivity goes on until it has it
			t.Error(err)
		}
		wantRequests(t, p, 1)
	})
}

func TestLostLeaseAndAnotherProcessesPair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shared, events := new(sharedStore), new(eventLog)
		p := newProgram(t, with(shared.process(), events))
		p.SetSingleUse(false)
		other := p.Config()
		other.Store = shared.process()
		<-time.After(2 * time.Hour)
		p.DelayTokens(1, 10*time.Second)
		done := make(chan string)
		go func() { done <- token(t, p.source) }()
		<-time.After(5 * time.Second)
		shared.expireLease()
		theirs := token(t, other.TokenSource(key))
		<-done
		<-time.After(5 * time.Second)
		if got := token(t, p.source); got != theirs || stored(t, p).AccessToken != theirs {
			t.Error("the pair that was stored first did not win")
		}
		events.want(t, "renewed", "save_failed", "adopted")
	})
}

// Once the exchange was sent, its answer may be the only copy of the grant.
func TestExclusivityThatEndsDuringAnExchangeDoesNotEndIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shared := new(sharedStore)
		store := shared.process()
		p := newProgram(t, with(store, nil))
		<-time.After(2 * time.Hour)
		p.DelayTokens(1, 10*time.Second)
		go func() {
			<-time.After(5 * time.Second)
			shared.expireLease()
		}()
		next := token(t, p.source)
		if stored(t, p).AccessToken != next {
			t.Error("a late save whose value is unchanged was not stored")
		}
		wantRequests(t, p, 1)
	})
}

// The Store shows a process the grant as it was before, until the server has
// refused it: as a replica that lags behind. Its verdict is on a pair that is
// stored no more.
func TestRefreshTokenThatAnotherProcessExchangedIsNoDeadGrant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFaultyStore()
		p := newProgram(t, with(store, nil))
		before := stored(t, p)
		<-time.After(2 * time.Hour)
		other := p.Config()
		other.Store = store.Store
		theirs := token(t, other.TokenSource(key))
		lag := func() bool { return len(p.TokenRequests()) < 2 }
		store.onLoad(func(ctx context.Context) (*b24oauth.Grant, error) {
			if lag() {
				return copyGrant(before), nil
			}
			return store.Store.Load(ctx, key)
		})
		store.onUpdate(func(ctx context.Context, fn updateFunc) error {
			if !lag() {
				return store.Store.Update(ctx, key, fn)
			}
			g, err := fn(ctx, copyGrant(before))
			if err == nil && g != nil {
				err = b24oauth.ErrConflict
			}
			return err
		})
		if got := token(t, p.source); got != theirs {
			t.Error("not the pair that the other process fetched")
		}
		wantRequests(t, p, 2)
		if stored(t, p).Refused != (b24oauth.Refusal{}) {
			t.Error("the verdict on the old pair was stored with the new one")
		}
		<-time.After(2 * time.Hour)
		token(t, p.source)
		wantRequests(t, p, 3)
	})
}

// slowLease is a Store whose answer that a lease is taken comes late.
type slowLease struct {
	b24oauth.MemoryStore
	late time.Duration
}

func (s *slowLease) Update(ctx context.Context, key string, fn updateFunc) error {
	end := time.Now().Add(leaseTime)
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
		p := newProgram(t, with(store, nil))
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
