package b24oauth_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/b24test"
)

func TestRedeemStoresThePairThatFollows(t *testing.T) {
	p := newProgramWithoutGrant(t, func(c *b24oauth.Config) { c.Store = new(b24oauth.MemoryStore) })
	delivered := p.Install()
	delivered.FormerHosts = []string{"stranger.example"}
	given := *delivered
	var accepted *b24oauth.Grant
	err := p.config.Redeem(t.Context(), key, delivered, func(_ context.Context, g *b24oauth.Grant) error {
		accepted = g
		g.UserID = 77
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	got := stored(t, p)
	if got.AccessToken == delivered.AccessToken || got.AccessToken != accepted.AccessToken || got.ApplicationToken != delivered.ApplicationToken || got.UserID != 77 || got.FormerHosts != nil {
		t.Errorf("stored %+v of %v", got, delivered)
	}
	if got.Lineage.Generation != 1 || !delivered.OlderThan(got) {
		t.Errorf("lineage %+v; want the delivered grant's first successor", got.Lineage)
	}
	if diff := cmp.Diff(given, *delivered); diff != "" {
		t.Errorf("Redeem changed the caller's grant:\n%s", diff)
	}
	if token(t, p.source) != got.AccessToken {
		t.Error("another token is in use")
	}
	wantRefreshes(t, p, 1)

	// Delivered again, however often and by whomever, it spends nothing.
	other := p.Config()
	other.Store = p.config.Store
	for range 500 {
		for _, c := range []*b24oauth.Config{p.config, other} {
			if err := c.Redeem(t.Context(), key, delivered, nil); !errors.Is(err, b24oauth.ErrOutdated) {
				t.Fatalf("delivered again: %v", err)
			}
		}
	}
	if err := p.config.Redeem(t.Context(), key, got, nil); !errors.Is(err, b24oauth.ErrOutdated) {
		t.Errorf("the stored pair itself: %v", err)
	}
	if _, err := p.source.Renew(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	for name, g := range map[string]*b24oauth.Grant{"delivered": delivered, "stored before": got} {
		if err := other.Redeem(t.Context(), key, g, nil); name == "delivered" && !errors.Is(err, b24oauth.ErrOutdated) {
			t.Errorf("%s, after a renewal: %v", name, err)
		}
	}
	wantRefreshes(t, p, 2)
}

func TestRedeemOfManyAtOnceExchangesOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shared := new(sharedStore)
		p := newProgramWithoutGrant(t, with(shared.process(), nil))
		second := p.Config()
		second.Store = shared.process()
		p.DelayTokens(1, time.Second)
		delivered := p.Install()
		done := make(chan error)
		for i := range 20 {
			go func() {
				done <- []*b24oauth.Config{p.config, second}[i%2].Redeem(context.Background(), key, delivered, nil)
			}()
		}
		stores := 0
		for range 20 {
			switch err := <-done; {
			case err == nil:
				stores++
			case !errors.Is(err, b24oauth.ErrOutdated):
				t.Error(err)
			}
		}
		if stores != 1 {
			t.Errorf("stored %d times", stores)
		}
		wantRequests(t, p, 1)
	})
}

func TestRedeemLeavesWhatIsStoredUnlessThePairIsProven(t *testing.T) {
	errStranger := errors.New("a user who is nobody")
	for name, c := range map[string]struct {
		before func(p *program, delivered *b24oauth.Grant)
		accept error
		want   error
		spends int
	}{
		"another portal's refresh token": {before: func(p *program, delivered *b24oauth.Grant) {
			p.FailTokens(1, b24test.Answer{Status: 200, Body: fmt.Sprintf(`{"access_token":"b","refresh_token":"b2","member_id":"another","client_endpoint":%q}`, delivered.ClientEndpoint)})
		}, want: b24oauth.ErrReauthorize, spends: 1},
		"another portal's refresh token, in earnest": {before: func(p *program, delivered *b24oauth.Grant) {
			delivered.RefreshToken = p.AnotherPortals().RefreshToken
		}, want: b24oauth.ErrReauthorize, spends: 1},
		"a dead refresh token":    {before: func(_ *program, delivered *b24oauth.Grant) { delivered.RefreshToken = "made up" }, want: b24oauth.ErrReauthorize, spends: 1},
		"a server that fails":     {before: func(p *program, _ *b24oauth.Grant) { p.FailTokens(3, b24test.Answer{Status: 500}) }, want: b24oauth.ErrUnavailable, spends: 3},
		"not accepted":            {accept: errStranger, want: errStranger, spends: 1},
		"of another portal":       {before: func(_ *program, delivered *b24oauth.Grant) { delivered.MemberID = "another" }, want: b24oauth.ErrMisconfigured},
		"of another application":  {before: func(_ *program, delivered *b24oauth.Grant) { delivered.ClientID = "app.2" }, want: b24oauth.ErrMisconfigured},
		"of an unknown server":    {before: func(_ *program, delivered *b24oauth.Grant) { delivered.ServerEndpoint = "https://evil.example/" }, want: nil},
		"without a refresh token": {before: func(_ *program, delivered *b24oauth.Grant) { delivered.RefreshToken = "" }, want: b24oauth.ErrMisconfigured},
		"of nobody":               {before: func(_ *program, delivered *b24oauth.Grant) { *delivered = b24oauth.Grant{} }, want: b24oauth.ErrMisconfigured},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newProgram(t, func(c *b24oauth.Config) { c.Store = new(b24oauth.MemoryStore) })
				own, before := token(t, p.source), stored(t, p)
				delivered := p.Install()
				if c.before != nil {
					c.before(p, delivered)
				}
				err := p.config.Redeem(t.Context(), key, delivered, func(context.Context, *b24oauth.Grant) error { return c.accept })
				if c.want == nil { // Config.TokenURL is set: what the grant names is not asked
					if err != nil || stored(t, p).ServerEndpoint != before.ServerEndpoint {
						t.Errorf("%v; stored %v", err, stored(t, p))
					}
					return
				}
				if !errors.Is(err, c.want) {
					t.Errorf("error %v, want %v", err, c.want)
				}
				if diff := cmp.Diff(before, stored(t, p)); diff != "" {
					t.Errorf("what was stored has changed (-before +after):\n%s", diff)
				}
				if token(t, p.source) != own {
					t.Error("the token that was in use is gone")
				}
				wantRequests(t, p, c.spends)
			})
		})
	}
}

func TestRedeemReplacesADeadGrantAndFollowsARename(t *testing.T) {
	p := newProgram(t, func(c *b24oauth.Config) { c.Store = new(b24oauth.MemoryStore) })
	first := stored(t, p)
	p.KillGrants()
	if _, err := p.source.Renew(t.Context(), nil); !errors.Is(err, b24oauth.ErrReauthorize) {
		t.Fatal(err)
	}
	old := hostOf(t, p.Rename())
	if err := p.config.Redeem(t.Context(), key, p.Install(), nil); err != nil {
		t.Fatal(err)
	}
	got := stored(t, p)
	if got.Refused.Code != "" || !first.OlderThan(got) || !cmp.Equal(got.FormerHosts, []string{old}) {
		t.Errorf("stored %+v", got)
	}
	if _, err := p.source.Renew(t.Context(), nil); err != nil {
		t.Errorf("the new pair: %v", err)
	}
}

// The exchange has spent the delivered refresh token: what it brought is the only
// copy.
func TestRedeemedPairThatIsNotSavedIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, events := newFaultyStore(), new(eventLog)
		p := newProgramWithoutGrant(t, with(store, events))
		fail := errors.New("disk full")
		store.onUpdate(func(ctx context.Context, fn updateFunc) error {
			if _, err := fn(ctx, nil); err != nil {
				return err
			}
			return fail
		})
		if err := p.config.Redeem(t.Context(), key, p.Install(), nil); err != nil {
			t.Fatal(err)
		}
		got := token(t, p.source)
		store.onUpdate(nil)
		if err := p.config.Flush(context.Background()); err != nil {
			t.Fatal(err)
		}
		if g := stored(t, p); g.AccessToken != got || g.Lineage.Generation != 1 {
			t.Errorf("stored %v, in use %s", g, got)
		}
		wantRefreshes(t, p, 1)
		events.want(t, "save_failed")
	})
}

// A browser that goes away, or a program that ends, must not cost the pair that is
// being bought.
func TestRedeemGoesOnWithoutItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProgramWithoutGrant(t, with(new(b24oauth.MemoryStore), nil))
		p.DelayTokens(1, 5*time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		delivered := p.Install()
		err := p.config.Redeem(ctx, key, delivered, func(ctx context.Context, _ *b24oauth.Grant) error { return ctx.Err() })
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		if err := p.config.Flush(context.Background()); err != nil {
			t.Fatal(err)
		}
		if g := stored(t, p); !delivered.OlderThan(g) {
			t.Errorf("stored %v", g)
		}
	})
}

func TestAPanicOfAcceptIsAnError(t *testing.T) {
	p := newProgram(t, func(c *b24oauth.Config) { c.Store = new(b24oauth.MemoryStore) })
	before := stored(t, p)
	err := p.config.Redeem(t.Context(), key, p.Install(), func(context.Context, *b24oauth.Grant) error { panic("own") })
	if !errors.Is(err, b24oauth.ErrMisconfigured) || !strings.Contains(err.Error(), "panicked") {
		t.Errorf("error %v", err)
	}
	if diff := cmp.Diff(before, stored(t, p)); diff != "" {
		t.Errorf("what was stored has changed:\n%s", diff)
	}
	if token(t, p.source) == "" {
		t.Error("no token")
	}
}
