package b24oauth_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/b24test"
)

func TestGuarantee6PortalThatGoesOnRefusingIsToldOfButCostsLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		events, log := new(eventLog), new(bytes.Buffer)
		p := newProgram(t, with(newFaultyStore(), events), func(c *b24oauth.Config) { c.Logger = slog.New(slog.NewTextHandler(log, nil)) })
		p.RefuseNext(1<<20, b24test.Answer{Status: 401, Body: `{"error":"expired_token"}`}) // as a portal whose clock is wrong
		start := time.Now()
		for time.Since(start) < 100*time.Second {
			resp, err := p.client.Get(p.Endpoint() + "profile")
			if got := status(t, resp, err); got != http.StatusUnauthorized {
				t.Errorf("status %d, want the portal's 401", got)
			}
			<-time.After(500 * time.Millisecond)
		}
		wantRefreshes(t, p, 4) // after 0, 10, 30 and 70 s
		warned := 0
		for _, kind := range events.kinds() {
			if kind == "refused_again" {
				warned++
			}
		}
		if lines := strings.Count(log.String(), "level=WARN"); warned < 4 || warned > 100 || lines != warned {
			t.Errorf("%d events and %d warnings; want some, but not one for each of the 200 calls", warned, lines)
		}
	})
}

func TestTokenThatIsRefusedNowAndThenIsRenewedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProgram(t)
		for range 5 {
			resp, err := p.client.Get(p.Endpoint() + "profile")
			if got := status(t, resp, err); got != http.StatusOK {
				t.Errorf("status %d", got)
			}
			<-time.After(21 * time.Second)
			p.ExpireAccessTokens()
		}
		wantRefreshes(t, p, 4)
	})
}

func TestGuarantee6LateRefusalOfAnOldTokenCostsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProgram(t)
		first, err := p.source.Token()
		if err != nil {
			t.Fatal(err)
		}
		<-time.After(2 * time.Hour)
		next := token(t, p.source)
		together(100, func(int) {
			got, err := p.source.Renew(t.Context(), first)
			if err != nil || got.AccessToken != next {
				t.Errorf("Renew = %v, %v; want the newer token", got, err)
			}
		})
		wantRefreshes(t, p, 1)
	})
}

// The pause is for the token that was refused, not for one that is about
// to run out when the refusal of an earlier one arrives.
func TestLateRefusalDoesNotKeepAnExpiringTokenFromRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProgram(t)
		first, err := p.source.Token()
		if err != nil {
			t.Fatal(err)
		}
		p.SetLifetime(8 * time.Second) // to be renewed after six
		second, err := p.source.Renew(t.Context(), first)
		if err != nil {
			t.Fatal(err)
		}
		<-time.After(7 * time.Second)
		third, err := p.source.Renew(t.Context(), first)
		if err != nil || third.AccessToken == second.AccessToken {
			t.Errorf("Renew = %v, %v; want a third token", third, err)
		}
	})
}

// The pause forbids the exchange, not a look at the Store.
func TestFreshRefusalStillAdoptsAnotherProcessesPair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFaultyStore()
		p := newProgram(t, with(store, nil))
		for range 2 {
			tok, err := p.source.Token()
			if err != nil {
				t.Fatal(err)
			}
			_, err = p.source.Renew(t.Context(), tok)
			if err != nil && !errors.Is(err, b24oauth.ErrUnavailable) {
				t.Fatal(err)
			}
		}
		wantRefreshes(t, p, 1)
		tok, err := p.source.Token()
		if err != nil {
			t.Fatal(err)
		}
		other := p.Config()
		other.Store = store.Store
		if err := other.Save(t.Context(), key, p.Install()); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Second)
		got, err := p.source.Renew(t.Context(), tok)
		if err != nil || got.AccessToken == tok.AccessToken {
			t.Errorf("Renew = %v, %v; want the pair that another process stored", got, err)
		}
		wantRefreshes(t, p, 1)
	})
}

func TestReasonThatAJoinedJobLeftOpenGetsOneJobMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFaultyStore()
		p := newProgram(t, with(store, nil))
		tok, err := p.source.Token()
		if err != nil {
			t.Fatal(err)
		}
		// A process that starts now finds the token fresh; while it reads the
		// Store, a caller's token is refused.
		p.restart(with(store, nil))
		store.onLoad(func(ctx context.Context) (*b24oauth.Grant, error) {
			<-time.After(time.Second)
			return store.Store.Load(ctx, key)
		})
		go func() { token(t, p.source) }()
		<-time.After(500 * time.Millisecond)
		got, err := p.source.Renew(t.Context(), tok)
		if err != nil || got.AccessToken == tok.AccessToken {
			t.Errorf("Renew = %v, %v; want a new token", got, err)
		}
		wantRefreshes(t, p, 1)
	})
}

func TestFailureOfAJoinedJobWithAnotherReasonIsNotShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFaultyStore()
		p := newProgram(t, with(store, nil))
		first, err := p.source.Token()
		if err != nil {
			t.Fatal(err)
		}
		p.SetLifetime(8 * time.Second)
		second, err := p.source.Renew(t.Context(), first)
		if err != nil {
			t.Fatal(err)
		}
		store.onLoad(func(ctx context.Context) (*b24oauth.Grant, error) {
			<-time.After(time.Second)
			return store.Store.Load(ctx, key)
		})
		<-time.After(7500 * time.Millisecond)
		go func() {
			if _, err := p.source.Renew(t.Context(), second); !errors.Is(err, b24oauth.ErrUnavailable) {
				t.Errorf("Renew of a fresh token that is refused = %v", err)
			}
		}()
		<-time.After(700 * time.Millisecond) // it has run out, and the other's job is under way
		if token(t, p.source) == second.AccessToken {
			t.Error("a token that has run out")
		}
		wantRefreshes(t, p, 2)
	})
}

func TestRenewWithoutATokenRenewsWhateverTheState(t *testing.T) {
	for name, spoil := range map[string]func(*testing.T, *program){
		"the token is fresh": func(*testing.T, *program) {},
		"the token was renewed just now": func(t *testing.T, p *program) {
			if _, err := p.source.Renew(t.Context(), nil); err != nil {
				t.Error(err)
			}
		},
		"the token has run out": func(*testing.T, *program) { <-time.After(2 * time.Hour) },
		"the server failed just now": func(t *testing.T, p *program) {
			<-time.After(2 * time.Hour)
			p.FailTokens(3, b24test.Answer{Status: 500})
			wantFailure(t, p.source, b24oauth.ErrUnavailable, 5*time.Second)
			wantFailure(t, p.source, b24oauth.ErrUnavailable, 0)
		},
		"the configuration was wrong just now": func(t *testing.T, p *program) {
			<-time.After(2 * time.Hour)
			p.FailTokens(1, tokenRefusal(400, "invalid_client"))
			wantFailure(t, p.source, b24oauth.ErrMisconfigured, 0)
		},
		"the refresh token was refused": func(t *testing.T, p *program) {
			<-time.After(2 * time.Hour)
			p.FailTokens(1, tokenRefusal(400, "invalid_grant"))
			wantFailure(t, p.source, b24oauth.ErrReauthorize, 0)
			<-time.After(time.Second)
			wantFailure(t, p.source, b24oauth.ErrReauthorize, 0)
		},
		"the refresh token was refused, before a restart": func(t *testing.T, p *program) {
			<-time.After(2 * time.Hour)
			p.FailTokens(1, tokenRefusal(401, "NOT_INSTALLED"))
			wantFailure(t, p.source, b24oauth.ErrReauthorize, 0)
			p.restart(with(p.config.Store, nil))
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newProgram(t, with(newFaultyStore(), nil))
				old := token(t, p.source)
				spoil(t, p)
				refreshes := p.Refreshes()
				got, err := p.source.Renew(t.Context(), nil)
				if err != nil || got.AccessToken == old || got.AccessToken != token(t, p.source) || got.RefreshToken != "" {
					t.Fatalf("Renew = %v, %v; want a new token, and no refresh token", got, err)
				}
				wantRefreshes(t, p, refreshes+1)
				if g := stored(t, p); g.AccessToken != got.AccessToken || g.Refused != (b24oauth.Refusal{}) {
					t.Errorf("stored %v, refused %v; want the new pair without a verdict", g, g.Refused)
				}
			})
		})
	}
}

func TestRenewWithoutATokenIsSharedByAllWhoAskMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProgram(t)
		old := token(t, p.source)
		p.DelayTokens(1, 50*time.Millisecond)
		together(100, func(i int) {
			if i%2 == 1 {
				if token(t, p.source) != old {
					t.Error("a caller had to wait for an operator's renewal")
				}
				return
			}
			got, err := p.source.Renew(t.Context(), nil)
			if err != nil || got.AccessToken == old {
				t.Errorf("Renew = %v, %v; want a new token", got, err)
			}
		})
		wantRefreshes(t, p, 1)
	})
}

func TestRenewWithoutATokenFailsLikeAnyRenewal(t *testing.T) {
	renew := func(t *testing.T, s *b24oauth.TokenSource, want error) {
		t.Helper()
		if _, err := s.Renew(t.Context(), nil); !errors.Is(err, want) {
			t.Errorf("Renew = %v, want %v", err, want)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		store := newFaultyStore()
		p := newProgram(t, with(store, nil))
		old := token(t, p.source)
		renew(t, p.config.TokenSource("missing"), b24oauth.ErrNoGrant)
		renew(t, p.config.TokenSource(""), b24oauth.ErrMisconfigured)
		wantRequests(t, p, 0)
		p.KillGrants()
		for asked := range 3 { // an operator knows better, each time
			renew(t, p.source, b24oauth.ErrReauthorize)
			wantRequests(t, p, asked+1)
		}
		if token(t, p.source) != old {
			t.Error("the token works still, and is not used")
		}
		p.FailTokens(3, b24test.Answer{Status: 500})
		renew(t, p.source, b24oauth.ErrUnavailable)
		store.failSaves()
		renew(t, p.source, b24oauth.ErrReauthorize)
		store.onUpdate(nil)
		<-time.After(time.Minute)
	})
	synctest.Test(t, func(t *testing.T) {
		p := newProgramWithoutGrant(t)
		g := p.Install()
		g.RefreshToken = ""
		if err := p.config.Save(t.Context(), key, g); err != nil {
			t.Fatal(err)
		}
		renew(t, p.source, b24oauth.ErrReauthorize)
		wantRequests(t, p, 0)
	})
}
