package integration

import (
	"context"
	"errors"
	"testing"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/b24test"
)

// TestOrderOfGrantsHoldsInEveryStore has processes that share nothing but the
// Store: what decides which of two grants is the newer one has to be in it.
func TestOrderOfGrantsHoldsInEveryStore(t *testing.T) {
	for _, p := range fleetPlaces() {
		t.Run(p.name, func(t *testing.T) {
			place := p.fresh(t)
			srv := b24test.NewServer()
			t.Cleanup(srv.Close)
			ctx := t.Context()
			process := func() *b24oauth.Config {
				c := srv.Config()
				store, closeStore, err := place.open()
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { closeStore() })
				c.Store = store
				return c
			}
			renew := func(c *b24oauth.Config, what string) {
				t.Helper()
				if _, err := c.TokenSource("key").Renew(ctx, nil); err != nil {
					t.Fatalf("%s: %v", what, err)
				}
			}
			outdated := func(c *b24oauth.Config, g *b24oauth.Grant, what string) {
				t.Helper()
				if err := c.Save(ctx, "key", g); !errors.Is(err, b24oauth.ErrOutdated) {
					t.Errorf("%s = %v; want ErrOutdated", what, err)
				}
			}

			first := srv.Install()
			a := process()
			if err := a.Save(ctx, "key", first); err != nil {
				t.Fatal(err)
			}
			renew(a, "the first renewal")
			outdated(process(), first, "an installation delivered again, in a process that has just started")

			// The Store is set back, and then emptied: who has the newest pair
			// writes it back.
			below := openBelow(t, place)
			old, err := below.read(ctx, "key")
			if err != nil {
				t.Fatal(err)
			}
			renew(a, "the second renewal")
			if err := a.Flush(ctx); err != nil {
				t.Fatal(err)
			}
			if err := below.write(ctx, "key", old); err != nil {
				t.Fatal(err)
			}
			renew(a, "a renewal over a Store set back")
			if err := errors.Join(a.Flush(ctx), below.remove(ctx, "key")); err != nil {
				t.Fatal(err)
			}
			renew(a, "a renewal over an emptied Store")
			renew(process(), "a renewal by a process that has just started")

			// A verdict is read and not asked for; a Save lifts it.
			spent, err := process().TokenSource("key").Grant(ctx)
			if err != nil {
				t.Fatal(err)
			}
			srv.FailTokens(1, b24test.Answer{Status: 400, Body: `{"error":"invalid_grant"}`})
			if _, err := process().TokenSource("key").Renew(ctx, nil); !errors.Is(err, b24oauth.ErrReauthorize) {
				t.Errorf("a refusal is %v", err)
			}
			srv.ExpireAccessTokens()
			requests := len(srv.TokenRequests())
			b := process()
			if g, err := b.TokenSource("key").Grant(ctx); err != nil || g.Refused.Code != "invalid_grant" {
				t.Errorf("stored is %v with the verdict %v, error %v", g, g.Refused, err)
			}
			if got := len(srv.TokenRequests()); got != requests {
				t.Errorf("%d requests about a grant whose verdict is stored", got-requests)
			}
			if err := b.Save(ctx, "key", spent); err != nil {
				t.Errorf("Save of the very pair = %v", err)
			}
			renew(b, "a renewal after the verdict was lifted")

			// A deleted grant stays so.
			if err := b.Delete(ctx, "key"); err != nil {
				t.Fatal(err)
			}
			outdated(process(), first, "the installation after Delete")
			if _, err := a.TokenSource("key").Renew(context.WithoutCancel(ctx), nil); !errors.Is(err, b24oauth.ErrNoGrant) {
				t.Errorf("a process that had the pair gets %v; want ErrNoGrant", err)
			}
			for key, err := range a.Keys(ctx) {
				t.Errorf("Keys yields %q, %v", key, err)
			}
		})
	}
}
