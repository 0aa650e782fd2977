package b24oauth_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/b24test"
)

// unsaved returns a program that has a pair in memory only, and its Store.
func unsaved(t *testing.T) (p *program, s *hooked, next string) {
	s = newHooked()
	p = newProgram(t, with(s, nil))
	<-time.After(2 * time.Hour)
	s.failSaves()
	next = token(t, p.source)
	<-time.After(11 * time.Second)
	s.onUpdate(nil)
	return p, s, next
}

func remove(t *testing.T, s b24oauth.Store) {
	t.Helper()
	err := s.Update(t.Context(), key, func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
		return nil, b24oauth.ErrDelete
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestRemovalWhileAPairIsUnsaved(t *testing.T) {
	for _, how := range []string{"next call", "Flush"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, store, _ := unsaved(t)
				remove(t, store.Store)
				if how == "Flush" {
					if err := p.config.Flush(t.Context()); err != nil {
						t.Errorf("Flush = %v; nothing is left to save", err)
					}
				}
				<-time.After(2 * time.Minute)
				_, _ = p.source.Token() // it may still use the token that it has
				synctest.Wait()
				wantFailure(t, p.source, b24oauth.ErrNoGrant, 0)
				if _, err := store.Store.Load(t.Context(), key); !errors.Is(err, b24oauth.ErrNoGrant) {
					t.Error("the removed grant came back to life")
				}
			})
		})
	}
}

func TestReinstallationWhileAPairIsUnsaved(t *testing.T) {
	for _, how := range []string{"another process", "this one"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, store, _ := unsaved(t)
				config, g := p.config, p.Install()
				if how == "another process" {
					config = p.Config()
					config.Store = store.Store
				}
				if err := config.Save(t.Context(), key, g); err != nil {
					t.Fatal(err)
				}
				<-time.After(2 * time.Minute)
				_, _ = p.source.Token()
				synctest.Wait()
				if got := token(t, p.source); got != g.AccessToken || stored(t, p).AccessToken != got {
					t.Error("the new installation's grant did not win")
				}
			})
		})
	}
}

func TestLostLeaseAndAnotherProcessesPair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shared, events := new(place), new(diary)
		p := newProgram(t, with(shared.process("A", nil), events))
		p.SetSingleUse(false)
		other := p.Config()
		other.Store = shared.process("B", nil)
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
		events.want(t, "save_failed", "renewed")
	})
}

func TestConflictIsNoLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newHooked()
		p := newProgram(t, with(store, nil))
		<-time.After(2 * time.Hour)
		calls := 0
		store.onUpdate(func(ctx context.Context, fn updateFunc) error {
			if calls++; calls > 1 {
				return store.Store.Update(ctx, key, fn)
			}
			g, err := store.Store.Load(ctx, key)
			if err != nil {
				return err
			}
			if _, err := fn(ctx, g); err != nil {
				return err
			}
			return b24oauth.ErrConflict
		})
		next := token(t, p.source)
		<-time.After(time.Second)
		if stored(t, p).AccessToken != next {
			t.Error("the pair was not saved by another attempt")
		}
		wantRefreshes(t, p, 1)
	})
}

// A Store that goes back to an older value, as after a failover, is put right
// by the process that knows the newer one.
func TestStoreThatGoesBackHeals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newHooked()
		p := newProgram(t, with(store, nil))
		backup := stored(t, p)
		for range 3 {
			<-time.After(time.Hour)
			token(t, p.source)
		}
		err := store.Store.Update(t.Context(), key, func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) { return backup, nil })
		if err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Hour)
		next := token(t, p.source)
		if stored(t, p).AccessToken != next {
			t.Error("the Store was not put right")
		}
		wantRefreshes(t, p, 4)
		wantRequests(t, p, 4)
		if err := p.config.Save(t.Context(), key, backup); !errors.Is(err, b24oauth.ErrClientRejected) {
			t.Errorf("Save of a grant that was exchanged = %v; want an error", err)
		}
		remove(t, store)
		<-time.After(2 * time.Hour)
		wantFailure(t, p.source, b24oauth.ErrNoGrant, 0)
		err = store.Store.Update(t.Context(), key, func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) { return backup, nil })
		if err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Minute)
		wantFailure(t, p.source, b24oauth.ErrReauthorize, 0)
		wantRequests(t, p, 4)
	})
}

// A refused pair is not saved over the older one.
func TestRefusedPairIsNotSaved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newHooked()
		p := newProgram(t, with(store, nil))
		backup := stored(t, p)
		<-time.After(time.Hour)
		token(t, p.source)
		p.KillGrants()
		<-time.After(time.Hour)
		wantFailure(t, p.source, b24oauth.ErrReauthorize, 0)
		err := store.Store.Update(t.Context(), key, func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) { return backup, nil })
		if err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Minute)
		wantFailure(t, p.source, b24oauth.ErrReauthorize, 0)
		if err := p.config.Flush(t.Context()); err != nil || stored(t, p).AccessToken != backup.AccessToken {
			t.Errorf("Flush = %v; want the Store left as it is", err)
		}
	})
}

// An unsaved pair is saved before it is exchanged: if the answer were lost,
// nothing would be left of the grant.
func TestUnsavedPairIsNotExchanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, store, next := unsaved(t)
		store.failSaves()
		<-time.After(2 * time.Hour)
		wantFailure(t, p.source, b24oauth.ErrUnavailable, 0)
		wantRefreshes(t, p, 1)
		store.onUpdate(nil)
		p.FailTokens(1, b24test.Answer{Status: 400, Body: `{"error":"invalid_client"}`})
		<-time.After(2 * time.Minute)
		wantFailure(t, p.source, b24oauth.ErrClientRejected, 0)
		if stored(t, p).AccessToken != next {
			t.Error("the pair was not saved before it was exchanged")
		}
	})
}

// A grant that was replaced by another process's is left behind like one that
// was exchanged.
func TestStoreThatGoesBackBehindAnotherProcessesGrantHeals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newHooked()
		p := newProgram(t, with(store, nil))
		token(t, p.source)
		backup := stored(t, p)
		other := p.Config()
		other.Store = store.Store
		if err := other.Save(t.Context(), key, p.Install()); err != nil {
			t.Fatal(err)
		}
		newer := stored(t, p)
		<-time.After(59*time.Minute + 30*time.Second)
		token(t, p.source)
		err := store.Store.Update(t.Context(), key, func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) { return backup, nil })
		if err != nil {
			t.Fatal(err)
		}
		<-time.After(2 * time.Hour)
		p.FailTokens(1, b24test.Answer{Status: 400, Body: `{"error":"invalid_client"}`})
		wantFailure(t, p.source, b24oauth.ErrClientRejected, 0)
		if got := stored(t, p); got.UserID != newer.UserID {
			t.Error("the grant that was replaced came back")
		}
	})
}
