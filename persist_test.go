package b24oauth_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/b24go/b24oauth"
)

func TestMemoryStoreFreesTheKeyWhateverBecomesOfTheUpdate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := new(b24oauth.MemoryStore)
		storeDirectly(t, m, key, spent())
		ends := map[string]func(){
			"returns an error": func() {
				_ = m.Update(t.Context(), key, func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
					return &b24oauth.Grant{AccessToken: "wrong"}, errors.New("no")
				})
			},
			"panics": func() {
				defer func() { _ = recover() }()
				_ = m.Update(t.Context(), key, func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) { panic("oops") })
			},
			"gives up waiting": func() {
				release := make(chan struct{})
				go m.Update(t.Context(), key, func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
					<-release
					return nil, nil
				})
				synctest.Wait()
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				err := m.Update(ctx, key, func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
					t.Error("fn was called while another Update was running")
					return nil, nil
				})
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("Update gave up with %v", err)
				}
				waited := make(chan error)
				go func() {
					waited <- m.Update(t.Context(), key, func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) { return nil, nil })
				}()
				synctest.Wait()
				close(release)
				if err := <-waited; err != nil {
					t.Errorf("who kept waiting got %v", err)
				}
			},
		}
		for name, end := range ends {
			end()
			called := false
			err := m.Update(t.Context(), key, func(_ context.Context, g *b24oauth.Grant) (*b24oauth.Grant, error) {
				called = true
				if diff := cmp.Diff(spent(), g); diff != "" {
					t.Errorf("after an Update that %s (-want +got):\n%s", name, diff)
				}
				return nil, nil
			})
			if err != nil || !called {
				t.Errorf("after an Update that %s: called %v, error %v", name, called, err)
			}
		}
	})
}

func TestMemoryStoreGivesAndTakesCopies(t *testing.T) {
	m := new(b24oauth.MemoryStore)
	spoil := func(g *b24oauth.Grant) { g.AccessToken, g.FormerHosts[0] = "spoiled", "spoiled" }
	given := spent()
	storeDirectly(t, m, key, given)
	spoil(given)
	got, err := m.Load(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(spent(), got); diff != "" {
		t.Errorf("the caller's change of what it stored shows (-want +got):\n%s", diff)
	}
	spoil(got)
	err = m.Update(t.Context(), key, func(_ context.Context, g *b24oauth.Grant) (*b24oauth.Grant, error) {
		if diff := cmp.Diff(spent(), g); diff != "" {
			t.Errorf("the caller's change of what it loaded shows (-want +got):\n%s", diff)
		}
		spoil(g)
		return nil, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := m.Load(t.Context(), key); err != nil || !cmp.Equal(spent(), got) {
		t.Errorf("fn's change of what it was given shows: %v, error %v", got, err)
	}
}

func TestMemoryStoreHeedsTheEndOfTheContextBeforeFnAndNotAfter(t *testing.T) {
	m := new(b24oauth.MemoryStore)
	type mark struct{}
	ctx, cancel := context.WithCancel(context.WithValue(t.Context(), mark{}, "kept"))
	err := m.Update(ctx, key, func(inner context.Context, g *b24oauth.Grant) (*b24oauth.Grant, error) {
		cancel()
		if _, limited := inner.Deadline(); inner.Err() != nil || limited || inner.Value(mark{}) != "kept" || g != nil {
			t.Errorf("fn got %v, grant %v", inner, g)
		}
		return spent(), nil
	})
	if err != nil {
		t.Errorf("the pair was not stored: %v", err)
	}
	if _, err := m.Load(t.Context(), key); err != nil {
		t.Error(err)
	}
	err = m.Update(ctx, key, func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
		t.Error("fn was called for a context that had ended")
		return nil, nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Update with an ended context: %v", err)
	}
	if _, err := m.Load(ctx, key); !errors.Is(err, context.Canceled) {
		t.Errorf("Load with an ended context: %v", err)
	}
}

func TestMemoryStoreDeletesAndListsItsKeys(t *testing.T) {
	m := new(b24oauth.MemoryStore)
	for _, key := range []string{"b", "c", "a/../ü"} {
		storeDirectly(t, m, key, spent())
	}
	remove := func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
		return spent(), fmt.Errorf("removed: %w", b24oauth.ErrDelete)
	}
	for _, key := range []string{"c", "never stored"} {
		if err := m.Update(t.Context(), key, remove); err != nil {
			t.Error(err)
		}
	}
	if _, err := m.Load(t.Context(), "c"); !errors.Is(err, b24oauth.ErrNoGrant) || err.Error() != `b24oauth: no grant stored under "c"` {
		t.Errorf("Load of a deleted grant: %v", err)
	}
	var keys []string
	for key, err := range m.Keys(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	if diff := cmp.Diff([]string{"a/../ü", "b"}, keys); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
	for range m.Keys(t.Context()) {
		break // and that is all right
	}
}
