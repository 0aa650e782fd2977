package b24oauth_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"github.com/b24go/b24oauth"
	"github.com/b24go/b24oauth/b24test"
)

// The scenarios in which well-known libraries were measured, each with a
// hundred callers unless it says otherwise.

func TestGuarantee1OneRenewalAtATime(t *testing.T) {
	for _, callers := range []int{100, 10_000} {
		t.Run(fmt.Sprintf("%d callers", callers), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newProgram(t)
				<-time.After(2 * time.Hour)
				p.DelayTokens(1, 50*time.Millisecond)
				start := time.Now()
				together(callers, func(int) { token(t, p.source) })
				if took := time.Since(start); took != 50*time.Millisecond {
					t.Errorf("the callers had to wait %v, want 50ms", took)
				}
				wantRefreshes(t, p, 1)
			})
		})
	}
}

func TestGuarantee1SharesAFailureLikeASuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProgram(t)
		<-time.After(2 * time.Hour)
		p.KillGrants()
		p.DelayTokens(1, 10*time.Millisecond)
		together(100, func(int) { wantFailure(t, p.source, b24oauth.ErrReauthorize, 10*time.Millisecond) })
		wantRequests(t, p, 1)
	})
}

func TestGuarantee1HoldsBetweenProcesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(b24oauth.MemoryStore)
		p := newProgram(t, with(store, nil))
		sources := make([]*b24oauth.TokenSource, 10)
		for i := range sources {
			p.restart(with(store, nil))
			sources[i] = p.source
		}
		<-time.After(2 * time.Hour)
		p.DelayTokens(1, 50*time.Millisecond)
		together(100, func(i int) { token(t, sources[i%len(sources)]) })
		wantRefreshes(t, p, 1)
	})
}

func TestGuarantee1TokenRunsOutDuringARenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProgram(t)
		<-time.After(time.Hour - 200*time.Millisecond)
		p.DelayTokens(1, 300*time.Millisecond)
		together(100, func(i int) {
			<-time.After(time.Duration(i) * 3 * time.Millisecond) // before and after the token's end
			token(t, p.source)
		})
		wantRefreshes(t, p, 1)
	})
}

func TestGuarantee3CallersContextEndsOnlyItsOwnWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProgram(t)
		<-time.After(2 * time.Hour)
		p.DelayTokens(1, 300*time.Millisecond)
		hurried := func(limit time.Duration) {
			start := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			_, err := p.source.TokenContext(ctx)
			if took := time.Since(start); !errors.Is(err, context.DeadlineExceeded) || took != limit {
				t.Errorf("a caller with %v returned after %v with %v; want its own deadline", limit, took, err)
			}
		}
		together(100, func(i int) {
			switch {
			case i == 0:
				hurried(20 * time.Millisecond) // it has started the renewal
			case i%2 == 0:
				<-time.After(time.Millisecond)
				hurried(20 * time.Millisecond)
			default:
				<-time.After(time.Millisecond)
				start := time.Now()
				token(t, p.source)
				if took := time.Since(start); took != 299*time.Millisecond {
					t.Errorf("a patient caller waited %v, want the renewal's 299ms", took)
				}
			}
		})
		wantRefreshes(t, p, 1)
	})
}

func TestGuarantee3RenewalOutlivesItsStarterBoundedByRefreshTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProgram(t, func(c *b24oauth.Config) { c.RefreshTimeout = 5 * time.Second })
		<-time.After(2 * time.Hour)
		release := p.HoldTokens()
		defer release()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := p.source.TokenContext(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("a caller whose context has ended got %v", err)
		}
		<-time.After(time.Second)
		wantFailure(t, p.source, b24oauth.ErrUnavailable, 4*time.Second)
		wantRequests(t, p, 1)
	})
}

func TestGuarantee4NobodyWaitsWhileTheTokenWorks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProgram(t)
		<-time.After(time.Hour - 30*time.Second)
		p.DelayTokens(1, 300*time.Millisecond)
		var mu sync.Mutex
		waited := make(map[time.Duration]int)
		together(100, func(int) {
			start := time.Now()
			token(t, p.source)
			mu.Lock()
			defer mu.Unlock()
			waited[time.Since(start)]++
		})
		if waited[0] != 99 || waited[300*time.Millisecond] != 1 {
			t.Errorf("callers by how long they waited: %v; want 99 not at all and who started it 300ms", waited)
		}
		wantRefreshes(t, p, 1)
	})
}

func TestGuarantee4WorkingTokenIsUsedWhileTheServerFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFaultyStore()
		p := newProgram(t, with(store, nil))
		old := token(t, p.source)
		<-time.After(time.Hour - 59*time.Second)
		p.FailTokens(1000, b24test.Answer{Status: 500})
		together(50, func(int) {
			if token(t, p.source) != old {
				t.Error("a token that nobody issued")
			}
		})
		<-time.After(time.Second) // the renewal outlasts its starter's patience
		wantRequests(t, p, 3)

		// The next backoff steps, each of at most 1, 2, 4 and 8 seconds more.
		for range 500 {
			<-time.After(10 * time.Millisecond)
			token(t, p.source)
		}
		if got := len(p.TokenRequests()); got > 4*3 {
			t.Errorf("%d requests in about 6 s, want at most 3 in each of 4 jobs", got)
		}
		if got := store.lookups(); got > 1+4 {
			t.Errorf("the Store was looked at %d times, want once in a job", got)
		}
		p.FailTokens(0, b24test.Answer{})
		<-time.After(20 * time.Second)
		if token(t, p.source) == old {
			t.Error("not renewed though the server works again")
		}
	})
}

func TestGuarantee10NothingRunsWhileNobodyCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProgram(t)
		<-time.After(2 * time.Hour)
		token(t, p.source)
		p.FailTokens(10, b24test.Answer{})
		<-time.After(2 * time.Hour)
		wantFailure(t, p.source, b24oauth.ErrUnavailable, 5*time.Second)
		requests := len(p.TokenRequests())
		<-time.After(7 * 24 * time.Hour)
		wantRequests(t, p, requests)
		// A goroutine or timer that stays fails the bubble.
	})
}

func TestRenewComparesTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProgram(t)
		first, err := p.source.Token()
		if err != nil {
			t.Fatal(err)
		}
		second, err := p.source.Renew(t.Context(), first)
		if err != nil || second.AccessToken == first.AccessToken {
			t.Fatalf("Renew of the current token = %v, %v; want another", second, err)
		}
		together(100, func(int) {
			late, err := p.source.Renew(t.Context(), first)
			if err != nil || late.AccessToken != second.AccessToken {
				t.Errorf("Renew of an old token = %v, %v; want the current one", late, err)
			}
		})
		wantRefreshes(t, p, 1)
		for _, nothing := range []*oauth2.Token{{}, {RefreshToken: "alone"}} {
			if _, err := p.source.Renew(t.Context(), nothing); !errors.Is(err, b24oauth.ErrMisconfigured) {
				t.Errorf("Renew(%v) = %v, want a configuration error", nothing, err)
			}
		}
	})
}

func TestTokenIsACopy(t *testing.T) {
	p := newProgram(t)
	a, err := p.source.Token()
	if err != nil {
		t.Fatal(err)
	}
	want := a.AccessToken
	a.AccessToken = "changed by its caller"
	if got := token(t, p.source); got != want {
		t.Error("a caller's change shows to the next one")
	}
	if a.RefreshToken != "" {
		t.Error("a caller was given the refresh token")
	}
}

func TestWhatIsMissingIsNamedBeforeAnyRequest(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*b24oauth.Config)
		key    string
		kind   error
	}{
		{"ClientID", func(c *b24oauth.Config) { c.ClientID = "" }, key, b24oauth.ErrMisconfigured},
		{"ClientSecret", func(c *b24oauth.Config) { c.ClientSecret = "" }, key, b24oauth.ErrMisconfigured},
		{"key", func(c *b24oauth.Config) {}, "", b24oauth.ErrMisconfigured},
		{"grant", func(c *b24oauth.Config) {}, "another portal", b24oauth.ErrNoGrant},
		{"application", func(c *b24oauth.Config) { c.ClientID = "another application" }, key, b24oauth.ErrMisconfigured},
	} {
		t.Run(tt.name, func(t *testing.T) {
			store := new(b24oauth.MemoryStore)
			p := newProgram(t, with(store, nil))
			p.restart(with(store, nil), tt.change)
			wantFailure(t, p.config.TokenSource(tt.key), tt.kind, time.Minute)
			if _, err := p.config.TokenSource(tt.key).Grant(t.Context()); err == nil && tt.name != "application" {
				t.Error("Grant found one")
			}
			wantRequests(t, p, 0)
		})
	}
	t.Run("Config", func(t *testing.T) {
		if _, err := new(b24oauth.TokenSource).Token(); !errors.Is(err, b24oauth.ErrMisconfigured) {
			t.Errorf("a TokenSource made by itself: %v", err)
		}
	})
}

func TestGrantWithoutRefreshTokenIsUsedUntilItIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(b24oauth.MemoryStore)
		p := newProgram(t, with(store, nil))
		g := p.Install()
		g.RefreshToken = ""
		if err := p.config.Save(t.Context(), "short", g); err != nil {
			t.Fatal(err)
		}
		s := p.config.TokenSource("short")
		<-time.After(1000 * time.Hour)
		tok, err := s.Token()
		if err != nil || tok.AccessToken != g.AccessToken || !tok.Expiry.IsZero() {
			t.Errorf("Token = %v, %v; want the stored one, without an expiry", tok, err)
		}
		_, err = s.Renew(t.Context(), tok)
		if !errors.Is(err, b24oauth.ErrReauthorize) {
			t.Errorf("Renew = %v, want ErrReauthorize", err)
		}
		wantRequests(t, p, 0)
	})
}

func TestEndpointIsThePortalsRESTBase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProgram(t, with(newFaultyStore(), nil))
		endpoint := func(want string) {
			t.Helper()
			u, err := p.source.Endpoint(t.Context())
			if err != nil || u.String() != want {
				t.Fatalf("Endpoint = %v, %v; want %s", u, err, want)
			}
			u.Host = "changed by its caller"
		}
		endpoint(p.Endpoint())
		endpoint(p.Endpoint())
		if !strings.HasSuffix(p.Endpoint(), "/rest/") {
			t.Errorf("the test's portal has the base %s", p.Endpoint())
		}

		old := p.Rename() // a call to the old address tells of it
		resp, err := p.client.Get(old + "/rest/profile")
		if got := status(t, resp, err); got != http.StatusOK {
			t.Fatalf("status %d", got)
		}
		if strings.HasPrefix(p.Endpoint(), old) {
			t.Fatal("the test's portal was not renamed")
		}
		endpoint(p.Endpoint())
		p.restart(with(p.config.Store, nil))
		endpoint(p.Endpoint())

		<-time.After(2 * time.Hour) // nobody needs a token to learn where to go
		p.FailTokens(1<<20, b24test.Answer{Status: 500})
		wantFailure(t, p.source, b24oauth.ErrUnavailable, 5*time.Second)
		endpoint(p.Endpoint())
	})
}

func TestEndpointOfNoPortalIsAnError(t *testing.T) {
	p := newProgram(t)
	nowhere := p.Install()
	nowhere.ClientEndpoint = ""
	store := newFaultyStore()
	storeDirectly(t, store, key, nowhere)
	p.restart(with(store, nil))
	for key, want := range map[string]error{key: b24oauth.ErrMisconfigured, "missing": b24oauth.ErrNoGrant, "": b24oauth.ErrMisconfigured} {
		u, err := p.config.TokenSource(key).Endpoint(t.Context())
		if u != nil || !errors.Is(err, want) {
			t.Errorf("Endpoint under %q = %v, %v; want %v", key, u, err, want)
		}
	}
}

// What OnEvent does happens before callers go on.
func TestGrantThatIsDeletedWhileItIsRenewedIsNoGrant(t *testing.T) {
	for name, ask := range map[string]func(*program) error{
		"Renew without a token": func(p *program) error { _, err := p.source.Renew(context.Background(), nil); return err },
		"Token": func(p *program) error {
			<-time.After(2 * time.Hour)
			_, err := p.source.Token()
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var p *program
				p = newProgram(t, func(c *b24oauth.Config) {
					c.OnEvent = func(ctx context.Context, e b24oauth.Event) {
						if e.Kind == b24oauth.EventRenewed {
							if err := p.config.Delete(ctx, key); err != nil {
								t.Error(err)
							}
						}
					}
				})
				if err := ask(p); !errors.Is(err, b24oauth.ErrNoGrant) {
					t.Errorf("error %v, want ErrNoGrant", err)
				}
			})
		})
	}
}

func TestRequestsBesideInstallationsAndDeletionsDoNotPanic(t *testing.T) {
	p := newProgram(t)
	var wg sync.WaitGroup
	done := make(chan struct{})
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if _, err := p.source.Endpoint(t.Context()); err != nil && !errors.Is(err, b24oauth.ErrNoGrant) {
					t.Error(err)
				}
			}
		})
	}
	for range 2000 {
		if err := p.config.Save(t.Context(), key, p.Install()); err != nil {
			t.Error(err)
		}
		if err := p.config.Delete(t.Context(), key); err != nil {
			t.Error(err)
		}
	}
	close(done)
	wg.Wait()
}
