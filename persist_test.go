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

	"github.com/google/go-cmp/cmp"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/internal/canary"
)

func TestMemoryStoreFreesTheKeyWhateverBecomesOfTheUpdate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := new(b24oauth.MemoryStore)
		storeDirectly(t, m, key, spent())
		ends := map[string]func(){
			"returns an error": func() {
				_ = m.Update(t.Context(), key, func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
					return &b24oauth.Grant{AccessToken: "wrong"}, errors.New("no")
				})
			},
			"panics": func() {
				defer func() { _ = recover() }()
				_ = m.Update(t.Context(), key, func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) { panic("oops") })
			},
			"gives up waiting": func() {
				release := make(chan struct{})
				go m.Update(t.Context(), key, func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
					<-release
					return nil, nil
				})
				synctest.Wait()
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				err := m.Update(ctx, key, func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
					t.Error("fn was called while another Update was running")
					return nil, nil
				})
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("Update gave up with %v", err)
				}
				waited := make(chan error)
				go func() {
					waited <- m.Update(t.Context(), key, func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) { return nil, nil })
				}()
				synctest.Wait()
				close(release)
				if err := <-waited; err != nil {
					t.Errorf("who kept waiting got %v", err)
				}
			},
		}
		for name, end := range ends {
			end()
			called := false
			err := m.Update(t.Context(), key, func(_ context.Context, g *b24oauth.Grant) (*b24oauth.Grant, error) {
				called = true
				if diff := cmp.Diff(spent(), g); diff != "" {
					t.Errorf("after an Update that %s (-want +got):\n%s", name, diff)
				}
				return nil, nil
			})
			if err != nil || !called {
				t.Errorf("after an Update that %s: called %v, error %v", name, called, err)
			}
		}
	})
}

func TestMemoryStoreGivesAndTakesCopies(t *testing.T) {
	m := new(b24oauth.MemoryStore)
	spoil := func(g *b24oauth.Grant) { g.AccessToken, g.FormerHosts[0] = "spoiled", "spoiled" }
	given := spent()
	storeDirectly(t, m, key, given)
	spoil(given)
	got, err := m.Load(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(spent(), got); diff != "" {
		t.Errorf("the caller's change of what it stored shows (-want +got):\n%s", diff)
	}
	spoil(got)
	err = m.Update(t.Context(), key, func(_ context.Context, g *b24oauth.Grant) (*b24oauth.Grant, error) {
		if diff := cmp.Diff(spent(), g); diff != "" {
			t.Errorf("the caller's change of what it loaded shows (-want +got):\n%s", diff)
		}
		spoil(g)
		return nil, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := m.Load(t.Context(), key); err != nil || !cmp.Equal(spent(), got) {
		t.Errorf("fn's change of what it was given shows: %v, error %v", got, err)
	}
}

func TestMemoryStoreHeedsTheEndOfTheContextBeforeFnAndNotAfter(t *testing.T) {
	m := new(b24oauth.MemoryStore)
	type mark struct{}
	ctx, cancel := context.WithCancel(context.WithValue(t.Context(), mark{}, "kept"))
	err := m.Update(ctx, key, func(inner context.Context, g *b24oauth.Grant) (*b24oauth.Grant, error) {
		cancel()
		if _, limited := inner.Deadline(); inner.Err() != nil || limited || inner.Value(mark{}) != "kept" || g != nil {
			t.Errorf("fn got %v, grant %v", inner, g)
		}
		return spent(), nil
	})
	if err != nil {
		t.Errorf("the pair was not stored: %v", err)
	}
	if _, err := m.Load(t.Context(), key); err != nil {
		t.Error(err)
	}
	err = m.Update(ctx, key, func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
		t.Error("fn was called for a context that had ended")
		return nil, nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Update with an ended context: %v", err)
	}
	if _, err := m.Load(ctx, key); !errors.Is(err, context.Canceled) {
		t.Errorf("Load with an ended context: %v", err)
	}
}

func TestMemoryStoreDeletesAndListsItsKeys(t *testing.T) {
	m := new(b24oauth.MemoryStore)
	for _, key := range []string{"b", "c", "a/../ü"} {
		storeDirectly(t, m, key, spent())
	}
	remove := func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
		return spent(), fmt.Errorf("removed: %w", b24oauth.ErrDelete)
	}
	for _, key := range []string{"c", "never stored"} {
		if err := m.Update(t.Context(), key, remove); err != nil {
			t.Error(err)
		}
	}
	if _, err := m.Load(t.Context(), "c"); !errors.Is(err, b24oauth.ErrNoGrant) || err.Error() != `b24oauth: no grant stored under "c"` {
		t.Errorf("Load of a deleted grant: %v", err)
	}
	var keys []string
	for key, err := range m.Keys(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	if diff := cmp.Diff([]string{"a/../ü", "b"}, keys); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
	for range m.Keys(t.Context()) {
		break // and that is all right
	}
}

func TestGuarantee8StoreThatQuotesATokenIsNotQuoted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFaultyStore()
		var mu sync.Mutex // guards told
		var told []error
		tell := func(errs ...error) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, errs...)
		}
		p := newProgram(t, func(c *b24oauth.Config) {
			c.Store = store
			c.OnEvent = func(_ context.Context, e b24oauth.Event) { tell(e.Err) }
		})
		g := p.Install()
		if err := p.config.Save(t.Context(), key, g); err != nil {
			t.Fatal(err)
		}
		<-time.After(2 * time.Hour)
		secrets := []string{g.AccessToken, g.RefreshToken, g.ApplicationToken}

		// It quotes what is stored when it is asked, and the new pair when it is to save it.
		store.onUpdate(func(ctx context.Context, fn updateFunc) error {
			next, err := fn(ctx, g)
			if err != nil {
				return err
			}
			secrets = append(secrets, next.AccessToken, next.RefreshToken)
			return fmt.Errorf("bad values %q, %q for %w", next.RefreshToken, next.AccessToken, errDown)
		})
		token(t, p.source)
		tell(p.config.Flush(t.Context()))
		store.onUpdate(nil)

		p.restart(func(c *b24oauth.Config) { c.Store = store })
		store.onLoad(func(context.Context) (*b24oauth.Grant, error) { return g, nil })
		token := p.config.TokenSource(key)
		store.onUpdate(func(context.Context, updateFunc) error { return errors.New("bad value " + g.RefreshToken) })
		_, err := token.Token()
		tell(err, p.config.Save(t.Context(), key, g))
		synctest.Wait()

		failures := 0
		for _, err := range told {
			if err != nil {
				failures++
				canary.Of(secrets...).Check(t, "a Store that quotes", canary.Error(err))
			}
		}
		if failures < 4 {
			t.Errorf("%d errors seen, want those of saving, Flush, Token and Save", failures)
		}
	})
}

func TestGuarantee2SavedBeforeUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFaultyStore()
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
		store, events, log := newFaultyStore(), new(eventLog), new(bytes.Buffer)
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
		<-time.After(time.Minute) // the job has tried for ten seconds
		failures := events.kinds()
		if n := len(failures); n < 5 || strings.Join(failures, " ") != "renewed"+strings.Repeat(" save_failed", n-1) {
			t.Errorf("events %v; want renewed, and a save_failed for each attempt", failures)
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
		store := newFaultyStore()
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

// A call that gives up at once starts a renewal that has not begun.
func TestFlushWaitsForRenewalsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFaultyStore()
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
				store := newFaultyStore()
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
		{40*time.Second - 1, b24oauth.ErrMisconfigured},
		{40 * time.Second, nil},
	} {
		t.Run(fmt.Sprint(tt.lease), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := newFaultyStore()
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
		store := newFaultyStore()
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

func TestTokenRefusedWhileItsPairIsBeingSavedIsRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, events := newFaultyStore(), new(eventLog)
		p := newProgram(t, with(store, events))
		<-time.After(2 * time.Hour)
		store.failSaves()
		p.accept(t) // renewed, and used from memory
		p.ExpireAccessTokens()
		go func() {
			<-time.After(3 * time.Second)
			store.onUpdate(nil)
		}()
		resp, err := p.client.Get(p.Endpoint() + "profile")
		if got := status(t, resp, err); got != 200 {
			t.Errorf("status %d, want 200 after one more renewal", got)
		}
	})
}
