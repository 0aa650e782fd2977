package b24oauth_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/b24go/b24oauth"
)

type roundTripFunc func(*http.Request) (*http.Response, error)

func (f roundTripFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestGuarantee2SavedBeforeUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newHooked()
		p := newProgram(t, with(store, nil))
		var saved sync.Map
		saved.Store(stored(t, p).AccessToken, true)
		store.onUpdate(func(ctx context.Context, fn updateFunc) error {
			defer func() { saved.Store(stored(t, p).AccessToken, true) }()
			return store.Store.Update(ctx, key, fn)
		})
		base := p.Client().Transport
		client := &http.Client{Transport: &b24oauth.Transport{Source: p.source, Base: roundTripFunc(func(r *http.Request) (*http.Response, error) {
			if _, ok := saved.Load(r.URL.Query().Get("auth")); !ok {
				t.Error("a request carries a token that has not been in the Store")
			}
			return base.RoundTrip(r)
		})}}
		for range 5 {
			together(10, func(int) {
				resp, err := client.Get(p.Endpoint() + "profile")
				if got := status(t, resp, err); got != http.StatusOK {
					t.Errorf("status %d", got)
				}
			})
			p.ExpireAccessTokens()
			<-time.After(50 * time.Minute)
		}
		if p.Refreshes() < 4 {
			t.Error("the test renewed no token")
		}
	})
}

func TestGuarantee2PairThatCannotBeSavedIsUsedFromMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, events, log := newHooked(), new(diary), new(bytes.Buffer)
		p := newProgram(t, with(store, events), func(c *b24oauth.Config) { c.Logger = slog.New(slog.NewTextHandler(log, nil)) })
		old := token(t, p.source)
		events.want(t)
		<-time.After(2 * time.Hour)

		store.failSaves()
		start := time.Now()
		next := token(t, p.source)
		if next == old || stored(t, p).AccessToken != old || time.Since(start) != 0 {
			t.Fatalf("not the new token, from memory, at once (after %v)", time.Since(start))
		}
		if g, err := p.source.Grant(t.Context()); err != nil || g.AccessToken != next {
			t.Errorf("Grant = %v, %v; want the pair in memory", g, err)
		}
		<-time.After(time.Minute) // the flight has tried for ten seconds
		failures := events.kinds()
		if n := len(failures); n < 5 || strings.Join(failures, " ") != strings.Repeat("save_failed ", n-1)+"renewed" {
			t.Errorf("events %v; want a save_failed for each attempt, and renewed", failures)
		}
		if lines := strings.Count(log.String(), "new token pair not saved"); lines != len(failures)-1 {
			t.Errorf("%d log lines for %d failures", lines, len(failures)-1)
		}
		log.Reset()
		together(100, func(int) { token(t, p.source) })
		synctest.Wait()
		events.want(t, "save_failed")
		if strings.Count(log.String(), "level=ERROR") != 1 {
			t.Errorf("log: %s", log)
		}

		store.onUpdate(nil)
		<-time.After(2 * time.Minute)
		if token(t, p.source) != next {
			t.Error("the pair changed")
		}
		synctest.Wait()
		if stored(t, p).AccessToken != next {
			t.Error("the pair is not saved, though the Store works again and calls are made")
		}
		wantRefreshes(t, p, 1)
	})
}

func TestGuarantee2FlushSavesThePair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newHooked()
		p := newProgram(t, with(store, nil))
		<-time.After(2 * time.Hour)
		store.failSaves()
		next := token(t, p.source)
		if err := p.config.Flush(t.Context()); err == nil || !strings.Contains(err.Error(), key) || !errors.Is(err, errDown) {
			t.Errorf("Flush while the Store fails = %v; want an error that names the grant and the cause", err)
		}
		store.onUpdate(nil)
		if err := p.config.Flush(t.Context()); err != nil || stored(t, p).AccessToken != next {
			t.Errorf("Flush = %v; want the pair in the Store", err)
		}
		if err := p.config.Flush(t.Context()); err != nil {
			t.Errorf("Flush with nothing to do = %v", err)
		}
	})
}

// A call that gives up at once leaves a renewal behind that has not begun.
func TestFlushWaitsForRenewalsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newHooked()
		p := newProgram(t, with(store, nil))
		old := stored(t, p).AccessToken
		<-time.After(2 * time.Hour)
		p.DelayTokens(2, time.Second)
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		for range 20 { // by chance the renewal begins before Flush does
			_, _ = p.source.TokenContext(gone)
			start := time.Now()
			if err := p.config.Flush(t.Context()); err != nil || time.Since(start) != time.Second || stored(t, p).AccessToken == old {
				t.Fatalf("Flush = %v after %v; want the renewal's second, and its pair stored", err, time.Since(start))
			}
			old = stored(t, p).AccessToken
			<-time.After(2 * time.Hour)
			p.DelayTokens(1, time.Second)
		}
		_, _ = p.source.TokenContext(gone)
		if err := p.config.Flush(gone); !errors.Is(err, context.Canceled) {
			t.Errorf("Flush whose context has ended = %v", err)
		}
		<-time.After(time.Minute)
	})
}

func TestGuarantee2NothingIsRefreshedWithoutExclusivity(t *testing.T) {
	hang := func(ctx context.Context, _ updateFunc) error {
		<-ctx.Done()
		return ctx.Err()
	}
	for _, tt := range []struct {
		name   string
		update func(context.Context, updateFunc) error
		within time.Duration
	}{
		{"refused", func(context.Context, updateFunc) error { return errDown }, 0},
		{"held by another for ever", hang, 15 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := newHooked()
				p := newProgram(t, with(store, nil))
				old := token(t, p.source)
				store.onUpdate(tt.update)
				<-time.After(time.Hour - 30*time.Second)
				if token(t, p.source) != old {
					t.Error("not the working token")
				}
				<-time.After(time.Hour)
				wantFailure(t, p.source, b24oauth.ErrUnavailable, tt.within)
				wantFailure(t, p.source, b24oauth.ErrUnavailable, 0) // the Store is left alone, too
				wantRequests(t, p, 0)
				store.onUpdate(nil)
				<-time.After(time.Minute)
				token(t, p.source)
				wantRefreshes(t, p, 1)
			})
		})
	}
}

func TestLeaseTooShortForAnExchangeIsAConfigurationError(t *testing.T) {
	for _, tt := range []struct {
		lease time.Duration
		want  error
	}{
		{25*time.Second - 1, b24oauth.ErrClientRejected},
		{25 * time.Second, nil},
	} {
		t.Run(fmt.Sprint(tt.lease), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := newHooked()
				p := newProgram(t, with(store, nil))
				<-time.After(2 * time.Hour)
				store.onUpdate(func(ctx context.Context, fn updateFunc) error {
					return store.Store.Update(ctx, key, func(ctx context.Context, g *b24oauth.Grant) (*b24oauth.Grant, error) {
						ctx, cancel := context.WithTimeout(ctx, tt.lease)
						defer cancel()
						return fn(ctx, g)
					})
				})
				if _, err := p.source.Token(); !errors.Is(err, tt.want) {
					t.Errorf("Token: %v, want %v", err, tt.want)
				}
				if tt.want != nil {
					wantRequests(t, p, 0)
				}
			})
		})
	}
}

func TestExclusivityThatHasEndedIsNotUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newHooked()
		p := newProgram(t, with(store, nil))
		<-time.After(2 * time.Hour)
		store.onUpdate(func(ctx context.Context, fn updateFunc) error {
			return store.Store.Update(ctx, key, func(ctx context.Context, g *b24oauth.Grant) (*b24oauth.Grant, error) {
				ctx, cancel := context.WithCancel(ctx)
				cancel()
				return fn(ctx, g)
			})
		})
		wantFailure(t, p.source, b24oauth.ErrUnavailable, 0)
		wantRequests(t, p, 0)
	})
}

// Once the exchange was sent, its answer may be the only copy of the grant.
func TestExclusivityThatEndsDuringAnExchangeDoesNotEndIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shared := new(place)
		store := shared.process("A", nil)
		p := newProgram(t, with(store, nil))
		<-time.After(2 * time.Hour)
		p.DelayTokens(1, 10*time.Second)
		go func() {
			<-time.After(5 * time.Second)
			shared.expireLease()
		}()
		next := token(t, p.source)
		if stored(t, p).AccessToken != next {
			t.Error("a late save whose value is unchanged was not stored")
		}
		wantRequests(t, p, 1)
	})
}
