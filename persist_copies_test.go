package b24oauth_test

import (
	"context"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/b24go/b24oauth"
)

// scribbling is a Store that works in place on whatever it has in hands, as
// one that encrypts does: on what fn returned, on what fn was given, as soon
// as fn has returned, and on what Load returned, at the next call.
type scribbling struct {
	b24oauth.MemoryStore
	loaded []*b24oauth.Grant
}

func scribble(grants ...*b24oauth.Grant) {
	for _, g := range grants {
		if g == nil {
			continue
		}
		g.AccessToken, g.RefreshToken, g.ApplicationToken = "scribbled", "scribbled", "scribbled"
		g.ClientEndpoint, g.MemberID = "https://scribbled.example/rest/", "scribbled"
		for i := range g.FormerHosts {
			g.FormerHosts[i] = "scribbled.example"
		}
		for i := range g.Lineage.Former {
			g.Lineage.Former[i] = 666
		}
	}
}

func (s *scribbling) Load(ctx context.Context, key string) (*b24oauth.Grant, error) {
	scribble(s.loaded...)
	g, err := s.MemoryStore.Load(ctx, key)
	s.loaded = append(s.loaded, g)
	return g, err
}

func (s *scribbling) Update(ctx context.Context, key string, fn func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error)) error {
	scribble(s.loaded...)
	return s.MemoryStore.Update(ctx, key, func(ctx context.Context, given *b24oauth.Grant) (*b24oauth.Grant, error) {
		next, err := fn(ctx, given)
		scribble(given)
		if err != nil || next == nil {
			return next, err
		}
		stored := *next
		stored.FormerHosts = slices.Clone(next.FormerHosts)
		stored.Lineage.Former = slices.Clone(next.Lineage.Former)
		scribble(next)
		return &stored, nil
	})
}

func TestStoreThatWorksInPlaceChangesNoGrantOfTheSource(t *testing.T) {
	store := new(scribbling)
	use := func(c *b24oauth.Config) { c.Store = store }
	p := newProgramWithoutGrant(t, use)
	for range 2 { // the second replaces the first: both lists have something to share
		g := p.Install()
		g.FormerHosts = []string{"former.bitrix24.com"}
		mine := *g
		if err := p.config.Save(t.Context(), key, g); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(&mine, g); diff != "" {
			t.Errorf("the grant that was saved is changed (-was +is):\n%s", diff)
		}
	}
	want, err := store.MemoryStore.Load(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	intact := func(after string) {
		t.Helper()
		resp, err := p.client.Get(p.Endpoint() + "profile")
		if got := status(t, resp, err); got != 200 {
			t.Errorf("after %s a call ends with %d", after, got)
		}
		scribble(store.loaded...)
		// A Store that was emptied gets back what the source holds.
		purge := func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) { return nil, b24oauth.ErrDelete }
		if err := store.MemoryStore.Update(t.Context(), key, purge); err != nil {
			t.Fatal(err)
		}
		if _, err := p.source.Renew(t.Context(), nil); err != nil {
			t.Errorf("after %s: Renew = %v", after, err)
		}
		got, err := store.MemoryStore.Load(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(b24oauth.Grant{}, "AccessToken", "RefreshToken", "Issued", "Expiry", "Lineage.Generation")); diff != "" {
			t.Errorf("after %s the source's grant is changed (-want +got):\n%s", after, diff)
		}
	}
	intact("a Save")
	intact("a renewal")
	p.restart(use)
	intact("a Load")
	// Another process renews it.
	other := p.config
	p.restart(use)
	token, err := p.source.Token()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.TokenSource(key).Renew(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := p.source.Renew(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	intact("adopting another process's pair")
}
