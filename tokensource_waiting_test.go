package b24oauth_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"github.com/b24go/b24oauth"
)

// holdTokens has the authorization server hang. end lets it answer, and waits
// for the renewals that it held up.
func holdTokens(t *testing.T, p *program) (end func()) {
	release := p.HoldTokens()
	return func() {
		release()
		if err := p.config.Flush(context.Background()); err != nil {
			t.Error(err)
		}
	}
}

// restartedInItsWindow returns a process that is new on a Store whose token
// works for 30 s more and is due for renewal.
func restartedInItsWindow(t *testing.T) (*program, *faultyStore) {
	t.Helper()
	store := newFaultyStore()
	p := newProgram(t, with(store, nil))
	<-time.After(time.Hour - 30*time.Second)
	p.restart(with(store, nil))
	return p, store
}

// callers are the ways to ask for a token.
var callers = map[string]func(ctx context.Context, p *program) error{
	"TokenContext": func(ctx context.Context, p *program) error {
		_, err := p.source.TokenContext(ctx)
		return err
	},
	"Transport": func(ctx context.Context, p *program) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.Endpoint()+"profile", nil)
		if err != nil {
			return err
		}
		resp, err := p.client.Do(req)
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return errors.New(resp.Status)
		}
		return nil
	},
	"Endpoint": func(ctx context.Context, p *program) error {
		_, err := p.source.Endpoint(ctx)
		return err
	},
}

// wantAtOnce has n callers ask, none of whom may wait or fail but the one who
// starts the renewal, who waits for at most a second.
func wantAtOnce(t *testing.T, p *program, n, starters int, call func(context.Context, *program) error) {
	t.Helper()
	waited := make(chan time.Duration, n)
	together(n, func(int) {
		start := time.Now()
		if err := call(t.Context(), p); err != nil {
			t.Errorf("a caller fails although the token works: %v", err)
		}
		waited <- time.Since(start)
	})
	slow := 0
	for range n {
		if d := <-waited; d > time.Second {
			t.Errorf("a caller waited %v", d)
		} else if d > 0 {
			slow++
		}
	}
	if slow > starters {
		t.Errorf("%d callers waited, want at most %d", slow, starters)
	}
}

func TestGuarantee4ColdProcessUsesTheTokenThatIsDue(t *testing.T) {
	for name, call := range callers {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, _ := restartedInItsWindow(t)
				defer holdTokens(t, p)()
				wantAtOnce(t, p, 100, 1, call)
			})
		})
	}
}

func TestGuarantee4AdoptedTokenThatIsDueIsUsedAtOnce(t *testing.T) {
	for name, call := range callers {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := newFaultyStore()
				other := newProgram(t, with(store, nil))
				p := &program{Server: other.Server}
				p.restart(with(store, nil))
				token(t, p.source)
				<-time.After(90 * time.Minute) // this one's own has run out;
				token(t, other.source)         // the other one renews,
				<-time.After(time.Hour - 30*time.Second)
				defer holdTokens(t, p)()
				wantAtOnce(t, p, 20, 1, call) // and its token is due again
			})
		})
	}
}

func TestGuarantee4StarterWaitsASecondAtMostAndAQuarterOfItsDeadline(t *testing.T) {
	for _, c := range []struct{ deadline, want time.Duration }{
		{0, time.Second}, {time.Minute, time.Second}, {4 * time.Second, time.Second},
		{500 * time.Millisecond, 125 * time.Millisecond}, {time.Millisecond, 250 * time.Microsecond},
	} {
		for _, name := range []string{"TokenContext", "Transport"} {
			t.Run(name+" "+c.deadline.String(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					p := newProgram(t, with(newFaultyStore(), nil))
					<-time.After(time.Hour - 30*time.Second)
					defer holdTokens(t, p)()
					ctx := t.Context()
					if c.deadline > 0 {
						var cancel context.CancelFunc
						ctx, cancel = context.WithTimeout(ctx, c.deadline)
						defer cancel()
					}
					start := time.Now()
					if err := callers[name](ctx, p); err != nil {
						t.Errorf("the starter fails although the token works: %v", err)
					}
					if took := time.Since(start); took != c.want {
						t.Errorf("the starter waited %v, want %v", took, c.want)
					}
				})
			})
		}
	}
	t.Run("and has the new token if that comes in time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := newProgram(t, with(newFaultyStore(), nil))
			before := token(t, p.source)
			<-time.After(time.Hour - 30*time.Second)
			if token(t, p.source) == before {
				t.Error("the starter goes on with the old token although the new one is there")
			}
		})
	})
	t.Run("and for as long as it takes once the token has run out", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := newProgram(t, with(newFaultyStore(), nil))
			before := token(t, p.source)
			<-time.After(time.Hour - 500*time.Millisecond)
			release := p.HoldTokens()
			time.AfterFunc(3*time.Second, release)
			if token(t, p.source) == before {
				t.Error("the starter goes on with a token that has run out")
			}
		})
	})
}

func TestGuarantee4RequestThatNeedsNoTokenWaitsForNoExchange(t *testing.T) {
	for _, c := range []struct{ name, url string }{
		{"another host", "https://storage.example/file"},
		{"another host, plain", "http://storage.example/file"},
		{"a webhook", "https://storage.example/rest/1/s3cret/m"},
		{"a signed link", "https://storage.example/rest/m?token=x"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := newFaultyStore()
				p := newProgram(t, with(store, nil))
				<-time.After(2 * time.Hour)
				p.restart(with(store, nil))
				defer holdTokens(t, p)()
				start := time.Now()
				resp, err := p.over(portal("")).RoundTrip(get(t, c.url))
				status(t, resp, err)
				if took := time.Since(start); took != 0 {
					t.Errorf("it waited %v", took)
				}
				synctest.Wait() // nor is anything spent for it in the background
				wantRequests(t, p, 0)
			})
		})
	}
}

func TestGuarantee4PlainRequestElsewhereNeedsNoGrant(t *testing.T) {
	never := func(ctx context.Context) (*b24oauth.Grant, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	down := func(context.Context) (*b24oauth.Grant, error) { return nil, errDown }
	for name, load := range map[string]func(context.Context) (*b24oauth.Grant, error){"no grant": nil, "the Store is down": down, "the Store hangs": never} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := newFaultyStore()
				p := newProgramWithoutGrant(t, with(store, nil))
				store.onLoad(load)
				for range 3 {
					start := time.Now()
					resp, err := p.over(portal("")).RoundTrip(get(t, "http://storage.example/file"))
					status(t, resp, err)
					if took := time.Since(start); took > time.Second {
						t.Errorf("it waited %v", took)
					}
				}
				wantFailure(t, p.source, map[bool]error{true: b24oauth.ErrNoGrant, false: b24oauth.ErrUnavailable}[load == nil], time.Hour)
			})
		})
	}
}

func TestGuarantee4PlainRequestElsewhereNeedsNoOtherSourcesToken(t *testing.T) {
	broken := sourceFunc(func() (*oauth2.Token, error) { return nil, errors.New("broken") })
	resp, err := (&b24oauth.Transport{Source: broken, Base: portal("")}).RoundTrip(get(t, "http://storage.example/file"))
	status(t, resp, err)
}

// The lease that another process holds keeps a Save waiting for as long as its
// caller wants. It is not for others to wait for.
func TestGuarantee4SaveThatWaitsKeepsNobodyElseWaiting(t *testing.T) {
	for name, own := range map[string]func(*program) error{
		"Save":   func(p *program) error { return p.config.Save(context.Background(), key, p.Install()) },
		"Delete": func(p *program) error { return p.config.Delete(context.Background(), key) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				shared := new(sharedStore)
				one, two := shared.process(), shared.process()
				p := newProgram(t, with(one, nil), func(c *b24oauth.Config) { c.RefreshTimeout = time.Second })
				<-time.After(2 * time.Hour)
				done := make(chan error, 2)
				holdLease(two, 30*time.Second, done)
				go func() { done <- own(p) }()
				synctest.Wait()
				for range 30 {
					start := time.Now()
					_, err := p.source.Token()
					if took := time.Since(start); took > time.Second {
						t.Errorf("a caller waited %v for a Save that waits: %v", took, err)
					}
					<-time.After(500 * time.Millisecond)
				}
				for range 2 {
					if err := <-done; err != nil {
						t.Error(err)
					}
				}
			})
		})
	}
}

// A Save has two Updates if a pair is unsaved: first that one goes to the Store.
// The time that the second one waits is not for others to wait either.
func TestGuarantee4SaveThatWaitsOnceMoreKeepsNobodyElseWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFaultyStore()
		p := newProgram(t, with(store, nil), func(c *b24oauth.Config) { c.RefreshTimeout = time.Second })
		<-time.After(2 * time.Hour)
		store.failSaves()
		token(t, p.source)
		<-time.After(2 * time.Hour) // the pair in memory has run out, too
		updates := 0
		store.onUpdate(func(ctx context.Context, fn updateFunc) error {
			if updates++; updates > 1 {
				select { // another process has it
				case <-time.After(30 * time.Second):
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			return store.Store.Update(ctx, key, fn)
		})
		done := make(chan error, 1)
		go func() { done <- p.config.Save(context.Background(), key, p.Install()) }()
		synctest.Wait()
		for range 20 {
			start := time.Now()
			_, err := p.source.Token()
			if took := time.Since(start); took > time.Second {
				t.Errorf("a caller waited %v for a Save that waits: %v", took, err)
			}
			<-time.After(500 * time.Millisecond)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// holdLease has another process hold the grant for a while.
func holdLease(p *process, d time.Duration, done chan<- error) {
	held := make(chan struct{})
	go func() {
		done <- p.Update(context.Background(), key, func(context.Context, *b24oauth.Grant) (*b24oauth.Grant, error) {
			close(held)
			<-time.After(d)
			return nil, nil
		})
	}()
	<-held
}

func TestGuarantee4ColdProcessUsesTheStoredTokenThoughItsOwnSaveWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shared := new(sharedStore)
		p := newProgram(t, with(shared.process(), nil))
		done := make(chan error, 2)
		holdLease(shared.process(), 30*time.Second, done)
		p.restart(with(shared.process(), nil))
		go func() { done <- p.config.Save(context.Background(), key, p.Install()) }()
		synctest.Wait()
		start := time.Now()
		token(t, p.source)
		if took := time.Since(start); took > 100*time.Millisecond {
			t.Errorf("a caller waited %v although the stored token works", took)
		}
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
}

func TestGuarantee9StoreThatIsWellAgainIsSeenWithinASecond(t *testing.T) {
	for name, c := range map[string]struct{ fail, mend func(*faultyStore) }{
		"Load": {
			func(s *faultyStore) {
				s.onLoad(func(context.Context) (*b24oauth.Grant, error) { return nil, errDown })
			},
			func(s *faultyStore) { s.onLoad(nil) },
		},
		"Update": {
			func(s *faultyStore) { s.onUpdate(func(context.Context, updateFunc) error { return errDown }) },
			func(s *faultyStore) { s.onUpdate(nil) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store, events := newFaultyStore(), new(eventLog)
				p := newProgram(t, with(store, events))
				<-time.After(2 * time.Hour)
				c.fail(store)
				for start := time.Now(); time.Since(start) < 3*time.Minute; <-time.After(100 * time.Millisecond) {
					wantFailure(t, p.source, b24oauth.ErrUnavailable, 0)
				}
				if n := len(events.kinds()); n < 3 || n > 30 {
					t.Errorf("%d events in three minutes; want it told, at a growing pause", n)
				}
				c.mend(store)
				<-time.After(time.Second)
				token(t, p.source)
			})
		})
	}
	t.Run("a pair in memory", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p, s, next := unsaved(t)
			s.failSaves()
			for start := time.Now(); time.Since(start) < 3*time.Minute; <-time.After(100 * time.Millisecond) {
				token(t, p.source)
			}
			s.onUpdate(nil)
			<-time.After(time.Second)
			token(t, p.source)
			synctest.Wait()
			if stored(t, p).AccessToken != next {
				t.Error("the Store is well again, and the pair is not saved")
			}
		})
	})
}

// A mistake in the Store's setup stays until somebody mends it. Looking costs
// little, and is done every second; more is tried every ten minutes, or when an
// operator says so.
func TestGuarantee9MisconfiguredStoreIsTriedAtTheSlowPaceAndSeenWhenItIsMended(t *testing.T) {
	mistake := fmt.Errorf("the table has gone: %w", b24oauth.ErrMisconfigured)
	for name, mend := range map[string]func(t *testing.T, p *program){
		"by itself":       func(*testing.T, *program) { <-time.After(10 * time.Minute) },
		"by Renew(nil)":   func(t *testing.T, p *program) { renewNow(t, p) },
		"by another Save": func(t *testing.T, p *program) { save(t, p, p.Install()) },
	} {
		t.Run("Update, seen "+name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store, events := newFaultyStore(), new(eventLog)
				p := newProgram(t, with(store, events))
				<-time.After(2 * time.Hour)
				tried := 0
				store.onUpdate(func(context.Context, updateFunc) error { tried++; return mistake })
				for start := time.Now(); time.Since(start) < 25*time.Minute; <-time.After(time.Second) {
					wantFailure(t, p.source, b24oauth.ErrMisconfigured, 0)
				}
				if tried != 3 {
					t.Errorf("tried %d times in 25 minutes, want 3", tried)
				}
				events.want(t, "renew_failed")
				store.onUpdate(nil)
				mend(t, p)
				token(t, p.source)
			})
		})
	}
	t.Run("Load", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			store, events := newFaultyStore(), new(eventLog)
			p := newProgram(t, with(store, events))
			<-time.After(2 * time.Hour)
			store.onLoad(func(context.Context) (*b24oauth.Grant, error) { return nil, mistake })
			for start := time.Now(); time.Since(start) < 25*time.Minute; <-time.After(time.Second) {
				wantFailure(t, p.source, b24oauth.ErrMisconfigured, 0)
			}
			events.want(t, "renew_failed")
			store.onLoad(nil)
			<-time.After(time.Second)
			token(t, p.source)
		})
	})
	t.Run("Load, in a process that has just started", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			store := newFaultyStore()
			p := newProgram(t, with(store, nil))
			p.restart(with(store, nil))
			store.onLoad(func(context.Context) (*b24oauth.Grant, error) { return nil, mistake })
			wantFailure(t, p.source, b24oauth.ErrMisconfigured, 0)
			store.onLoad(nil)
			<-time.After(time.Second)
			token(t, p.source)
		})
	})
}

func renewNow(t *testing.T, p *program) {
	t.Helper()
	if _, err := p.source.Renew(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
}

func save(t *testing.T, p *program, g *b24oauth.Grant) {
	t.Helper()
	if err := p.config.Save(t.Context(), key, g); err != nil {
		t.Fatal(err)
	}
}
