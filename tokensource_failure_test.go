package b24oauth_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/oauth2"

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
		{"NOT_INSTALLED", func(s *b24test.Server) { s.FailTokens(1<<20, tokenRefusal(401, "NOT_INSTALLED")) }, "NOT_INSTALLED"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store, events := newFaultyStore(), new(eventLog)
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
				<-time.After(23 * time.Hour)
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

				for day := range 3 { // a server's one wrong answer is not for good
					<-time.After(24 * time.Hour)
					wantFailure(t, p.source, b24oauth.ErrReauthorize, 0)
					wantFailure(t, p.source, b24oauth.ErrReauthorize, 0)
					wantRequests(t, p, 2+day)
				}
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
				p := newProgram(t, with(newFaultyStore(), nil))
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

func TestPassingFailureIsRetriedInTheJobAndThenLater(t *testing.T) {
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

// failedJobs calls again and again until n more jobs have failed, and returns
// the pauses between their ends and the next ones' beginnings, give or take
// the tick between two calls.
func failedJobs(t *testing.T, p *program, n int) (pauses []time.Duration) {
	t.Helper()
	seen, ended := len(p.TokenRequests()), time.Now()
	for len(pauses) < n {
		<-time.After(tick)
		start := time.Now()
		_, _ = p.source.Token()
		if now := len(p.TokenRequests()); now > seen {
			if now > seen+3 {
				t.Errorf("%d requests in one job, want at most 3", now-seen)
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
		for i, pause := range failedJobs(t, p, 40) {
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
		if pause := failedJobs(t, p, 1)[0]; pause > 2*time.Second+tick {
			t.Errorf("first pause after a success %v, want at most 2 s", pause)
		}
	})
}

func TestRetryAfterIsHonouredAndCapped(t *testing.T) {
	for _, tt := range []struct {
		header   string
		from, to time.Duration
		perJob   int
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
				wantRequests(t, p, tt.perJob)
				if pause := failedJobs(t, p, 1)[0]; pause < tt.from || pause > tt.to {
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
		{tokenRefusal(200, "wrong_client"), b24oauth.ErrMisconfigured},
		{tokenRefusal(400, "invalid_client"), b24oauth.ErrMisconfigured},
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
				for i, pause := range failedJobs(t, p, 2)[1:] {
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
		store := newFaultyStore()
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
		events := new(eventLog)
		p := newProgram(t, with(newFaultyStore(), events))
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

func TestGuarantee9VerdictIsAskedForOnceByAllProcesses(t *testing.T) {
	for _, code := range []string{"invalid_grant", "expired_token", "NOT_INSTALLED"} {
		t.Run(code, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := newFaultyStore()
				p := newProgram(t, with(store, nil))
				second := p.Config()
				second.Store = store
				held := second.TokenSource(key)
				token(t, held)
				<-time.After(2 * time.Hour)
				p.FailTokens(1<<20, tokenRefusal(400, code))
				asked := time.Now()
				wantFailure(t, p.source, b24oauth.ErrReauthorize, 0)
				if diff := cmp.Diff(b24oauth.Refusal{Code: code, At: asked.UTC()}, stored(t, p).Refused); diff != "" {
					t.Errorf("the stored verdict (-want +got):\n%s", diff)
				}
				<-time.After(time.Hour)
				first := p.source
				p.restart(with(store, nil))
				for who, source := range map[string]*b24oauth.TokenSource{"the one that asked": first, "one that had the token": held, "a new one": p.source} {
					te := wantFailure(t, source, b24oauth.ErrReauthorize, 0)
					var re *oauth2.RetrieveError
					if te.Code != code || te.StatusCode != 0 || !te.Permanent() || !errors.As(te, &re) || re.ErrorCode != code {
						t.Errorf("%s: %+v and %+v; want the server's code", who, te, re)
					}
				}
				text := wantFailure(t, p.source, b24oauth.ErrReauthorize, 0).Error()
				want := `b24oauth: grant "portal": the authorization server answered ` + code + ": " + hint[code] +
					": so it said at " + asked.UTC().Format(time.RFC3339) + "; it is asked again after a day, or by Renew(ctx, nil)"
				if text != want {
					t.Errorf("Error():\n got %s\nwant %s", text, want)
				}
				wantRequests(t, p, 1)
			})
		})
	}
}

// hint is what an error says is to be done about a verdict.
var hint = map[string]string{
	"invalid_grant": "the refresh token or code is unknown or used up, perhaps by a copy of the grant in another Store: authorize the application on the portal again and store the new grant with Config.Save",
	"expired_token": "the refresh token has expired: authorize the application on the portal again and store the new grant with Config.Save",
	"NOT_INSTALLED": "the application is not installed on the portal any more: install it again",
}

func TestVerdictThatCannotBeStoredIsKeptUntilItCan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFaultyStore()
		p := newProgram(t, with(store, nil))
		<-time.After(2 * time.Hour)
		p.KillGrants()
		store.failSaves()
		for range 60 {
			wantFailure(t, p.source, b24oauth.ErrReauthorize, 0)
			<-time.After(time.Second)
		}
		if stored(t, p).Refused.Code != "" {
			t.Error("the test's Store has taken the verdict")
		}
		store.onUpdate(nil)
		<-time.After(2 * time.Minute)
		wantFailure(t, p.source, b24oauth.ErrReauthorize, 0)
		if stored(t, p).Refused.Code != "invalid_grant" {
			t.Error("the verdict is not stored, though the Store works again")
		}
		wantRequests(t, p, 1)
	})
}

func TestGuarantee9FlushDoesNotEndTheServersPause(t *testing.T) {
	requests := func(flush bool) (n int) {
		synctest.Test(t, func(t *testing.T) {
			p := newProgram(t)
			<-time.After(2 * time.Hour)
			p.FailTokens(1000, b24test.Answer{Status: 500})
			for start := time.Now(); time.Since(start) < time.Minute; <-time.After(10 * time.Millisecond) {
				if _, err := p.source.Token(); err == nil {
					t.Fatal("a token from a server that fails")
				}
				if flush {
					if err := p.config.Flush(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
			}
			n = len(p.TokenRequests())
		})
		return n
	}
	// The pauses are random, between a second and a minute.
	if without, with := requests(false), requests(true); with > without+15 {
		t.Errorf("%d requests in a minute, and %d with Flush", without, with)
	}
}

func TestOnEventMayFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &faultyStore{Store: new(b24oauth.MemoryStore)}
		var p *program
		var mu sync.Mutex // guards failures
		var failures []error
		p = newProgram(t, func(c *b24oauth.Config) {
			c.Store = store
			c.OnEvent = func(ctx context.Context, e b24oauth.Event) {
				if e.Kind == b24oauth.EventSaveFailed {
					ctx, cancel := context.WithTimeout(ctx, time.Second)
					defer cancel()
					err := p.config.Flush(ctx)
					mu.Lock()
					defer mu.Unlock()
					failures = append(failures, err)
				}
			}
		})
		<-time.After(2 * time.Hour)
		store.onUpdate(func(ctx context.Context, fn updateFunc) error {
			return store.Store.Update(ctx, key, func(ctx context.Context, g *b24oauth.Grant) (*b24oauth.Grant, error) {
				if _, err := fn(ctx, g); err != nil {
					return nil, err
				}
				return nil, errDown
			})
		})
		if _, err := p.source.Token(); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Minute)
		mu.Lock()
		defer mu.Unlock()
		if len(failures) == 0 || len(failures) > 20 {
			t.Errorf("OnEvent was called %d times", len(failures))
		}
		store.onUpdate(nil)
		if err := p.config.Flush(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
