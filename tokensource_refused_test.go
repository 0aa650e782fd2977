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

func TestTokenRefusedWithoutEverBeingAcceptedIsRenewedOnceInTenSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		events, log := new(diary), new(bytes.Buffer)
		p := newProgram(t, with(newHooked(), events), func(c *b24oauth.Config) { c.Logger = slog.New(slog.NewTextHandler(log, nil)) })
		p.RefuseNext(1<<20, b24test.Answer{Status: 401, Body: `{"error":"expired_token"}`}) // as a portal whose clock is wrong
		start := time.Now()
		for time.Since(start) < 100*time.Second {
			resp, err := p.client.Get(p.Endpoint() + "profile")
			if got := status(t, resp, err); got != http.StatusUnauthorized {
				t.Errorf("status %d, want the portal's 401", got)
			}
			<-time.After(500 * time.Millisecond)
		}
		wantRefreshes(t, p, 10)
		warned := 0
		for _, kind := range events.kinds() {
			if kind == "fresh_refused" {
				warned++
			}
		}
		if lines := strings.Count(log.String(), "level=WARN"); warned < 10 || warned > 100 || lines != warned {
			t.Errorf("%d events and %d warnings; want some, but not one for each of the 200 calls", warned, lines)
		}
	})
}

func TestTokenThatWasAcceptedIsRenewedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProgram(t)
		for range 5 {
			resp, err := p.client.Get(p.Endpoint() + "profile")
			if got := status(t, resp, err); got != http.StatusOK {
				t.Errorf("status %d", got)
			}
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

// The 10 s rule is for the token that was refused, not for one that is about
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

// The 10 s rule forbids the exchange, not a look at the Store.
func TestFreshRefusalStillAdoptsAnotherProcessesPair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newHooked()
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

func TestReasonThatAJoinedFlightLeftOpenGetsOneFlightMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newHooked()
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

func TestFailureOfAJoinedFlightWithAnotherReasonIsNotShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newHooked()
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
		<-time.After(700 * time.Millisecond) // it has run out, and the other's flight is under way
		if token(t, p.source) == second.AccessToken {
			t.Error("a token that has run out")
		}
		wantRefreshes(t, p, 2)
	})
}
