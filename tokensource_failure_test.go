package b24oauth_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/b24test"
)

func tokenRefusal(status int, code string) b24test.Answer {
	return b24test.Answer{Status: status, Body: fmt.Sprintf(`{"error":%q}`, code)}
}

func TestGuarantee9DeadGrantCostsOneCall(t *testing.T) {
	for _, tt := range []struct {
		name string
		kill func(*b24test.Server)
		code string
	}{
		{"invalid_grant", (*b24test.Server).KillGrants, "invalid_grant"},
		{"expired_token", (*b24test.Server).ExpireRefreshTokens, "expired_token"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store, events := newHooked(), new(diary)
				p := newProgram(t, with(store, events))
				<-time.After(2 * time.Hour)
				tt.kill(p.Server)
				if got := wantFailure(t, p.source, b24oauth.ErrReauthorize, 0); got.Code != tt.code || !got.Permanent() || got.Key != key {
					t.Errorf("error %+v; want a permanent %s of the grant", got, tt.code)
				}
				lookups := store.lookups()
				for range 1000 { // 100 s
					<-time.After(100 * time.Millisecond)
					wantFailure(t, p.config.TokenSource(key), b24oauth.ErrReauthorize, 0)
				}
				if n := store.lookups() - lookups; n < 90 || n > 100 {
					t.Errorf("the Store was looked at %d times in 100 s; want about once a second", n)
				}
				<-time.After(1000 * time.Hour)
				wantFailure(t, p.source, b24oauth.ErrReauthorize, 0)
				wantRequests(t, p, 1)
				events.want(t, "renew_failed")

				store.onLoad(func(context.Context) (*b24oauth.Grant, error) { return nil, errDown })
				<-time.After(time.Second)
				wantFailure(t, p.source, b24oauth.ErrUnavailable, 0)
				store.onLoad(nil)
				<-time.After(time.Minute)
				wantFailure(t, p.source, b24oauth.ErrReauthorize, 0)
				wantRequests(t, p, 1)
			})
		})
	}
}

func TestDeadGrantRecoversByANewOne(t *testing.T) {
	for _, tt := range []struct {
		name   string
		save   func(*program, *b24oauth.Config, *b24oauth.Grant) error
		within time.Duration
	}{
		{"from another process", func(p *program, _ *b24oauth.Config, g *b24oauth.Grant) error {
			other := p.Config()
			other.Store = p.config.Store
			return other.Save(context.Background(), key, g)
		}, time.Second},
		{"by Config.Save, at once", func(_ *program, c *b24oauth.Config, g *b24oauth.Grant) error {
			return c.Save(context.Background(), key, g)
		}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newProgram(t, with(newHooked(), nil))
				<-time.After(2 * time.Hour)
				p.KillGrants()
				wantFailure(t, p.source, b24oauth.ErrReauthorize, 0)
				g := p.Install()
				if err := tt.save(p, p.config, g); err != nil {
					t.Fatal(err)
				}
				<-time.After(tt.within)
				if token(t, p.source) != g.AccessToken {
					t.Error("not the new installation's token")
				}
				<-time.After(2 * time.Hour)
				token(t, p.source)
				wantRefreshes(t, p, 1)
			})
		})
	}
}

func TestRefreshTokenThatAnotherProcessExchangedIsNoDeadGrant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// The Store shows this process the grant as it was before, until the
		// server has refused it: as a replica that lags behind.
		store := newHooked()
		p := newProgram(t, with(store, nil))
		before := stored(t, p)
		<-time.After(2 * time.Hour)
		other := p.Config()
		other.Store = store.Store
		theirs := token(t, other.TokenSource(key))
		lag := func() bool { return len(p.TokenRequests()) < 2 }
		store.onLoad(func(ctx context.Context) (*b24oauth.Grant, error) {
			if lag() {
				return copyGrant(before), nil
			}
			return store.Store.Load(ctx, key)
		})
		store.onUpdate(func(ctx context.Context, fn updateFunc) error {
			return store.Store.Update(ctx, key, func(ctx context.Context, g *b24oauth.Grant) (*b24oauth.Grant, error) {
				if lag() {
					g = copyGrant(before)
				}
				return fn(ctx, g)
			})
		})
		if got := token(t, p.source); got != theirs {
			t.Error("not the pair that the other process fetched")
		}
		wantRequests(t, p, 2)
		<-time.After(2 * time.Hour)
		token(t, p.source)
		wantRequests(t, p, 3)
	})
}

func TestPassingFailureIsRetriedInTheFlightAndThenLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProgram(t)
		<-time.After(2 * time.Hour)
		p.FailTokens(2, b24test.Answer{Status: 502, Body: "<html>"})
		start := time.Now()
		token(t, p.source)
		if took := time.Since(start); took < 625*time.Millisecond || took >= 1875*time.Millisecond {
			t.Errorf("third request after %v; want 250 ms and 1 s, each give or take a half", took)
		}
		wantRequests(t, p, 3)
	})
}

const tick = 40 * time.Millisecond

// flights calls again and again until n more flights have failed, and returns
// the pauses between their ends and the next ones' beginnings, give or take
// the tick between two calls.
func flights(t *testing.T, p *program, n int) (pauses []time.Duration) {
	t.Helper()
	seen, ended := len(p.TokenRequests()), time.Now()
	for len(pauses) < n {
		<-time.After(tick)
		start := time.Now()
		_, _ = p.source.Token()
		if now := len(p.TokenRequests()); now > seen {
			if now > seen+3 {
				t.Errorf("%d requests in one flight, want at most 3", now-seen)
			}
			pauses, seen, ended = append(pauses, start.Sub(ended)), now, time.Now()
		}
	}
	return pauses
}

func TestBackoffGrowsFromASecondToAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProgram(t)
		<-time.After(2 * time.Hour)
		p.FailTokens(1<<20, b24test.Answer{Status: 500})
		wantFailure(t, p.source, b24oauth.ErrUnavailable, 2*time.Second)
		wantFailure(t, p.source, b24oauth.ErrUnavailable, 0)
		limit, uneven, longest := 2*time.Second, 0, time.Duration(0)
		for i, pause := range flights(t, p, 40) {
			if pause < time.Second || pause > limit+tick {
				t.Errorf("pause %d of %v, want between 1 s and %v", i, pause, limit)
			}
			limit = min(2*limit, time.Minute)
			if pause%time.Second > 2*tick {
				uneven++
			}
			longest = max(longest, pause)
		}
		if uneven < 20 || longest < 30*time.Second {
			t.Errorf("pauses up to %v, %d of 40 of them no whole seconds; want jitter up to a minute", longest, uneven)
		}

		p.FailTokens(0, b24test.Answer{})
		<-time.After(time.Minute)
		token(t, p.source)
		p.FailTokens(1<<20, b24test.Answer{Status: 500})
		<-time.After(2 * time.Hour)
		wantFailure(t, p.source, b24oauth.ErrUnavailable, 2*time.Second)
		if pause := flights(t, p, 1)[0]; pause > 2*time.Second+tick {
			t.Errorf("first pause after a success %v, want at most 2 s", pause)
		}
	})
}

func TestRetryAfterIsHonouredAndCapped(t *testing.T) {
	for _, tt := range []struct {
		header    string
		from, to  time.Duration
		perFlight int
	}{
		{"120", 120 * time.Second, 120*time.Second + tick, 1},
		{"1", time.Second, 2010 * time.Millisecond, 1},
		{"86400", 10 * time.Minute, 10*time.Minute + tick, 1},
		{"Sat, 01 Jan 2000 02:05:00 GMT", 5 * time.Minute, 5*time.Minute + tick, 1},
		{"soon", time.Second, 2010 * time.Millisecond, 3},
	} {
		t.Run(tt.header, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newProgram(t)
				<-time.After(2 * time.Hour)
				p.FailTokens(1<<20, b24test.Answer{Status: 503, Header: http.Header{"Retry-After": {tt.header}}})
				wantFailure(t, p.source, b24oauth.ErrUnavailable, 2*time.Second)
				wantRequests(t, p, tt.perFlight)
				if pause := flights(t, p, 1)[0]; pause < tt.from || pause > tt.to {
					t.Errorf("asked again after %v, want %v to %v", pause, tt.from, tt.to)
				}
			})
		})
	}
}

func TestWhatCanBeRepairedIsAskedAgainEveryTenMinutes(t *testing.T) {
	for _, tt := range []struct {
		answer b24test.Answer
		kind   error
	}{
		{tokenRefusal(200, "wrong_client"), b24oauth.ErrClientRejected},
		{tokenRefusal(400, "invalid_client"), b24oauth.ErrClientRejected},
		{tokenRefusal(401, "NOT_INSTALLED"), b24oauth.ErrReauthorize},
		{tokenRefusal(401, "PAYMENT_REQUIRED"), b24oauth.ErrPaymentRequired},
		{tokenRefusal(403, "verification_needed"), b24oauth.ErrPaymentRequired},
	} {
		t.Run(tt.answer.Body, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newProgram(t)
				old := token(t, p.source)
				<-time.After(time.Hour - 59*time.Second)
				p.FailTokens(1<<20, tt.answer)
				for range 50 {
					if token(t, p.source) != old {
						t.Error("not the working token")
					}
					<-time.After(time.Second)
				}
				wantRequests(t, p, 1)
				<-time.After(10 * time.Second)
				wantFailure(t, p.source, tt.kind, 0)
				for i, pause := range flights(t, p, 2)[1:] {
					if pause < 10*time.Minute || pause > 10*time.Minute+tick {
						t.Errorf("pause %d of %v, want 10 minutes", i, pause)
					}
				}
				wantRequests(t, p, 3)

				p.FailTokens(0, b24test.Answer{})
				<-time.After(10 * time.Minute)
				token(t, p.source)
			})
		})
	}
}

func TestStoreThatChangesEndsAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newHooked()
		p := newProgram(t, with(store, nil))
		<-time.After(2 * time.Hour)
		p.FailTokens(1, tokenRefusal(401, "PAYMENT_REQUIRED"))
		wantFailure(t, p.source, b24oauth.ErrPaymentRequired, 0)
		other := p.Config()
		other.Store = store.Store
		theirs := token(t, other.TokenSource(key))
		<-time.After(time.Second)
		if token(t, p.source) != theirs {
			t.Error("not the pair that another process fetched")
		}
	})
}

func TestMissingGrantIsReportedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		events := new(diary)
		p := newProgram(t, with(newHooked(), events))
		missing := p.config.TokenSource("missing")
		for range 100 {
			wantFailure(t, missing, b24oauth.ErrNoGrant, 0)
			<-time.After(time.Second)
		}
		events.want(t, "renew_failed")
		g := p.Install()
		if err := p.config.Save(t.Context(), "missing", g); err != nil {
			t.Fatal(err)
		}
		if token(t, missing) != g.AccessToken {
			t.Error("not the grant that was missing")
		}
	})
}
