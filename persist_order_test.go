package b24oauth_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/b24test"
)

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

func TestConflictIsNoLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFaultyStore()
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
		wantFailure(t, p.source, b24oauth.ErrMisconfigured, 0)
		if stored(t, p).AccessToken != next {
			t.Error("the pair was not saved before it was exchanged")
		}
	})
}

// A grant that was replaced by another process's is superseded like one that
// was exchanged.
func TestStoreThatGoesBackBehindAnotherProcessesGrantHeals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFaultyStore()
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
		wantFailure(t, p.source, b24oauth.ErrMisconfigured, 0)
		if got := stored(t, p); got.UserID != newer.UserID {
			t.Error("the grant that was replaced came back")
		}
	})
}

func TestDeletionWhileAPairIsUnsaved(t *testing.T) {
	for _, how := range []string{"next call", "Flush"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, store, _ := unsaved(t)
				other := p.Config()
				other.Store = store.Store
				if err := other.Delete(t.Context(), key); err != nil {
					t.Fatal(err)
				}
				if how == "Flush" {
					if err := p.config.Flush(t.Context()); err != nil {
						t.Errorf("Flush = %v; nothing is left to save", err)
					}
				}
				<-time.After(2 * time.Minute)
				_, _ = p.source.Token() // it may still use the token that it has
				synctest.Wait()
				wantFailure(t, p.source, b24oauth.ErrNoGrant, 0)
				if stored(t, p).Deleted.IsZero() {
					t.Error("the deleted grant came back to life")
				}
			})
		})
	}
}

// A Store that goes back to an older value, as after a failover, is put right
// by the process that knows the newer one.
func TestStoreThatGoesBackHeals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFaultyStore()
		p := newProgram(t, with(store, nil))
		backup := stored(t, p)
		for range 3 {
			<-time.After(time.Hour)
			token(t, p.source)
		}
		storeDirectly(t, store.Store, key, backup)
		<-time.After(time.Hour)
		next := token(t, p.source)
		if stored(t, p).AccessToken != next {
			t.Error("the Store was not put right")
		}
		wantRefreshes(t, p, 4)
		wantRequests(t, p, 4)
		if err := p.config.Save(t.Context(), key, backup); !errors.Is(err, b24oauth.ErrOutdated) {
			t.Errorf("Save of a grant that was exchanged = %v; want ErrOutdated", err)
		}
		if err := p.config.Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		wantFailure(t, p.source, b24oauth.ErrNoGrant, 0)
		storeDirectly(t, store.Store, key, backup) // with what says that it was deleted
		<-time.After(time.Minute)
		wantFailure(t, p.source, b24oauth.ErrReauthorize, 0)
		wantRequests(t, p, 5)
	})
}

// Nothing stored means that the Store was emptied, as a cache that restarts:
// taken for a deletion it would cost the grant.
func TestEmptiedStoreIsFilledAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFaultyStore()
		p := newProgram(t, with(store, nil))
		old := token(t, p.source)
		purge(t, store.Store)
		if token(t, p.source) != old {
			t.Error("not the token that works")
		}
		<-time.After(time.Hour)
		next := token(t, p.source)
		if next == old || stored(t, p).AccessToken != next {
			t.Error("the pair was not renewed and stored again")
		}
		wantRequests(t, p, 1)
		purge(t, store.Store)
		p.KillGrants()
		<-time.After(time.Hour)
		wantFailure(t, p.source, b24oauth.ErrReauthorize, 0)
		if g := stored(t, p); g.AccessToken != next || g.Refused.Code != "invalid_grant" {
			t.Errorf("stored %v, refused %v; want the refused pair with its verdict", g, g.Refused)
		}
	})
}

// The verdict goes back too: otherwise every process would ask the server
// about the older pair once more.
func TestRefusedPairGoesBackOverAnOlderOneWithItsVerdict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFaultyStore()
		p := newProgram(t, with(store, nil))
		backup := stored(t, p)
		<-time.After(time.Hour)
		token(t, p.source)
		p.KillGrants()
		<-time.After(time.Hour)
		wantFailure(t, p.source, b24oauth.ErrReauthorize, 0)
		refused := stored(t, p)
		if refused.Refused.Code != "invalid_grant" {
			t.Errorf("the stored verdict is %v", refused.Refused)
		}
		storeDirectly(t, store.Store, key, backup)
		<-time.After(time.Minute)
		wantFailure(t, p.source, b24oauth.ErrReauthorize, 0)
		if err := p.config.Flush(t.Context()); err != nil {
			t.Errorf("Flush = %v", err)
		}
		if diff := cmp.Diff(refused, stored(t, p)); diff != "" {
			t.Errorf("stored (-want +got):\n%s", diff)
		}
		wantRequests(t, p, 2)
	})
}
