package b24oauth_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/b24go/b24oauth"
)

type secretKey struct{}

func TestRenewalIsDetachedFromItsStartersContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFaultyStore()
		p := newProgram(t, with(store, nil), func(c *b24oauth.Config) {
			c.OnEvent = func(ctx context.Context, _ b24oauth.Event) {
				if ctx.Value(secretKey{}) != nil || ctx.Err() != nil {
					t.Error("OnEvent was given the starter's context")
				}
			}
		})
		base := p.config.TokenClient.Transport
		p.config.TokenClient.Transport = roundTripFunc(func(r *http.Request) (*http.Response, error) {
			if r.Context().Value(secretKey{}) != nil {
				t.Error("the token request was given the starter's context")
			}
			return base.RoundTrip(r)
		})
		store.onUpdate(func(ctx context.Context, fn updateFunc) error {
			if ctx.Value(secretKey{}) != nil {
				t.Error("the Store was given the starter's context")
			}
			return store.Store.Update(ctx, key, fn)
		})
		<-time.After(2 * time.Hour)
		ctx, cancel := context.WithCancel(context.WithValue(t.Context(), secretKey{}, "a user's"))
		cancel()
		if _, err := p.source.TokenContext(ctx); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		synctest.Wait()
		wantRefreshes(t, p, 1)
	})
}

func TestStoreThatEndsTheJobDoesNotWedgeIt(t *testing.T) {
	for _, way := range whateverItDoes {
		for _, tt := range []struct {
			when  string
			spoil func(*faultyStore)
			used  bool // the exchange was made, and its pair is in memory
		}{
			{"Load", func(s *faultyStore) {
				s.onLoad(func(context.Context) (*b24oauth.Grant, error) { way.do(); return nil, nil })
			}, false},
			{"Update, before fn", func(s *faultyStore) {
				s.onUpdate(func(context.Context, updateFunc) error { way.do(); return nil })
			}, false},
			{"Update, after fn", func(s *faultyStore) {
				s.onUpdate(func(ctx context.Context, fn updateFunc) error {
					g, err := s.Store.Load(ctx, key)
					if err == nil {
						_, _ = fn(ctx, g)
					}
					way.do()
					return nil
				})
			}, true},
		} {
			t.Run(way.name+" in "+tt.when, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					store, log := newFaultyStore(), new(strings.Builder)
					p := newProgram(t, with(store, nil), func(c *b24oauth.Config) { c.Logger = slog.New(slog.NewTextHandler(log, nil)) })
					token(t, p.source)
					<-time.After(2 * time.Hour)
					tt.spoil(store)
					if tt.used {
						token(t, p.source)
					} else {
						te := wantFailure(t, p.source, b24oauth.ErrUnavailable, 0)
						if !strings.Contains(te.Error(), "Store") || strings.Contains(te.Error(), "secret") {
							t.Errorf("error %v; want one that blames the Store and does not quote the panic", te)
						}
					}
					if strings.Contains(log.String(), "with a secret") {
						t.Error("the panic's value was logged")
					}
					store.onLoad(nil)
					store.onUpdate(nil)
					<-time.After(2 * time.Minute)
					next := token(t, p.source)
					synctest.Wait()
					if stored(t, p).AccessToken != next {
						t.Error("the source did not recover")
					}
					wantRefreshes(t, p, 1)
				})
			})
		}
	}
}

func TestStoreThatNeverReturns(t *testing.T) {
	for _, method := range []string{"Load", "Update"} {
		t.Run(method, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store, release := newFaultyStore(), make(chan struct{})
				p := newProgram(t, with(store, nil))
				<-time.After(2 * time.Hour)
				if method == "Load" {
					store.onLoad(func(ctx context.Context) (*b24oauth.Grant, error) {
						<-release
						return store.Store.Load(context.WithoutCancel(ctx), key)
					})
				} else {
					store.onUpdate(func(ctx context.Context, fn updateFunc) error {
						<-release
						return store.Store.Update(context.WithoutCancel(ctx), key, fn)
					})
				}
				te := wantFailure(t, p.source, b24oauth.ErrUnavailable, 65*time.Second)
				if !strings.Contains(te.Error(), "does not return") || !strings.Contains(te.Error(), "faultyStore") {
					t.Errorf("error %v; want one that names the Store and what it does", te)
				}
				wantFailure(t, p.source, b24oauth.ErrUnavailable, 0) // who comes later need not find out again
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if err := p.config.Flush(ctx); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("Flush = %v", err)
				}
				if err := p.config.Save(ctx, key, p.Install()); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("Save = %v", err)
				}
				close(release)
				synctest.Wait()
				token(t, p.source)
				wantRefreshes(t, p, 1)
			})
		})
	}
}

func TestWhoGivesUpWaitingIsToldThatTheRenewalGoesOnAndThatFlushWaitsForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProgram(t, with(newFaultyStore(), nil))
		old := token(t, p.source)
		<-time.After(2 * time.Hour)
		p.DelayTokens(1, 10*time.Second)
		go p.source.Token()
		synctest.Wait()
		for name, call := range map[string]func(context.Context) error{
			"TokenContext": func(ctx context.Context) error { _, err := p.source.TokenContext(ctx); return err },
			"Renew":        func(ctx context.Context) error { _, err := p.source.Renew(ctx, nil); return err },
			"Save":         func(ctx context.Context) error { return p.config.Save(ctx, key, p.Install()) },
			"Delete":       func(ctx context.Context) error { return p.config.Delete(ctx, key) },
			"Flush":        func(ctx context.Context) error { return p.config.Flush(ctx) },
		} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			err := call(ctx)
			cancel()
			const says = "a renewal in flight goes on, and Config.Flush waits for it as long as its own context lasts"
			if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), says) {
				t.Errorf("%s gave up with %v; want its deadline, and %q", name, err, says)
			}
		}
		if err := p.config.Flush(t.Context()); err != nil || stored(t, p).AccessToken == old {
			t.Errorf("Flush returned %v; want it to wait until the new pair is stored", err)
		}
		wantRefreshes(t, p, 1)
	})
}
