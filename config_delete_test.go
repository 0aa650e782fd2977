package b24oauth_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/internal/reserved"
)

// remove deletes the program's grant.
func (p *program) remove(t *testing.T) {
	t.Helper()
	if err := p.config.Delete(t.Context(), key); err != nil {
		t.Fatal(err)
	}
}

func TestDeletedGrantIsUsedNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFaultyStore()
		p := newProgram(t, with(store, nil))
		p.accept(t)
		p.remove(t)
		if _, err := p.client.Get(p.Endpoint() + "profile"); !errors.Is(err, b24oauth.ErrNoGrant) {
			t.Errorf("a client's call: %v, want ErrNoGrant", err)
		}
		wantFailure(t, p.source, b24oauth.ErrNoGrant, 0)
		for what, call := range map[string]func() error{
			"Grant":      func() error { _, err := p.source.Grant(t.Context()); return err },
			"Endpoint":   func() error { _, err := p.source.Endpoint(t.Context()); return err },
			"Renew(nil)": func() error { _, err := p.source.Renew(t.Context(), nil); return err },
		} {
			if err := call(); !errors.Is(err, b24oauth.ErrNoGrant) {
				t.Errorf("%s: %v, want ErrNoGrant", what, err)
			}
		}
		if n := len(p.Requests()) + len(p.TokenRequests()); n != 0 {
			t.Errorf("%d requests after the deletion", n)
		}
		if g := stored(t, p); g.Deleted.IsZero() || g.AccessToken+g.RefreshToken+g.ApplicationToken+g.MemberID != "" {
			t.Errorf("stored %#v; want a tombstone without anything of the portal's", g)
		}
		if err := p.config.Flush(t.Context()); err != nil {
			t.Errorf("Flush = %v", err)
		}
	})
}

func TestDeletionOfWhatIsNotThereIsDone(t *testing.T) {
	store := newFaultyStore()
	p := newProgram(t, with(store, nil))
	if err := p.config.Delete(t.Context(), "never stored"); err != nil {
		t.Errorf("Delete of a grant that was never stored = %v", err)
	}
	if _, err := store.Load(t.Context(), "never stored"); !errors.Is(err, b24oauth.ErrNoGrant) {
		t.Errorf("a tombstone stands where no grant was: %v", err)
	}
	p.remove(t)
	first := stored(t, p)
	p.remove(t)
	if diff := cmp.Diff(first, stored(t, p)); diff != "" {
		t.Errorf("the second deletion changed the tombstone (-before +after):\n%s", diff)
	}
}

func TestDeletionTakesAnUnsavedPairWithIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _, _ := unsaved(t)
		p.remove(t)
		wantFailure(t, p.source, b24oauth.ErrNoGrant, 0)
		if err := p.config.Flush(t.Context()); err != nil {
			t.Errorf("Flush = %v; nothing is left to save", err)
		}
		<-time.After(time.Hour)
		wantFailure(t, p.source, b24oauth.ErrNoGrant, 0)
		if stored(t, p).Deleted.IsZero() {
			t.Error("the unsaved pair was saved over the tombstone")
		}
	})
}

func TestDeletionWaitsForARenewalAndTakesItsPairWithIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProgram(t, with(newFaultyStore(), nil))
		<-time.After(2 * time.Hour)
		p.DelayTokens(1, 5*time.Second)
		go p.source.Token()
		synctest.Wait()

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := p.config.Delete(ctx, key); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Delete whose context ends = %v", err)
		}
		p.remove(t)
		wantFailure(t, p.source, b24oauth.ErrNoGrant, 0)
		wantRefreshes(t, p, 1)
	})
}

func TestDeletionIsSeenByAnotherProcessAtItsNextLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProgram(t, with(newFaultyStore(), nil))
		other := p.Config()
		other.Store = p.config.Store
		source := other.TokenSource(key)
		old := token(t, source)
		p.remove(t)
		if token(t, source) != old {
			t.Error("a process that does not look has lost its token")
		}
		<-time.After(time.Hour)
		wantFailure(t, source, b24oauth.ErrNoGrant, 0)
		wantRequests(t, p, 0)
		if stored(t, p).Deleted.IsZero() {
			t.Error("the deleted grant was written back")
		}
	})
}

// An event handler is called again if its answer is lost. What it brings then
// must not revive a grant that was deleted meanwhile; a new authorization does.
func TestInstallationDeliveredAgainRevivesNothing(t *testing.T) {
	for _, restarted := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			store := newFaultyStore()
			p := newProgramWithoutGrant(t, with(store, nil))
			delivered := p.Install()
			if err := p.config.Save(t.Context(), key, delivered); err != nil {
				t.Fatal(err)
			}
			<-time.After(2 * time.Hour)
			token(t, p.source)
			renewed := stored(t, p)
			p.remove(t)
			if restarted {
				p.restart(with(store, nil))
			}
			for what, g := range map[string]*b24oauth.Grant{"the installation": delivered, "its renewed pair": renewed} {
				if err := p.config.Save(t.Context(), key, g); !errors.Is(err, b24oauth.ErrOutdated) {
					t.Errorf("restarted %v: Save of %s after the deletion = %v, want ErrOutdated", restarted, what, err)
				}
			}
			wantFailure(t, p.source, b24oauth.ErrNoGrant, 0)

			again := p.Install()
			if err := p.config.Save(t.Context(), key, again); err != nil {
				t.Fatalf("Save of a new installation = %v", err)
			}
			if token(t, p.source) != again.AccessToken {
				t.Error("not the new installation's token")
			}
			if err := p.config.Save(t.Context(), key, delivered); !errors.Is(err, b24oauth.ErrOutdated) {
				t.Errorf("restarted %v: Save of the first installation over the second = %v, want ErrOutdated", restarted, err)
			}
		})
	}
}

func TestAnotherPortalsGrantMayFollowADeletedOne(t *testing.T) {
	p := newProgram(t, with(newFaultyStore(), nil))
	other := p.Install()
	other.MemberID = "another"
	if err := p.config.Save(t.Context(), key, other); !errors.Is(err, b24oauth.ErrMisconfigured) {
		t.Errorf("Save over another portal's grant = %v, want ErrMisconfigured", err)
	}
	p.remove(t)
	if err := p.config.Save(t.Context(), key, other); err != nil {
		t.Errorf("Save after the deletion = %v", err)
	}
	if got := stored(t, p); got.MemberID != "another" || got.AccessToken != other.AccessToken {
		t.Errorf("stored %v", got)
	}
}

func TestDeletionThatFailsSaysWhoHasToAct(t *testing.T) {
	store := newFaultyStore()
	p := newProgram(t, with(store, nil))
	old := token(t, p.source)
	if err := p.config.Delete(t.Context(), ""); !errors.Is(err, b24oauth.ErrMisconfigured) {
		t.Errorf("Delete without a key = %v, want ErrMisconfigured", err)
	}
	store.onUpdate(func(context.Context, updateFunc) error { return errDown })
	var te *b24oauth.TokenError
	err := p.config.Delete(t.Context(), key)
	if !errors.As(err, &te) || te.Key != key || !errors.Is(err, b24oauth.ErrUnavailable) || !errors.Is(err, errDown) {
		t.Errorf("Delete while the Store fails = %v; want ErrUnavailable with its cause", err)
	}
	if token(t, p.source) != old {
		t.Error("the grant is lost though its deletion failed")
	}
}

// What an application has received and not proven yet is no grant.
func TestReservedKeysAreNoGrants(t *testing.T) {
	p := newProgram(t, func(c *b24oauth.Config) { c.Store = new(b24oauth.MemoryStore) })
	pending := reserved.Pending(p.config.ClientID, 7)
	storeDirectly(t, p.config.Store, pending, p.Install())
	for name, err := range map[string]error{
		"Save":   p.config.Save(t.Context(), pending, p.Install()),
		"Redeem": p.config.Redeem(t.Context(), pending, p.Install(), nil),
		"Delete": p.config.Delete(t.Context(), pending),
		"Token":  wantFailure(t, p.config.TokenSource(pending), b24oauth.ErrMisconfigured, time.Minute),
	} {
		if !errors.Is(err, b24oauth.ErrMisconfigured) || !strings.Contains(err.Error(), "reserves") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for got, err := range p.config.Keys(t.Context()) {
		if err != nil || got != key {
			t.Errorf("Keys yields %q, %v", got, err)
		}
	}
}

func TestKeysAreThoseOfTheGrantsThatAreNotDeleted(t *testing.T) {
	p := newProgram(t) // in memory
	for _, key := range []string{"a", "b", "c"} {
		if err := p.config.Save(t.Context(), key, p.Install()); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.config.Delete(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	var keys []string
	for k, err := range p.config.Keys(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, k)
	}
	if diff := cmp.Diff([]string{"a", "c", key}, keys); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}

	p.restart(with(newFaultyStore(), nil)) // no Lister
	n := 0
	for k, err := range p.config.Keys(t.Context()) {
		if n++; k != "" || !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("key %q, error %v; want none, and errors.ErrUnsupported", k, err)
		}
	}
	if n != 1 {
		t.Errorf("%d errors, want one", n)
	}
}
