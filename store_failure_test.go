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
	"github.com/b24go/b24oauth/b24test"
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

// once the exchange was sent, its answer may be the only copy of the grant.
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

// unsaved returns a program that has a pair in memory only, and its Store.
func unsaved(t *testing.T) (p *program, s *hooked, next string) {
	s = newHooked()
	p = newProgram(t, with(s, nil))
	<-time.After(2 * time.Hour)
	s.failSaves()
	next = token(t, p.source)
	<-time.After(11 * time.Second)
	s.onUpdate(nil)
	return p, s, next
}

func remove(t *testing.T, s b24oauth.Store) {
	t.Helper()
	err := s.Update(t.Context(), key, func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
		return nil, b24oauth.ErrDelete
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestRemovalWhileAPairIsUnsaved(t *testing.T) {
	for _, how := range []string{"next call", "Flush"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, store, _ := unsaved(t)
				remove(t, store.Store)
				if how == "Flush" {
					if err := p.config.Flush(t.Context()); err != nil {
						t.Errorf("Flush = %v; nothing is left to save", err)
					}
				}
				<-time.After(2 * time.Minute)
				_, _ = p.source.Token() // it may still use the token that it has
				synctest.Wait()
				wantFailure(t, p.source, b24oauth.ErrNoGrant, 0)
				if _, err := store.Store.Load(t.Context(), key); !errors.Is(err, b24oauth.ErrNoGrant) {
					t.Error("the removed grant came back to life")
				}
			})
		})
	}
}

func TestReinstallationWhileAPairIsUnsaved(t *testing.T) {
	for _, how := range []string{"another process", "this one"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, store, _ := unsaved(t)
				config, g := p.config, p.Install()
				if how == "another process" {
					config = p.Config()
					config.Store = store.Store
				}
				if err := config.Save(t.Context(), key, g); err != nil {
					t.Fatal(err)
				}
				<-time.After(2 * time.Minute)
				_, _ = p.source.Token()
				synctest.Wait()
				if got := token(t, p.source); got != g.AccessToken || stored(t, p).AccessToken != got {
					t.Error("the new installation's grant did not win")
				}
			})
		})
	}
}

func TestLostLeaseAndAnotherProcessesPair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shared, events := new(place), new(diary)
		p := newProgram(t, with(shared.process("A", nil), events))
		p.SetSingleUse(false)
		other := p.Config()
		other.Store = shared.process("B", nil)
		<-time.After(2 * time.Hour)
		p.DelayTokens(1, 10*time.Second)
		done := make(chan string)
		go func() { done <- token(t, p.source) }()
		<-time.After(5 * time.Second)
		shared.expireLease()
		theirs := token(t, other.TokenSource(key))
		<-done
		<-time.After(5 * time.Second)
		if got := token(t, p.source); got != theirs || stored(t, p).AccessToken != theirs {
			t.Error("the pair that was stored first did not win")
		}
		events.want(t, "save_failed", "renewed")
	})
}

func TestConflictIsNoLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newHooked()
		p := newProgram(t, with(store, nil))
		<-time.After(2 * time.Hour)
		calls := 0
		store.onUpdate(func(ctx context.Context, fn updateFunc) error {
			if calls++; calls > 1 {
				return store.Store.Update(ctx, key, fn)
			}
			g, err := store.Store.Load(ctx, key)
			if err != nil {
				return err
			}
			if _, err := fn(ctx, g); err != nil {
				return err
			}
			return b24oauth.ErrConflict
		})
		next := token(t, p.source)
		<-time.After(time.Second)
		if stored(t, p).AccessToken != next {
			t.Error("the pair was not saved by another attempt")
		}
		wantRefreshes(t, p, 1)
	})
}

// A Store that goes back to an older value, as after a failover, is put right
// by the process that knows the newer one.
func TestStoreThatGoesBackHeals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newHooked()
		p := newProgram(t, with(store, nil))
		backup := stored(t, p)
		for range 3 {
			<-time.After(time.Hour)
			token(t, p.source)
		}
		err := store.Store.Update(t.Context(), key, func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) { return backup, nil })
		if err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Hour)
		next := token(t, p.source)
		if stored(t, p).AccessToken != next {
			t.Error("the Store was not put right")
		}
		wantRefreshes(t, p, 4)
		wantRequests(t, p, 4)
		if err := p.config.Save(t.Context(), key, backup); !errors.Is(err, b24oauth.ErrClientRejected) {
			t.Errorf("Save of a grant that was exchanged = %v; want an error", err)
		}
		remove(t, store)
		<-time.After(2 * time.Hour)
		wantFailure(t, p.source, b24oauth.ErrNoGrant, 0)
		err = store.Store.Update(t.Context(), key, func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) { return backup, nil })
		if err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Minute)
		wantFailure(t, p.source, b24oauth.ErrReauthorize, 0)
		wantRequests(t, p, 4)
	})
}

// A refused pair is not saved over the older one.
func TestRefusedPairIsNotSaved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newHooked()
		p := newProgram(t, with(store, nil))
		backup := stored(t, p)
		<-time.After(time.Hour)
		token(t, p.source)
		p.KillGrants()
		<-time.After(time.Hour)
		wantFailure(t, p.source, b24oauth.ErrReauthorize, 0)
		err := store.Store.Update(t.Context(), key, func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) { return backup, nil })
		if err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Minute)
		wantFailure(t, p.source, b24oauth.ErrReauthorize, 0)
		if err := p.config.Flush(t.Context()); err != nil || stored(t, p).AccessToken != backup.AccessToken {
			t.Errorf("Flush = %v; want the Store left as it is", err)
		}
	})
}

// An unsaved pair is saved before it is exchanged: if the answer were lost,
// nothing would be left of the grant.
func TestUnsavedPairIsNotExchanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, store, next := unsaved(t)
		store.failSaves()
		<-time.After(2 * time.Hour)
		wantFailure(t, p.source, b24oauth.ErrUnavailable, 0)
		wantRefreshes(t, p, 1)
		store.onUpdate(nil)
		p.FailTokens(1, b24test.Answer{Status: 400, Body: `{"error":"invalid_client"}`})
		<-time.After(2 * time.Minute)
		wantFailure(t, p.source, b24oauth.ErrClientRejected, 0)
		if stored(t, p).AccessToken != next {
			t.Error("the pair was not saved before it was exchanged")
		}
	})
}

// A grant that was replaced by another process's is left behind like one that
// was exchanged.
func TestStoreThatGoesBackBehindAnotherProcessesGrantHeals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newHooked()
		p := newProgram(t, with(store, nil))
		token(t, p.source)
		backup := stored(t, p)
		other := p.Config()
		other.Store = store.Store
		if err := other.Save(t.Context(), key, p.Install()); err != nil {
			t.Fatal(err)
		}
		newer := stored(t, p)
		<-time.After(59*time.Minute + 30*time.Second)
		token(t, p.source)
		err := store.Store.Update(t.Context(), key, func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) { return backup, nil })
		if err != nil {
			t.Fatal(err)
		}
		<-time.After(2 * time.Hour)
		p.FailTokens(1, b24test.Answer{Status: 400, Body: `{"error":"invalid_client"}`})
		wantFailure(t, p.source, b24oauth.ErrClientRejected, 0)
		if got := stored(t, p); got.UserID != newer.UserID {
			t.Error("the grant that was replaced came back")
		}
	})
}
