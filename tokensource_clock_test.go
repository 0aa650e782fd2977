package b24oauth_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/b24go/b24oauth"
)

func TestExpiryCountsFromWhenTheAnswerWasAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProgram(t)
		<-time.After(2 * time.Hour)
		p.DelayTokens(1, 10*time.Second)
		asked := time.Now()
		tok, err := p.source.Token()
		if err != nil || !tok.Expiry.Equal(asked.Add(time.Hour)) {
			t.Errorf("Token = %v, %v; want it to expire an hour after it was asked for, at %v", tok, err, asked.Add(time.Hour))
		}
	})
}

// shifted is a Store on which another machine's clock is off: what is read
// there has times that are later by the offset.
type shifted struct {
	b24oauth.Store
	by time.Duration
}

func (s shifted) shift(g *b24oauth.Grant) *b24oauth.Grant {
	if g = copyGrant(g); g != nil {
		g.Issued, g.Expiry = g.Issued.Add(s.by), g.Expiry.Add(s.by)
	}
	return g
}

func (s shifted) Load(ctx context.Context, key string) (*b24oauth.Grant, error) {
	g, err := s.Store.Load(ctx, key)
	return s.shift(g), err
}

func (s shifted) Update(ctx context.Context, key string, fn updateFunc) error {
	return s.Store.Update(ctx, key, func(ctx context.Context, g *b24oauth.Grant) (*b24oauth.Grant, error) {
		g, err := fn(ctx, s.shift(g))
		if g = copyGrant(g); g != nil {
			g.Issued, g.Expiry = g.Issued.Add(-s.by), g.Expiry.Add(-s.by)
		}
		return g, err
	})
}

// Two machines share a grant, and the clock of one is wrong by hours. Neither
// stops renewing, nor do the two renew each other's tokens all the time.
func TestClockThatIsOffNeitherFreezesNorStorms(t *testing.T) {
	for _, by := range []time.Duration{-5 * time.Hour, 5 * time.Hour} {
		t.Run(fmt.Sprint(by), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := new(b24oauth.MemoryStore)
				p := newProgram(t, with(store, nil))
				right := p.client
				p.restart(with(shifted{store, by}, nil))
				const days = 3
				for range days * 24 * 20 {
					<-time.After(3 * time.Minute)
					for _, client := range []*http.Client{right, p.client} {
						resp, err := client.Get(p.Endpoint() + "profile")
						if got := status(t, resp, err); got != http.StatusOK {
							t.Fatalf("status %d after %d refreshes", got, p.Refreshes())
						}
					}
				}
				if n := p.Refreshes(); n < days*24-5 || n > days*24*5/2 {
					t.Errorf("%d refreshes in %d days, want one or two an hour", n, days)
				}
				if n := p.Refusals(); n > days*24 {
					t.Errorf("%d refused calls in %d days", n, days)
				}
			})
		})
	}
}

func TestGrantFromAClockThatIsAheadIsRenewedAfterItsOwnLifetime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProgram(t)
		g := p.Install()
		g.Issued, g.Expiry = g.Issued.Add(5*time.Hour), g.Expiry.Add(5*time.Hour)
		if err := p.config.Save(t.Context(), key, g); err != nil {
			t.Fatal(err)
		}
		if token(t, p.source) != g.AccessToken {
			t.Error("a token that is fresh was not used")
		}
		<-time.After(time.Hour)
		if token(t, p.source) == g.AccessToken {
			t.Error("a token that has run out was used")
		}
	})
}

func TestShortTokensDoNotMeanARefreshForEachCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProgram(t)
		p.SetLifetime(30 * time.Second)
		<-time.After(2 * time.Hour)
		start := time.Now()
		for time.Since(start) < 5*time.Minute {
			token(t, p.source)
			<-time.After(100 * time.Millisecond)
		}
		if n := p.Refreshes(); n < 12 || n > 14 {
			t.Errorf("%d refreshes in 5 minutes, want one in 22.5 s, which is 14", n)
		}
	})
}

func TestZeroExpiryMeansARenewalBeforeFirstUse(t *testing.T) {
	for _, issued := range []time.Time{{}, time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)} {
		t.Run(fmt.Sprint(issued), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newProgram(t)
				g := p.Install()
				g.Issued, g.Expiry = issued, time.Time{}
				if err := p.config.Save(t.Context(), key, g); err != nil {
					t.Fatal(err)
				}
				if token(t, p.source) == g.AccessToken {
					t.Error("a token of unknown age was used")
				}
				wantRefreshes(t, p, 1)
			})
		})
	}
}
